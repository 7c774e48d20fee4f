//! What programs see of a drive: attributes, order, space, extended attributes; and that nothing can be changed yet.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;
use crate::support::{shell, xattr};

/// Names in the order in which readdir(3) yields them.
fn names(folder: &Path) -> Vec<OsString> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect()
}

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[test]
fn attributes_are_the_servers_and_the_mounting_users() {
    let server = Server::start(Options::default()).unwrap();
    server.put("folder/file.txt", b"content".to_vec());
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_123);
    server.set_updated("folder/file.txt", modified);
    let options = ["--uid", "1234", "--gid", "2345", "--umask", "027"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let file = std::fs::metadata(mount.path("folder/file.txt")).unwrap();
    assert_eq!(file.modified().unwrap(), modified);
    assert_eq!(
        (file.len(), file.uid(), file.gid(), file.nlink()),
        (7, 1234, 2345, 1)
    );
    assert_eq!(file.mode() & 0o7777, 0o640);
    assert_eq!(file.blocks(), 1, "du must be right");
    let folder = std::fs::metadata(mount.path("folder")).unwrap();
    assert!(folder.is_dir());
    assert_eq!(folder.mode() & 0o7777, 0o750);
    assert_ne!(file.ino(), folder.ino());
    drop(mount);

    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let again = std::fs::metadata(mount.path("folder/file.txt")).unwrap();
    assert_eq!(again.ino(), file.ino(), "the number survives a remount");
    server.rename("folder/file.txt", "renamed.txt");
    drop(mount);
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    assert_eq!(
        std::fs::metadata(mount.path("folder/renamed.txt"))
            .unwrap()
            .ino(),
        file.ino(),
        "and a rename"
    );
}

#[test]
fn a_mount_is_for_who_made_it_unless_others_are_let_in() {
    let server = Server::start(Options::default()).unwrap();
    server.put("folder/file.txt", b"content".to_vec());
    for (options, is_open) in [
        (&[][..], false),
        (&["--allow-root"], false),
        (&["--allow-other"], true),
    ] {
        let mount = Mounted::new(&server, "cloudreve://my/", options);
        // The way there is free.
        let free = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(mount.home.path(""), free).unwrap();
        let (folder, file) = (mount.path("folder"), mount.path("folder/file.txt"));
        // What the owner looked at is known to the kernel.
        assert_eq!(std::fs::read(&file).unwrap(), b"content");
        assert_eq!(names(&folder), ["file.txt"]);
        for (program, path) in [("cat", &file), ("ls", &folder)] {
            let mut command = mount.as_nobody(Command::new(program).arg(path));
            let output = shell::output(&mut command);
            let succeeded = output.status.success();
            assert_eq!(succeeded, is_open, "{options:?} {program}: {output:?}");
        }
    }
}

#[test]
fn folders_come_first_and_files_in_the_order_asked_for() {
    let server = Server::start(Options::default()).unwrap();
    for (name, size, age) in [("b", 10, 3_u64), ("a", 30, 1), ("c", 20, 2)] {
        server.put_generated(name, size, 1);
        server.set_updated(
            name,
            SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - age),
        );
    }
    server.mkdir("z folder");
    #[track_caller]
    fn check(server: &Server, options: &[&str], expected: [&str; 4]) {
        let mount = Mounted::new(server, "cloudreve://my/", options);
        assert_eq!(names(&mount.path("")), expected, "{options:?}");
    }
    check(&server, &[], ["z folder", "a", "b", "c"]);
    check(
        &server,
        &["--order-direction", "desc"],
        ["z folder", "c", "b", "a"],
    );
    check(
        &server,
        &["--order-by", "size"],
        ["z folder", "b", "c", "a"],
    );
    check(
        &server,
        &["--order-by", "updated_at", "--order-direction", "desc"],
        ["z folder", "a", "c", "b"],
    );
}

#[test]
fn unfinished_uploads_are_empty_files_unless_hidden() {
    let server = Server::start(Options::default()).unwrap();
    server.put("done.txt", b"done".to_vec());
    server.add_unfinished_upload("coming.bin", 5 << 20);
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    assert_eq!(names(&mount.path("")), ["coming.bin", "done.txt"]);
    assert_eq!(std::fs::read(mount.path("coming.bin")).unwrap(), b"");
    drop(mount);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--hide-uploading"]);
    assert_eq!(names(&mount.path("")), ["done.txt"]);
    // A version being uploaded leaves the old content in its place, and its file is not hidden.
    server.add_unfinished_upload("done.txt", 5 << 20);
    drop(mount);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--hide-uploading"]);
    assert_eq!(std::fs::read(mount.path("done.txt")).unwrap(), b"done");
}

#[test]
fn statfs_shows_the_quota() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file", 3 << 20, 1);
    server.set_quota(1 << 30);
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let path = path_of(&mount.path(""));
    let mut space: libc::statvfs = unsafe_zeroed();
    // SAFETY: a path that ends with NUL and a structure of the right type.
    #[expect(unsafe_code, reason = "std has no statvfs(3)")]
    let failed = unsafe { libc::statvfs(path.as_ptr(), &mut space) };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
    assert_eq!(space.f_blocks * space.f_frsize, 1 << 30);
    assert_eq!(space.f_bavail * space.f_frsize, (1 << 30) - (3 << 20));
    assert_eq!(space.f_namemax, 255);
}

fn unsafe_zeroed() -> libc::statvfs {
    // SAFETY: statvfs is plain numbers, for which zero is a value.
    #[expect(unsafe_code, reason = "libc's structures have no constructor")]
    unsafe {
        std::mem::zeroed()
    }
}

#[test]
fn extended_attributes_tell_what_the_server_knows() {
    let server = Server::start(Options::default()).unwrap();
    server.put("folder/file.txt", b"one".to_vec());
    server.put("folder/file.txt", b"two!".to_vec());
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let file = mount.path("folder/file.txt");
    let text =
        |path: &Path, name: &str| String::from_utf8(xattr::get(path, name).unwrap()).unwrap();
    assert_eq!(
        text(&file, "user.cloudreve.uri"),
        "cloudreve://my/folder/file.txt"
    );
    assert_eq!(
        text(&file, "user.cloudreve.id"),
        server.file_id("folder/file.txt")
    );
    assert_eq!(
        text(&file, "user.cloudreve.entity"),
        server.entity_id("folder/file.txt")
    );
    assert_eq!(text(&file, "user.cloudreve.versions"), "2");
    let folder = mount.path("folder");
    assert_eq!(
        text(&folder, "user.cloudreve.folder_size"),
        "7",
        "all versions count"
    );
    let listed = xattr::list(&file).unwrap();
    assert_eq!(listed, Vec::<String>::new(), "none is the user's");
    assert_eq!(
        xattr::get(&file, "user.mine").unwrap_err().raw_os_error(),
        Some(libc::ENODATA)
    );
    assert_eq!(
        xattr::get(&file, "security.capability")
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EOPNOTSUPP)
    );
}

#[test]
fn on_a_read_only_mount_nothing_can_be_changed_and_status_says_why() {
    let server = Server::start(Options::default()).unwrap();
    server.put("folder/file.txt", b"content".to_vec());
    let mount = Mounted::new(&server, "cloudreve://my/", &["--read-only"]);
    let file = mount.path("folder/file.txt");
    let check = |what: &str, outcome: io::Result<()>| {
        let error = outcome.expect_err(what);
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{what}: {error}");
    };
    check("create", std::fs::write(mount.path("new"), b"x"));
    check(
        "open for writing",
        std::fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .map(drop),
    );
    check(
        "truncate",
        std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .open(&file)
            .map(drop),
    );
    check("mkdir", std::fs::create_dir(mount.path("dir")));
    check("rmdir", std::fs::remove_dir(mount.path("folder")));
    check("unlink", std::fs::remove_file(&file));
    check("rename", std::fs::rename(&file, mount.path("x")));
    check(
        "symlink",
        std::os::unix::fs::symlink("a", mount.path("link")),
    );
    check("hard link", std::fs::hard_link(&file, mount.path("link")));
    check(
        "chmod",
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
    );
    check("setxattr", xattr::set(&file, "user.mine", b"x"));
    let status = mount.command(&["status"]);
    assert!(status.contains("read-only: it was asked for"), "{status}");
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
}
