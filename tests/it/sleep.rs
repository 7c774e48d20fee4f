//! A machine that sleeps and wakes: the daemon is stopped, its clocks go on as they do over a sleep, and it goes on.
//!
//! The clocks are those of a library that is loaded before the system's (`sleep/clocks.c`), for which a C compiler is needed,
//! as for linking.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Route, Server};
use tempfile::TempDir;

use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

/// How long the machine sleeps: longer than an access token is valid.
const SLEPT: Duration = Duration::from_secs(8 * 3600);

/// What each answer takes, so that what is in use is not looked at again by chance within [`SOON`].
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// What it may take from waking until what changed meanwhile shows, beside programs that have other things to do. Sleep is
/// looked for each second.
const SOON: Duration = Duration::from_secs(5);

/// How long the kernel may believe a name that it was told of, by a clock that stands still meanwhile.
const IN_USE: Duration = Duration::from_secs(20);

/// A drive in which `known/file` and `known/gone` were looked at, and of which nothing is told that happens to it.
struct Drive {
    server: Server,
    mount: Mounted,
    dir: TempDir,
}

impl Drive {
    fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        server.configure_events(|events| events.debounce = SLEPT);
        server.put("known/file", b"old".to_vec());
        server.put("known/gone", b"here".to_vec());
        let dir = tempfile::tempdir().unwrap();
        let library = clocks(dir.path());
        let slept = dir.path().join("slept");
        std::fs::write(&slept, 0_u64.to_ne_bytes()).unwrap();
        let (user, address) = (server.user(), server.address());
        // Beliefs last for longer than the test.
        let options = ["--metadata-ttl", "10m", "--upload-delay", "10s"];
        let options = [&options[..], &["--address", &address]].concat();
        let options = [&options[..], &["--username", &user.email]].concat();
        let mount = Mounted::bare(Home::new(), "cloudreve://my/", &options, |command| {
            command
                .env("CLOUDREVE_PASSWORD", &user.password)
                .env("RUST_LOG", "info")
                .env("LD_PRELOAD", &library)
                .env("CLOUDREVE_TEST_SLEPT_FILE", &slept);
        });
        server.wait_for_event_streams(1);
        let drive = Self { server, mount, dir };
        assert_eq!(drive.names(), ["file", "gone"]);
        assert_eq!(drive.content(), "old");
        assert!(drive.has("gone"));
        drive
    }

    fn names(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.mount.path("known")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn content(&self) -> String {
        std::fs::read_to_string(self.mount.path("known/file")).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.mount.path("known").join(name).exists()
    }

    /// The machine sleeps for [`SLEPT`], and `others` change what they like meanwhile.
    fn sleep(&self, others: impl FnOnce(&Server)) {
        shell::kill(self.mount.pid(), libc::SIGSTOP);
        others(&self.server);
        let mut slept = File::options();
        let slept = slept.write(true).open(self.dir.path().join("slept"));
        // In place: it is mapped.
        let mut slept = slept.unwrap();
        slept.write_all(&SLEPT.as_secs().to_ne_bytes()).unwrap();
        self.server.reset_counters();
        shell::kill(self.mount.pid(), libc::SIGCONT);
    }
}

/// The library that has the clocks jump.
fn clocks(dir: &Path) -> PathBuf {
    let library = dir.join("clocks.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sleep/clocks.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    shell::stdout(compiler.arg(&library).arg(source).arg("-ldl"));
    library
}

#[test]
fn what_changed_while_the_machine_slept_shows_when_it_wakes() {
    let drive = Drive::new();
    drive.sleep(|server| {
        server.put("known/file", b"newer".to_vec());
        server.put("known/new", b"new".to_vec());
        server.remove("known/gone");
        server.set_latency(ROUND_TRIP);
    });
    let woke = Instant::now();
    shell::wait_until("what changed shows", || {
        drive.content() == "newer" && drive.names() == ["file", "new"]
    });
    let shown_after = woke.elapsed();
    assert!(shown_after < SOON, "it took {shown_after:?}");
    shell::wait_until("what is gone does not show", || !drive.has("gone"));
    let gone_after = woke.elapsed();
    assert!(gone_after < IN_USE, "it took {gone_after:?}");
    println!(
        "what changed showed after {shown_after:?}, what was gone did not after {gone_after:?}"
    );
    let log = drive.mount.log();
    assert!(log.contains("the machine slept for "), "{log}");
}

#[test]
fn who_was_signed_in_before_the_machine_slept_is_so_when_it_wakes_and_what_is_owed_goes() {
    let drive = Drive::new();
    std::fs::write(drive.mount.path("owed"), "owed").unwrap();
    drive.sleep(|server| {
        server.put("known/file", b"newer".to_vec());
        server.advance_clock(SLEPT);
    });
    shell::wait_until("what changed shows", || drive.content() == "newer");
    drive.mount.sync();
    assert_eq!(drive.server.content("owed").unwrap(), b"owed");
    let asked = [Route::Refresh, Route::SignIn].map(|route| drive.server.count(route));
    assert_eq!(asked, [1, 0], "{:?}", drive.server.requests());
}
