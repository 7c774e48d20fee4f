//! Content at hand: `warm` fetches it once, and what is pinned stays.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const MIB: u64 = 1 << 20;

/// Files of a folder and one below it: of no bytes, of one block, of several, of many.
const FILES: [(&str, u64); 5] = [
    ("trip/empty", 0),
    ("trip/note.txt", 700),
    ("trip/map.pdf", MIB + 9),
    ("trip/days/one.raw", 9 * MIB),
    ("trip/days/two.raw", 5 * MIB + 4097),
];

const BYTES: u64 = 700 + MIB + 9 + 9 * MIB + 5 * MIB + 4097;

fn server() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for ((path, size), seed) in FILES.into_iter().zip(0..) {
        server.put_generated(path, size, seed);
    }
    server.put_generated("other.bin", 3 * MIB, 99);
    server
}

fn mount(server: &Server, options: &[&str]) -> Mounted {
    Mounted::new(server, "cloudreve://my/", options)
}

/// What became of a command on a path of the mount.
fn run(mount: &Mounted, command: &str, path: &str) -> Output {
    let path = mount.path(path);
    shell::output(mount.home.program().arg(command).arg(path))
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The command did what was asked, and gives its line on standard output.
#[track_caller]
fn done(mount: &Mounted, command: &str, path: &str) -> String {
    let output = run(mount, command, path);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}{}", mount.log());
    assert_eq!(err, "", "there is no terminal");
    out
}

/// The command ended with 1, and gives what it said on standard error.
#[track_caller]
fn refused(mount: &Mounted, command: &str, path: &str) -> String {
    let output = run(mount, command, path);
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    err
}

#[track_caller]
fn check(mount: &Mounted) {
    for ((path, size), seed) in FILES.into_iter().zip(0..) {
        let found = std::fs::read(mount.path(path)).unwrap();
        assert!(found == generated_bytes(seed, 0..size), "{path}");
    }
}

fn cached(path: &Path) -> String {
    String::from_utf8(xattr::get(path, "user.cloudreve.cached").unwrap()).unwrap()
}

#[test]
fn warm_fetches_all_below_a_folder_once_and_it_is_read_without_the_network() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "1G"]);
    let out = done(&mount, "warm", "trip");
    assert_eq!(
        out, "4 files, 15.0 MiB, on this machine's disk.\n",
        "what is empty need not be fetched"
    );
    let sent = server.content_bytes_sent();
    assert_eq!(sent, BYTES, "each byte once, and nothing else");
    server.reset_counters();
    check(&mount);
    assert_eq!(done(&mount, "warm", "trip"), out);
    assert_eq!(server.count(Route::Content), 0, "it is here");
    assert_eq!(cached(&mount.path("other.bin")), "0%");
    assert_eq!(
        done(&mount, "warm", "other.bin"),
        "1 file, 3.00 MiB, on this machine's disk.\n"
    );
    assert_eq!(cached(&mount.path("other.bin")), "100%");
}

#[test]
fn warm_of_what_memory_has_and_the_disk_lacks_brings_it_to_the_disk() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "1G"]);
    check(&mount);
    shell::stdout(mount.home.program().args(["cache", "clear"]));
    done(&mount, "warm", "trip");
    for (path, _) in FILES {
        assert_eq!(cached(&mount.path(path)), "100%", "{path}");
    }
}

#[test]
fn warm_says_what_it_cannot_do_before_it_fetches() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "8M"]);
    let err = refused(&mount, "warm", "trip");
    assert!(err.contains("15.0 MiB are needed on disk"), "{err}");
    assert!(err.contains("room for 7.75 MiB"), "{err}");
    assert_eq!(server.content_bytes_sent(), 0);
    done(&mount, "warm", "trip/map.pdf");
    let err = refused(&mount, "warm", "absent");
    assert!(err.contains("there is no such file or folder"), "{err}");

    let without = self::mount(&server, &["--cache-size", "0"]);
    let err = refused(&without, "warm", "trip");
    assert!(err.contains("larger --cache-size"), "{err}");
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn warm_names_what_it_could_not_fetch_and_fetches_the_rest() {
    let server = server();
    server.lose_blob("trip/days/one.raw");
    let mount = mount(&server, &["--cache-size", "1G", "--timeout", "3s"]);
    let output = run(&mount, "warm", "trip");
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(1));
    let lost = mount.path("trip/days/one.raw");
    assert!(out.starts_with(&format!("{}: ", lost.display())), "{out}");
    assert!(
        out.ends_with("3 files, 6.00 MiB, on this machine's disk.\n"),
        "{out}"
    );
    let line = format!("not on this machine's disk: {};", lost.display());
    assert!(err.contains(&line), "{err}");
    assert_eq!(cached(&mount.path("trip/days/two.raw")), "100%");
}

#[test]
fn warm_ends_with_ctrl_c_and_so_does_its_fetching() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "1G"]);
    server.set_bandwidth(Some(2 * MIB));
    let mut command = mount.home.program();
    command.arg("warm").arg(mount.path("trip"));
    let child = shell::with_default_signals(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("something was fetched", || {
        server.content_bytes_sent() > MIB
    });
    shell::kill(child.id(), libc::SIGINT);
    let output = shell::wait_with_output(child, "warm");
    let (out, err) = said(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert!(err.contains("interrupted"), "{err}");
    // Whoever comes after it finds the daemon idle.
    let mut before = 0;
    wait_until("nothing is fetched any more", || {
        let now = server.content_bytes_sent();
        std::thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut before, now) == now
    });
    assert!(server.content_bytes_sent() < BYTES, "it went on");
    assert_eq!(server.hung_up_before_headers(), 0);
    server.set_bandwidth(None);
    done(&mount, "warm", "trip");
}

#[test]
fn warm_drives_out_what_was_used_before_rather_than_its_own() {
    let server = server();
    for number in 0..20 {
        server.put_generated(&format!("much/{number}"), MIB, 1000 + number);
    }
    let mount = mount(&server, &["--cache-size", "20M"]);
    let cat = || {
        let read = r#"cat "$0"/much/* | wc -c"#;
        shell::stdout(Command::new("sh").args(["-c", read]).arg(mount.path("")));
    };
    cat();
    cat();
    done(&mount, "warm", "trip");
    for (path, _) in FILES {
        assert_eq!(cached(&mount.path(path)), "100%", "{path}");
    }
    server.fail(Fault::on(Route::Content).status(502));
    check(&mount);
}

/// What `status --json` says of the pins.
fn pins(mount: &Mounted) -> Vec<serde_json::Value> {
    mount.status()["pins"].as_array().unwrap().clone()
}

fn is_all_here(pin: &serde_json::Value) -> bool {
    pin["files"] == pin["files_here"] && pin["bytes"] == pin["bytes_here"]
}

fn xattr_of(path: &Path) -> String {
    String::from_utf8(xattr::get(path, "user.cloudreve.pinned").unwrap()).unwrap()
}

/// A drive that tells what happens in it at once.
fn lively() -> Server {
    let server = server();
    server.configure_events(|events| events.debounce = Duration::from_millis(20));
    server
}

/// More than fits into a cache of 32 MiB beside what is pinned, read in order, twice.
fn press(server: &Server, mount: &Mounted) {
    for number in 0..40 {
        server.put_generated(&format!("much/{number}"), MIB, 1000 + number);
    }
    let read = r#"cat "$0"/much/* "$0"/much/* | wc -c"#;
    let read = || shell::stdout(Command::new("sh").args(["-c", read]).arg(mount.path("")));
    wait_until("all shows", || read() == format!("{}\n", 80 * MIB));
}

#[test]
fn what_is_pinned_is_here_and_stays_whatever_else_is_read() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "32M", "--memory", "16M"]);
    assert_eq!(
        done(&mount, "pin", "trip"),
        "4 files, 15.0 MiB, on this machine's disk.\n"
    );
    let status = pins(&mount);
    assert_eq!(status.len(), 1);
    assert_eq!(status[0]["path"], mount.path("trip").to_str().unwrap());
    assert_eq!(status[0]["bytes"], BYTES);
    assert!(is_all_here(&status[0]), "{status:?}");
    assert!(status[0]["reason"].is_null(), "{status:?}");
    press(&server, &mount);
    server.reset_counters();
    check(&mount);
    assert_eq!(server.count(Route::Content), 0, "it stayed");
    let text = mount.command(&["status"]);
    assert!(text.contains("4 files, 15.0 MiB, all here"), "{text}");

    assert_eq!(
        done(&mount, "unpin", "trip"),
        format!("{} is not pinned any more.\n", mount.path("trip").display())
    );
    assert_eq!(pins(&mount), Vec::<serde_json::Value>::new());
    let said = done(&mount, "unpin", "trip");
    assert!(said.ends_with("was not pinned.\n"), "{said}");
    wait_until("it leaves for other things", || {
        press(&server, &mount);
        cached(&mount.path("trip/days/one.raw")) != "100%"
    });
}

#[test]
fn new_versions_and_new_files_of_others_are_fetched_in_the_background() {
    let server = lively();
    let options = ["--cache-size", "1G", "--metadata-ttl", "10m"];
    let mount = mount(&server, &options);
    server.wait_for_event_streams(1);
    done(&mount, "pin", "trip");
    server.put_generated("trip/days/one.raw", 2 * MIB, 50);
    server.put_generated("trip/days/three.raw", 3 * MIB, 51);
    server.put_generated("trip/more/deep.raw", MIB, 52);
    let bytes = BYTES - 9 * MIB + 6 * MIB;
    wait_until("what is new is here", || {
        let pins = pins(&mount);
        pins[0]["bytes"] == bytes && is_all_here(&pins[0])
    });
    server.reset_counters();
    for (path, size, seed) in [
        ("trip/days/one.raw", 2 * MIB, 50),
        ("trip/days/three.raw", 3 * MIB, 51),
        ("trip/more/deep.raw", MIB, 52),
    ] {
        let found = std::fs::read(mount.path(path)).unwrap();
        assert!(found == generated_bytes(seed, 0..size), "{path}");
    }
    assert_eq!(server.count(Route::Content), 0);

    // By its identity: also where it went.
    server.mkdir("elsewhere");
    server.move_into("trip", "elsewhere");
    let moved = mount.path("elsewhere/trip");
    wait_until("the pin is seen to have moved", || {
        pins(&mount)[0]["path"] == moved.to_str().unwrap()
    });
    server.put_generated("elsewhere/trip/note.txt", 800, 53);
    wait_until("it is followed there", || {
        let pins = pins(&mount);
        pins[0]["bytes"] == bytes + 100 && is_all_here(&pins[0])
    });
    std::fs::rename(&moved, mount.path("renamed")).unwrap();
    std::fs::write(mount.path("renamed/ours"), vec![7; 5000]).unwrap();
    mount.sync();
    wait_until("what we rename and write is followed, too", || {
        let pins = pins(&mount);
        pins[0]["path"] == mount.path("renamed").to_str().unwrap()
            && pins[0]["bytes"] == bytes + 5100
            && is_all_here(&pins[0])
    });
}

#[test]
fn pins_outlive_kill_and_remount_also_in_the_cache_of_another_mount() {
    let server = server();
    let options = ["--cache-size", "32M", "--memory", "16M"];
    let mut mount = mount(&server, &options);
    done(&mount, "pin", "trip");
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    // While its own mount does not run, others leave it alone.
    let cache = mount.home.path("cache").to_str().unwrap().to_owned();
    let other = [&options[..], &["--cache-dir", &cache]].concat();
    press(&server, &self::mount(&server, &other));

    let mut mount = mount.again(&server, "cloudreve://my/", &options);
    server.reset_counters();
    check(&mount);
    assert_eq!(server.count(Route::Content), 0, "it stayed");
    wait_until("the pin is followed", || {
        pins(&mount).first().is_some_and(is_all_here)
    });
    press(&server, &mount);
    server.reset_counters();
    check(&mount);
    assert_eq!(server.count(Route::Content), 0, "it stays");

    // A file that is damaged stops no mount.
    mount.end();
    let dir = mount.home.path("state/pins");
    let files = || {
        std::fs::read_dir(&dir)
            .unwrap()
            .map(|file| file.unwrap().path())
    };
    let is_json = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "json");
    let file = files().find(is_json).unwrap();
    std::fs::write(&file, "not what it was").unwrap();
    let mount = mount.again(&server, "cloudreve://my/", &options);
    assert_eq!(pins(&mount), Vec::<serde_json::Value>::new());
    assert!(mount.log().contains("is damaged"), "{}", mount.log());
    assert!(file.with_extension("damaged").exists());
    done(&mount, "pin", "trip/note.txt");
    assert!(file.exists());
}

#[test]
fn what_is_pinned_is_read_while_the_server_is_gone() {
    let server = server();
    let options = [
        "--cache-size",
        "1G",
        "--timeout",
        "3s",
        "--metadata-ttl",
        "1ms",
    ];
    let mount = mount(&server, &options);
    done(&mount, "pin", "trip");
    server.stop();
    check(&mount);
    let pins = pins(&mount);
    assert!(is_all_here(&pins[0]), "{pins:?}");
    assert_eq!(mount.status()["server"]["state"], "offline");
}

#[test]
fn more_than_the_cache_holds_is_not_pinned_and_a_pin_that_outgrows_it_says_so() {
    let server = lively();
    server.put_generated("small/a", 4 * MIB, 60);
    let mount = mount(&server, &["--cache-size", "12M"]);
    server.wait_for_event_streams(1);
    let err = refused(&mount, "pin", "trip");
    assert!(err.contains("15.0 MiB are needed on disk"), "{err}");
    assert!(err.contains("room for 11.8 MiB"), "{err}");
    assert_eq!((pins(&mount).len(), server.content_bytes_sent()), (0, 0));
    done(&mount, "pin", "small");
    let err = refused(&mount, "pin", "trip/days/one.raw");
    assert!(err.contains("room for 7."), "what is pinned counts: {err}");

    server.put_generated("small/b", 9 * MIB, 61);
    wait_until("it says that it has no room", || {
        let pins = pins(&mount);
        let reason = pins[0]["reason"].as_str().unwrap_or_default();
        reason.contains("the cache has no room for 9.0")
    });
    assert_eq!(cached(&mount.path("small/a")), "100%");
    server.remove("small/b");
    wait_until("it fits again", || {
        let pins = pins(&mount);
        is_all_here(&pins[0]) && pins[0]["reason"].is_null()
    });

    let without = self::mount(&server, &["--cache-size", "0"]);
    let err = refused(&without, "pin", "trip");
    assert!(err.contains("larger --cache-size"), "{err}");
}

#[test]
fn pin_goes_on_in_the_background_after_ctrl_c_and_says_why_it_lags() {
    let server = server();
    let options = ["--cache-size", "1G", "--timeout", "3s"];
    let mount = mount(&server, &options);
    server.set_bandwidth(Some(2 * MIB));
    let mut command = mount.home.program();
    command.arg("pin").arg(mount.path("trip"));
    let child = shell::with_default_signals(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("something was fetched", || {
        server.content_bytes_sent() > MIB
    });
    let before = pins(&mount);
    assert!(!is_all_here(&before[0]), "{before:?}");
    shell::kill(child.id(), libc::SIGINT);
    let output = shell::wait_with_output(child, "pin");
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("in the background"), "{err}");
    server.set_bandwidth(None);
    wait_until("all is here", || is_all_here(&pins(&mount)[0]));

    server.lose_blob("other.bin");
    let err = refused(&mount, "pin", "other.bin");
    assert!(err.contains("other.bin"), "{err}");
    let lost = &pins(&mount)[1];
    assert!(!is_all_here(lost), "{lost}");
    assert!(
        lost["reason"].as_str().unwrap().contains("other.bin: "),
        "{lost}"
    );
}

#[test]
fn the_attribute_pins_and_unpins_and_tells_what_is_inherited() {
    let server = server();
    let mount = mount(&server, &["--cache-size", "1G"]);
    let (folder, file) = (mount.path("trip"), mount.path("trip/days/one.raw"));
    assert_eq!(
        (xattr_of(&folder), xattr_of(&file)),
        ("0".into(), "0".into())
    );
    xattr::set(&folder, "user.cloudreve.pinned", b"1").unwrap();
    assert_eq!(
        (xattr_of(&folder), xattr_of(&file)),
        ("1".into(), "inherited".into())
    );
    wait_until("all of it is here", || cached(&file) == "100%");
    let err = refused(&mount, "unpin", "trip/days/one.raw");
    assert!(
        err.contains(&format!("unpin {}", folder.display())),
        "{err}"
    );
    xattr::set(&folder, "user.cloudreve.pinned", b"0").unwrap();
    assert_eq!(
        (xattr_of(&folder), xattr_of(&file)),
        ("0".into(), "0".into())
    );
    assert_eq!(pins(&mount), Vec::<serde_json::Value>::new());
    let wrong = xattr::set(&folder, "user.cloudreve.pinned", b"yes").unwrap_err();
    assert_eq!(wrong.raw_os_error(), Some(libc::EINVAL));
    assert!(
        !xattr::list(&file)
            .unwrap()
            .iter()
            .any(|name| name.contains("cloudreve"))
    );
}
