//! Copies of trees, with their times, modes, links and attributes; and what counts them.

use std::os::unix::fs::{PermissionsExt, symlink};

use cloudreve_test_server::generated_bytes;

use super::*;
use crate::support::xattr;

/// A tree of files of several sizes with odd names, modes, times, links, and attributes.
pub(super) fn make_source(source: &Path) {
    std::fs::create_dir_all(source.join("deep/deeper")).unwrap();
    std::fs::create_dir(source.join("empty folder")).unwrap();
    for (n, size) in [0u64, 1, 4096, 100_000, 3_000_000].into_iter().enumerate() {
        let content = generated_bytes(n as u64, 0..size);
        for name in [format!("file {n} ü"), format!("deep/deeper/{n}.bin")] {
            std::fs::write(source.join(name), &content).unwrap();
        }
    }
    let mode = |name: &str, mode| {
        std::fs::set_permissions(source.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("deep/deeper/1.bin", 0o4750);
    mode("file 2 ü", 0o400);
    mode("empty folder", 0o1777);
    symlink("deep/deeper/3.bin", source.join("link")).unwrap();
    symlink("../no where", source.join("deep/dangling")).unwrap();
    xattr::set(&source.join("deep/deeper/2.bin"), "user.colour", b"blue").unwrap();
    let touch = [
        "-exec",
        "touch",
        "-h",
        "-d",
        "@1234567890.123456789",
        "{}",
        "+",
    ];
    shell::stdout(Command::new("find").arg(source).args(touch));
}

/// A world with a source tree beside it.
fn with_source() -> (Server, Mounted, Tree) {
    let (server, mount) = world(None);
    let source = mount.home.path("source");
    make_source(&source);
    let right = tree(&source);
    (server, mount, right)
}

/// The part of `whole` that is in `folder`.
fn below(whole: &Tree, folder: &str) -> Tree {
    let start = format!("{folder}/");
    let all = whole.iter();
    all.filter_map(|(path, seen)| Some((path.strip_prefix(&start)?.to_owned(), seen.clone())))
        .collect()
}

#[test]
#[ignore = "needs rsync, which .ci/run installs; it runs this"]
fn rsync_brings_all_of_a_tree_and_moves_nothing_the_second_time() {
    const RSYNC: &str = "rsync -aHAX --modify-window=-1";
    let (server, mount, right) = with_source();
    let rsync = |more: &str| sh(&mount, &format!("{RSYNC} {more} ../source/ there"));
    rsync("");
    assert_eq!(rsync("-i"), "", "a second one");
    assert_same("rsync", &below(&arrives(&server, &mount), "there"), &right);
    assert_eq!(rsync("-i"), "", "after it was delivered");
    assert_eq!(rsync("-ic"), "", "by content");
    let from = mount.home.path("source");
    {
        let second = Mounted::new(&server, ROOT, SOON);
        let script = format!("{RSYNC} -i '{}/' there", from.display());
        let moved = sh_in(&second, &second.path(""), &script);
        assert_eq!(moved, "", "from another machine");
    }
    // A part of a large file, in place.
    let change = "printf changed | dd of=../source/deep/deeper/4.bin bs=1 seek=1000000 conv=notrunc status=none";
    sh(&mount, change);
    rsync("--inplace --no-whole-file");
    let right = tree(&from);
    assert_same(
        "in place",
        &below(&arrives(&server, &mount), "there"),
        &right,
    );
    // What is gone, goes.
    std::fs::remove_dir_all(from.join("deep")).unwrap();
    rsync("--delete");
    let right = tree(&from);
    assert_same(
        "deleted",
        &below(&arrives(&server, &mount), "there"),
        &right,
    );
}

#[test]
fn cp_a_and_tar_bring_all_of_a_tree_there_and_back() {
    let (server, mount, right) = with_source();
    let script = "cp -a ../source copied
        tar -C ../source --xattrs -cf all.tar .
        mkdir untarred; tar -C untarred --xattrs -xpf all.tar; tar -C ../source --xattrs -df all.tar
        tar -C untarred -df all.tar; cp -a untarred ../back";
    sh(&mount, script);
    let shown = arrives(&server, &mount);
    assert_same("cp -a", &below(&shown, "copied"), &right);
    assert_same("tar", &below(&shown, "untarred"), &right);
    assert_same("back", &tree(&mount.home.path("back")), &right);
    for copy in ["mnt/copied", "mnt/untarred", "back"] {
        let copied = mount.home.path(copy).join("deep/deeper/2.bin");
        assert_eq!(
            xattr::get(&copied, "user.colour").unwrap(),
            b"blue",
            "{copy}"
        );
    }
}

#[test]
fn find_and_du_tell_of_a_copy_what_they_tell_of_its_source() {
    let (server, mount, _) = with_source();
    sh(&mount, "cp -a ../source copied");
    arrives(&server, &mount);
    let second = Mounted::new(&server, ROOT, SOON);
    let both = [mount.path("copied"), second.path("copied")];
    let source = mount.home.path("source");
    // Folders have a size of their own on each file system.
    let same = [
        "find . -printf '%y %m %U %G %P %l\\n' | sort",
        "find . ! -type d -printf '%s %T@ %n %P\\n' | sort",
        "find . -newermt '2009-02-13 23:31:30.1234567 UTC' | sort",
        "find . -type f -size +200k -o -type f -empty | sort",
        "find . -perm -4000 -o -perm -1000 | sort",
        "find . -type f -print0 | sort -z | du --files0-from=- --apparent-size -B1 -c",
        "find . -type f -print0 | sort -z | xargs -0 md5sum",
    ];
    for script in same {
        let right = sh_in(&mount, &source, script);
        assert!(!right.is_empty(), "{script}");
        for copy in &both {
            assert_eq!(sh_in(&mount, copy, script), right, "{script}");
        }
    }
    // What du counts are blocks: of each file as many as hold its bytes, whether they are here or not.
    let blocks =
        "find . -type f -printf '%s\\n' | awk '{ n += int(($1 + 511) / 512) } END { print n }'";
    let right = sh_in(&mount, &source, blocks);
    let links = sh_in(&mount, &source, "find . -type l | wc -l");
    assert_eq!(links, "2\n");
    let counts = [
        "find . -type f -print0 | du --files0-from=- -B512 -c | tail -1 | cut -f1",
        "du -sB512 --exclude=link --exclude=dangling | cut -f1",
    ];
    for copy in &both {
        for count in counts {
            assert_eq!(sh_in(&mount, copy, count), right, "{count}");
        }
    }
}
