//! Who else has a file open, asked of the kernel.
//!
//! It grants a lease for reading (F_SETLEASE in fcntl(2)) only while nobody may write to the file, and one for writing only
//! while nobody else has it open at all: no process, no mapping, and no handle of a mount that outlived its daemon. The
//! lease is given back at once; it is the answer that counts.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Not in `libc` (include/uapi/asm-generic/fcntl.h).
const F_SETSIG: libc::c_int = 10;

/// Whether anybody may write to `file`, which itself is open to be read. An error where the file system has no leases.
pub(super) fn is_written(file: &File) -> io::Result<bool> {
    match lease(file, libc::F_RDLCK) {
        Ok(()) => Ok(false),
        Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(err) => Err(err),
    }
}

/// Whether the file system of `file` has leases at all.
pub(super) fn is_known(file: &File) -> io::Result<()> {
    is_written(file).map(|_| ())
}

/// Whether nobody has `file` open but who asks, once. An error where the file system has no leases.
pub(super) fn is_ours_alone(file: &File) -> io::Result<bool> {
    match lease(file, libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Takes a lease and gives it back.
fn lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // Who opens the file in the moment of the lease sends a signal. The one it would be by default ends a process that
    // does not know it; this one does nothing.
    control(file, F_SETSIG, libc::SIGURG)?;
    control(file, libc::F_SETLEASE, kind)?;
    control(file, libc::F_SETLEASE, libc::F_UNLCK)
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "neither std nor rustix has leases")]
    // SAFETY: an open descriptor and numbers; no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// It holds, if not at once: a program that another test starts in this moment has all open for a moment that this process
    /// has.
    #[track_caller]
    fn check_soon(what: &str, holds: impl Fn() -> io::Result<bool>) {
        let until = Instant::now() + Duration::from_secs(10);
        while !holds().unwrap() {
            assert!(Instant::now() < until, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_is_written_to_while_anybody_has_it_open_or_mapped_who_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let is_left = || is_written(&file).map(|is_written| !is_written);
        check_soon("readers do not count", is_left);
        let writer = File::options().append(true).open(&path).unwrap();
        assert!(is_written(&file).unwrap());
        drop(writer);
        check_soon("again and again", is_left);
        drop(reader);
    }

    #[test]
    fn a_file_is_ours_alone_while_nobody_else_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let options = || File::options().read(true).write(true).open(&path).unwrap();
        let file = options();
        check_soon("nobody else opened it", || is_ours_alone(&file));
        let reader = File::open(&path).unwrap();
        assert!(!is_ours_alone(&file).unwrap());
        drop(reader);
        check_soon("again and again", || is_ours_alone(&file));
        let writer = options();
        assert!(!is_ours_alone(&file).unwrap());
        drop(writer);
    }
}
