//! A file mapped into memory, for the suites that read as linkers and databases do.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;

/// The first bytes of a file, mapped read-only.
pub(crate) struct Map {
    start: *mut libc::c_void,
    length: usize,
}

impl Map {
    /// Maps the first `length` bytes, at least one.
    pub(crate) fn of(file: &File, length: usize) -> Self {
        Self::with(file, length, libc::PROT_READ, libc::MAP_SHARED).expect("it can be mapped")
    }

    /// As [`Map::of`], but a private mapping, as programs and libraries are mapped.
    pub(crate) fn private(file: &File, length: usize) -> io::Result<Self> {
        Self::with(file, length, libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn with(
        file: &File,
        length: usize,
        protection: libc::c_int,
        kind: libc::c_int,
    ) -> io::Result<Self> {
        // SAFETY: a fresh mapping of a descriptor that is open; the kernel chooses the place.
        #[expect(unsafe_code, reason = "std has no mmap(2)")]
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                kind,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, length })
    }

    /// Reads all of it in: an error here would be a SIGBUS for who looks at a page.
    pub(crate) fn populate(self) -> io::Result<Self> {
        // SAFETY: the mapping is ours, and as long as it says.
        #[expect(unsafe_code, reason = "std has no madvise(2)")]
        let result = unsafe { libc::madvise(self.start, self.length, libc::MADV_POPULATE_READ) };
        match result {
            0 => Ok(self),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and nobody writes to the file meanwhile.
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

/// The first bytes of a file, mapped to be written to by who has it open to read and write.
pub(crate) struct MapMut(Map);

impl MapMut {
    /// Maps the first `length` bytes, at least one.
    pub(crate) fn new(file: &File, length: usize) -> Self {
        Self::open(file, length).expect("it can be mapped")
    }

    /// As [`MapMut::new`], for who wants to know why it cannot be mapped.
    pub(crate) fn open(file: &File, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Map::with(file, length, protection, libc::MAP_SHARED).map(Self)
    }

    /// Has what was written there brought to the file (→ msync(2)).
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping is ours, and as long as it says.
        #[expect(unsafe_code, reason = "std has no msync(2)")]
        let result = unsafe { libc::msync(self.0.start, self.0.length, libc::MS_SYNC) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping lives as long as `self`, can be written to, and is lent out to one at a time.
        #[expect(unsafe_code, reason = "a mapping is known to Rust by its pointer only")]
        unsafe {
            std::slice::from_raw_parts_mut(self.0.start.cast(), self.0.length)
        }
    }
}
