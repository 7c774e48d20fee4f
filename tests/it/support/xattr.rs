//! Extended attributes, as getfattr(1) and setfattr(1) see them.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Largest value and largest list that the kernel carries, in bytes.
const LARGEST: usize = 64 << 10;

fn c_string(text: &[u8]) -> CString {
    CString::new(text).expect("no NUL in it")
}

fn filled(buffer: Vec<u8>, length: isize) -> io::Result<Vec<u8>> {
    match usize::try_from(length) {
        Ok(length) => Ok(buffer[..length].to_vec()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// getxattr(2).
pub(crate) fn get(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (path, name) = (
        c_string(path.as_os_str().as_bytes()),
        c_string(name.as_bytes()),
    );
    let mut value = vec![0; LARGEST];
    // SAFETY: both texts end with NUL, and the buffer has the length that is told.
    #[expect(unsafe_code, reason = "std has no getxattr(2)")]
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    filled(value, length)
}

/// listxattr(2).
pub(crate) fn list(path: &Path) -> io::Result<Vec<String>> {
    let path = c_string(path.as_os_str().as_bytes());
    let mut names = vec![0; LARGEST];
    // SAFETY: the path ends with NUL, and the buffer has the length that is told.
    #[expect(unsafe_code, reason = "std has no listxattr(2)")]
    let length = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = filled(names, length)?;
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

/// setxattr(2).
pub(crate) fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (
        c_string(path.as_os_str().as_bytes()),
        c_string(name.as_bytes()),
    );
    // SAFETY: both texts end with NUL, and the value has the length that is told.
    #[expect(unsafe_code, reason = "std has no setxattr(2)")]
    let failed = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
