//! What the server or the local disk does not take: the right errno, or a file that stays here with its reason. Others go on.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cloudreve_test_server::{Options, Server, ShareOptions, generated_bytes};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell::{self, wait_until};

const MIB: u64 = 1 << 20;

const SOON: [&str; 1] = ["--upload-delay=20ms"];

/// What `status` says of the only file that is owed.
fn owed(mount: &Mounted) -> serde_json::Value {
    mount.status()["owed_files"][0].clone()
}

#[test]
fn a_file_that_is_too_large_for_the_server_stays_with_its_reason_and_goes_once_it_may() {
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.max_file_size = 1000);
    let mount = Mounted::new(&server, "cloudreve://my/", &SOON);
    std::fs::write(mount.path("large"), vec![7; 5000]).unwrap();
    wait_until("it is refused", || owed(&mount)["state"] == "blocked");
    std::fs::write(mount.path("small"), b"small").unwrap();
    wait_until("others go on", || {
        server.content("small").as_deref() == Some(b"small")
    });
    let reason = owed(&mount)["last_reason"].to_string();
    assert!(reason.contains("large"), "{reason}");
    assert_eq!(std::fs::read(mount.path("large")).unwrap(), vec![7; 5000]);
    server.configure(|settings| settings.max_file_size = 0);
    mount.sync();
    assert_eq!(server.content("large").unwrap(), vec![7; 5000]);
}

#[test]
fn a_share_that_may_only_be_read_is_a_read_only_file_system() {
    let server = Server::start(Options::default()).unwrap();
    server.put("shared/a.txt", "a");
    let id = server.share("shared", ShareOptions::default());
    let mount = Mounted::new(&server, &format!("cloudreve://{id}@share/"), &SOON);
    let errno = |err: std::io::Error| err.raw_os_error();
    let refused = [
        File::create(mount.path("new")).map(drop),
        File::options()
            .write(true)
            .open(mount.path("a.txt"))
            .map(drop),
        std::fs::remove_file(mount.path("a.txt")),
        std::fs::create_dir(mount.path("folder")),
        std::fs::rename(mount.path("a.txt"), mount.path("b.txt")),
    ];
    for (refused, call) in refused.into_iter().zip(0..) {
        assert_eq!(errno(refused.unwrap_err()), Some(libc::EROFS), "{call}");
    }
    assert_eq!(std::fs::read(mount.path("a.txt")).unwrap(), b"a");
}

#[test]
fn an_upload_outlives_the_token_that_it_began_with() {
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.chunk_size = MIB);
    let options = ["--upload-delay=20ms", "--limit-up=3M"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let content = generated_bytes(4, 0..12 * MIB);
    std::fs::write(mount.path("long"), &content).unwrap();
    wait_until("it is under way", || {
        owed(&mount)["sent_bytes"].as_u64().unwrap_or(0) > 2 * MIB
    });
    server.advance_clock(Duration::from_secs(3 * 3600));
    mount.sync();
    assert!(server.content("long") == Some(content));
    assert_eq!(server.names("").unwrap(), ["long"]);
}

/// A directory of so many bytes.
struct Small(PathBuf);

impl Small {
    fn make(dir: PathBuf, bytes: u64) -> Self {
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={bytes},mode=700"),
            "small",
        ]);
        shell::stdout(mount.arg(&dir));
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        shell::output(Command::new("umount").arg(&self.0));
    }
}

#[test]
#[ignore = "needs root, for a small file system; .ci/run runs this"]
fn a_full_disk_refuses_the_write_and_harms_nothing_that_was_accepted() {
    let server = Server::start(Options::default()).unwrap();
    let home = Home::new();
    let small = Small::make(home.path("state"), 24 * MIB);
    let options = ["--upload-delay=1h", "--cache-size=0"];
    let mut mount = Mounted::in_that_home(home, &server, "cloudreve://my/", &options);
    let accepted = generated_bytes(1, 0..3 * MIB);
    std::fs::write(mount.path("accepted"), &accepted).unwrap();
    let mut large = File::create(mount.path("large")).unwrap();
    let piece = generated_bytes(2, 0..MIB);
    let mut written = 0;
    let refused = loop {
        match large.write_all(&piece) {
            Ok(()) => written += piece.len(),
            Err(err) => break err,
        }
        assert!(
            written < 64 << 20,
            "more was accepted than there is room for"
        );
    };
    assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused}");
    drop(large);
    assert!(std::fs::read(mount.path("accepted")).unwrap() == accepted);
    // What takes no room still works: the journal has some of its own.
    std::fs::remove_file(mount.path("large")).unwrap();
    // Large contents go beside everything else.
    wait_until("there is room again", || {
        std::fs::write(mount.path("after"), b"there is room again").is_ok()
    });
    mount.sync();
    assert!(server.content("accepted") == Some(accepted));
    assert_eq!(server.content("after").unwrap(), b"there is room again");
    assert_eq!(server.names("").unwrap(), ["accepted", "after"]);
    assert!(mount.end().success());
    drop(small);
}
