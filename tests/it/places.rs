//! What can be mounted: folders, shares with and without password, single files shared, the trash, shared_with_me.

use std::collections::BTreeSet;
use std::path::Path;

use cloudreve_test_server::{Options, Server, ShareOptions};

use crate::support::mounted::Mounted;

/// Name and content of each file directly in `folder`; folders have no content.
fn tree(folder: &Path) -> BTreeSet<(String, Option<Vec<u8>>)> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let is_file = entry.file_type().unwrap().is_file();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, is_file.then(|| std::fs::read(entry.path()).unwrap()))
        })
        .collect()
}

fn expected(entries: &[(&str, Option<&[u8]>)]) -> BTreeSet<(String, Option<Vec<u8>>)> {
    entries
        .iter()
        .map(|(name, content)| ((*name).to_owned(), content.map(<[u8]>::to_vec)))
        .collect()
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put("docs/a.txt", b"alpha".to_vec());
    server.put("docs/deep/b.txt", b"beta".to_vec());
    server.put("other.txt", b"other".to_vec());
    server
}

#[test]
fn a_folder_of_ones_own() {
    let server = drive();
    let mount = Mounted::new(&server, "cloudreve://my/docs", &[]);
    assert_eq!(
        tree(&mount.path("")),
        expected(&[("a.txt", Some(b"alpha")), ("deep", None)])
    );
    assert_eq!(
        tree(&mount.path("deep")),
        expected(&[("b.txt", Some(b"beta"))])
    );
}

#[test]
fn the_address_of_a_web_page() {
    let server = drive();
    let page = format!("{}/home?path=cloudreve%3A%2F%2Fmy%2Fdocs", server.address());
    let mount = Mounted::new(&server, &page, &[]);
    assert_eq!(
        tree(&mount.path("deep")),
        expected(&[("b.txt", Some(b"beta"))])
    );
}

#[test]
fn names_that_a_url_would_garble() {
    let server = Server::start(Options::default()).unwrap();
    let names = [
        "a#b", "100%", "%41", "a+b", "a b ", " x", "x.", "ü", "u\u{308}", "[1]", "a&b=c", "~t",
        "'q'", "A", "a",
    ];
    for name in names {
        server.put(&format!("names/{name}"), name.as_bytes().to_vec());
    }
    let mount = Mounted::new(&server, "cloudreve://my/names", &[]);
    let found = tree(&mount.path(""));
    let wanted: BTreeSet<_> = names
        .iter()
        .map(|name| ((*name).to_owned(), Some(name.as_bytes().to_vec())))
        .collect();
    assert_eq!(found, wanted);
    // What the server cannot store is not there, and looking for it asks for nothing else.
    assert!(!mount.path("a:b").exists());
}

#[test]
fn shares_with_and_without_password() {
    let server = drive();
    let open = server.share("docs", ShareOptions::default());
    let mount = Mounted::anonymous(&server, &format!("cloudreve://{open}@share/"), &[]);
    assert_eq!(
        tree(&mount.path("")),
        expected(&[("a.txt", Some(b"alpha")), ("deep", None)])
    );
    drop(mount);

    let locked = server.share(
        "docs",
        ShareOptions {
            password: Some("sesame".to_owned()),
            ..Default::default()
        },
    );
    let link = format!("{}/s/{locked}/sesame", server.address());
    let mount = Mounted::anonymous(&server, &link, &[]);
    assert_eq!(
        tree(&mount.path("deep")),
        expected(&[("b.txt", Some(b"beta"))])
    );
    drop(mount);

    let file = server.share("other.txt", ShareOptions::default());
    let mount = Mounted::anonymous(&server, &format!("cloudreve://{file}@share/"), &[]);
    assert_eq!(
        tree(&mount.path("")),
        expected(&[("other.txt", Some(b"other"))])
    );
}

#[test]
fn reading_a_share_spends_one_download_a_file() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("docs/big.bin", 20 << 20, 5);
    server.put("docs/b.txt", b"beta".to_vec());
    let share = server.share(
        "docs",
        ShareOptions {
            downloads: Some(2),
            ..Default::default()
        },
    );
    let mount = Mounted::anonymous(&server, &format!("cloudreve://{share}@share/"), &[]);
    for _ in 0..3 {
        let found = std::fs::read(mount.path("big.bin")).unwrap();
        assert!(found == cloudreve_test_server::generated_bytes(5, 0..20 << 20));
    }
    assert_eq!(std::fs::read(mount.path("b.txt")).unwrap(), b"beta");
}

#[test]
fn the_trash_under_the_names_things_had() {
    let server = drive();
    server.trash("docs/a.txt");
    server.put("docs/a.txt", b"alpha again".to_vec());
    server.trash("docs/a.txt");
    server.trash("docs/deep");
    let mount = Mounted::new(&server, "cloudreve://trash", &[]);
    let entries = std::fs::read_dir(mount.path(""))
        .unwrap()
        .map(|entry| entry.unwrap());
    let mut sizes: Vec<(String, u64)> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata().unwrap().len(),
            )
        })
        .collect();
    sizes.sort();
    assert_eq!(
        sizes.len(),
        2,
        "both files called a.txt are shown: {sizes:?}"
    );
    assert!(
        sizes.iter().any(|(name, _)| name == "a.txt")
            && sizes.iter().all(|(name, _)| name.starts_with('a')),
        "{sizes:?}"
    );
    assert_eq!(
        sizes.iter().map(|(_, size)| size).sum::<u64>(),
        5 + 11,
        "{sizes:?}"
    );
    assert!(mount.path("deep").is_dir());
    // The server gives no content out of the trash, and says so.
    let denied = std::fs::read(mount.path("a.txt")).unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(libc::EACCES));
    // Nor does it let anybody into a folder there; what lies in it is not absent for that.
    let closed = std::fs::read_dir(mount.path("deep")).unwrap_err();
    assert_eq!(closed.raw_os_error(), Some(libc::EACCES));
    let unknown = std::fs::metadata(mount.path("deep/b.txt")).unwrap_err();
    assert_eq!(unknown.raw_os_error(), Some(libc::EACCES));
    let read_only = std::fs::write(mount.path("new"), b"x").unwrap_err();
    assert_eq!(read_only.raw_os_error(), Some(libc::EROFS));
}

#[test]
fn shortcuts_to_shares_lead_there_and_broken_ones_break_nothing() {
    let server = drive();
    let share = server.share("docs", ShareOptions::default());
    server.add_shortcut("my docs", &format!("cloudreve://{share}@share"));
    server.add_shortcut("broken", "cloudreve://zzzz@share");
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let names: BTreeSet<_> = std::fs::read_dir(mount.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(
        tree(&mount.path("my docs")),
        expected(&[("a.txt", Some(b"alpha")), ("deep", None)])
    );
    assert_eq!(
        tree(&mount.path("my docs/deep")),
        expected(&[("b.txt", Some(b"beta"))])
    );
    let broken = std::fs::read_dir(mount.path("broken")).unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::NotFound);
    drop(mount);

    let mount = Mounted::new(&server, "cloudreve://shared_with_me", &[]);
    assert_eq!(
        tree(&mount.path("my docs/deep")),
        expected(&[("b.txt", Some(b"beta"))])
    );
}
