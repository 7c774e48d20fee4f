//! What a program hears where the server, the network, the account or the disk is in trouble.

use std::fs::File;
use std::io::Write;

use cloudreve_test_server::{Fault, Options, Route, Server};

use super::{Case, World};

/// A server with a file of some size, before it is mounted.
fn server() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("a", 100_000, 1);
    server
}

/// What close(2) of a new file of `size` bytes says where it is to be on the server then.
fn saved(change: impl FnOnce(&Server), size: usize) -> std::io::Result<()> {
    let server = server();
    change(&server);
    let world = World::of(server, super::ROOT, &["--durability", "server"]);
    let mut file = File::create(world.at("new")).unwrap();
    file.write_all(&vec![7; size]).unwrap();
    let told = file.sync_all();
    drop(file);
    assert_eq!(std::fs::read(world.at("new")).unwrap(), vec![7; size]);
    // Its end would wait for what is owed.
    std::fs::remove_file(world.at("new")).unwrap();
    told
}

pub(super) const CASES: &[Case] = &[
    Case {
        call: "`read` of what is not here, where the network is gone for longer than `--timeout`",
        does: "the call ends; what is here is read on",
        errno: "ETIMEDOUT",
        check: |_| {
            let world = World::of(server(), super::ROOT, &["--timeout", "2s"]);
            let file = File::open(world.at("a")).unwrap();
            world.server.fail(Fault::on(Route::Content).stall());
            let told = std::io::copy(&mut &file, &mut std::io::sink()).map(drop);
            world.server.clear_faults();
            told
        },
    },
    Case {
        call: "`rename`, and any call that asks the server, where it is broken",
        does: "the log tells what it said",
        errno: "EIO",
        check: |_| {
            let world = World::of(server(), super::ROOT, &["--timeout", "5s"]);
            let broken = Fault::on(Route::Rename).code(50001, "Database");
            world.server.fail(broken);
            let told = std::fs::rename(world.at("a"), world.at("b"));
            world.server.clear_faults();
            assert!(world.at("a").exists() && !world.at("b").exists());
            assert!(world.mount.log().contains("Database"));
            told
        },
    },
    Case {
        call: "any call that asks the server, where the account is signed out or lacks the permission",
        does: "`status` tells what to type",
        errno: "EACCES",
        check: |_| {
            let server = server();
            server.trash("a");
            let world = World::of(server, "cloudreve://trash", &[]);
            std::fs::read(world.at("a")).map(drop)
        },
    },
    Case {
        call: "`rename`, `unlink`, `rmdir` of what another client has locked for longer than `--timeout`",
        does: "nothing changes",
        errno: "EBUSY",
        check: |_| {
            let world = World::of(server(), super::ROOT, &["--timeout", "2s"]);
            let locked = || Fault::on(Route::Delete).code(40073, "Lock conflict");
            world.server.fail(locked());
            let told = std::fs::remove_file(world.at("a"));
            world.server.clear_faults();
            told
        },
    },
    Case {
        call: "`fsync`, `close` with `--durability server`, where the account's storage is full",
        does: "what was written stays here, and is owed",
        errno: "ENOSPC",
        check: |_| saved(|server| server.set_quota(100_001), 5000),
    },
    Case {
        call: "`fsync`, `close` with `--durability server`, of more than the server takes in one file",
        does: "what was written stays here, and is owed",
        errno: "EFBIG",
        check: |_| {
            saved(
                |server| server.configure(|settings| settings.max_file_size = 1000),
                5000,
            )
        },
    },
    Case {
        call: "the first `fsync` of a file that could not be delivered, without `--durability server`",
        does: "what was written stays here, and is owed; `status` tells why",
        errno: "EIO",
        check: |_| {
            let server = server();
            server.configure(|settings| settings.max_file_size = 1000);
            let world = World::of(server, super::ROOT, &["--upload-delay", "20ms"]);
            std::fs::write(world.at("new"), [7; 5000]).unwrap();
            let blocked = || world.mount.status()["owed_files"][0]["state"] == "blocked";
            crate::support::shell::wait_until("it is refused", blocked);
            let file = File::open(world.at("new")).unwrap();
            let told = file.sync_all();
            file.sync_all().unwrap();
            drop(file);
            std::fs::remove_file(world.at("new")).unwrap();
            told
        },
    },
];
