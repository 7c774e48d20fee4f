//! The power goes while programs write: what fsync(2) acknowledged is on the server after the next start.
//!
//! The state directory is a file system of its own in a file. What reached that file at some moment is what a disk would
//! hold after a power cut at that moment: a copy of it is all that the next start finds. The server is away meanwhile, so
//! that nothing is saved by an upload.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::disk::Disk;
use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

const MIB: u64 = 1 << 20;

fn write(path: &Path, content: &[u8], sync: bool) {
    let mut file = File::create(path).unwrap();
    file.write_all(content).unwrap();
    if sync {
        file.sync_all().unwrap();
    }
}

#[test]
#[ignore = "needs root, mkfs.ext4 and a loop device; .ci/run runs this"]
fn what_fsync_acknowledged_is_on_the_server_after_a_power_cut() {
    let server = Server::start(Options::default()).unwrap();
    let base = generated_bytes(7, 0..3 * MIB + 11);
    server.put("patched", base.clone());
    server.mkdir("folder");
    let home = Home::new();
    let disk = Disk::make(&home.path("disk"), 192 * MIB, &home.path("state"), "rw");
    let options = ["--upload-delay=1h", "--cache-size=1G"];
    let mut mount = Mounted::in_that_home(home, &server, "cloudreve://my/", &options);
    // The base is at hand, and the folders are known.
    assert!(std::fs::read(mount.path("patched")).unwrap() == base);
    let content = |number: u64| generated_bytes(number, 0..number * 50_000);
    for number in 1..9 {
        write(
            &mount.path(format!("folder/{number}")),
            &content(number),
            true,
        );
    }
    // Saved by rename, and made durable by the folder's fsync(2), as careful editors do.
    write(&mount.path("folder/aside"), b"renamed", true);
    std::fs::rename(mount.path("folder/aside"), mount.path("folder/1")).unwrap();
    File::open(mount.path("folder"))
        .unwrap()
        .sync_all()
        .unwrap();
    let patched = OpenOptions::new()
        .write(true)
        .open(mount.path("patched"))
        .unwrap();
    patched.write_all_at(b"patch", 2 * MIB).unwrap();
    patched.sync_all().unwrap();
    let held = disk.snapshot();
    // These never reach the disk.
    write(&mount.path("folder/late"), b"late", false);
    patched.write_all_at(b"late", MIB).unwrap();
    drop(patched);
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    disk.restore(&held);
    let mut mount = mount.again(&server, "cloudreve://my/", &options);
    mount.sync();
    for number in 2..9 {
        let found = server.content(&format!("folder/{number}"));
        assert!(found == Some(content(number)), "file {number}");
    }
    assert_eq!(server.content("folder/1").unwrap(), b"renamed");
    assert_eq!(server.content("folder/aside"), None);
    let mut expected = base;
    expected[2 * MIB as usize..][..5].copy_from_slice(b"patch");
    assert!(server.content("patched") == Some(expected), "patched");
    assert!(mount.end().success());
    drop(disk);
}
