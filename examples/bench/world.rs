//! What a case has to itself: a server, a raw client of it, a plain directory.

use std::path::Path;
use std::time::Instant;

use cloudreve_test_server::{Options, Server};
use tempfile::TempDir;

use crate::Outcome;
use crate::mounted::Mounted;
use crate::raw::Raw;

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
        Mounted::new(&self.server, &[])
    }

    /// Mounts the drive so that what is known stays known as long as a case takes.
    pub(crate) fn mount_that_remembers(&self) -> Outcome<Mounted> {
        Mounted::new(&self.server, &["--metadata-ttl", "1h"])
    }

    /// A directory of this machine, for the referees.
    pub(crate) fn plain(&self) -> &Path {
        self.plain.path()
    }
}

/// Drops the kernel's page, name and inode caches, where we may.
pub(crate) fn drop_caches() {
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
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
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
