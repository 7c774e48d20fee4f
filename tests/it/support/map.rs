//! A file mapped into memory, for the suites that read as linkers and databases do.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsRawFd;

/// The first bytes of a file, mapped shared and read-only.
pub(crate) struct Map {
    start: *mut libc::c_void,
    length: usize,
}

impl Map {
    /// Maps the first `length` bytes, at least one.
    pub(crate) fn of(file: &File, length: usize) -> Self {
        // SAFETY: a fresh mapping of a descriptor that is open; the kernel chooses the place.
        #[expect(unsafe_code, reason = "std has no mmap(2)")]
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(
            start,
            libc::MAP_FAILED,
            "mmap: {}",
            std::io::Error::last_os_error()
        );
        Self { start, length }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and nobody writes the file on this read-only mount.
        #[expect(unsafe_code, reason = "a mapping is known to Rust by its pointer only")]
        unsafe {
            std::slice::from_raw_parts(self.start.cast(), self.length)
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, of that length, given back once.
        #[expect(unsafe_code, reason = "std has no munmap(2)")]
        unsafe {
            libc::munmap(self.start, self.length);
        }
    }
}
