//! Mode, owner, times, links and extended attributes: kept, told to the server, and the same on another machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::support::mounted::Mounted;
use crate::support::shell;

const ROOT: &str = "cloudreve://my/";

/// What stat(2), readlink(2) and listxattr(2) say of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    accessed: (i64, i64),
    changed: (i64, i64),
    target: Option<PathBuf>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

fn seen(path: &Path) -> Seen {
    let meta: Metadata = path.symlink_metadata().unwrap();
    let is_folder = meta.is_dir();
    Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if is_folder { 0 } else { meta.size() },
        modified: (meta.mtime(), meta.mtime_nsec()),
        accessed: (meta.atime(), meta.atime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        target: std::fs::read_link(path).ok(),
        xattrs: xattrs(path),
    }
}

/// All below a mount, by path.
fn all(mount: &Mounted) -> BTreeMap<PathBuf, Seen> {
    fn walk(base: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Seen>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(base).unwrap().into(), seen(&path));
            if path.symlink_metadata().unwrap().is_dir() {
                walk(base, &path, found);
            }
        }
    }
    let (base, mut found) = (mount.path(""), BTreeMap::new());
    walk(&base, &base, &mut found);
    found
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = vec![0u8; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            let value = xattr(path, &name).unwrap();
            (name, value)
        })
        .collect()
}

fn xattr(path: &Path, name: impl AsRef<OsStr>) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0u8; 65536];
    let length = rustix::fs::lgetxattr(path, name.as_ref(), &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn set_xattr(path: impl AsRef<Path>, name: &str, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(path.as_ref(), name, value, XattrFlags::empty())
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Sets the times of access and of content; of a link itself.
fn set_times(path: &Path, accessed: (i64, i64), modified: (i64, i64)) {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(accessed),
        last_modification: time(modified),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn mount(server: &Server, options: &[&str]) -> Mounted {
    Mounted::new(server, ROOT, options)
}

/// A drive with something that was there before, and on it all that can be told of files and folders.
fn told(mount: &Mounted) {
    let at = |name: &str| mount.path(name);
    // Of what the server has.
    chmod(&at("known.txt"), 0o4751);
    set_times(&at("known.txt"), (5, 6), (1_000_000_007, 123_456_789));
    std::os::unix::fs::chown(at("other.txt"), Some(1234), Some(2345)).unwrap();
    set_xattr(at("other.txt"), "user.colour", b"\0blue\xff").unwrap();
    chmod(&at("folder"), 0o1770);
    set_times(&at("folder"), (-7, 1), (77, 77_777_777));
    set_xattr(at("folder"), "user.note", b"").unwrap();
    // Of what is new.
    let mut script = OpenOptions::new();
    let script = script
        .write(true)
        .create_new(true)
        .mode(0o750)
        .open(at("script"));
    script.unwrap().write_all(b"#!/bin/sh\n").unwrap();
    std::fs::write(at("old"), b"old").unwrap();
    set_times(&at("old"), (1, 2), (-3, 999_999_999));
    std::fs::write(at("empty"), b"").unwrap();
    chmod(&at("empty"), 0o600);
    set_times(&at("empty"), (8, 8), (9, 9));
    std::fs::create_dir(at("new folder")).unwrap();
    chmod(&at("new folder"), 0o700);
    std::fs::write(at("new folder/in it"), b"plain").unwrap();
    // What stands for something else.
    symlink("../nowhere/../a b", at("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"/\xff\xfe%2F\n"), at("new folder/odd")).unwrap();
    symlink("script", at("link")).unwrap();
    set_times(&at("link"), (3, 3), (4, 444_444_444));
    let bits = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, bits, 0).unwrap();
    drop(UnixListener::bind(at("socket")).unwrap());
    // What happens in a folder is not told of it; a time that is set then is.
    set_times(&at("new folder"), (6, 6), (6, 6));
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put("known.txt", b"known".to_vec());
    server.put("other.txt", b"other".to_vec());
    server.mkdir("folder");
    server
}

/// The same files, each with the same told of it.
#[track_caller]
fn assert_same(what: &str, one: &BTreeMap<PathBuf, Seen>, other: &BTreeMap<PathBuf, Seen>) {
    for (path, seen) in one {
        assert_eq!(other.get(path), Some(seen), "{what}: {}", path.display());
    }
    assert_eq!(one.len(), other.len(), "{what}");
}

#[test]
fn what_is_told_of_files_is_the_same_on_a_second_mount_and_after_a_new_start() {
    let server = drive();
    let mut first = mount(&server, &["--upload-delay=100ms"]);
    told(&first);
    let before = all(&first);
    let check = |path: &str| before[Path::new(path)].clone();
    assert_eq!(check("known.txt").mode & 0o7777, 0o4751);
    assert_eq!(check("known.txt").modified, (1_000_000_007, 123_456_789));
    assert_eq!(check("known.txt").accessed, (5, 6));
    assert_eq!(check("other.txt").owner, (1234, 2345));
    assert_eq!(check("folder").modified, (77, 77_777_777));
    assert_eq!(check("old").modified, (-3, 999_999_999));
    assert_eq!(check("link").target, Some("script".into()));
    assert_eq!(check("fifo").mode, libc::S_IFIFO | 0o640);
    assert_eq!(check("socket").mode & libc::S_IFMT, libc::S_IFSOCK);
    first.sync();
    assert_same("after it was delivered", &before, &all(&first));
    let second = mount(&server, &[]);
    assert_same("on a second mount", &before, &all(&second));
    assert!(first.end().success());
    let again = first.again(&server, ROOT, &[]);
    assert_same("after a new start", &before, &all(&again));
    assert_eq!(server.open_uploads(), 0);
}

#[test]
fn what_is_told_survives_a_kill_before_anybody_heard_it() {
    let server = drive();
    let mut first = mount(&server, &["--upload-delay=1h"]);
    told(&first);
    let before = all(&first);
    shell::kill(first.pid(), libc::SIGKILL);
    first.wait();
    let again = first.again(&server, ROOT, &["--upload-delay=1h"]);
    assert_same("after the kill", &before, &all(&again));
    again.sync();
    let second = mount(&server, &[]);
    assert_same("on a second mount", &before, &all(&second));
}

#[test]
fn a_rename_keeps_all_that_is_told_but_the_moment_of_the_last_change() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay=100ms"]);
    told(&mount);
    mount.sync();
    let before = all(&mount);
    let renames = [
        ("known.txt", "folder/known 2.txt"),
        ("other.txt", "other 2.txt"),
        ("folder", "new folder/folder"),
        ("link", "link 2"),
        ("old", "script"),
    ];
    for (from, to) in renames {
        std::fs::rename(mount.path(from), mount.path(to)).unwrap();
    }
    for folder in ["new folder/folder", "new folder"] {
        set_times(&mount.path(folder), (6, 6), (6, 6));
    }
    let now = |mount: &Mounted, what: &str| {
        for (from, to) in [
            ("known.txt", "new folder/folder/known 2.txt"),
            ("other.txt", "other 2.txt"),
            ("link", "link 2"),
            ("old", "script"),
        ] {
            let changed = seen(&mount.path(to));
            let was = &before[Path::new(from)];
            assert!(changed.changed >= was.changed, "{what}: {to}");
            let same = Seen {
                changed: was.changed,
                ..changed
            };
            assert_eq!(same, *was, "{what}: {to}");
        }
    };
    now(&mount, "at once");
    mount.sync();
    now(&mount, "after it was delivered");
    let after = all(&mount);
    let second = Mounted::new(&server, ROOT, &[]);
    now(&second, "on a second mount");
    assert_same("on a second mount", &after, &all(&second));
}

#[test]
fn what_replaces_a_file_keeps_its_own_whatever_was_to_be_told_of_that() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay", "1h"]);
    let at = |name: &str| mount.path(name);
    // New, and what the server has.
    std::fs::write(at("new"), b"new").unwrap();
    for (source, target, mode) in [
        ("new", "known.txt", 0o751),
        ("other.txt", "folder/f", 0o640),
    ] {
        if target == "folder/f" {
            server.put(target, b"replaced".to_vec());
        }
        chmod(&at(source), mode);
        set_times(&at(source), (7, 7), (8, 888_888_888));
        chmod(&at(target), 0o600);
        set_times(&at(target), (5, 5), (6, 666_666_666));
        let open = std::fs::File::open(at(target)).unwrap();
        std::fs::rename(at(source), at(target)).unwrap();
        let replaced = open.metadata().unwrap();
        assert_eq!((replaced.mode() & 0o777, replaced.nlink()), (0o600, 0));
        assert_eq!((replaced.mtime(), replaced.mtime_nsec()), (6, 666_666_666));
    }
    let files = |mount: &Mounted| {
        let files = ["known.txt", "folder/f"].into_iter();
        files
            .map(|file| (file.into(), seen(&mount.path(file))))
            .collect::<BTreeMap<PathBuf, Seen>>()
    };
    let here = files(&mount);
    assert_eq!(here[Path::new("known.txt")].mode & 0o777, 0o751);
    assert_eq!(here[Path::new("folder/f")].mode & 0o777, 0o640);
    assert!(here.values().all(|seen| seen.modified == (8, 888_888_888)));
    mount.sync();
    assert_same("once it is told", &here, &files(&mount));
    assert_same(
        "elsewhere",
        &here,
        &files(&Mounted::new(&server, ROOT, &[])),
    );
}

#[test]
fn what_is_told_of_an_open_file_shows_through_it_whether_the_server_has_the_content_or_not() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay", "0s"]);
    let time = |seconds| Timespec {
        tv_sec: seconds,
        tv_nsec: 123_456_789,
    };
    let path = mount.path("new");
    // To be read, too: what may only be written to is the kernel's until it is closed.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let file = options.open(&path).unwrap();
    for is_delivered in [false, true] {
        (&file).write_all(b"bytes").unwrap();
        if is_delivered {
            file.sync_all().unwrap();
            mount.sync();
        }
        let omitted = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        // One after the other: the second keeps what the first one told.
        for (last_access, last_modification) in [(time(11), omitted), (omitted, time(22))] {
            let times = Timestamps {
                last_access,
                last_modification,
            };
            rustix::fs::futimens(&file, &times).unwrap();
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)).unwrap();
        let shown = seen(&path);
        assert_eq!(shown.mode & 0o777, 0o600, "delivered: {is_delivered}");
        assert_eq!(
            shown.accessed,
            (11, 123_456_789),
            "delivered: {is_delivered}"
        );
        assert_eq!(
            shown.modified,
            (22, 123_456_789),
            "delivered: {is_delivered}"
        );
    }
    let before = seen(&path);
    drop(file);
    mount.sync();
    assert_eq!(seen(&path), before);
    assert_eq!(seen(&Mounted::new(&server, ROOT, &[]).path("new")), before);
}

#[test]
fn who_has_what_replaces_a_file_open_reads_and_tells_it_after_it_was_deleted() {
    let server = drive();
    let mount = mount(&server, &["--delete", "permanent", "--cache-size", "0"]);
    let (source, target) = (mount.path("other.txt"), mount.path("known.txt"));
    chmod(&source, 0o640);
    let open = std::fs::File::open(&source).unwrap();
    // What the server has becomes content of the other file, and is deleted with that.
    std::fs::rename(&source, &target).unwrap();
    std::fs::remove_file(&target).unwrap();
    let mut bytes = [0; 9];
    let read = rustix::io::pread(&open, &mut bytes, 0).unwrap();
    assert_eq!(&bytes[..read], b"other");
    let shown = open.metadata().unwrap();
    assert_eq!((shown.mode() & 0o777, shown.nlink()), (0o640, 0));
    let time = Timespec {
        tv_sec: 5,
        tv_nsec: 6,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::futimens(&open, &times).unwrap();
    let shown = open.metadata().unwrap();
    assert_eq!((shown.mtime(), shown.mtime_nsec()), (5, 6));
    assert_eq!((shown.atime(), shown.atime_nsec()), (5, 6));
}

#[test]
fn what_is_told_of_a_deleted_file_before_and_after_it_is_written_to_shows_while_it_is_open() {
    let server = drive();
    let mount = mount(&server, &[]);
    let path = mount.path("known.txt");
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mode = || open.metadata().unwrap().mode() & 0o7777;
    for bits in [0o600, 0o755] {
        rustix::fs::fchmod(&open, Mode::from_raw_mode(bits)).unwrap();
        assert_eq!(mode(), bits);
        (&open).write_all(b"written").unwrap();
        assert_eq!(mode(), bits, "written to");
    }
}

#[test]
fn a_file_that_is_moved_in_the_moment_it_is_told_of_is_looked_for() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay", "0s"]);
    server.fail(Fault::on(Route::Metadata).code(40016, "gone").times(2));
    chmod(&mount.path("folder"), 0o1770);
    mount.sync();
    let elsewhere = Mounted::new(&server, ROOT, &[]);
    assert_eq!(seen(&elsewhere.path("folder")).mode & 0o7777, 0o1770);
}

#[test]
fn a_rename_during_which_the_server_hears_what_was_told_keeps_it() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay=200ms", "--metadata-ttl=100ms"]);
    chmod(&mount.path("folder"), 0o1770);
    let slowly = Duration::from_secs(1);
    server.fail(Fault::on(Route::Rename).delay(slowly).times(1));
    std::fs::rename(mount.path("folder"), mount.path("renamed")).unwrap();
    mount.sync();
    assert_eq!(seen(&mount.path("renamed")).mode & 0o7777, 0o1770);
    let elsewhere = Mounted::new(&server, ROOT, &[]);
    assert_eq!(seen(&elsewhere.path("renamed")).mode & 0o7777, 0o1770);
}

#[test]
fn content_that_somebody_else_wrote_has_the_time_of_that_and_the_mode_that_was_told() {
    let server = drive();
    let first = mount(&server, &["--upload-delay=100ms"]);
    chmod(&first.path("known.txt"), 0o640);
    set_times(&first.path("known.txt"), (5, 6), (7, 123_456_789));
    first.sync();
    drop(first);
    server.put("known.txt", b"theirs".to_vec());
    let second = mount(&server, &[]);
    let now = seen(&second.path("known.txt"));
    assert_eq!(now.mode & 0o7777, 0o640);
    assert!(now.modified.0 > 1_000_000, "{now:?}");
    assert_eq!(now.accessed, now.modified);
}

#[test]
fn a_file_is_as_new_as_the_last_truncation_or_allocation_also_where_no_byte_changed() {
    let server = drive();
    server.put("empty", b"".to_vec());
    let mount = mount(&server, &["--upload-delay", "1h"]);
    let (empty, known) = (mount.path("empty"), mount.path("known.txt"));
    type Touch = fn(&Path);
    let touches: [(&str, &Path, Touch); 4] = [
        ("emptied", &empty, |path| {
            drop(std::fs::File::create(path).unwrap())
        }),
        ("of the same size", &known, |path| {
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(5)
                .unwrap();
        }),
        ("given room", &known, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, 9).unwrap();
        }),
        ("zeroed behind its end", &known, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            let zero = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
            rustix::fs::fallocate(file, zero, 7, 9).unwrap();
        }),
    ];
    for (what, path, touch) in touches {
        set_times(path, (1, 1), (2, 2));
        touch(path);
        assert!(seen(path).modified.0 > 1_000_000_000, "{what}");
    }
}

#[test]
fn extended_attributes_are_the_users_and_have_their_flags_and_limits() {
    let server = drive();
    let mount = mount(&server, &[]);
    let path = mount.path("known.txt");
    let set = |name: &str, value: &[u8], flags| rustix::fs::lsetxattr(&path, name, value, flags);
    assert_eq!(xattr(&path, "user.a"), Err(Errno::NODATA));
    assert_eq!(set("user.a", b"1", XattrFlags::REPLACE), Err(Errno::NODATA));
    assert_eq!(set("user.a", b"1", XattrFlags::CREATE), Ok(()));
    assert_eq!(set("user.a", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.a", b"3", XattrFlags::REPLACE), Ok(()));
    assert_eq!(xattr(&path, "user.a"), Ok(b"3".to_vec()));
    // All of a file's fit into what the server takes.
    assert_eq!(set("user.b", &[7; 45_000], XattrFlags::empty()), Ok(()));
    assert_eq!(
        set("user.c", &[7; 45_000], XattrFlags::empty()),
        Err(Errno::NOSPC)
    );
    assert_eq!(xattr(&path, "user.c"), Err(Errno::NODATA));
    // What the server tells is there by name, not listed, and nobody's to set.
    assert_eq!(
        set("user.cloudreve.id", b"x", XattrFlags::empty()),
        Err(Errno::PERM)
    );
    assert!(xattr(&path, "user.cloudreve.id").is_ok());
    let names: Vec<_> = xattrs(&path).into_keys().collect();
    assert_eq!(names, ["user.a", "user.b"]);
    for foreign in ["security.x", "trusted.x", "system.x"] {
        assert_eq!(
            set(foreign, b"x", XattrFlags::empty()),
            Err(Errno::OPNOTSUPP),
            "{foreign}"
        );
    }
    assert_eq!(rustix::fs::lremovexattr(&path, "user.b"), Ok(()));
    assert_eq!(
        rustix::fs::lremovexattr(&path, "user.b"),
        Err(Errno::NODATA)
    );
    assert_eq!(xattrs(&path).len(), 1);
}

#[test]
fn whoever_gives_a_file_away_or_writes_to_anothers_takes_its_privileges() {
    let server = drive();
    let mount = mount(&server, &["--allow-other"]);
    let path = mount.path("known.txt");
    let mode = || seen(&path).mode & 0o7777;
    chmod(&path, 0o6755);
    std::os::unix::fs::chown(&path, Some(1), None).unwrap();
    assert_eq!(mode(), 0o755, "given away");
    chmod(&path, 0o6755);
    std::os::unix::fs::chown(&path, None, None).unwrap();
    assert_eq!(mode(), 0o755, "given to who has it");
    chmod(&path, 0o6766);
    let write = format!("printf x >> '{}'", path.display());
    shell::stdout(Command::new("setpriv").args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        &write,
    ]));
    assert_eq!(
        mode(),
        0o2766,
        "written to; without execution the bit means something else"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"knownx");
}

#[test]
fn what_is_made_in_a_folder_of_a_group_is_of_that_group() {
    let server = drive();
    let mount = mount(&server, &[]);
    let folder = mount.path("folder");
    std::os::unix::fs::chown(&folder, None, Some(2345)).unwrap();
    chmod(&folder, 0o2775);
    std::fs::write(folder.join("file"), b"x").unwrap();
    std::fs::create_dir(folder.join("below")).unwrap();
    symlink("x", folder.join("link")).unwrap();
    let below = seen(&folder.join("below"));
    assert_eq!(below.mode & 0o7000, 0o2000);
    for made in ["file", "below", "link"] {
        assert_eq!(seen(&folder.join(made)).owner.1, 2345, "{made}");
    }
}

#[test]
fn rsync_and_cp_bring_all_of_a_tree_and_a_second_rsync_moves_nothing() {
    let server = drive();
    let mount = mount(&server, &["--upload-delay=100ms"]);
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("folder/file"), b"content").unwrap();
    std::fs::write(at("empty"), b"").unwrap();
    symlink("folder/file", at("link")).unwrap();
    rustix::fs::mknodat(
        CWD,
        at("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    set_xattr(at("folder/file"), "user.colour", b"blue").unwrap();
    chmod(&at("folder/file"), 0o4751);
    std::os::unix::fs::chown(at("empty"), Some(1234), Some(2345)).unwrap();
    for (nth, name) in ["folder/file", "empty", "link", "folder"]
        .into_iter()
        .enumerate()
    {
        let time = (1_111_111_111 + nth as i64, 222_222_222);
        set_times(&at(name), time, time);
    }
    let rsync = |how: &str| {
        let mut rsync = Command::new("rsync");
        let from = format!("{}/", source.path().display());
        shell::stdout(
            rsync
                .args([how, "--modify-window=-1", &from])
                .arg(mount.path("copy/")),
        )
    };
    rsync("-aHAXi");
    assert_eq!(rsync("-aHAXi"), "", "at once");
    mount.sync();
    assert_eq!(rsync("-aHAXi"), "", "after it was delivered");
    let second = Mounted::new(&server, ROOT, &[]);
    let mut dry = Command::new("rsync");
    let from = format!("{}/", source.path().display());
    let dry = dry.args(["-naHAXi", "--modify-window=-1", &from]);
    assert_eq!(
        shell::stdout(dry.arg(second.path("copy/"))),
        "",
        "on a second mount"
    );
    shell::stdout(
        Command::new("cp")
            .arg("-a")
            .arg(source.path())
            .arg(mount.path("cp")),
    );
    let (mut ours, mut theirs) = (
        seen(&mount.path("cp/folder/file")),
        seen(&at("folder/file")),
    );
    (ours.changed, theirs.changed) = Default::default();
    assert_eq!(ours, theirs);
}

#[test]
fn what_happens_in_a_folder_moves_its_time_and_a_time_that_is_set_stays() {
    let server = drive();
    let mount = mount(&server, &[]);
    let folder = mount.path("folder");
    let time = (1_000_000_000, 5);
    type Happens<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let happens: [Happens; 7] = [
        (
            "create",
            Box::new(|| std::fs::write(folder.join("a"), b"").unwrap()),
        ),
        (
            "mkdir",
            Box::new(|| std::fs::create_dir(folder.join("b")).unwrap()),
        ),
        (
            "symlink",
            Box::new(|| symlink("x", folder.join("c")).unwrap()),
        ),
        (
            "rename",
            Box::new(|| std::fs::rename(folder.join("a"), folder.join("d")).unwrap()),
        ),
        (
            "move away",
            Box::new(|| std::fs::rename(folder.join("d"), mount.path("d")).unwrap()),
        ),
        (
            "unlink",
            Box::new(|| std::fs::remove_file(folder.join("c")).unwrap()),
        ),
        (
            "rmdir",
            Box::new(|| std::fs::remove_dir(folder.join("b")).unwrap()),
        ),
    ];
    for (what, happens) in happens {
        set_times(&folder, time, time);
        assert_eq!(seen(&folder).modified, time, "before {what}");
        happens();
        let now = seen(&folder);
        assert!(
            now.modified > time && now.changed >= now.modified,
            "{what}: {now:?}"
        );
        assert_eq!(now.accessed, time, "{what}");
    }
    // What is in a file is not what is in its folder.
    set_times(&folder, time, time);
    std::fs::write(folder.join("e"), b"").unwrap();
    set_times(&folder, time, time);
    std::fs::write(folder.join("e"), b"content").unwrap();
    assert_eq!(seen(&folder).modified, time);
}

#[test]
fn a_pipe_that_is_open_is_one_after_it_was_unlinked() {
    let server = drive();
    let mount = mount(&server, &[]);
    let path = mount.path("fifo");
    let bits = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, bits, 0).unwrap();
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    chmod(&path, 0o600);
    std::fs::remove_file(&path).unwrap();
    let shown = open.metadata().unwrap();
    assert_eq!((shown.mode(), shown.nlink()), (libc::S_IFIFO | 0o600, 0));
    (&open).write_all(b"x").unwrap();
}

#[test]
fn sync_waits_for_what_was_to_be_told_when_it_came_and_for_nothing_later() {
    let server = Server::start(Options::default()).unwrap();
    server.put("first", b"1".to_vec());
    server.put("second", b"2".to_vec());
    let mount = Mounted::new(&server, ROOT, &["--upload-delay", "1h"]);
    let set = |name: &str, mode: u32| {
        std::fs::set_permissions(mount.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    let mode =
        |mount: &Mounted, name: &str| mount.path(name).symlink_metadata().unwrap().mode() & 0o7777;
    set("first", 0o600);
    let late = Duration::from_secs(1);
    server.fail(Fault::on(Route::Metadata).delay(late).times(1));
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| mount.sync());
        shell::wait_until("it is told", || server.count(Route::Metadata) > 0);
        set("first", 0o640);
        set("second", 0o600);
        syncing.join().unwrap();
    });
    assert_eq!(mount.status()["owed_sum"]["untold"], 1);
    let other = Mounted::new(&server, ROOT, &[]);
    assert_eq!(mode(&other, "first"), 0o640, "it was changed once more");
    assert_eq!(mode(&other, "second"), 0o644);
    assert_eq!(mode(&mount, "second"), 0o600);
}
