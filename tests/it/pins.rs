//! Content at hand: `warm` fetches it once.

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
    let line = format!("not fetched: {};", lost.display());
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
