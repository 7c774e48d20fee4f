//! Two mounts and another client change the same files at random moments: nothing that was acknowledged is lost.
//!
//! Each content is made once. In the end each one whose save was acknowledged is the file, one of its versions, or a conflict
//! copy, unless the same mount saved over it later: that was meant. The seed is printed; `CLOUDREVE_TEST_SEED` repeats it,
//! as far as threads can be repeated.
//!
//! Where the server keeps no versions, what is replaced is gone at once. There each save adds a line to what its writer has
//! before him, so that who replaces a version that he has seen keeps its lines, and only what was replaced unseen is lost.

use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use cloudreve_fuse::api::{self, Api, Credentials, Part};
use cloudreve_fuse::model::EntityId;
use cloudreve_fuse::secret::Secret;
use cloudreve_fuse::uri::FileUri;
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

/// Reads the file at `path`, and writes all of it anew with `line` at its end: nothing of the version that is replaced is
/// needed after that.
fn add(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    content.extend_from_slice(line.as_bytes());
    file.write_all_at(&content, 0)
}

/// Adds lines by way of a mount, each with an open and a close of its own. Those that were acknowledged.
fn appender(root: &Path, who: &str, saves: u64, seed: u64) -> Vec<String> {
    let mut dice = dice(seed);
    let mut added = Vec::new();
    for number in 0..saves {
        let line = format!("{who} {number}\n");
        let path = root.join(name(dice(FILES)));
        match add(&path, &line) {
            Ok(()) => added.push(line),
            // What was opened is gone before it was read.
            Err(err) if matches!(err.raw_os_error(), Some(libc::ESTALE | libc::EBUSY)) => {}
            Err(err) => panic!("{who}: {}: {err}", path.display()),
        }
        // Not a synchronisation: the moments are meant to be any.
        std::thread::sleep(Duration::from_millis(dice(PAUSE_MILLIS)));
    }
    added
}

/// Adds lines as a client of the API does that replaces no version but the one it has read. Those that the server took.
fn client(server: &Server, saves: u64, seed: u64) -> Vec<String> {
    let user = server.user();
    let options = api::Options {
        address: server.address().parse().unwrap(),
        user_agent: "another client".to_owned(),
        ca_file: None,
        timeout: Duration::from_secs(30),
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let credentials = Credentials::Password {
        email: user.email,
        password: Secret::new(user.password),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = Api::new(options, credentials).unwrap();
    let mut dice = dice(seed);
    let mut added = Vec::new();
    for number in 0..saves {
        let line = format!("client {number}\n");
        let name = name(dice(FILES));
        // First, so that content of a later version is refused with it.
        let seen = EntityId(server.entity_id(&name).into());
        let mut content = server.content(&name).unwrap();
        content.extend_from_slice(line.as_bytes());
        let uri = FileUri::parse(&format!("cloudreve://my/{name}")).unwrap();
        let body = Part::from(Bytes::from(content));
        // One that is refused, or locked by an upload, is not counted.
        if runtime
            .block_on(api.put_content(&uri, Some(&seen), body))
            .is_ok()
        {
            added.push(line);
        }
        std::thread::sleep(Duration::from_millis(dice(PAUSE_MILLIS)));
    }
    added
}

fn race_without_versions(saves: u64) {
    let seed = seed();
    let server = Server::start(Options::default()).unwrap();
    server.set_retention(false, 0);
    for number in 0..FILES {
        server.put(&name(number), format!("first {number}\n"));
    }
    let options = ["--upload-delay=20ms", "--metadata-ttl=100ms"];
    let mounts =
        ["one", "other"].map(|who| (who, Mounted::new(&server, "cloudreve://my/", &options)));
    let added = std::thread::scope(|scope| {
        let writers: Vec<_> = mounts
            .iter()
            .zip(1..)
            .map(|((who, mount), number)| {
                let root = mount.path("");
                scope.spawn(move || appender(&root, who, saves / 3, seed * 10 + number))
            })
            .collect();
        let mut added = client(&server, saves / 3, seed);
        assert!(!added.is_empty(), "the client never had its turn");
        for writer in writers {
            added.extend(writer.join().unwrap());
        }
        added
    });
    for (_, mount) in &mounts {
        mount.sync();
    }
    let all = server.contents();
    let lines: HashSet<&[u8]> = all
        .iter()
        .flat_map(|content| content.split_inclusive(|byte| *byte == b'\n'))
        .collect();
    let lost: Vec<_> = added
        .iter()
        .filter(|line| !lines.contains(line.as_bytes()))
        .collect();
    println!(
        "{} lines, {} files",
        added.len(),
        server.names("").unwrap().len()
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn two_mounts_and_another_client_lose_nothing_where_no_versions_are_kept() {
    race_without_versions(FEW);
}

#[test]
#[ignore = "two thousand saves take minutes"]
fn a_long_race_loses_nothing_where_no_versions_are_kept() {
    race_without_versions(MANY);
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
