//! What is in a file: read, written, cut, reserved, mapped, copied.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, SeekFrom};

use super::{BIG_BYTES, Case, World};
use crate::support::map::{Map, MapMut};

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// `abcdef` after fallocate(2) of two bytes from the second on, or of `length` bytes.
fn allocated(world: &World, mode: FallocateFlags, length: u64) -> std::io::Result<Vec<u8>> {
    let file = world.file("a", b"abcdef");
    rustix::fs::fallocate(&file, mode, 1, length)?;
    Ok(content(&file))
}

pub(super) const CASES: &[Case] = &[
    Case {
        call: "`read`, `pread`, `readv`, `preadv`",
        does: "short only at the end of the file",
        errno: "–",
        check: |world| {
            let file = File::open(world.mount.path("big"))?;
            let (mut one, mut other) = (vec![0; 3_000_000], vec![0; 3_000_000]);
            let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
            assert_eq!(
                rustix::io::preadv(&file, &mut parts, 0)?,
                BIG_BYTES as usize
            );
            assert_eq!(file.read_at(&mut one, BIG_BYTES - 1)?, 1);
            assert_eq!(file.read_at(&mut one, BIG_BYTES)?, 0);
            Ok(())
        },
    },
    Case {
        call: "`write`, `pwrite`, `writev`, `pwritev`",
        does: "all of it or an error; zeros up to there where it is behind the end",
        errno: "–",
        check: |world| {
            let mut file = world.file("a", b"");
            file.write_all(b"a")?;
            let parts = [IoSlice::new(b"x"), IoSlice::new(b"y")];
            assert_eq!(rustix::io::pwritev(&file, &parts, 3)?, 2);
            assert_eq!(content(&file), b"a\0\0xy");
            Ok(())
        },
    },
    Case {
        call: "`truncate`, `ftruncate`",
        does: "shorter, or longer by zeros",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"abcdef");
            file.set_len(2)?;
            file.set_len(4)?;
            assert_eq!(content(&file), b"ab\0\0");
            Ok(())
        },
    },
    Case {
        call: "`truncate` of a folder",
        does: "refused",
        errno: "EISDIR",
        check: |world| {
            use std::os::unix::ffi::OsStrExt;
            let path = std::ffi::CString::new(world.at("").as_os_str().as_bytes()).unwrap();
            #[expect(unsafe_code, reason = "std truncates open files only")]
            // SAFETY: the path ends with NUL.
            match unsafe { libc::truncate(path.as_ptr(), 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        },
    },
    Case {
        call: "`ftruncate` to more than the disk below `--state-dir` takes in one file",
        does: "refused",
        errno: "EFBIG",
        check: |world| world.file("a", b"a").set_len(1 << 62),
    },
    Case {
        call: "`fallocate`",
        does: "room is kept in `--state-dir`; the file grows by zeros",
        errno: "–",
        check: |world| {
            assert_eq!(allocated(world, FallocateFlags::empty(), 7)?, b"abcdef\0\0");
            Ok(())
        },
    },
    Case {
        call: "`fallocate` with KEEP_SIZE",
        does: "room is kept, and nothing shows of it",
        errno: "–",
        check: |world| {
            assert_eq!(allocated(world, FallocateFlags::KEEP_SIZE, 7)?, b"abcdef");
            Ok(())
        },
    },
    Case {
        call: "`fallocate` with PUNCH_HOLE, ZERO_RANGE",
        does: "zeros",
        errno: "–",
        check: |world| {
            let keep = FallocateFlags::KEEP_SIZE;
            let punch = FallocateFlags::PUNCH_HOLE | keep;
            assert_eq!(allocated(world, punch, 2)?, b"a\0\0def");
            assert_eq!(
                allocated(world, FallocateFlags::ZERO_RANGE | keep, 7)?,
                b"a\0\0\0\0\0"
            );
            assert_eq!(
                allocated(world, FallocateFlags::ZERO_RANGE, 6)?,
                b"a\0\0\0\0\0\0"
            );
            Ok(())
        },
    },
    Case {
        call: "`fallocate` with COLLAPSE_RANGE",
        does: "refused",
        errno: "EOPNOTSUPP",
        check: |world| allocated(world, FallocateFlags::COLLAPSE_RANGE, 2).map(drop),
    },
    Case {
        call: "`fallocate` with INSERT_RANGE",
        does: "refused",
        errno: "EOPNOTSUPP",
        check: |world| allocated(world, FallocateFlags::INSERT_RANGE, 2).map(drop),
    },
    Case {
        call: "`lseek` with SEEK_HOLE, SEEK_DATA",
        does: "files have no holes: the first one is their end",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"abc");
            file.set_len(100_000)?;
            assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(50_000))?, 50_000);
            assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0))?, 100_000);
            Ok(())
        },
    },
    Case {
        call: "`lseek` with SEEK_HOLE, SEEK_DATA behind the end",
        does: "there is nothing",
        errno: "ENXIO",
        check: |world| {
            let file = world.file("a", b"abc");
            rustix::fs::seek(&file, SeekFrom::Data(3)).unwrap_err();
            Ok(rustix::fs::seek(&file, SeekFrom::Hole(4)).map(drop)?)
        },
    },
    Case {
        call: "`copy_file_range`",
        does: "made here, or by the server where it is a large file as a whole",
        errno: "–",
        check: |world| {
            let (from, to) = (world.file("a", b"abcdef"), world.file("b", b"123"));
            let (mut from_at, mut to_at) = (2, 1);
            let copied =
                rustix::fs::copy_file_range(&from, Some(&mut from_at), &to, Some(&mut to_at), 100)?;
            assert_eq!((copied, content(&to)), (4, b"1cdef".to_vec()));
            Ok(())
        },
    },
    Case {
        call: "`copy_file_range` from or to another file system",
        does: "refused; programs read and write instead",
        errno: "EXDEV",
        check: |world| {
            let (from, to) = (tempfile::tempfile().unwrap(), world.file("b", b""));
            (&from).write_all(b"abc").unwrap();
            let (mut from_at, mut to_at) = (0, 0);
            let copied =
                rustix::fs::copy_file_range(&from, Some(&mut from_at), &to, Some(&mut to_at), 3);
            Ok(copied.map(drop)?)
        },
    },
    Case {
        call: "`ioctl` with FICLONE, FICLONERANGE (`cp --reflink`)",
        does: "refused",
        errno: "EOPNOTSUPP",
        check: |world| {
            let (from, to) = (world.file("a", b"abc"), world.file("b", b""));
            Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
        },
    },
    Case {
        call: "`sendfile`, `splice`",
        does: "as `read` and `write`",
        errno: "–",
        check: |world| {
            let (mut from, mut to) = (world.file("a", b"abc"), world.file("b", b""));
            assert_eq!(rustix::fs::sendfile(&to, &from, None, 3)?, 3);
            to.rewind()?;
            // Between two files std uses copy_file_range(2), and splice(2) where one of them is a pipe.
            let (mut reader, mut writer) = std::io::pipe()?;
            from.rewind()?;
            std::io::copy(&mut from, &mut writer)?;
            drop(writer);
            let mut found = Vec::new();
            reader.read_to_end(&mut found)?;
            assert_eq!((found, content(&to)), (b"abc".to_vec(), b"abc".to_vec()));
            Ok(())
        },
    },
    Case {
        call: "`mmap` with MAP_SHARED, MAP_PRIVATE",
        does: "what is written to a shared mapping is what all read, and is owed with the file",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"abc");
            MapMut::new(&file, 3).bytes()[1] = b'X';
            file.sync_all()?;
            assert_eq!(content(&file), b"aXc");
            assert_eq!(&Map::private(&file, 3)?[..], b"aXc");
            drop(file);
            world.mount.sync();
            assert_eq!(world.there("a").as_deref(), Some(&b"aXc"[..]));
            Ok(())
        },
    },
    Case {
        call: "`fsync`, `fdatasync`, `msync`, `close`",
        does: "as the table under Writing says",
        errno: "–",
        check: |_| {
            let world = World::new(&["--durability", "server", "--upload-delay", "1h"]);
            let mut file = File::create(world.at("a"))?;
            for (content, call) in [
                ("a", File::sync_all as fn(&File) -> std::io::Result<()>),
                ("ab", File::sync_data),
            ] {
                file.rewind()?;
                file.write_all(content.as_bytes())?;
                call(&file)?;
                assert_eq!(
                    world.server.content("a").as_deref(),
                    Some(content.as_bytes())
                );
            }
            file.write_all(b"c")?;
            drop(file);
            assert_eq!(world.server.content("a").as_deref(), Some(&b"abc"[..]));
            Ok(())
        },
    },
    Case {
        call: "`sync`, `syncfs`",
        does: "of what is on its way to the daemon; they wait for no disk and no server",
        errno: "–",
        check: |_| {
            let world = World::new(&["--durability", "server", "--upload-delay", "1h"]);
            let mut file = File::create(world.at("a"))?;
            file.write_all(b"a")?;
            rustix::fs::syncfs(&file)?;
            assert_eq!(world.server.content("a"), None);
            Ok(())
        },
    },
    Case {
        call: "`posix_fadvise`, `readahead`, `madvise`",
        does: "hints, which change no result",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"abc");
            for advice in [Advice::WillNeed, Advice::DontNeed, Advice::Random] {
                rustix::fs::fadvise(&file, 0, None, advice)?;
            }
            assert_eq!(content(&file), b"abc");
            Ok(())
        },
    },
    Case {
        call: "`read`, `write` of a file that was unlinked while it was open",
        does: "as before; it has no links",
        errno: "–",
        check: |world| {
            let file = world.file("a", b"abc");
            std::fs::remove_file(world.at("a"))?;
            file.write_all_at(b"X", 0)?;
            assert_eq!(
                (content(&file), file.metadata()?.nlink()),
                (b"Xbc".to_vec(), 0)
            );
            assert!(!Path::exists(&world.at("a")));
            Ok(())
        },
    },
];
