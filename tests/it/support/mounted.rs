//! A mount in a process of its own, as a user makes it: the built binary, the test server, a directory.
//!
//! A process that calls its own mount can deadlock, so the daemon is never part of the test's process. Readiness
//! comes over `NOTIFY_SOCKET`, as under systemd: no test waits by the clock.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use cloudreve_test_server::Server;
use tempfile::TempDir;

use super::shell::{self, PATIENCE};

/// The built program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_cloudreve-fuse");

/// Directories of one user's life with the program: nothing outside them is read or written.
pub(crate) struct Home {
    root: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let root = TempDir::with_prefix("cloudreve-fuse-test-")
            .expect("a temporary directory can be made");
        for name in ["config", "state", "cache", "run", "mnt"] {
            std::fs::create_dir(root.path().join(name)).expect("a directory can be made in it");
        }
        Self { root }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// The program with this home's directories and nothing else of the environment that it listens to; what it is to say in
    /// its log, by hand, is `CLOUDREVE_TEST_LOG`.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(BINARY);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("CLOUDREVE_") {
                command.env_remove(key);
            }
        }
        command
            .env("HOME", self.root.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("CLOUDREVE_CONFIG_DIR", self.path("config"))
            .env("CLOUDREVE_STATE_DIR", self.path("state"))
            .env("CLOUDREVE_CACHE_DIR", self.path("cache"))
            .env("CLOUDREVE_CONTROL", self.path("run"))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG");
        if let Some(log) = std::env::var_os("CLOUDREVE_TEST_LOG") {
            command.env("RUST_LOG", log);
        }
        command
    }
}

/// A drive of `server`, mounted; unmounted and its daemon ended on drop.
pub(crate) struct Mounted {
    pub(crate) home: Home,
    daemon: Option<Child>,
}

impl Mounted {
    /// Mounts `uri` as the server's first user, with further `options` as typed on the command line.
    pub(crate) fn new(server: &Server, uri: &str, options: &[&str]) -> Self {
        Self::with(server, uri, options, |_| {})
    }

    /// Mounts `uri` of `server` as nobody.
    pub(crate) fn anonymous(server: &Server, uri: &str, options: &[&str]) -> Self {
        let options = [&["--auth", "anonymous"], options].concat();
        Self::start(Home::new(), server, uri, &options, |_| {})
    }

    /// As [`Mounted::new`], with a word on the command before it starts.
    pub(crate) fn with(
        server: &Server,
        uri: &str,
        options: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        Self::in_home(Home::new(), server, uri, options, prepare)
    }

    /// Mounts `uri` as the server's first user and as [`shell::NOBODY`] of this machine, through fusermount3, in a mount
    /// namespace where everybody may open /dev/fuse. [`Mounted::as_nobody`] looks into it.
    pub(crate) fn unprivileged(server: &Server, uri: &str, options: &[&str]) -> Self {
        const PREPARE: &str = r#"
            chown -R "$NOBODY" "$HOME"; mknod -m 666 "$HOME/fuse" c 10 229
            mount --bind "$HOME/fuse" /dev/fuse; exec "$@""#;
        let home = Home::new();
        let program = home.path("program");
        std::fs::copy(BINARY, &program).expect("the program can be copied");
        Self::in_home(home, server, uri, options, |command| {
            let mut copied = Command::new(&program);
            copied.args(command.get_args());
            let copied = shell::as_nobody(&copied);
            let mut wrapped = Command::new("unshare");
            wrapped.args([
                "--mount",
                "--propagation=private",
                "sh",
                "-euc",
                PREPARE,
                "sh",
            ]);
            wrapped.arg(copied.get_program()).args(copied.get_args());
            shell::take_environment(&mut wrapped, command);
            wrapped.env("NOBODY", shell::NOBODY);
            *command = wrapped;
        })
    }

    /// `command`, run by [`shell::NOBODY`] where the daemon has its mount.
    pub(crate) fn as_nobody(&self, command: &Command) -> Command {
        let command = shell::as_nobody(command);
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount=/proc/{}/ns/mnt", self.pid()));
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// As [`Mounted::new`], with directories that were prepared.
    pub(crate) fn in_that_home(home: Home, server: &Server, uri: &str, options: &[&str]) -> Self {
        Self::in_home(home, server, uri, options, |_| {})
    }

    /// Mounts again where an ended mount was, with its directories as it left them.
    pub(crate) fn again(mut self, server: &Server, uri: &str, options: &[&str]) -> Self {
        Self::in_home(self.take_home(), server, uri, options, |_| {})
    }

    fn in_home(
        home: Home,
        server: &Server,
        uri: &str,
        options: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let user = server.user();
        let options = [&["--username", &user.email], options].concat();
        Self::start(home, server, uri, &options, |command| {
            command.env("CLOUDREVE_PASSWORD", &user.password);
            prepare(command);
        })
    }

    /// Mounts `uri` as the account that was stored in `home`.
    pub(crate) fn stored(home: Home, uri: &str) -> Self {
        Self::bare(home, uri, &[], |_| {})
    }

    /// As [`Mounted::again`], as the account that was stored there.
    pub(crate) fn again_stored(mut self, uri: &str) -> Self {
        Self::stored(self.take_home(), uri)
    }

    fn take_home(&mut self) -> Home {
        assert!(self.daemon.is_none(), "the mount before it has ended");
        std::mem::replace(&mut self.home, Home::new())
    }

    fn start(
        home: Home,
        server: &Server,
        uri: &str,
        options: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let address = server.address();
        Self::bare(
            home,
            uri,
            &[&["--address", &address], options].concat(),
            prepare,
        )
    }

    /// Mounts `uri` with nothing but `options`.
    pub(crate) fn bare(
        home: Home,
        uri: &str,
        options: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "this test needs /dev/fuse, and this machine has none"
        );
        let socket = home.path("notify");
        if socket.exists() {
            std::fs::remove_file(&socket).expect("an old socket can be removed");
        }
        let notices = UnixDatagram::bind(&socket).expect("a socket can be bound");
        let log = std::fs::File::create(home.path("log")).expect("a log file can be made");
        let mut command = home.program();
        command
            .args(["mount", uri])
            .arg(home.path("mnt"))
            .args(options)
            .env("NOTIFY_SOCKET", &socket);
        prepare(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = command
            .spawn()
            .unwrap_or_else(|err| panic!("{command:?}: {err}"));
        let mut mounted = Self {
            home,
            daemon: Some(daemon),
        };
        mounted.wait_until_ready(&notices);
        mounted
    }

    /// A path on the mount.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.home.path("mnt").join(relative)
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it runs").id()
    }

    /// What `status --json` says of the mount.
    pub(crate) fn status(&self) -> serde_json::Value {
        let json = self.command(&["status", "--json"]);
        let mounts: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        mounts[0].clone()
    }

    /// What the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path("log")).unwrap_or_default()
    }

    /// Asks the daemon to end as systemd does, and waits for it.
    pub(crate) fn end(&mut self) -> ExitStatus {
        shell::kill(self.pid(), libc::SIGTERM);
        self.wait()
    }

    /// Waits for the daemon to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let daemon = self.daemon.take().expect("it runs");
        shell::wait(daemon, "the daemon")
    }

    /// Runs one of the program's own commands in this mount's home and gives its standard output.
    pub(crate) fn command(&self, args: &[impl AsRef<OsStr>]) -> String {
        shell::stdout(self.home.program().args(args))
    }

    /// Waits until nothing is owed any more.
    #[track_caller]
    pub(crate) fn sync(&self) {
        let output = shell::output(self.home.program().arg("sync").arg(self.path("")));
        let said = String::from_utf8_lossy(&output.stderr);
        let (status, log) = (|| self.status(), || self.log());
        assert!(output.status.success(), "{said}\n{}\n{}", status(), log());
    }

    /// What a command reports on standard output, also where it finds something amiss and ends with an error.
    pub(crate) fn report(&self, args: &[impl AsRef<OsStr>]) -> String {
        let output = shell::output(self.home.program().args(args));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait_until_ready(&mut self, notices: &UnixDatagram) {
        // A daemon that dies says nothing, so the wait is cut into pieces that look whether it lives.
        notices
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout can be set");
        let mut buffer = [0; 4096];
        for _ in 0..PATIENCE.as_millis() / 100 {
            if let Ok(length) = notices.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length])
                    .lines()
                    .any(|line| line == "READY=1")
            {
                return;
            }
            let ended = self
                .daemon
                .as_mut()
                .expect("it was started")
                .try_wait()
                .expect("a child can be asked");
            if let Some(status) = ended {
                panic!(
                    "the mount ended with {status} before it was ready: {}",
                    self.log()
                );
            }
        }
        panic!("the mount was not ready after {PATIENCE:?}: {}", self.log());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            shell::kill(daemon.id(), libc::SIGTERM);
            shell::wait(daemon, "the daemon");
        }
    }
}
