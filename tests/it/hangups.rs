//! The server is never hung up on between a request and its response headers.
//!
//! On SQLite that wedges the database for every user, so whoever interrupts, kills or times out a reader, a listing,
//! a mount or an unmount must not be able to cause it. The test server counts each such hang-up.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloudreve_test_server::{Options, Route, Server};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

/// Long enough that most victims are hit while a request is on its way.
const LATENCY: Duration = Duration::from_millis(70);

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for folder in 0..200 {
        server.put_generated(&format!("folder {folder}/file"), 300_000, folder);
    }
    server
}

/// Runs `rounds` victims over eight threads; each is a program killed after a few milliseconds.
fn kill_many(rounds: u64, victim: impl Fn(u64) -> Command + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    let signal = if round.is_multiple_of(2) {
                        "KILL"
                    } else {
                        "INT"
                    };
                    let after = format!("0.{:03}", 1 + (round * 7) % 60);
                    let victim = victim(round);
                    let mut timeout = Command::new("timeout");
                    timeout
                        .args(["-s", signal, &after])
                        .arg(victim.get_program())
                        .args(victim.get_args());
                    let status = timeout
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status();
                    status.expect("timeout(1) can be run");
                }
            });
        }
    });
}

#[test]
fn killed_and_interrupted_readers_and_listings_hang_up_on_nobody() {
    let server = drive();
    let options = [
        "--metadata-ttl",
        "20ms",
        "--timeout",
        "100ms",
        "--memory",
        "8M",
    ];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    server.set_latency(LATENCY);
    let root = mount.path("");
    kill_many(1500, |round| {
        let mut cat = Command::new("cat");
        cat.arg(root.join(format!("folder {}/file", round % 200)));
        cat
    });
    kill_many(700, |round| {
        let mut ls = Command::new("ls");
        ls.arg("-l")
            .arg(root.join(format!("folder {}", round % 200)));
        ls
    });
    assert!(server.count(Route::List) > 100, "hardly anything was asked");
    // It ends under load, with requests on their way.
    kill_many(8, |round| {
        let mut cat = Command::new("cat");
        cat.arg(root.join(format!("folder {round}/file")));
        cat
    });
    assert!(mount.end().success(), "{}", mount.log());
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn interrupted_mounts_and_unmounts_hang_up_on_nobody() {
    let server = drive();
    server.set_latency(LATENCY);
    let user = server.user();
    std::thread::scope(|scope| {
        for worker in 0..6_u64 {
            let (server, user) = (&server, &user);
            scope.spawn(move || {
                for round in 0..12 {
                    let home = Home::new();
                    let mut mount = home.program();
                    mount
                        .args(["mount", "cloudreve://my/"])
                        .arg(home.path("mnt"))
                        .args(["--address", &server.address(), "--username", &user.email])
                        .env("CLOUDREVE_PASSWORD", &user.password);
                    let mut command = shell::with_default_signals(&mount);
                    command
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null());
                    let daemon = command.spawn().expect("the program runs");
                    // Not a synchronisation: the moments at which it is hit are what the test is about.
                    std::thread::sleep(Duration::from_millis((worker * 12 + round) * 7 % 400));
                    shell::kill(
                        daemon.id(),
                        if round % 2 == 0 {
                            libc::SIGTERM
                        } else {
                            libc::SIGINT
                        },
                    );
                    shell::wait(daemon, "an interrupted mount");
                    let mounts =
                        std::fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
                    let left = mounts.contains(&*home.path("mnt").to_string_lossy());
                    assert!(!left, "a mount was left behind");
                }
            });
        }
    });
    assert!(
        server.count(Route::List) > 0,
        "no mount came as far as listing"
    );
    assert_eq!(server.hung_up_before_headers(), 0);
}
