//! The asking side: a command that talks to a daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::place::short_address;
use super::{Answer, LINE_MAX_BYTES, Progress, Request};
use crate::mountpoint::effective_uid;

/// How often is looked whether a process has ended.
const STEP: Duration = Duration::from_millis(10);

/// Asks the daemon behind `socket`; blocking; waits at most `timeout` for each of sending and answering.
///
/// `NotFound` where there is no socket, `ConnectionRefused` where its daemon is dead, `PermissionDenied` where it is
/// somebody else's, `WouldBlock` or `TimedOut` where no answer came in time.
pub fn ask(socket: &Path, request: &Request, timeout: Duration) -> io::Result<Answer> {
    follow(socket, request, timeout, |_| ())
}

/// As [`ask`], for what takes long: `silence` is the longest wait for the next word, be it progress, which goes to `told`,
/// or the answer.
pub fn follow(
    socket: &Path,
    request: &Request,
    silence: Duration,
    mut told: impl FnMut(Progress),
) -> io::Result<Answer> {
    let owner = std::fs::symlink_metadata(socket)?.uid();
    let we = effective_uid();
    // Root asks everyone's daemon; others trust an answer of their own or of root's only.
    if we != 0 && owner != we && owner != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to another user", socket.display()),
        ));
    }
    let (_directory, address) = short_address(socket)?;
    let mut stream = UnixStream::connect(address)?;
    stream.set_write_timeout(Some(silence))?;
    stream.set_read_timeout(Some(silence))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut lines = BufReader::new(stream);
    loop {
        match next_line(&mut lines)? {
            Answer::Progress(progress) => told(progress),
            answer => return Ok(answer),
        }
    }
}

fn next_line(lines: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = Vec::new();
    lines.take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the daemon hung up before its answer was complete",
        ));
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Waits until process `pid` has ended, and lets go of all it held; false where that takes longer than `patience`.
pub fn outlast(pid: u32, patience: Duration) -> bool {
    // One that has ended and was not waited for by its parent has no program any more, and neither has one of another
    // user, of which nothing can be known.
    let program = format!("/proc/{pid}/exe");
    let began = Instant::now();
    while std::fs::read_link(&program).is_ok() {
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(STEP);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_outlasted_when_it_ended_also_if_nobody_took_notice() {
        assert!(!outlast(std::process::id(), Duration::ZERO));
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(!outlast(child.id(), Duration::ZERO));
        drop(child.stdin.take());
        assert!(outlast(child.id(), Duration::from_secs(20)));
        child.wait().unwrap();
    }
}
