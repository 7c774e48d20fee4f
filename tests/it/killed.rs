//! Who is killed in a call on the mount is gone at once, however long the server has left it waiting; and what was asked
//! for is done, or not, as if nobody had been killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

/// What a killed program may take on a busy machine; it is a second on an idle one. The server is waited for far longer.
const SOON: Duration = Duration::from_secs(4);

fn mount(server: &Server) -> Mounted {
    server.put("known/file.txt", b"content".to_vec());
    server.put_generated("known/big.bin", 8 << 20, 1);
    server.put("unknown/file.txt", b"content".to_vec());
    let options = ["--timeout", "60s", "--metadata-ttl", "10m"];
    let mount = Mounted::new(server, "cloudreve://my/", &options);
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path("known")));
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path("")));
    mount
}

/// Runs `program` until the server has something to do for it, and kills it.
#[track_caller]
fn kill_waiting(server: &Server, program: &mut Command, signal: libc::c_int) {
    server.reset_counters();
    let said = format!("{program:?}");
    program.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell::with_default_signals(program).spawn().unwrap();
    server.wait_for_requests(1);
    let began = Instant::now();
    shell::kill(child.id(), signal);
    let ended = shell::wait_at_most(&mut child, SOON);
    assert!(ended.is_some(), "{said} lives {:?} on", began.elapsed());
}

#[test]
fn a_program_that_is_killed_while_nothing_answers_is_gone() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    server.fail(Fault::everywhere().stall());
    let on = |program: &str, arguments: &[&str], path: &str| {
        let mut command = Command::new(program);
        command.args(arguments).arg(mount.path(path));
        command
    };
    let directly = |path: &str| {
        let mut command = Command::new("dd");
        let file = format!("if={}", mount.path(path).display());
        command.args([&file, "of=/dev/null", "iflag=direct", "bs=64k"]);
        command
    };
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        for mut program in [
            on("ls", &["-l"], "unknown"),
            on("stat", &[], "unknown/file.txt"),
            on("cat", &[], "unknown/file.txt"),
            on("cat", &[], "known/big.bin"),
            directly("known/big.bin"),
            on("touch", &[], "unknown/new"),
            on("mkdir", &[], "unknown/folder"),
            on("rmdir", &[], "unknown"),
        ] {
            kill_waiting(&server, &mut program, signal);
        }
    }
    server.clear_faults();
    assert_eq!(
        std::fs::read(mount.path("unknown/file.txt")).unwrap(),
        b"content"
    );
    let big = std::fs::read(mount.path("known/big.bin")).unwrap();
    assert!(big == cloudreve_test_server::generated_bytes(1, 0..8 << 20));
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn what_a_killed_program_asked_for_is_done_and_shows() {
    let server = Server::start(Options::default()).unwrap();
    let mount = mount(&server);
    let path = |name: &str| mount.path(name);
    let late = Duration::from_secs(2);
    server.fail(Fault::on(Route::Create).delay(late));
    server.fail(Fault::on(Route::Rename).delay(late));
    let mut program = Command::new("mkdir");
    kill_waiting(&server, program.arg(path("known/made")), libc::SIGKILL);
    shell::wait_until("the folder that was made shows", || {
        path("known/made").is_dir()
    });
    let mut program = Command::new("mv");
    program.arg("-T").arg(path("known")).arg(path("renamed"));
    kill_waiting(&server, &mut program, libc::SIGKILL);
    shell::wait_until("the folder that was renamed shows", || {
        path("renamed/made").is_dir()
    });
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    assert!(!is_there(&path("known")));
    assert_eq!(std::fs::read(path("renamed/file.txt")).unwrap(), b"content");
    assert_eq!(server.hung_up_before_headers(), 0);
}
