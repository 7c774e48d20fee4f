//! `--background`: a child that becomes the daemon, and a parent that waits until it is one.
//!
//! They speak over a socket pair: one byte says that the mount answers, a line says why not, and an end without
//! either says that the other died. Standard input is gone from the start. Standard output and error are let go when
//! the mount answers, so that no terminal, pipe or ssh waits for the daemon; standard error is kept where it leads to
//! the journal or into a file, so that the log goes on there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use crate::failure::{Failure, FailureKind};

const READY: u8 = b'+';
const USAGE: u8 = b'u';
const FAILED: u8 = b'f';

/// Longest that a failure's line may be.
const LINE_MAX_BYTES: u64 = 64 << 10;

/// Which side of the fork this is.
pub(super) enum Side {
    /// Waits for the child.
    Parent(Waiting),
    /// Becomes the daemon.
    Child(Report),
}

/// The parent's end.
pub(super) struct Waiting(UnixStream);

/// The child's end; without a parent in the foreground.
pub(super) struct Report {
    parent: Option<UnixStream>,
    stdio: bool,
}

/// Splits the process. No other thread may exist.
pub(super) fn fork() -> Result<Side, Failure> {
    let cannot = |err: io::Error| Failure::failed(format!("no background process: {err}"));
    let (parents, childs) = UnixStream::pair().map_err(cannot)?;
    #[expect(unsafe_code, reason = "the standard library has no fork")]
    // SAFETY: this is the only thread (the caller's promise), so the child has all there was of the process.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            drop(parents);
            leave_terminal().map_err(cannot)?;
            Ok(Side::Child(Report {
                parent: Some(childs),
                stdio: true,
            }))
        }
        1.. => Ok(Side::Parent(Waiting(parents))),
        _ => Err(cannot(io::Error::last_os_error())),
    }
}

impl Waiting {
    /// What became of the child.
    pub(super) fn outcome(self) -> Result<(), Failure> {
        let mut said = Vec::new();
        let read = self.0.take(LINE_MAX_BYTES).read_to_end(&mut said);
        let line = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        match (read, said.split_first()) {
            (_, Some((&READY, _))) => Ok(()),
            (_, Some((&USAGE, text))) => Err(Failure::usage(line(text))),
            (_, Some((&FAILED, text))) => Err(Failure::failed(line(text))),
            _ => Err(Failure::failed(
                "the background process died before the mount answered: try without --background to see why",
            )),
        }
    }
}

impl Report {
    /// In the foreground nobody waits.
    pub(super) fn nobody() -> Self {
        Self {
            parent: None,
            stdio: false,
        }
    }

    /// The mount answers: the parent may go.
    pub(super) fn ready(&mut self) {
        self.tell(&[READY]);
        self.let_go(leads_somewhere_lasting());
    }

    /// Why it does not; the parent says it, so this process must not say it again. After [`Report::ready`] there is
    /// nobody to hear it.
    pub(super) fn failed(&mut self, failure: &Failure) {
        if self.parent.is_some() {
            let kind = match failure.kind {
                FailureKind::Usage => USAGE,
                FailureKind::Failed => FAILED,
            };
            let mut line = vec![kind];
            line.extend_from_slice(failure.to_string().as_bytes());
            self.tell(&line);
            self.let_go(false);
        }
    }

    /// Resolves when the parent is gone: the person who waited for the mount wants it no more.
    pub(super) async fn abandoned(&mut self) {
        let watched = self.parent.as_ref().and_then(|parent| {
            let parent = parent.try_clone().ok()?;
            parent.set_nonblocking(true).ok()?;
            tokio::net::UnixStream::from_std(parent).ok()
        });
        match watched {
            // The parent sends nothing, so the socket becomes readable by its end.
            Some(parent) if parent.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    fn tell(&mut self, bytes: &[u8]) {
        if let Some(mut parent) = self.parent.take()
            && let Err(err) = parent.write_all(bytes)
        {
            log::debug!("nobody waits for the mount any more: {err}");
        }
    }

    fn let_go(&mut self, keep_stderr: bool) {
        if std::mem::take(&mut self.stdio) {
            let stderr = (!keep_stderr).then_some(libc::STDERR_FILENO);
            for target in [Some(libc::STDOUT_FILENO), stderr].into_iter().flatten() {
                if let Err(err) = to_null(target) {
                    log::debug!("descriptor {target} stays open: {err}");
                }
            }
        }
    }
}

/// A session of our own, so that the terminal's signals do not reach us, and no directory held busy.
fn leave_terminal() -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no setsid")]
    // SAFETY: takes nothing; fails only for the leader of a process group, which a forked child is not.
    if unsafe { libc::setsid() } < 0 {
        return Err(io::Error::last_os_error());
    }
    std::env::set_current_dir("/")?;
    to_null(libc::STDIN_FILENO)
}

fn to_null(target: RawFd) -> io::Result<()> {
    let null: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    #[expect(unsafe_code, reason = "the standard library has no dup2")]
    // SAFETY: both are descriptors of this process; what `target` was is a standard stream, owned by nobody.
    if unsafe { libc::dup2(null.as_raw_fd(), target) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether standard error is the journal (→ `JOURNAL_STREAM` in systemd.exec(5)) or a file.
fn leads_somewhere_lasting() -> bool {
    let Ok(meta) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    let journal = std::env::var("JOURNAL_STREAM").ok();
    meta.is_file() || journal.is_some_and(|named| named == format!("{}:{}", meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Waiting, Report) {
        let (parents, childs) = UnixStream::pair().unwrap();
        let report = Report {
            parent: Some(childs),
            stdio: false,
        };
        (Waiting(parents), report)
    }

    #[test]
    fn the_parent_learns_that_the_mount_answers() {
        let (waiting, mut report) = pair();
        report.ready();
        assert_eq!(waiting.outcome(), Ok(()));
    }

    #[test]
    fn the_parent_learns_why_it_does_not_and_who_is_to_mend_it() {
        for failure in [Failure::usage("no such option"), Failure::failed("no net")] {
            let (waiting, mut report) = pair();
            report.failed(&failure);
            assert_eq!(waiting.outcome(), Err(failure));
        }
    }

    #[test]
    fn a_child_that_dies_without_a_word_is_a_failure() {
        let (waiting, report) = pair();
        drop(report);
        assert!(waiting.outcome().is_err());
    }

    #[test]
    fn a_failure_after_readiness_is_not_told_to_a_parent_that_has_gone() {
        let (waiting, mut report) = pair();
        report.ready();
        report.failed(&Failure::failed("later"));
        assert_eq!(waiting.outcome(), Ok(()));
    }

    #[tokio::test]
    async fn a_child_notices_that_nobody_waits_any_more() {
        let (waiting, mut report) = pair();
        drop(waiting);
        report.abandoned().await;
    }
}
