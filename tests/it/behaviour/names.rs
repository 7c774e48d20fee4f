//! Names: made, changed, removed, refused.

use std::os::unix::fs::{FileTypeExt, symlink};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use super::{Case, World};

fn rename(world: &World, from: &str, to: &str, flags: RenameFlags) -> std::io::Result<()> {
    let (from, to) = (world.at(from), world.at(to));
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

fn node(world: &World, name: &str, kind: FileType) -> std::io::Result<()> {
    let bits = Mode::from_raw_mode(0o644);
    Ok(rustix::fs::mknodat(CWD, world.at(name), kind, bits, 0)?)
}

/// The folders `full`, with a file in it, and `empty`, and a file.
fn tree(world: &World) {
    std::fs::create_dir(world.at("full")).unwrap();
    std::fs::create_dir(world.at("empty")).unwrap();
    std::fs::write(world.at("full/a"), b"a").unwrap();
    std::fs::write(world.at("file"), b"file").unwrap();
}

pub(super) const CASES: &[Case] = &[
    Case {
        call: "`mkdir` where something is",
        does: "refused",
        errno: "EEXIST",
        check: |world| {
            tree(world);
            std::fs::create_dir(world.at("file"))
        },
    },
    Case {
        call: "`rmdir` of a folder in which something is, also if only the server knows of it",
        does: "refused",
        errno: "ENOTEMPTY",
        check: |world| {
            std::fs::create_dir(world.at("full")).unwrap();
            assert!(
                std::fs::read_dir(world.at("full"))
                    .unwrap()
                    .next()
                    .is_none()
            );
            world
                .server
                .put(&format!("{}/full/a", world.folder), "theirs");
            std::fs::remove_dir(world.at("full"))
        },
    },
    Case {
        call: "`rmdir` of a file",
        does: "refused",
        errno: "ENOTDIR",
        check: |world| {
            tree(world);
            std::fs::remove_dir(world.at("file"))
        },
    },
    Case {
        call: "`unlink` of a folder",
        does: "refused",
        errno: "EISDIR",
        check: |world| {
            tree(world);
            std::fs::remove_file(world.at("empty"))
        },
    },
    Case {
        call: "`rename`",
        does: "replaces in one step what has the name",
        errno: "–",
        check: |world| {
            tree(world);
            std::fs::rename(world.at("full/a"), world.at("file"))?;
            assert_eq!(std::fs::read(world.at("file"))?, b"a");
            std::fs::rename(world.at("full"), world.at("empty"))
        },
    },
    Case {
        call: "`rename` onto a folder in which something is",
        does: "refused",
        errno: "ENOTEMPTY",
        check: |world| {
            tree(world);
            std::fs::rename(world.at("empty"), world.at("full"))
        },
    },
    Case {
        call: "`rename` of a folder into itself",
        does: "refused",
        errno: "EINVAL",
        check: |world| {
            tree(world);
            std::fs::rename(world.at("full"), world.at("full/within"))
        },
    },
    Case {
        call: "`renameat2` with RENAME_NOREPLACE where something is",
        does: "refused",
        errno: "EEXIST",
        check: |world| {
            tree(world);
            rename(world, "full/a", "new", RenameFlags::NOREPLACE).unwrap();
            rename(world, "new", "file", RenameFlags::NOREPLACE)
        },
    },
    Case {
        call: "`renameat2` with RENAME_EXCHANGE",
        does: "both change their names with each other",
        errno: "–",
        check: |world| {
            tree(world);
            rename(world, "full", "file", RenameFlags::EXCHANGE)?;
            assert_eq!(std::fs::read(world.at("full"))?, b"file");
            assert_eq!(std::fs::read(world.at("file/a"))?, b"a");
            Ok(())
        },
    },
    Case {
        call: "`renameat2` with RENAME_WHITEOUT",
        does: "refused",
        errno: "EINVAL",
        check: |world| {
            tree(world);
            rename(world, "file", "new", RenameFlags::WHITEOUT)
        },
    },
    Case {
        call: "`rename` to another file system, to another share, or of what the server has to a name that stays local",
        does: "refused; programs copy instead",
        errno: "EXDEV",
        check: |_| {
            let world = World::new(&["--local-only", "*.tmp"]);
            std::fs::rename(world.at("theirs"), world.at("theirs.tmp"))
        },
    },
    Case {
        call: "`link`",
        does: "no hard links",
        errno: "EPERM",
        check: |world| {
            tree(world);
            std::fs::hard_link(world.at("file"), world.at("link"))
        },
    },
    Case {
        call: "`symlink`, `readlink`",
        does: "any target, byte for byte",
        errno: "–",
        check: |world| {
            let target = format!("../{}", "a/".repeat(2000));
            symlink(&target, world.at("link"))?;
            assert_eq!(
                std::fs::read_link(world.at("link"))?.to_str(),
                Some(&*target)
            );
            Ok(())
        },
    },
    Case {
        call: "`symlink` to more than 4095 bytes",
        does: "refused",
        errno: "ENAMETOOLONG",
        check: |world| symlink("a".repeat(4096), world.at("link")),
    },
    Case {
        call: "`mknod` of a file, a named pipe, a socket",
        does: "made, and the same on each mount",
        errno: "–",
        check: |world| {
            node(world, "file", FileType::RegularFile)?;
            node(world, "pipe", FileType::Fifo)?;
            node(world, "socket", FileType::Socket)?;
            let kind = |name: &str| {
                std::fs::symlink_metadata(world.at(name))
                    .unwrap()
                    .file_type()
            };
            assert!(kind("file").is_file() && kind("pipe").is_fifo() && kind("socket").is_socket());
            Ok(())
        },
    },
    Case {
        call: "`mknod` of a device",
        does: "no devices",
        errno: "EPERM",
        check: |world| {
            node(world, "block", FileType::BlockDevice).unwrap_err();
            node(world, "character", FileType::CharacterDevice)
        },
    },
    Case {
        call: "a name of more than 255 bytes, in any call",
        does: "refused",
        errno: "ENAMETOOLONG",
        check: |world| {
            std::fs::write(world.at(&"a".repeat(255)), b"a").unwrap();
            // The server's own disk does not take that one.
            std::fs::remove_file(world.at(&"a".repeat(255))).unwrap();
            let long = world.at(&"a".repeat(256));
            std::fs::create_dir(&long).unwrap_err();
            std::fs::metadata(&long).unwrap_err();
            std::fs::write(long, b"a")
        },
    },
    Case {
        call: "a new name that the server does not take, with `--names reject`",
        does: "refused; without it such names are exchanged (→ Names)",
        errno: "EINVAL",
        check: |world| {
            std::fs::write(world.at("a:b"), b"a").unwrap();
            let rejects = World::new(&["--names", "reject"]);
            std::fs::create_dir(rejects.at("a:b")).unwrap_err();
            std::fs::write(rejects.at("a:b"), b"a")
        },
    },
    Case {
        call: "`getdents`",
        does: "each name once, with its kind and number",
        errno: "–",
        check: |world| {
            tree(world);
            let mut names: Vec<_> = std::fs::read_dir(world.at(""))?
                .map(|entry| {
                    let entry = entry.unwrap();
                    (
                        entry.file_name().into_string().unwrap(),
                        entry.file_type().unwrap().is_dir(),
                    )
                })
                .collect();
            names.sort();
            let right = [("empty", true), ("file", false), ("full", true)];
            assert_eq!(names, right.map(|(name, is_dir)| (name.to_owned(), is_dir)));
            Ok(())
        },
    },
];
