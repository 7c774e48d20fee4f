//! Content on disk, as people meet it: `cache show`, `cache clear`, the attribute that tells how much of a file is there,
//! `status` and `doctor`.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const MIB: u64 = 1 << 20;

fn cached(path: &Path) -> String {
    String::from_utf8(xattr::get(path, "user.cloudreve.cached").unwrap()).unwrap()
}

/// What `cache show --json` says in `home`.
fn shown(home: &Home) -> serde_json::Value {
    let json = shell::stdout(home.program().args(["cache", "show", "--json"]));
    serde_json::from_str(&json).unwrap()
}

fn check_whole(path: &Path, seed: u64, size: u64) {
    // Not assert_eq: a megabyte of numbers helps nobody.
    assert!(std::fs::read(path).unwrap() == generated_bytes(seed, 0..size));
}

#[test]
fn an_absent_or_empty_cache_holds_nothing_and_both_commands_name_it() {
    let home = Home::new();
    let absent = home.path("cache/absent");
    for dir in [home.path("cache"), absent] {
        let dir = dir.to_str().unwrap();
        let run = |command: &str| {
            let args = ["cache", command, "--cache-dir", dir];
            shell::stdout(home.program().args(args))
        };
        assert_eq!(run("show"), format!("Nothing is kept in {dir}.\n"));
        assert_eq!(run("clear"), format!("Nothing was kept in {dir}.\n"));
    }
    let json = shown(&home);
    assert_eq!(json["dir"], home.path("cache").to_str().unwrap());
    assert_eq!((&json["bytes"], &json["entities"]), (&0.into(), &0.into()));
    assert_eq!(json["sites"], serde_json::json!([]));
}

#[test]
fn what_is_kept_is_shown_and_dropped_whether_a_mount_runs_or_not() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("a.bin", 3 * MIB, 1);
    server.put_generated("b.bin", 5 * MIB, 2);
    let mut mount = Mounted::new(
        &server,
        "cloudreve://my/",
        &["--cache-size", "1G", "--metadata-ttl", "1s"],
    );
    let (a, b) = (mount.path("a.bin"), mount.path("b.bin"));
    File::open(&b)
        .unwrap()
        .read_exact_at(&mut [0; 10], 0)
        .unwrap();
    wait_until("all of it is on disk", || {
        check_whole(&a, 1, 3 * MIB);
        cached(&a) == "100%"
    });
    wait_until("a part of it is on disk", || cached(&b) != "0%");
    assert_ne!(cached(&b), "100%");
    let check_shown = |home: &Home| {
        let json = shown(home);
        assert_eq!(
            (&json["entities"], &json["complete"]),
            (&2.into(), &1.into())
        );
        let bytes = json["bytes"].as_u64().unwrap();
        assert!((3 * MIB..7 * MIB).contains(&bytes), "{bytes}");
        assert_eq!(json["sites"][0]["site"], server.instance_id());
        assert_eq!(json["sites"].as_array().unwrap().len(), 1);
    };
    check_shown(&mount.home);
    let cache = mount.status()["cache"].clone();
    assert_eq!(cache["disk_limit_bytes"], 1u64 << 30);
    assert!(cache["disk_bytes"].as_u64().unwrap() >= 3 * MIB, "{cache}");
    assert_eq!(cache["dir"], mount.home.path("cache").to_str().unwrap());

    let owed = mount.home.path("state/owed");
    std::fs::write(&owed, "bytes").unwrap();
    let check_cleared = |home: &Home| {
        let said = shell::stdout(home.program().args(["cache", "clear"]));
        assert!(said.starts_with("Freed "), "{said}");
        assert!(said.contains(" file") && said.contains(home.path("cache").to_str().unwrap()));
        assert_eq!(shown(home)["entities"], 0);
        assert_eq!(
            std::fs::read(&owed).unwrap(),
            b"bytes",
            "what is owed is untouched"
        );
    };
    check_cleared(&mount.home);
    check_whole(&a, 1, 3 * MIB);
    check_whole(&b, 2, 5 * MIB);
    // What memory has is not written again; what comes from now on is.
    server.put_generated("c.bin", MIB, 3);
    let c = mount.path("c.bin");
    wait_until("it is on disk", || {
        c.exists() && {
            check_whole(&c, 3, MIB);
            cached(&c) == "100%"
        }
    });
    assert!(mount.end().success());
    assert_eq!(shown(&mount.home)["complete"], 1);
    check_cleared(&mount.home);
}

#[test]
fn what_was_read_last_is_on_disk_after_the_unmount() {
    const SIZE: u64 = 24 * MIB;
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("a.bin", SIZE, 1);
    let mut mount = Mounted::new(&server, "cloudreve://my/", &["--cache-size", "1G"]);
    check_whole(&mount.path("a.bin"), 1, SIZE);
    assert!(mount.end().success());
    assert_eq!(shown(&mount.home)["complete"], 1);
}

#[test]
fn two_mounts_with_one_cache_read_right_bytes_while_the_smaller_one_has_things_leave() {
    let server = Server::start(Options::default()).unwrap();
    let seeds = 1..5;
    for seed in seeds.clone() {
        server.put_generated(&format!("{seed}.bin"), 6 * MIB + seed, seed);
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for round in 0..3 {
        let mount = |size: &str| {
            let options = ["--cache-dir", dir, "--cache-size", size];
            Mounted::new(&server, "cloudreve://my/", &options)
        };
        let (large, small) = (mount("1G"), mount("9M"));
        std::thread::scope(|scope| {
            for mount in [&large, &small] {
                for seed in seeds.clone() {
                    let path = mount.path(format!("{seed}.bin"));
                    scope.spawn(move || check_whole(&path, seed, 6 * MIB + seed));
                }
            }
        });
        if round == 1 {
            shell::stdout(
                large
                    .home
                    .program()
                    .args(["cache", "clear", "--cache-dir", dir]),
            );
            check_whole(&large.path("1.bin"), 1, 6 * MIB + 1);
        }
    }
}

#[test]
fn how_much_of_a_file_is_on_disk_is_an_attribute_of_it() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", MIB, 1);
    server.put("empty", Vec::new());
    server.mkdir("folder");
    let mount = Mounted::new(&server, "cloudreve://my/", &["--cache-size=0"]);
    let file = mount.path("file.bin");
    check_whole(&file, 1, MIB);
    assert_eq!(cached(&file), "0%", "what is in memory does not count");
    assert_eq!(
        cached(&mount.path("empty")),
        "100%",
        "there is no more of it"
    );
    let name = "user.cloudreve.cached";
    assert!(
        xattr::list(&file)
            .unwrap()
            .iter()
            .any(|listed| listed == name)
    );
    let folder = xattr::get(&mount.path("folder"), name).unwrap_err();
    assert_eq!(folder.raw_os_error(), Some(libc::ENODATA));
    assert!(mount.command(&["status"]).contains("nothing is kept"));
}

#[test]
fn the_cache_is_for_its_owner_alone() {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("is/made");
    let options = ["--cache-dir", cache.to_str().unwrap()];
    let _mount = Mounted::new(&server, "cloudreve://my/", &options);
    let mode = std::fs::metadata(&cache).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
}

#[test]
fn doctor_says_how_much_is_kept_where_and_that_mounts_do_without_where_they_must() {
    let home = Home::new();
    let doctor = |dir: &str| {
        let mut doctor = home.program();
        doctor.args(["doctor", "--cache-dir", dir]);
        doctor.env("CLOUDREVE_CACHE_SIZE", "3G");
        let output = shell::output(&mut doctor);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = said.lines().find(|line| line.contains("cache-dir"));
        line.expect("a line is about it").to_owned()
    };
    let line = doctor(home.path("cache").to_str().unwrap());
    assert!(
        line.starts_with("ok") && line.contains("3.00 GiB"),
        "{line}"
    );
    std::fs::write(home.path("file"), "").unwrap();
    let line = doctor(home.path("file/cache").to_str().unwrap());
    assert!(
        line.starts_with("note") && line.contains("--cache-dir"),
        "{line}"
    );
}
