//! Where the sockets are, and which mount each belongs to.
//!
//! A socket's address has room for a hundred bytes, a mount point for thousands. So the file is named after the last
//! name of the mount point and a checksum of all of it, and beside it lies a file with the whole path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Bytes of the mount point's last name that its socket bears.
const NAME_BYTES: usize = 24;

/// Bytes of the checksum: mount points of one machine are few.
const CHECKSUM_BYTES: usize = 6;

const SOCKET: &str = "sock";
const RECORD: &str = "mount";

/// The socket of the mount at `mount_point` (absolute) in the control directory.
pub fn socket_path(control_dir: &Path, mount_point: &Path) -> PathBuf {
    let last: String = mount_point
        .file_name()
        .unwrap_or(OsStr::new("root"))
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(NAME_BYTES)
        .collect();
    let checksum: String = Sha256::digest(mount_point.as_os_str().as_bytes())
        .iter()
        .take(CHECKSUM_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    control_dir.join(format!("{last}-{checksum}.{SOCKET}"))
}

/// Every mount point with a socket in the control directory, whether its daemon lives or not, in order. A directory
/// that does not exist holds none.
pub fn mounts(control_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(control_dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(RECORD)) {
            match std::fs::read(&path) {
                Ok(point) => found.push(PathBuf::from(OsString::from_vec(point))),
                // It ended between the listing and now.
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Where the whole mount point is written, beside its socket.
pub(super) fn record_path(socket: &Path) -> PathBuf {
    socket.with_extension(RECORD)
}

/// `socket` by an address that fits, however deep its directory lies: through the open directory. It is good for as
/// long as the file lives.
pub(super) fn short_address(socket: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let directory = File::open(directory)?;
    let address = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    Ok((directory, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_after_its_mount_point_and_two_never_share_one() {
        let dir = Path::new("/run/x");
        let drive = socket_path(dir, Path::new("/mnt/my drive"));
        let name = drive.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("my_drive-"), "{name}");
        assert_ne!(drive, socket_path(dir, Path::new("/srv/my drive")));
        assert_ne!(drive, socket_path(dir, Path::new("/mnt/my_drive")));
        assert_eq!(drive, socket_path(dir, Path::new("/mnt/my drive")));
    }

    #[test]
    fn the_longest_name_gives_a_short_socket() {
        let long = PathBuf::from(format!("/{}", "ä".repeat(120)));
        let socket = socket_path(Path::new(""), &long);
        assert!(socket.as_os_str().len() < 64);
    }

    #[test]
    fn a_directory_that_is_not_there_holds_no_mounts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            mounts(&dir.path().join("absent")).unwrap(),
            Vec::<PathBuf>::new()
        );
    }
}
