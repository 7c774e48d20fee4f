//! Lines of `/proc/self/mountinfo` (→ proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::FS_TYPE;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// `major:minor` of what is mounted; names its backing device in sysfs.
    pub device: String,
    /// Where it is seen.
    pub point: PathBuf,
    /// Options of the mount, as `ro,nosuid`.
    pub options: String,
    /// Type, with the subtype of a FUSE mount: `fuse.sshfs`.
    pub fs_type: String,
    /// What was mounted, as whoever mounted it named it.
    pub source: OsString,
}

impl MountEntry {
    /// Whether this program made it.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Whether a FUSE daemon serves it.
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse"
            || self.fs_type.starts_with("fuse.")
            || self.fs_type.starts_with("fuseblk")
    }
}

/// The mounts in `text`, in its order. A line that cannot be read is left out: the table belongs to the kernel, and
/// a field that a later kernel adds must not hide the rest.
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPER_OPTIONS`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = text(fields.nth(2)?);
    let point = unescape(fields.nth(1)?);
    let options = text(fields.next()?);
    let mut tail = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = unescape(tail.next()?);
    let source = unescape(tail.next()?);
    Some(MountEntry {
        device,
        point: PathBuf::from(OsString::from_vec(point)),
        options,
        fs_type: String::from_utf8_lossy(&fs_type).into_owned(),
        source: OsString::from_vec(source),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// The kernel writes space, tab, newline, backslash (and `#`) as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = match tail {
            [a, b, c, ..] if byte == b'\\' => octal_byte([*a, *b, *c]),
            _ => None,
        };
        match octal {
            Some(value) => {
                plain.push(value);
                rest = &tail[3..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

fn octal_byte(digits: [u8; 3]) -> Option<u8> {
    let mut value = 0u32;
    for digit in digits {
        value = value * 8 + char::from(digit).to_digit(8)?;
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, point: &str, fs_type: &str, source: &str) -> MountEntry {
        let entries = parse_mountinfo(line.as_bytes());
        assert_eq!(entries.len(), 1, "{line}");
        assert_eq!(entries[0].point, PathBuf::from(point));
        assert_eq!(entries[0].fs_type, fs_type);
        assert_eq!(entries[0].source, OsString::from(source));
        entries[0].clone()
    }

    #[test]
    fn a_mount_of_ours_is_known_by_its_type() {
        let entry = check(
            "64 25 0:52 / /mnt/drive ro,nosuid,nodev shared:33 master:1 - fuse.cloudreve-fuse cloudreve://my/ ro,user_id=0",
            "/mnt/drive",
            FS_TYPE,
            "cloudreve://my/",
        );
        assert!(entry.is_ours() && entry.is_fuse());
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.options, "ro,nosuid,nodev");
    }

    #[test]
    fn spaces_tabs_newlines_and_backslashes_come_back_from_their_octal_form() {
        check(
            r"1 2 0:3 / /mnt/my\040drive\011\012\134 rw - ext4 /dev/a\043b rw",
            "/mnt/my drive\t\n\\",
            "ext4",
            "/dev/a#b",
        );
    }

    #[test]
    fn what_only_looks_like_an_escape_stays_as_it_is() {
        check(
            r"1 2 0:3 / /a\0 rw - tmpfs \999 rw",
            r"/a\0",
            "tmpfs",
            r"\999",
        );
    }

    #[test]
    fn a_line_without_optional_fields_and_one_with_many_are_both_read() {
        check("1 2 0:3 / /a rw - proc proc rw", "/a", "proc", "proc");
        check(
            "1 2 0:3 / /a rw shared:1 master:2 propagate_from:3 unbindable - proc none rw",
            "/a",
            "proc",
            "none",
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_does_not_hide_the_others() {
        let entries = parse_mountinfo(b"broken\n1 2 0:3 / /a rw - proc proc rw\n\n1 2 0:3 / /b");
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn other_fuse_mounts_are_fuse_but_not_ours() {
        let sshfs = check(
            "1 2 0:3 / /a rw - fuse.sshfs h: rw",
            "/a",
            "fuse.sshfs",
            "h:",
        );
        assert!(sshfs.is_fuse() && !sshfs.is_ours());
        let control = check("1 2 0:3 / /a rw - fusectl c rw", "/a", "fusectl", "c");
        assert!(!control.is_fuse());
    }
}
