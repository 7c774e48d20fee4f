//! The asking side: a command that talks to a daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::place::short_address;
use super::{Answer, LINE_MAX_BYTES, Request};
use crate::mountpoint::effective_uid;

/// Asks the daemon behind `socket`; blocking; waits at most `timeout` for each of sending and answering.
///
/// `NotFound` where there is no socket, `ConnectionRefused` where its daemon is dead, `PermissionDenied` where it is
/// somebody else's, `WouldBlock` or `TimedOut` where no answer came in time.
pub fn ask(socket: &Path, request: &Request, timeout: Duration) -> io::Result<Answer> {
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
    stream.set_write_timeout(Some(timeout))?;
    stream.set_read_timeout(Some(timeout))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(LINE_MAX_BYTES)).read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the daemon hung up before its answer was complete",
        ));
    }
    Ok(serde_json::from_slice(&answer)?)
}
