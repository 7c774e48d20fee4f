//! Programs as they are used, on a mount, each with a check of its own result; and what they leave is what the server has in
//! the end, and what a second mount shows.

mod archives;
mod builds;
mod copies;
mod databases;
mod editors;
mod media;
mod versions;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

const ROOT: &str = "cloudreve://my/";

/// What is closed is delivered while the programs go on.
const SOON: &[&str] = &["--upload-delay", "100ms"];

/// A server with one file, if any, and its mount with a short delay.
fn world(file: Option<(&str, &str)>) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    if let Some((path, content)) = file {
        server.put(path, content.as_bytes().to_vec());
    }
    let mount = Mounted::new(&server, ROOT, SOON);
    (server, mount)
}

/// Runs `script` in the root of the mount, whose home is its own; a command that fails fails the test.
fn sh(mount: &Mounted, script: &str) -> String {
    sh_in(mount, &mount.path(""), script)
}

fn sh_in(mount: &Mounted, dir: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .env("HOME", mount.home.path(""))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(dir);
    shell::stdout(&mut command)
}

/// What stands in a tree under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Folder { mode: u32 },
    Link(PathBuf),
    File(Plain),
}

/// A regular file.
#[derive(Clone, PartialEq, Eq)]
struct Plain {
    mode: u32,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mode, time, length) = (self.mode, self.modified, self.content.len());
        write!(f, "{length} bytes, {mode:o}, {time:?}")
    }
}

impl Seen {
    #[track_caller]
    fn content(&self) -> &[u8] {
        match self {
            Self::File(file) => &file.content,
            other => panic!("no file but {other:?}"),
        }
    }
}

type Tree = BTreeMap<String, Seen>;

/// All that is in `dir`, by path.
fn tree(dir: &Path) -> Tree {
    fn walk(base: &Path, dir: &Path, found: &mut Tree) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o7777;
            let seen = if meta.is_dir() {
                walk(base, &path, found);
                Seen::Folder { mode }
            } else if meta.is_symlink() {
                Seen::Link(std::fs::read_link(&path).unwrap())
            } else {
                Seen::File(Plain {
                    mode,
                    modified: (meta.mtime(), meta.mtime_nsec()),
                    content: std::fs::read(&path).unwrap(),
                })
            };
            let name = path.strip_prefix(base).unwrap().display().to_string();
            found.insert(name, seen);
        }
    }
    let mut found = Tree::new();
    walk(dir, dir, &mut found);
    found
}

/// The same files, each with the same content, mode and time.
#[track_caller]
fn assert_same(what: &str, found: &Tree, right: &Tree) {
    for (path, seen) in right {
        assert_eq!(found.get(path), Some(seen), "{what}: {path}");
    }
    let more = found.keys().filter(|path| !right.contains_key(*path));
    let more: Vec<_> = more.collect();
    assert!(more.is_empty(), "{what}: {more:?} is too much");
}

/// Waits until nothing is owed any more. The server has each file then, and a second mount shows what this one does.
#[track_caller]
fn arrives(server: &Server, mount: &Mounted) -> Tree {
    mount.sync();
    let shown = tree(&mount.path(""));
    for (path, seen) in &shown {
        if let Seen::File(file) = seen {
            let there = server.content(path);
            let length = there.as_ref().map(Vec::len);
            assert!(there.as_ref() == Some(&file.content), "{path}: {length:?}");
        }
    }
    let second = Mounted::new(server, ROOT, &["--read-only"]);
    assert_same("on a second mount", &tree(&second.path("")), &shown);
    assert_eq!(server.open_uploads(), 0);
    shown
}
