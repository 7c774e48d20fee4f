//! Changes made elsewhere: seen within `--metadata-ttl`, and until then the old state, never anything else.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;

const TTL: Duration = Duration::from_secs(1);

/// What a look may take on a busy machine, on top.
const SLACK: Duration = Duration::from_secs(3);

/// More files than a folder may have to be listed for the sake of a few names (→ `fs/questions.rs`).
const MANY: usize = 4_500;

/// Sees one thing of a mount.
type Look = fn(&Path) -> String;

/// Content of `folder/file.txt`.
fn content(root: &Path) -> String {
    show(std::fs::read_to_string(root.join("folder/file.txt")))
}

/// Size of `folder/file.txt`.
fn size(root: &Path) -> String {
    show(std::fs::metadata(root.join("folder/file.txt")).map(|found| found.len().to_string()))
}

/// Size of `folder/other.txt`.
fn other(root: &Path) -> String {
    show(std::fs::metadata(root.join("folder/other.txt")).map(|found| found.len().to_string()))
}

/// Names in `folder` that were not made by the dozen.
fn names(root: &Path) -> String {
    show(std::fs::read_dir(root.join("folder")).and_then(|entries| {
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with("file 0") {
                names.push(name);
            }
        }
        Ok(names.join(" "))
    }))
}

fn show(seen: std::io::Result<String>) -> String {
    match seen {
        Ok(seen) => seen,
        Err(err) if err.kind() == ErrorKind::NotFound => "-".to_owned(),
        Err(err) => panic!("an error in place of the old or the new state: {err}"),
    }
}

/// After `change` each look sees, within the time to live, the last in place of the first of its pair, and nothing
/// but these two. Each is tried in a small folder and in one of [`MANY`] files.
#[track_caller]
fn check(change: impl Fn(&Server), looks: &[(Look, [&str; 2])]) {
    for many in [0, MANY] {
        let server = Server::start(Options::default()).unwrap();
        server.put("folder/file.txt", b"old".to_vec());
        server.mkdir("folder/inner");
        server.mkdir("elsewhere");
        server.add_many("folder", many);
        let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "1s"]);
        let root = mount.path("");
        for (look, [old, _]) in looks {
            assert_eq!(look(&root), *old, "before");
        }
        change(&server);
        let changed = Instant::now();
        let mut unseen: Vec<_> = looks.iter().collect();
        while !unseen.is_empty() {
            unseen.retain(|(look, [old, new])| {
                let seen = look(&root);
                assert!(seen == *old || seen == *new, "{seen}, not {old} or {new}");
                seen != *new
            });
            let late = changed.elapsed() > TTL + SLACK;
            assert!(!late || unseen.is_empty(), "{unseen:?} not seen in time");
            std::thread::sleep(Duration::from_millis(20));
        }
        // What was seen once stays.
        for (look, [_, new]) in looks {
            assert_eq!(look(&root), *new, "afterwards");
        }
    }
}

#[test]
fn a_new_file() {
    check(
        |server| {
            server.put("folder/other.txt", b"other".to_vec());
        },
        &[
            (other, ["-", "5"]),
            (names, ["inner file.txt", "inner file.txt other.txt"]),
        ],
    );
}

#[test]
fn a_new_version() {
    check(
        |server| {
            server.put("folder/file.txt", b"new version".to_vec());
        },
        &[(size, ["3", "11"]), (content, ["old", "new version"])],
    );
}

#[test]
fn another_file_under_the_same_name() {
    check(
        |server| {
            server.remove("folder/file.txt");
            server.put("folder/file.txt", b"another".to_vec());
        },
        &[
            (size, ["3", "7"]),
            (content, ["old", "another"]),
            (names, ["inner file.txt", "inner file.txt"]),
        ],
    );
}

#[test]
fn a_rename() {
    check(
        |server| server.rename("folder/file.txt", "other.txt"),
        &[
            (size, ["3", "-"]),
            (other, ["-", "3"]),
            (names, ["inner file.txt", "inner other.txt"]),
        ],
    );
}

#[test]
fn a_move() {
    check(
        |server| server.move_into("folder/file.txt", "elsewhere"),
        &[
            (content, ["old", "-"]),
            (names, ["inner file.txt", "inner"]),
            (
                |root| show(std::fs::read_to_string(root.join("elsewhere/file.txt"))),
                ["-", "old"],
            ),
        ],
    );
}

#[test]
fn a_deletion() {
    check(
        |server| server.remove("folder/file.txt"),
        &[(size, ["3", "-"]), (names, ["inner file.txt", "inner"])],
    );
    check(
        |server| {
            server.trash("folder/file.txt");
        },
        &[(size, ["3", "-"]), (names, ["inner file.txt", "inner"])],
    );
    check(
        |server| server.remove("folder"),
        &[(size, ["3", "-"]), (names, ["inner file.txt", "-"])],
    );
}

/// Nothing is told, and answers are believed for a minute.
#[test]
fn what_was_seen_where_others_moved_it_does_not_show_under_the_name_it_had() {
    let server = Server::start(Options::default()).unwrap();
    server.configure_events(|events| events.silence = true);
    server.put("folder/file.txt", "old");
    server.mkdir("elsewhere");
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "60s"]);
    assert_eq!(content(&mount.path("")), "old");
    server.move_into("folder/file.txt", "elsewhere");
    server.put("elsewhere/file.txt", "written there");
    let moved = std::fs::read_to_string(mount.path("elsewhere/file.txt"));
    assert_eq!(moved.unwrap(), "written there");
    let seen = Instant::now();
    while content(&mount.path("")) != "-" {
        assert!(seen.elapsed() < Duration::from_secs(30));
    }
}

/// Nothing is told, and answers are believed for a minute.
#[test]
fn a_folder_that_turned_out_to_be_gone_is_not_in_the_way_of_its_name() {
    let server = Server::start(Options::default()).unwrap();
    server.configure_events(|events| events.silence = true);
    server.put("folder/file.txt", "old");
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "60s"]);
    let folder = mount.path("folder");
    assert!(folder.metadata().unwrap().is_dir());
    server.remove("folder");
    assert_eq!(names(&mount.path("")), "-");
    assert_eq!(folder.metadata().unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(&folder, "a file").unwrap();
    assert_eq!(std::fs::read_to_string(&folder).unwrap(), "a file");
}
