//! Files written through a mount, on each kind of storage that a server can have behind it.
//!
//! One drive for each kind, and for the server that takes all content itself: new files of all sizes, one that is written
//! over, and one whose upload a killed daemon began. Bytes are compared at the server.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;

use cloudreve_test_server::{Options, Server, StoragePolicy, generated_bytes};

use crate::support::mounted::Mounted;

/// What OneDrive takes at once.
const CHUNK: u64 = 320 << 10;

/// Nothing is sent before somebody asks for it: whatever process is started meanwhile closes a copy of each open file.
const OPTIONS: &[&str] = &["--upload-delay=1h"];

/// What is written under each name at first.
fn files() -> [(&'static str, Vec<u8>); 5] {
    let of = |seed, size| generated_bytes(seed, 0..size);
    [
        ("empty", Vec::new()),
        ("small", of(1, 1000)),
        ("chunk", of(2, CHUNK)),
        ("more", of(3, CHUNK + 1)),
        ("many", of(4, 9 * CHUNK + 77)),
    ]
}

/// Where a daemon dies that has sent a part of an upload; before the first byte where this kind takes all at once.
fn in_mid_upload(policy: StoragePolicy, relay: bool) -> &'static str {
    match policy {
        _ if relay => "session-noted",
        StoragePolicy::Upyun => "session-noted",
        _ => "chunk-sent:4",
    }
}

#[track_caller]
fn has(server: &Server, what: &str, name: &str, content: &[u8]) {
    let found = server.content(name);
    let size = found.as_ref().map(Vec::len);
    assert!(
        found.as_deref() == Some(content),
        "{what}: {name}: {size:?}"
    );
}

fn plays(policy: StoragePolicy, relay: bool) {
    let what = format!("{}, relay: {relay}", policy.name());
    let server = Server::start(Options::default()).unwrap();
    server.set_policy(policy);
    server.set_relay(relay);
    server.configure(|settings| settings.chunk_size = CHUNK);
    let mount = Mounted::new(&server, "cloudreve://my/", OPTIONS);
    for (name, content) in files() {
        fs::write(mount.path(name), content).unwrap();
    }
    mount.sync();
    for (name, content) in files() {
        has(&server, &what, name, &content);
    }
    written_over(&server, &mount, &what);
    killed(&server, &what, in_mid_upload(policy, relay));
    let mut names = server.names("").unwrap();
    names.sort();
    assert_eq!(
        names,
        ["chunk", "empty", "killed", "many", "more", "small"],
        "{what}"
    );
    assert_eq!(server.open_uploads(), 0, "{what}");
}

/// A file gets a few other bytes, and one of no bytes gets some.
fn written_over(server: &Server, mount: &Mounted, what: &str) {
    let [empty, .., (_, mut many)] = files();
    let ids = || ["many", "empty"].map(|name| server.file_id(name));
    let before = ids();
    let open = |name: &str| {
        OpenOptions::new()
            .write(true)
            .open(mount.path(name))
            .unwrap()
    };
    open("many")
        .write_all_at(b"in the middle", 3 * CHUNK)
        .unwrap();
    many[3 * CHUNK as usize..][..13].copy_from_slice(b"in the middle");
    open(empty.0).write_all_at(b"something", 0).unwrap();
    mount.sync();
    has(server, what, "many", &many);
    has(server, what, "empty", b"something");
    assert_eq!(ids(), before, "{what}: they are the files that they were");
}

/// The daemon dies in mid-upload, and the next one goes on.
fn killed(server: &Server, what: &str, point: &str) {
    let prepare = |command: &mut std::process::Command| {
        command.env("CRASH_AT_POINT", point);
    };
    let mut mount = Mounted::with(server, "cloudreve://my/", OPTIONS, prepare);
    let content = generated_bytes(5, 0..20 * CHUNK + 3);
    fs::write(mount.path("killed"), &content).unwrap();
    // The command fails, since the daemon dies over it.
    drop(
        mount
            .home
            .program()
            .arg("sync")
            .arg(mount.path(""))
            .output(),
    );
    let status = mount.wait();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{what}: {status}");
    let mount = mount.again(server, "cloudreve://my/", OPTIONS);
    mount.sync();
    has(server, what, "killed", &content);
}

#[test]
fn every_kind_of_storage_gets_what_is_written_and_written_over_and_what_a_killed_daemon_began() {
    std::thread::scope(|scope| {
        for policy in StoragePolicy::ALL {
            scope.spawn(move || plays(policy, false));
        }
        scope.spawn(|| plays(StoragePolicy::S3, true));
    });
}
