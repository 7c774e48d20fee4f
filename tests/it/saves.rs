//! Saves and renames, as the server sees them.

use std::os::unix::fs::MetadataExt;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;

fn world(options: &[&str]) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.set_retention(true, 0);
    server.put("a.txt", "first");
    let options = [&["--upload-delay=200ms"], options].concat();
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    (server, mount)
}

#[track_caller]
fn check(server: &Server, mount: &Mounted, name: &str, content: &[u8]) {
    let shown = std::fs::read(mount.path(name)).unwrap();
    assert!(shown == content, "{name}: {} bytes shown", shown.len());
    mount.sync();
    let found = server
        .content(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    assert!(
        found == content,
        "{name}: {} bytes on the server",
        found.len()
    );
    let shown = std::fs::read(mount.path(name)).unwrap();
    assert!(
        shown == content,
        "{name}: {} bytes shown after",
        shown.len()
    );
    let size = std::fs::metadata(mount.path(name)).unwrap().len();
    assert_eq!(size, content.len() as u64, "{name}");
}

#[test]
fn an_overwritten_file_keeps_its_identity_and_its_inode() {
    let (server, mount) = world(&[]);
    let (id, ino) = (
        server.file_id("a.txt"),
        std::fs::metadata(mount.path("a.txt")).unwrap().ino(),
    );
    for content in ["second, and longer", "3", "", "last"] {
        std::fs::write(mount.path("a.txt"), content).unwrap();
        check(&server, &mount, "a.txt", content.as_bytes());
        assert_eq!(server.file_id("a.txt"), id);
        assert_eq!(std::fs::metadata(mount.path("a.txt")).unwrap().ino(), ino);
    }
}

#[test]
fn names_change_on_the_server_as_they_change_here() {
    let (server, mount) = world(&[]);
    let at = |name: &str| mount.path(name);
    std::fs::create_dir(at("one")).unwrap();
    std::fs::create_dir(at("one/two")).unwrap();
    std::fs::rename(at("a.txt"), at("one/two/b.txt")).unwrap();
    assert_eq!(server.content("one/two/b.txt").unwrap(), b"first");
    std::fs::write(at("one/two/new"), b"staged").unwrap();
    // A folder that holds what is not on the server yet.
    std::fs::rename(at("one/two"), at("three")).unwrap();
    assert_eq!(std::fs::read(at("three/new")).unwrap(), b"staged");
    check(&server, &mount, "three/new", b"staged");
    check(&server, &mount, "three/b.txt", b"first");
    assert_eq!(
        std::fs::remove_dir(at("three")).unwrap_err().raw_os_error(),
        Some(libc::ENOTEMPTY)
    );
    // Onto each other, both on the server.
    std::fs::rename(at("three/new"), at("three/b.txt")).unwrap();
    check(&server, &mount, "three/b.txt", b"staged");
    assert_eq!(server.names("three").unwrap(), ["b.txt"]);
    std::fs::remove_file(at("three/b.txt")).unwrap();
    std::fs::remove_dir(at("three")).unwrap();
    std::fs::remove_dir(at("one")).unwrap();
    mount.sync();
    assert_eq!(server.names("").unwrap(), Vec::<String>::new());
}
