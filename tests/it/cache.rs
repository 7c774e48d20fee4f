//! Content on disk, as people meet it: `cache show`, `cache clear`, the attribute that tells how much of a file is there,
//! `status` and `doctor`.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cloudreve_test_server::{Options, Route, Server, ShareOptions, generated_bytes};

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
    // More than one part in a hundred, however little is read ahead.
    File::open(&b)
        .unwrap()
        .read_exact_at(&mut [0; 100_000], 0)
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
    let folder = xattr::get(&mount.path("folder"), name).unwrap_err();
    assert_eq!(folder.raw_os_error(), Some(libc::ENODATA));
    assert!(mount.command(&["status"]).contains("nothing is kept"));
}

#[test]
fn what_was_read_is_there_at_the_next_mount_and_status_says_where_content_came_from() {
    // So many small ones that what comes next is looked for ahead.
    let small = (0..40).map(|number| (format!("{number:02}.bin"), 5000 + number));
    let files: Vec<_> = small.chain([("large.bin".into(), 3 * MIB + 5)]).collect();
    let all: u64 = files.iter().map(|(_, size)| size).sum();
    let server = Server::start(Options::default()).unwrap();
    for (name, size) in &files {
        server.put_generated(name, *size, *size);
    }
    let options = ["--cache-size", "1G", "--passthrough", "off"];
    let read = |mount: &Mounted| {
        shell::stdout(Command::new("ls").arg(mount.path("")));
        for (name, size) in &files {
            check_whole(&mount.path(name), *size, *size);
        }
        mount.status()["reading"].clone()
    };
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    let reading = read(&mount);
    let bytes = |reading: &serde_json::Value, field: &str| reading[field].as_u64().unwrap();
    assert!(bytes(&reading, "asked_bytes") >= all, "{reading}");
    assert!(bytes(&reading, "network_bytes") > 0, "{reading}");
    assert_eq!(bytes(&reading, "fetched_bytes"), all, "{reading}");
    assert_eq!(bytes(&reading, "disk_bytes"), 0, "{reading}");
    assert!(mount.command(&["status"]).contains(" from the network"));
    assert!(bytes(&reading, "swept_bytes") > 0, "{reading}");
    for (name, _) in &files {
        wait_until("it is on disk", || cached(&mount.path(name)) == "100%");
    }
    assert!(mount.end().success());
    server.reset_counters();
    let mount = mount.again(&server, "cloudreve://my/", &options);
    let reading = read(&mount);
    assert_eq!(server.count(Route::Content) + server.count(Route::Url), 0);
    assert_eq!(bytes(&reading, "fetched_bytes"), 0, "{reading}");
    let disk = bytes(&reading, "disk_bytes");
    assert_eq!(disk, bytes(&reading, "asked_bytes"), "{reading}");
    assert!(disk >= all, "{reading}");
}

#[test]
fn two_mounts_of_one_directory_keep_no_more_together_than_the_limit() {
    const LIMIT: u64 = 4 * MIB;
    let size = 3 * MIB;
    let server = Server::start(Options::default()).unwrap();
    for seed in 0..6 {
        server.put_generated(&format!("{seed}.bin"), size, seed);
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let options = ["--cache-dir", dir, "--cache-size", "4M"];
    let mounts = [(); 2].map(|()| Mounted::new(&server, "cloudreve://my/", &options));
    for seed in 0..6 {
        std::thread::scope(|scope| {
            for mount in &mounts {
                scope.spawn(move || check_whole(&mount.path(format!("{seed}.bin")), seed, size));
            }
        });
        let show = ["cache", "show", "--json", "--cache-dir", dir];
        let json = mounts[0].command(&show);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let bytes = json["bytes"].as_u64().unwrap();
        assert!(bytes <= LIMIT, "{bytes} after file {seed}");
    }
    wait_until("something is kept", || {
        let cache = &mounts[1].status()["cache"];
        let bytes = cache["disk_bytes"].as_u64().unwrap();
        assert!(bytes <= LIMIT, "{cache}");
        bytes > LIMIT / 4
    });
}

#[test]
fn a_user_who_is_not_root_has_a_cache_too() {
    let size = 2 * MIB;
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", size, 1);
    let mount = Mounted::unprivileged(&server, "cloudreve://my/", &["--cache-size", "1G"]);
    let path = mount.path("file.bin");
    let read = |mount: &Mounted| {
        let cat = shell::output(&mut mount.as_nobody(Command::new("cat").arg(&path)));
        assert!(cat.status.success(), "{cat:?}");
        assert!(cat.stdout == generated_bytes(1, 0..size));
    };
    read(&mount);
    wait_until("it is on disk", || {
        mount.status()["cache"]["disk_bytes"].as_u64().unwrap() >= size
    });
    assert_eq!(shown(&mount.home)["complete"], 1);
    read(&mount);
}

#[test]
fn how_much_is_on_disk_of_what_a_shortcut_leads_to_is_told_of_the_shortcut() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("docs/file.bin", MIB, 1);
    let share = server.share("docs", ShareOptions::default());
    let target = format!("cloudreve://{share}@share/file.bin");
    server.add_file_shortcut("link.bin", &target);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--cache-size", "1G"]);
    let link = mount.path("link.bin");
    assert_eq!(cached(&link), "0%");
    check_whole(&link, 1, MIB);
    wait_until("it is on disk", || cached(&link) == "100%");
    let entity = xattr::get(&link, "user.cloudreve.entity").unwrap();
    let expected = server.entity_id("docs/file.bin");
    assert_eq!(String::from_utf8(entity).unwrap(), expected);
}

/// All that lies below `dir`.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn in_a_cache_directory_that_others_may_look_into_they_find_nothing_to_read() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("large.bin", MIB, 1);
    server.put_generated("small.bin", 5000, 2);
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let options = ["--cache-dir", dir.path().to_str().unwrap()];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    for (name, seed, size) in [("large.bin", 1, MIB), ("small.bin", 2, 5000)] {
        check_whole(&mount.path(name), seed, size);
        wait_until("it is on disk", || cached(&mount.path(name)) == "100%");
    }
    let found = below(dir.path());
    assert!(found.len() > 4, "{found:?}");
    for path in found {
        let mode = std::fs::symlink_metadata(&path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
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
