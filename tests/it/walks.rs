//! Trees, as programs walk them: nothing lost, nothing doubled, and no more requests than there are pages.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use cloudreve_test_server::{Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

/// Folders × files of the tree that the walkers walk: 20,000 files.
const FOLDERS: usize = 40;
const FILES_IN_EACH: usize = 500;

#[test]
fn a_folder_of_100_000_entries_lists_complete_on_a_server_with_the_paging_bug() {
    let server = Server::start(Options::default()).unwrap();
    // 2,000 folders fill the first page to its end, which is where the server loses files.
    server.mkdir("big");
    for folder in 0..2_000 {
        server.mkdir(&format!("big/folder {folder:04}"));
    }
    server.add_many("big", 98_000);
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let names: Vec<_> = std::fs::read_dir(mount.path("big"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 100_000);
    assert_eq!(
        names.iter().collect::<HashSet<_>>().len(),
        100_000,
        "a name came twice"
    );
}

/// One page for the root, one for each folder: all are smaller than a page.
const PAGES: u64 = 1 + FOLDERS as u64;

fn tree() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for folder in 0..FOLDERS {
        server.add_many(&format!("folder {folder:02}"), FILES_IN_EACH);
    }
    server.reset_counters();
    server
}

/// Runs `walker` over the mounted tree; `counts` tells which of its lines stand for a file.
#[track_caller]
fn check_walk(walker: impl FnOnce(&Path) -> Command, counts: impl Fn(&str) -> bool) {
    let server = tree();
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let mut command = walker(&mount.path(""));
    let output = shell::stdout(&mut command);
    let files = output.lines().filter(|line| counts(line)).count();
    assert_eq!(
        files,
        FOLDERS * FILES_IN_EACH,
        "{command:?} did not see each file once"
    );
    let listed = server.count(Route::List);
    assert!(
        listed <= PAGES,
        "{command:?} made {listed} listing requests for {PAGES} pages"
    );
    assert_eq!(
        server.count(Route::Info),
        0,
        "{command:?} asked for single files"
    );
}

#[test]
fn find_asks_for_each_page_once() {
    check_walk(
        |dir| {
            let mut find = Command::new("find");
            find.arg(dir)
                .args(["-type", "f", "-size", "-1000k", "-newermt", "1990-01-01"]);
            find
        },
        |line| line.contains("/folder "),
    );
}

#[test]
fn a_long_recursive_ls_asks_for_each_page_once() {
    check_walk(
        |dir| {
            let mut ls = Command::new("ls");
            ls.arg("-lR").arg(dir);
            ls
        },
        |line| line.starts_with('-'),
    );
}

#[test]
fn du_asks_for_each_page_once() {
    check_walk(
        |dir| {
            let mut du = Command::new("du");
            du.arg("-a").arg(dir);
            du
        },
        |line| {
            Path::new(line)
                .parent()
                .is_some_and(|folder| folder.to_string_lossy().contains("/folder "))
        },
    );
}

#[test]
#[ignore = "needs rsync; .ci/run installs it and runs this"]
fn a_dry_run_of_rsync_asks_for_each_page_once() {
    let empty = tempfile::tempdir().unwrap();
    let target = empty.path().to_owned();
    check_walk(
        move |dir| {
            let mut rsync = Command::new("rsync");
            rsync
                .args(["-a", "-n", "-i"])
                .arg(format!("{}/", dir.display()))
                .arg(target);
            rsync
        },
        |line| line.starts_with(">f"),
    );
}

/// Inodes that the daemon holds.
fn inodes(mount: &Mounted) -> u64 {
    let status = mount.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status[0]["cache"]["inodes"].as_u64().unwrap()
}

#[test]
fn what_the_kernel_forgets_is_forgotten() {
    let server = tree();
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let files = (FOLDERS * FILES_IN_EACH) as u64;
    shell::stdout(Command::new("ls").arg("-lR").arg(mount.path("")));
    assert!(inodes(&mount) > files / 2, "the walk left no inodes");
    wait_until("inodes are given back", || {
        // 2: dentries and inodes, and not the pages of everybody's files (→ proc_sys_vm(5)).
        std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        inodes(&mount) < 10
    });
    let folder = std::fs::read_dir(mount.path("folder 00")).unwrap();
    assert_eq!(folder.count(), FILES_IN_EACH, "it still answers");
}
