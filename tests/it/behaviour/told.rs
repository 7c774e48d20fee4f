//! What is told of files beside their content, and of the whole drive.

use std::fs::FileTimes;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, AtFlags, CWD, XattrFlags};

use super::{BIG_BYTES, Case, World};

fn set(world: &World, name: &str, value: &[u8], flags: XattrFlags) -> std::io::Result<()> {
    let path = world.at("a");
    if !path.exists() {
        std::fs::write(&path, b"a").unwrap();
    }
    Ok(rustix::fs::lsetxattr(path, name, value, flags)?)
}

fn get(world: &World, name: &str, room: usize) -> std::io::Result<Vec<u8>> {
    let mut value = vec![0; room];
    let length = rustix::fs::lgetxattr(world.at("a"), name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// An access control list that says no more than a mode of 0644 does (→ acl(5), posix_acl_xattr.h).
const ACL: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255,
    255, 255, 255,
];

const ANY: XattrFlags = XattrFlags::empty();

pub(super) const CASES: &[Case] = &[
    Case {
        call: "`stat`, `statx`",
        does: "`st_blocks` is what `st_size` takes, whether it is here or not: `du` tells the size of what the server has",
        errno: "–",
        check: |world| {
            let seen = std::fs::metadata(world.mount.path("big"))?;
            assert_eq!(
                (seen.len(), seen.blocks(), seen.nlink()),
                (BIG_BYTES, BIG_BYTES.div_ceil(512), 1)
            );
            assert_eq!(world.file("empty", b"").metadata()?.blocks(), 0);
            Ok(())
        },
    },
    Case {
        call: "`chmod`, `chown`",
        does: "kept, and told to the server",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"a");
            std::os::unix::fs::fchown(&file, Some(1234), Some(2345))?;
            file.set_permissions(PermissionsExt::from_mode(0o6741))?;
            let seen = file.metadata()?;
            assert_eq!(
                (seen.uid(), seen.gid(), seen.mode() & 0o7777),
                (1234, 2345, 0o6741)
            );
            Ok(())
        },
    },
    Case {
        call: "`utimensat`",
        does: "kept to the nanosecond, and told to the server; reading moves no time",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"a");
            let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789);
            file.set_times(FileTimes::new().set_modified(time).set_accessed(time))?;
            std::fs::read(world.at("a"))?;
            let seen = file.metadata()?;
            assert_eq!((seen.modified()?, seen.accessed()?), (time, time));
            Ok(())
        },
    },
    Case {
        call: "`access` to write, with `ro`",
        does: "refused",
        errno: "EROFS",
        check: |_| {
            let world = World::new(&["--read-only"]);
            Ok(rustix::fs::accessat(
                CWD,
                world.at("theirs"),
                Access::WRITE_OK,
                AtFlags::empty(),
            )?)
        },
    },
    Case {
        call: "`setxattr`, `getxattr`, `listxattr`, `removexattr` of `user.*`",
        does: "kept, and told to the server",
        errno: "–",
        check: |world| {
            set(world, "user.a", b"\0\xff", ANY)?;
            assert_eq!(get(world, "user.a", 10)?, b"\0\xff");
            let mut names = [0; 100];
            let length = rustix::fs::llistxattr(world.at("a"), &mut names[..])?;
            assert_eq!(&names[..length], b"user.a\0");
            Ok(rustix::fs::lremovexattr(world.at("a"), "user.a")?)
        },
    },
    Case {
        call: "`setxattr` with XATTR_CREATE of one that is there",
        does: "refused",
        errno: "EEXIST",
        check: |world| {
            set(world, "user.a", b"1", XattrFlags::CREATE).unwrap();
            set(world, "user.a", b"2", XattrFlags::CREATE)
        },
    },
    Case {
        call: "`getxattr`, `removexattr`, `setxattr` with XATTR_REPLACE of one that is not there",
        does: "refused",
        errno: "ENODATA",
        check: |world| {
            set(world, "user.a", b"1", XattrFlags::REPLACE).unwrap_err();
            rustix::fs::lremovexattr(world.at("a"), "user.a").unwrap_err();
            get(world, "user.a", 10).map(drop)
        },
    },
    Case {
        call: "`getxattr` with less room than the value takes",
        does: "refused",
        errno: "ERANGE",
        check: |world| {
            set(world, "user.a", b"12345", ANY).unwrap();
            get(world, "user.a", 4).map(drop)
        },
    },
    Case {
        call: "`setxattr` of more than 64 KiB together with all others",
        does: "refused",
        errno: "ENOSPC",
        check: |world| {
            set(world, "user.a", &[7; 40_000], ANY).unwrap();
            set(world, "user.b", &[7; 40_000], ANY)
        },
    },
    Case {
        call: "`setxattr` of a value of more than 64 KiB",
        does: "refused",
        errno: "E2BIG",
        check: |world| set(world, "user.a", &[7; 65_537], ANY),
    },
    Case {
        call: "`setxattr` of a name of more than 255 bytes",
        does: "refused",
        errno: "ERANGE",
        check: |world| set(world, &format!("user.{}", "a".repeat(251)), b"", ANY),
    },
    Case {
        call: "`setxattr` of `security.*`, `trusted.*`, `system.*` (ACLs)",
        does: "refused",
        errno: "EOPNOTSUPP",
        check: |world| {
            for name in ["security.x", "trusted.x", "system.x"] {
                let refused = set(world, name, b"x", ANY).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP), "{name}");
            }
            set(world, "system.posix_acl_access", &ACL, ANY)
        },
    },
    Case {
        call: "`setxattr` of `user.cloudreve.*`",
        does: "refused: that is what the server tells; to be read by name, and not listed. `user.cloudreve.pinned` may be set (→ At hand)",
        errno: "EPERM",
        check: |world| {
            set(world, "user.b", b"", ANY).unwrap();
            assert!(!get(world, "user.cloudreve.state", 100).unwrap().is_empty());
            set(world, "user.cloudreve.id", b"x", ANY)
        },
    },
    Case {
        call: "`setxattr` of a symbolic link",
        does: "refused, as everywhere",
        errno: "EPERM",
        check: |world| {
            symlink("x", world.at("link")).unwrap();
            Ok(rustix::fs::lsetxattr(world.at("link"), "user.a", b"", ANY)?)
        },
    },
    Case {
        call: "`statfs`, `statvfs`",
        does: "the quota of the account; no limit on the number of files",
        errno: "–",
        check: |_| {
            let world = World::new(&["--read-only"]);
            world.server.set_quota(1 << 30);
            let mount = crate::support::mounted::Mounted::new(&world.server, super::ROOT, &[]);
            let seen = rustix::fs::statvfs(mount.path(""))?;
            assert_eq!(
                (seen.f_blocks * seen.f_frsize, seen.f_namemax),
                (1 << 30, 255)
            );
            assert_eq!(seen.f_files, 0);
            Ok(())
        },
    },
    Case {
        call: "`ioctl` with FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (`lsattr`, `chattr`) and others",
        does: "refused",
        errno: "ENOTTY",
        check: |world| Ok(rustix::fs::ioctl_getflags(world.file("a", b"a")).map(drop)?),
    },
];
