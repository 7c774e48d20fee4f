//! Programs that read many small files: each comes once, and their URLs many at a time.

use std::path::Path;
use std::process::Command;

use cloudreve_test_server::{Options, Route, Server, ShareOptions, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell;

const FILES: u64 = 300;
const BYTES: u64 = 9_000;

/// Requests for URLs that reading the files may take: those of the first files, then batches.
const URLS_MAX: u64 = 20;

fn names() -> impl Iterator<Item = String> {
    (0..FILES).map(|number| format!("{number:03}.txt"))
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for (seed, name) in names().enumerate() {
        server.put_generated(&format!("d/{name}"), BYTES, seed as u64);
    }
    server
}

/// Runs what `reader` makes of the folder and a place to copy to.
#[track_caller]
fn check(reader: impl FnOnce(&Path, &Path) -> Command) -> Mounted {
    let server = drive();
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let copy = mount.home.path("copy");
    server.reset_counters();
    let mut command = reader(&mount.path("d"), &copy);
    shell::stdout(&mut command);
    let (urls, contents) = (server.count(Route::Url), server.count(Route::Content));
    assert_eq!(contents, FILES, "{command:?} did not fetch each file once");
    assert!(urls <= URLS_MAX, "{command:?} asked for URLs {urls} times");
    mount
}

#[track_caller]
fn check_copy(copy: &Path) {
    for (seed, name) in names().enumerate() {
        let bytes = std::fs::read(copy.join(&name)).unwrap();
        assert!(bytes == generated_bytes(seed as u64, 0..BYTES), "{name}");
    }
}

fn shell_line(line: &str, dir: &Path, copy: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh"]).args([dir, copy]);
    command
}

#[test]
fn cp_reads_ahead_and_copies_every_byte() {
    let mount = check(|dir, copy| shell_line("cp -r \"$1\" \"$2\"", dir, copy));
    check_copy(&mount.home.path("copy"));
}

#[test]
fn tar_reads_ahead() {
    let mount = check(|dir, copy| {
        let line = "mkdir \"$2\" && tar -c -C \"$1\" . | tar -x -C \"$2\"";
        shell_line(line, dir, copy)
    });
    check_copy(&mount.home.path("copy"));
}

#[test]
fn grep_reads_ahead() {
    check(|dir, copy| shell_line("grep -rc 'no such words' \"$1\" || true", dir, copy));
}

#[test]
fn cat_of_a_glob_reads_ahead() {
    check(|dir, copy| shell_line("cat \"$1\"/*.txt | wc -c", dir, copy));
}

#[test]
fn on_a_share_each_file_read_is_one_download_and_none_is_counted_ahead() {
    let server = drive();
    let share = server.share("d", ShareOptions::default());
    let mount = Mounted::new(&server, &format!("cloudreve://{share}@share/"), &[]);
    server.reset_counters();
    assert_eq!(
        std::fs::read_dir(mount.path("")).unwrap().count() as u64,
        FILES
    );
    let some: Vec<_> = names().take(20).collect();
    for name in &some {
        std::fs::read(mount.path(name)).unwrap();
    }
    let asked = server.count(Route::Url);
    assert_eq!(asked, some.len() as u64);
    assert_eq!(server.count(Route::Content), asked);
}
