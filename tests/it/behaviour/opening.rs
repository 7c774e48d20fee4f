//! open(2), its flags, and what is locked.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use super::{Case, World};
use crate::support::shell;

fn open(path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        flags,
        Mode::from_raw_mode(0o644),
    )?)
}

pub(super) const CASES: &[Case] = &[
    Case {
        call: "`open` of what is not there",
        does: "only where the server, or a complete listing, said so",
        errno: "ENOENT",
        check: |world| open(&world.at("absent"), OFlags::RDONLY).map(drop),
    },
    Case {
        call: "`open` with O_CREAT and O_EXCL",
        does: "one of all who try makes the file",
        errno: "EEXIST",
        check: |world| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            drop(open(&world.at("lock"), flags).unwrap());
            open(&world.at("lock"), flags).map(drop)
        },
    },
    Case {
        call: "`open` with O_TRUNC",
        does: "the file is empty at once, and nothing of it is fetched",
        errno: "–",
        check: |_| {
            let world = World::new(&[]);
            drop(open(&world.at("big"), OFlags::WRONLY | OFlags::TRUNC)?);
            assert_eq!(std::fs::metadata(world.at("big"))?.len(), 0);
            assert_eq!(world.server.content_bytes_sent(), 0);
            Ok(())
        },
    },
    Case {
        call: "`open` with O_APPEND",
        does: "each write goes to the end, whoever wrote before",
        errno: "–",
        check: |world| {
            let append = || {
                File::options()
                    .append(true)
                    .create(true)
                    .open(world.at("log"))
            };
            let (mut one, mut other) = (append()?, append()?);
            one.write_all(b"one ")?;
            other.write_all(b"other ")?;
            one.write_all(b"one")?;
            assert_eq!(std::fs::read(world.at("log"))?, b"one other one");
            Ok(())
        },
    },
    Case {
        call: "`open` with O_DIRECT",
        does: "past the kernel's pages; any place and length will do",
        errno: "–",
        check: |world| {
            let file = File::from(open(
                &world.at("direct"),
                OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT,
            )?);
            file.write_all_at(b"odd", 3)?;
            let mut found = [0; 5];
            file.read_exact_at(&mut found, 1)?;
            assert_eq!(&found, b"\0\0odd");
            Ok(())
        },
    },
    Case {
        call: "`open` with O_SYNC or O_DSYNC",
        does: "each write is an `fsync`, too; on the server with `--durability server`",
        errno: "–",
        check: |_| {
            let world = World::new(&["--durability", "server"]);
            for (name, flag) in [("sync", OFlags::SYNC), ("dsync", OFlags::DSYNC)] {
                let mut file = File::from(open(
                    &world.at(name),
                    OFlags::WRONLY | OFlags::CREATE | flag,
                )?);
                file.write_all(b"there")?;
                assert_eq!(world.server.content(name).as_deref(), Some(&b"there"[..]));
            }
            Ok(())
        },
    },
    Case {
        call: "`open` with O_TMPFILE",
        does: "refused; programs make a file of some name instead",
        errno: "EOPNOTSUPP",
        check: |world| open(&world.at(""), OFlags::RDWR | OFlags::TMPFILE).map(drop),
    },
    Case {
        call: "`open` with O_PATH, O_CLOEXEC, O_NOATIME, O_NONBLOCK",
        does: "as on any file system",
        errno: "–",
        check: |world| {
            drop(world.file("a", b"a"));
            for flags in [
                OFlags::PATH,
                OFlags::CLOEXEC,
                OFlags::NOATIME,
                OFlags::NONBLOCK,
            ] {
                open(&world.at("a"), flags)?;
            }
            Ok(())
        },
    },
    Case {
        call: "`open` with O_NOFOLLOW of a symbolic link",
        does: "refused",
        errno: "ELOOP",
        check: |world| {
            symlink("a", world.at("link")).unwrap();
            open(&world.at("link"), OFlags::NOFOLLOW).map(drop)
        },
    },
    Case {
        call: "`open` with O_DIRECTORY of a file",
        does: "refused",
        errno: "ENOTDIR",
        check: |world| {
            drop(world.file("a", b"a"));
            open(&world.at("a"), OFlags::DIRECTORY).map(drop)
        },
    },
    Case {
        call: "`open` of a folder to write",
        does: "refused",
        errno: "EISDIR",
        check: |world| open(&world.at(""), OFlags::WRONLY).map(drop),
    },
    Case {
        call: "`open` to write of a program that runs",
        does: "refused",
        errno: "ETXTBSY",
        check: |world| {
            std::fs::copy("/bin/sleep", world.at("program")).unwrap();
            world.mount.sync();
            let mut runs = Command::new(world.at("program"))
                .arg("100")
                .spawn()
                .unwrap();
            let opened = open(&world.at("program"), OFlags::WRONLY).map(drop);
            shell::kill(runs.id(), libc::SIGKILL);
            runs.wait().unwrap();
            opened
        },
    },
    Case {
        call: "`execve`",
        does: "programs and scripts run from here, unless it is mounted with `noexec`",
        errno: "–",
        check: |world| {
            std::fs::copy("/bin/echo", world.at("program"))?;
            let said = shell::stdout(Command::new(world.at("program")).arg("hello"));
            assert_eq!(said, "hello\n");
            Ok(())
        },
    },
    Case {
        call: "`flock`, held by another",
        does: "holds among programs of this machine; other machines hear nothing of it",
        errno: "EAGAIN",
        check: |world| {
            let (one, other) = (world.file("a", b"a"), world.file("a", b"a"));
            rustix::fs::flock(&one, FlockOperation::LockExclusive).unwrap();
            let refused = rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive);
            drop(one);
            rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
            Ok(refused?)
        },
    },
    Case {
        call: "`fcntl` with F_OFD_SETLK, held by another",
        does: "the same, byte by byte",
        errno: "EAGAIN",
        check: |world| {
            let (one, other) = (world.file("a", b"abc"), world.file("a", b"abc"));
            ofd_lock(one.as_fd(), 0, 1).unwrap();
            ofd_lock(other.as_fd(), 1, 1).unwrap();
            ofd_lock(other.as_fd(), 0, 1)
        },
    },
    Case {
        call: "`fcntl` with F_SETLK, held by another",
        does: "the same, among processes",
        errno: "EAGAIN",
        check: |world| {
            let file = world.file("a", b"a");
            rustix::fs::fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
            let script = "import errno, fcntl, sys
try: fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error: print(error.errno)";
            let mut python = Command::new("python3");
            let said = shell::stdout(python.args(["-c", script]).arg(world.at("a")));
            Err(std::io::Error::from_raw_os_error(
                said.trim().parse().expect("refused"),
            ))
        },
    },
    Case {
        call: "`open` to write on a mount with `ro`, or of a share that may only be read",
        does: "refused, as all that changes anything",
        errno: "EROFS",
        check: |_| {
            let world = World::new(&["--read-only"]);
            open(&world.at("theirs"), OFlags::WRONLY).map(drop)
        },
    },
    Case {
        call: "`read` of a pipe or a socket made here, `write` to it",
        does: "between programs of this machine",
        errno: "–",
        check: |world| {
            let pipe = world.at("pipe");
            rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RWXU, 0)?;
            let mut both = super::both_ways(&pipe);
            both.write_all(b"x")?;
            let mut found = [0];
            both.read_exact(&mut found)?;
            assert_eq!(&found, b"x");
            Ok(())
        },
    },
];

/// F_OFD_SETLK of `length` bytes from `start` on, to write.
fn ofd_lock(file: std::os::fd::BorrowedFd<'_>, start: i64, length: i64) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    #[expect(unsafe_code, reason = "neither std nor rustix has locks of open files")]
    // SAFETY: `flock` is plain numbers, for which zero is a value; the descriptor is open.
    let done = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = start;
        lock.l_len = length;
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock)
    };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
