//! A server that takes requests and answers none: no call waits longer than `--timeout`, and what is known is
//! answered at once.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

const TIMEOUT: Duration = Duration::from_secs(3);

/// What a program may take on top of its call: one of its own on a busy machine, and the two seconds that df(1) and
/// `--folder-size` may wait for a first answer.
const SLACK: Duration = Duration::from_secs(5);

/// What an answer from memory may take: a program is started for it.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// Mounts a drive of which the folder `known` was looked at.
fn mount(server: &Server, options: &[&str]) -> Mounted {
    server.put("known/file.txt", b"content".to_vec());
    server.put_generated("known/big.bin", 32 << 20, 1);
    server.put("unknown/file.txt", b"content".to_vec());
    let options = [&["--timeout", "3s", "--metadata-ttl", "10m"], options].concat();
    let mount = Mounted::new(server, "cloudreve://my/", &options);
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path("known")));
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path("")));
    shell::stdout(Command::new("df").arg(mount.path("")));
    mount
}

fn answers_at_once(mount: &Mounted, program: &str, args: &[&OsStr]) {
    let began = Instant::now();
    let output = shell::output(Command::new(program).args(args));
    let took = began.elapsed();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    assert!(took < AT_ONCE, "{program} {args:?} took {took:?}");
    assert!(mount.path("known/file.txt").exists());
}

/// While `fault` lasts each of `calls` (a program, its option, a path on the mount) ends in time with an error that
/// is no absence, and the known is answered meanwhile.
#[track_caller]
fn check(options: &[&str], fault: Fault, calls: &[[&str; 3]]) {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server, options);
    server.fail(fault);
    let began = Instant::now();
    let waiting: Vec<_> = calls
        .iter()
        .map(|[program, option, path]| {
            let mut command = Command::new(program);
            command.env("LC_ALL", "C").arg(option).arg(mount.path(path));
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for _ in 0..3 {
        let (root, known) = (mount.path(""), mount.path("known"));
        answers_at_once(&mount, "df", &[root.as_os_str()]);
        answers_at_once(&mount, "ls", &["-l".as_ref(), known.as_os_str()]);
    }
    for (child, call) in waiting.into_iter().zip(calls) {
        let output = shell::wait_with_output(child, call[0]);
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{call:?} came to an answer");
        assert!(!said.contains("No such file"), "{call:?}: {said}");
        assert!(took < TIMEOUT + SLACK, "{call:?} took {took:?}");
    }
    server.clear_faults();
    for path in ["known/file.txt", "unknown/file.txt"] {
        assert_eq!(std::fs::read(mount.path(path)).unwrap(), b"content");
    }
    let big = std::fs::read(mount.path("known/big.bin")).unwrap();
    assert!(big == cloudreve_test_server::generated_bytes(1, 0..32 << 20));
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn a_server_that_answers_nothing() {
    check(
        &[],
        Fault::everywhere().stall(),
        &[
            ["ls", "-l", "unknown"],
            ["stat", "-L", "unknown/file.txt"],
            ["cat", "-u", "unknown/file.txt"],
            ["cat", "-u", "known/file.txt"],
            ["cat", "-u", "known/big.bin"],
        ],
    );
}

#[test]
fn a_server_that_stops_in_the_middle_of_an_answer() {
    check(
        &[],
        Fault::on(Route::Content).stall_after(0),
        &[["cat", "-u", "known/big.bin"]],
    );
    check(
        &[],
        Fault::on(Route::List).stall_after(100),
        &[["ls", "-l", "unknown"]],
    );
}
