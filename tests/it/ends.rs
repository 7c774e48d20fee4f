//! How a mount ends: by command, by signal, from outside; idle, with files open, under load.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

const SIZE: u64 = 8 << 20;

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("big.bin", SIZE, 3);
    server
}

fn is_mounted(mount: &Mounted) -> bool {
    let dir = mount.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(dir))
}

#[track_caller]
fn assert_ended(server: &Server, mount: &Mounted, status: std::process::ExitStatus) {
    assert!(
        status.success(),
        "the daemon ended with {status}: {}",
        mount.log()
    );
    assert!(!is_mounted(mount), "it is still mounted");
    let sockets: Vec<_> = std::fs::read_dir(mount.home.path("run"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(sockets.is_empty(), "sockets are left: {sockets:?}");
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn the_umount_command_ends_it() {
    let server = drive();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
    assert!(is_mounted(&mount));
    let dir = mount.path("");
    mount.command(&[std::ffi::OsStr::new("umount"), dir.as_os_str()]);
    let status = mount.wait();
    assert_ended(&server, &mount, status);
}

#[test]
fn a_forced_umount_ends_the_wait_of_one_before_it() {
    let server = drive();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let file = File::open(mount.path("big.bin")).unwrap();
    let umount = |options: &[&str]| {
        let mut command = mount.home.program();
        command.arg("umount").args(options).arg(mount.path(""));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let began = Instant::now();
    let first = umount(&["--timeout", "60s"]);
    wait_until("the directory is free", || !is_mounted(&mount));
    let forced = umount(&["--force"]);
    for (umount, what) in [(forced, "forced"), (first, "first")] {
        let output = shell::wait_with_output(umount, what);
        assert!(output.status.success(), "{what}: {output:?}");
    }
    let status = mount.wait();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    assert_ended(&server, &mount, status);
    drop(file);
}

#[test]
fn two_umounts_at_once_wait_for_the_same_file_and_no_longer() {
    let server = drive();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let file = File::open(mount.path("big.bin")).unwrap();
    let umounts: Vec<_> = (0..2)
        .map(|_| {
            let mut command = mount.home.program();
            command
                .args(["umount", "--timeout", "60s"])
                .arg(mount.path(""));
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    wait_until("the directory is free", || !is_mounted(&mount));
    drop(file);
    let closed = Instant::now();
    let status = mount.wait();
    let took = closed.elapsed();
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    for umount in umounts {
        shell::wait_with_output(umount, "umount");
    }
    assert_ended(&server, &mount, status);
}

#[test]
fn umount_8_from_outside_ends_it() {
    let server = drive();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
    shell::stdout(Command::new("umount").arg(mount.path("")));
    let status = mount.wait();
    assert_ended(&server, &mount, status);
}

#[test]
fn sigterm_and_sigint_end_it_with_files_open() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let server = drive();
        let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
        let mut file = File::open(mount.path("big.bin")).unwrap();
        let mut piece = vec![0; 1 << 20];
        file.read_exact(&mut piece).unwrap();
        assert!(piece == generated_bytes(3, 0..1 << 20));
        let folder = std::fs::read_dir(mount.path("")).unwrap();
        shell::kill(mount.pid(), signal);
        let status = mount.wait();
        assert_ended(&server, &mount, status);
        drop((file, folder));
    }
}

#[test]
fn it_ends_in_the_middle_of_reads_on_a_slow_server() {
    let server = drive();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &[]);
    std::fs::metadata(mount.path("big.bin")).unwrap();
    server.set_latency(Duration::from_millis(300));
    let readers: Vec<_> = (0..8)
        .map(|_| {
            Command::new("cat")
                .arg(mount.path("big.bin"))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    server.wait_for_requests(2);
    let status = mount.end();
    for reader in readers {
        shell::wait(reader, "a reader of an ended mount");
    }
    assert_ended(&server, &mount, status);
}

#[test]
fn in_the_background_it_answers_before_the_command_returns_and_tells_why_it_does_not() {
    let server = drive();
    let home = crate::support::mounted::Home::new();
    let user = server.user();
    let mount = |uri: &str| {
        let mut command = home.program();
        command
            .args(["mount", "--background", uri])
            .arg(home.path("mnt"))
            .args(["--address", &server.address()]);
        command
            .args(["--username", &user.email])
            .env("CLOUDREVE_PASSWORD", &user.password);
        command
    };
    let output = shell::output(&mut mount("cloudreve://my/absent"));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cloudreve://my/absent"),
        "{output:?}"
    );
    shell::stdout(&mut mount("cloudreve://my/"));
    assert_eq!(
        std::fs::read(home.path("mnt/big.bin")).unwrap().len() as u64,
        SIZE
    );
    shell::stdout(home.program().arg("umount").arg(home.path("mnt")));
    assert!(!home.path("mnt/big.bin").exists());
    assert_eq!(server.hung_up_before_headers(), 0);
}
