//! Two mounts and another client change the same files at random moments: nothing that was acknowledged is lost.
//!
//! Each content is made once. In the end each one whose save was acknowledged is the file, one of its versions, or a conflict
//! copy, unless the same mount saved over it later: that was meant. The seed is printed; `CLOUDREVE_TEST_SEED` repeats it,
//! as far as threads can be repeated.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;
use crate::support::{dice, seed};

const FILES: u64 = 8;

/// Saves in the run that everybody waits for, and in the one that has the time.
const FEW: u64 = 240;
const MANY: u64 = 2000;

/// Longest pause between two saves.
const PAUSE_MILLIS: u64 = 40;
/// Between two tries of the other client where an upload locks the file.
const LOCKED: Duration = Duration::from_millis(2);

fn name(number: u64) -> String {
    format!("{number}.txt")
}

/// Saves `content` in one of the ways in which programs do.
fn save(root: &Path, name: &str, content: &str, way: u64) -> std::io::Result<()> {
    let path = root.join(name);
    if way == 0 {
        return std::fs::write(path, content);
    }
    let aside = root.join(format!(".{name}.{way}.tmp"));
    std::fs::write(&aside, content)?;
    std::fs::rename(&aside, path)
}

/// What one mount saved last under each name.
type Last = Mutex<BTreeMap<String, String>>;

fn writer(root: &Path, who: &str, saves: u64, seed: u64, last: &Last) {
    let mut dice = dice(seed);
    for number in 0..saves {
        let name = name(dice(FILES));
        let content = format!("{who} {number} {}", "x".repeat(dice(3000) as usize));
        let way = dice(2) * (1 + seed % 100);
        match save(root, &name, &content, way) {
            Ok(()) => drop(last.lock().unwrap().insert(name, content)),
            // What a save may meet where somebody else replaces the file just then.
            Err(err) if matches!(err.raw_os_error(), Some(libc::ESTALE | libc::EBUSY)) => {}
            Err(err) => panic!("{who}: {name}: {err}"),
        }
        // Not a synchronisation: the moments are meant to be any.
        std::thread::sleep(Duration::from_millis(dice(PAUSE_MILLIS)));
    }
}

fn race(saves: u64) {
    let seed = seed();
    let server = Server::start(Options::default()).unwrap();
    server.set_retention(true, 0);
    for number in 0..FILES {
        server.put(&name(number), format!("first {number}"));
    }
    let options = [
        "--upload-delay=20ms",
        "--metadata-ttl=100ms",
        "--overwrite=version",
    ];
    let mounts = ["one", "other"].map(|who| {
        let mount = Mounted::new(&server, "cloudreve://my/", &options);
        (who, mount, Last::default())
    });
    let mut put = Vec::new();
    std::thread::scope(|scope| {
        for ((who, mount, last), number) in mounts.iter().zip(1..) {
            let root = mount.path("");
            scope.spawn(move || writer(&root, who, saves / 3, seed * 10 + number, last));
        }
        let mut dice = dice(seed);
        for number in 0..saves / 3 {
            let content = format!("client {number} {}", "y".repeat(dice(3000) as usize));
            let name = name(dice(FILES));
            // As any client does that is told of a lock: it tries again.
            while !server.try_put(&name, content.clone()) {
                std::thread::sleep(LOCKED);
            }
            put.push(content);
            std::thread::sleep(Duration::from_millis(dice(PAUSE_MILLIS)));
        }
    });
    for (_, mount, _) in &mounts {
        mount.sync();
    }
    assert_eq!(
        server.open_uploads(),
        0,
        "an upload session was left behind"
    );
    let all: HashSet<Vec<u8>> = server.contents().into_iter().collect();
    let lost = |content: &&String| !all.contains(content.as_bytes());
    let head = |content: &String| content.chars().take(20).collect::<String>();
    for (who, _, last) in &mounts {
        let last = last.lock().unwrap();
        let lost: Vec<_> = last.values().filter(lost).map(head).collect();
        assert!(lost.is_empty(), "lost of {who}: {lost:?}");
        assert!(!last.is_empty());
    }
    let lost: Vec<_> = put.iter().filter(lost).map(head).collect();
    assert!(lost.is_empty(), "lost of the other client: {lost:?}");
    let kept = server.names("").unwrap();
    let copies = kept.iter().filter(|name| name.contains("(conflict "));
    println!(
        "{} files, {} of them conflict copies",
        kept.len(),
        copies.count()
    );
}

#[test]
fn two_mounts_and_another_client_lose_nothing_of_each_others_work() {
    race(FEW);
}

#[test]
#[ignore = "two thousand saves take minutes"]
fn two_thousand_saves_of_two_mounts_and_another_client_lose_nothing() {
    race(MANY);
}
