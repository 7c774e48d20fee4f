//! What a case has to itself: a server, a raw client of it, a plain directory.

use std::path::Path;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server};
use tempfile::TempDir;

use crate::mounted::{Home, Mounted};
use crate::raw::Raw;
use crate::{Outcome, cpu};

/// The time between a request and its answer, where the server is far.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(50);

/// The line there, in bytes a second: 400 Mbit/s.
pub(crate) const LINE: u64 = 50_000_000;

/// What is known stays known as long as a case takes.
pub(crate) const REMEMBERING: [&str; 2] = ["--metadata-ttl", "1h"];

/// Longer than a round trip: what was asked for has begun to come.
const QUIET: Duration = Duration::from_millis(200);

/// How long quiet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fresh server with an empty drive, and the referees.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) raw: Raw,
    plain: TempDir,
}

impl World {
    pub(crate) fn new() -> Outcome<Self> {
        let server = Server::start(Options::default())?;
        let raw = Raw::new(&server)?;
        let plain = tempfile::Builder::new()
            .prefix("cloudreve-fuse-bench-plain-")
            .tempdir()?;
        Ok(Self { server, raw, plain })
    }

    /// Mounts the drive with the program's defaults.
    pub(crate) fn mount(&self) -> Outcome<Mounted> {
        self.mount_with(&[])
    }

    /// Mounts the drive so that what is known stays known as long as a case takes.
    pub(crate) fn mount_that_remembers(&self) -> Outcome<Mounted> {
        self.mount_with(&REMEMBERING)
    }

    /// Mounts the drive with options, in a home of its own.
    pub(crate) fn mount_with(&self, options: &[&str]) -> Outcome<Mounted> {
        Mounted::new(&self.server, &Home::new()?, options)
    }

    /// Moves the server far away: every answer takes a round trip, and all share a line. A mount is quicker made
    /// before.
    pub(crate) fn go_far(&self) {
        self.server.set_latency(ROUND_TRIP);
        self.server.set_bandwidth(Some(LINE));
    }

    /// Waits until the server sends nothing any more, so that a pass does not feel what the one before began.
    pub(crate) fn quiet(&self) {
        let began = Instant::now();
        let mut sent = self.server.body_bytes_sent();
        while began.elapsed() < PATIENCE {
            std::thread::sleep(QUIET);
            let now = self.server.body_bytes_sent();
            if now == sent {
                return;
            }
            sent = now;
        }
    }

    /// An error unless a folder of the server has so many names, and no upload is under way any more.
    pub(crate) fn holds(&self, folder: &str, count: u64) -> Outcome<()> {
        let names = self.server.names(folder).unwrap_or_default().len() as u64;
        let open = self.server.open_uploads();
        match (names == count, open) {
            (true, 0) => Ok(()),
            _ => Err(format!(
                "{names} files are on the server instead of {count}, and {open} uploads are open"
            )
            .into()),
        }
    }

    /// A directory of this machine, for the referees.
    pub(crate) fn plain(&self) -> &Path {
        self.plain.path()
    }
}

/// Drops the kernel's page, name and inode caches, where we may.
pub(crate) fn drop_caches() {
    // Only pages that are on the disk already can be dropped.
    rustix::fs::sync();
    // Who is not root measures without it: what is cold was never in them.
    std::fs::write("/proc/sys/vm/drop_caches", "3").ok();
}

/// Runs `work`; gives how long it took, in seconds, and its result.
pub(crate) fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(f64, T)> {
    let began = Instant::now();
    let result = work()?;
    Ok((began.elapsed().as_secs_f64(), result))
}

/// What a figure depends on beside the code.
pub(crate) fn conditions() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find_map(|line| {
        Some(
            line.strip_prefix("model name")?
                .split_once(": ")?
                .1
                .to_owned(),
        )
    });
    let cores = cpu::cores();
    let build = if cfg!(debug_assertions) {
        "debug build: figures mean nothing"
    } else {
        "release build"
    };
    format!(
        "Linux {}, {} × {cores}, {build}, plain files in {}, load {}",
        read("/proc/sys/kernel/osrelease").trim(),
        model.unwrap_or_else(|| "unknown processor".to_owned()),
        std::env::temp_dir().display(),
        read("/proc/loadavg").trim(),
    )
}
