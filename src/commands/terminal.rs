//! Questions to the person at the terminal, and their answers.
//!
//! Asked on /dev/tty, so that standard input may be a pipe and standard output a file. Ctrl-C always ends the
//! command: an answer is read on a thread of its own, and who waits for it gives up.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsRawFd;

use crate::failure::Failure;
use crate::secret::Secret;

/// The terminal, where there is somebody at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal(());

impl Terminal {
    /// The terminal that standard error is on; none for scripts, units and pipes.
    pub(super) fn find() -> Option<Self> {
        let opens = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/tty")
                .is_ok()
        };
        (io::stderr().is_terminal() && opens()).then_some(Self(()))
    }

    /// Asks for a line that may be seen while it is typed.
    pub(super) async fn line(self, question: &str) -> Result<String, Failure> {
        let question = question.to_owned();
        answer(move || {
            let mut tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
            write!(tty, "{question}: ")?;
            tty.flush()?;
            let mut line = String::new();
            match BufReader::new(tty).read_line(&mut line)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(line.trim().to_owned()),
            }
        })
        .await
    }

    /// Like [`Terminal::line`], until something is typed.
    pub(super) async fn some_line(self, question: &str) -> Result<String, Failure> {
        loop {
            let line = self.line(question).await?;
            if !line.is_empty() {
                return Ok(line);
            }
        }
    }

    /// Like [`Terminal::secret`], until something is typed.
    pub(super) async fn some_secret(self, question: &str) -> Result<Secret, Failure> {
        loop {
            let secret = self.secret(question).await?;
            if !secret.is_empty() {
                return Ok(secret);
            }
        }
    }

    /// Asks for a secret, which is not shown.
    pub(super) async fn secret(self, question: &str) -> Result<Secret, Failure> {
        let question = format!("{question}: ");
        // Who waits may be dropped while the thread still reads with the echo off.
        let _modes = Modes::save();
        let answered = answer(move || rpassword::prompt_password(question)).await;
        answered.map(Secret::new)
    }
}

async fn answer(
    ask: impl FnOnce() -> io::Result<String> + Send + 'static,
) -> Result<String, Failure> {
    let asked = tokio::task::spawn_blocking(ask);
    let answered = tokio::select! {
        answered = asked => answered.map_err(io::Error::other).and_then(|line| line),
        _ = tokio::signal::ctrl_c() => Err(io::ErrorKind::Interrupted.into()),
    };
    answered.map_err(|err| match err.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => {
            Failure::failed("nothing was answered; nothing was done")
        }
        _ => Failure::failed(format!("the terminal: {err}")),
    })
}

/// The terminal's modes before a question was asked; restored on drop.
struct Modes(Option<(File, libc::termios)>);

impl Modes {
    fn save() -> Self {
        let saved = || {
            let tty = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/tty")
                .ok()?;
            let mut modes = std::mem::MaybeUninit::uninit();
            // SAFETY: the descriptor is open, and tcgetattr fills the structure when it answers 0.
            #[expect(unsafe_code, reason = "std has no tcgetattr(3)")]
            let modes = unsafe {
                match libc::tcgetattr(tty.as_raw_fd(), modes.as_mut_ptr()) {
                    0 => modes.assume_init(),
                    _ => return None,
                }
            };
            Some((tty, modes))
        };
        Self(saved())
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        let Some((tty, modes)) = &self.0 else { return };
        // SAFETY: the descriptor is open and the structure came from tcgetattr. Where it fails nothing better is known.
        #[expect(unsafe_code, reason = "std has no tcsetattr(3)")]
        unsafe {
            libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, modes);
        }
    }
}

/// The first line of standard input, for `--…-stdin`.
pub(super) fn secret_from_stdin(what: &str) -> Result<Secret, Failure> {
    let mut line = String::new();
    // Bounded: a token has a few KiB, and /dev/zero has no end.
    let stdin = io::Read::take(io::stdin().lock(), 1 << 20);
    BufReader::new(stdin)
        .read_line(&mut line)
        .map_err(|err| Failure::failed(format!("standard input: {err}")))?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(Failure::failed(format!(
            "standard input was empty; the {what} is read from it"
        ))),
        text => Ok(Secret::new(text)),
    }
}
