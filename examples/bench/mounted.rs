//! A mount in a process of its own, and what the kernel tells of that process. However it is dropped, nothing stays
//! mounted and no directory is left.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloudreve_test_server::Server;
use tempfile::TempDir;

use crate::daemon::program;
use crate::{Outcome, cpu, interrupt, watchdog};

/// How long a daemon may take to start, and to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a wait looks at what it waits for beside its event.
const LOOK: Duration = Duration::from_millis(20);

/// What a user's home is to the program: its settings, state, cache, and a place to mount at. Several mounts may have
/// it one after the other. The directory goes with its last holder.
#[derive(Clone)]
pub(crate) struct Home(Arc<TempDir>);

impl Home {
    pub(crate) fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("cloudreve-fuse-bench-")
            .tempdir()?;
        for name in ["config", "state", "cache", "run", "mnt"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        Ok(Self(Arc::new(dir)))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The root of a server's drive, mounted.
pub(crate) struct Mounted {
    daemon: Child,
    home: Home,
}

impl Mounted {
    /// Starts a daemon with further `options`, and waits until it says that the mount answers.
    pub(crate) fn new(server: &Server, home: &Home, options: &[&str]) -> Outcome<Self> {
        let home = home.clone();
        let socket = home.path().join("notify");
        // One may be there from the mount before.
        std::fs::remove_file(&socket).ok();
        let notices = UnixDatagram::bind(&socket)?;
        notices.set_read_timeout(Some(LOOK))?;
        let user = server.user();
        let daemon = program(home.path())?
            .args(["mount", "cloudreve://my/"])
            .arg(home.path().join("mnt"))
            .args(["--address", &server.address(), "--username", &user.email])
            .args(options)
            .env("CLOUDREVE_PASSWORD", &user.password)
            .env("NOTIFY_SOCKET", &socket)
            // Ctrl-C is for the benchmark, which ends the daemon itself.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.path().join("log"))?)
            .spawn()?;
        watchdog::add(daemon.id());
        let mut mounted = Self { daemon, home };
        mounted.wait_until_ready(&notices)?;
        Ok(mounted)
    }

    /// A path on the mount.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.home.path().join("mnt").join(relative)
    }

    /// Where the daemon caches content.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// The daemon's number.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Processor time of the daemon since it began, user and system, in seconds. Exact to 10 ms.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        cpu::of_process(self.daemon.id())
    }

    /// How much of a file the daemon says it has on disk, as `100%`.
    pub(crate) fn cached(&self, relative: &str) -> Outcome<String> {
        let mut value = [0; 64];
        let length =
            rustix::fs::getxattr(self.path(relative), "user.cloudreve.cached", &mut value)?;
        Ok(String::from_utf8_lossy(&value[..length]).into_owned())
    }

    /// Waits until all that is owed is on the server, as a user does.
    pub(crate) fn sync(&self) -> Outcome<()> {
        let output = program(self.home.path())?
            .arg("sync")
            .arg(self.path(""))
            .stdin(Stdio::null())
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("sync: {}", said.trim()).into())
            }
        }
    }

    /// Memory of the daemon by the name of its line in `/proc/PID/status`, in MiB.
    pub(crate) fn memory_mib(&self, name: &str) -> Outcome<f64> {
        let status = self.proc("status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(kib.ok_or("no such line in status")?.parse::<f64>()? / 1024.0)
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.daemon.id()))
    }

    fn wait_until_ready(&mut self, notices: &UnixDatagram) -> Outcome<()> {
        let began = Instant::now();
        let mut buffer = [0; 4096];
        while began.elapsed() < PATIENCE {
            interrupt::check()?;
            // What else than a notice ends the wait is looked at below.
            let length = notices.recv(&mut buffer).unwrap_or(0);
            let notice = String::from_utf8_lossy(&buffer[..length]);
            if notice.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
            if self.daemon.try_wait()?.is_some() {
                break;
            }
        }
        let log = std::fs::read_to_string(self.home.path().join("log"))?;
        Err(format!("the mount did not come up: {log}").into())
    }

    fn unmount(&mut self) -> Outcome<()> {
        program(self.home.path())?
            .args(["umount", "--force"])
            .arg(self.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        let began = Instant::now();
        while self.daemon.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err("the daemon does not end".into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Ends as a killed program does.
    pub(crate) fn killed(mut self) -> io::Result<()> {
        self.kill()
    }

    fn kill(&mut self) -> io::Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        Command::new("umount")
            .arg("--lazy")
            .arg(self.path(""))
            .status()?;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        watchdog::remove(self.daemon.id());
        if let Err(err) = self.unmount() {
            eprintln!("bench: {err}; it is killed");
            if let Err(err) = self.kill() {
                eprintln!("bench: {}: {err}", self.path("").display());
            }
        }
    }
}
