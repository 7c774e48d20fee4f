//! The file of a drive's pins.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Pin;
use crate::model::FileId;

/// The format this version writes.
const FORMAT: u64 = 1;

/// The directory below the state directory.
const DIR: &str = "pins";

/// Bytes of a checksum that names something.
const NAME_BYTES: usize = 8;

/// Where the pins of one drive are kept.
pub(super) struct File {
    path: PathBuf,
}

/// What is in it.
pub(super) enum Read {
    Pins(Vec<Pin>),
    /// A format of a later version.
    Newer(u64),
    /// Nothing that was written there; why.
    Damaged(String),
}

/// The right to change it, among all processes, until it is dropped.
pub(super) struct Turn {
    _lock: fs::File,
}

#[derive(Deserialize)]
struct Head {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u64,
    pins: Vec<WrittenPin>,
}

/// A path that is no UTF-8 is found again by the identity.
#[derive(Serialize, Deserialize)]
struct WrittenPin {
    id: String,
    path: String,
}

impl File {
    pub(super) fn new(state_dir: &Path, drive: &str) -> Self {
        let name = checksum(drive.as_bytes()) + ".json";
        Self {
            path: state_dir.join(DIR).join(name),
        }
    }

    /// A name that is this file's alone.
    pub(super) fn owner(&self) -> String {
        checksum(self.path.as_os_str().as_bytes())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; no pins where there is none.
    pub(super) fn read(&self) -> io::Result<Read> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Read::Pins(Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let head: Result<Head, _> = serde_json::from_slice(&text);
        match head {
            Ok(head) if head.format > FORMAT => return Ok(Read::Newer(head.format)),
            Ok(_) => {}
            Err(error) => return Ok(Read::Damaged(error.to_string())),
        }
        let written: Result<Written, _> = serde_json::from_slice(&text);
        let written = match written {
            Ok(written) => written,
            Err(error) => return Ok(Read::Damaged(error.to_string())),
        };
        let pins = written.pins.into_iter().map(|pin| Pin {
            id: FileId(pin.id.into()),
            path: pin.path.into(),
        });
        Ok(Read::Pins(pins.collect()))
    }

    /// Replaces it, in one step, and has that on disk.
    pub(super) fn write(&self, pins: &[Pin]) -> io::Result<()> {
        let pins = pins.iter().map(|pin| WrittenPin {
            id: pin.id.to_string(),
            path: pin.path.to_string_lossy().into_owned(),
        });
        let written = Written {
            format: FORMAT,
            pins: pins.collect(),
        };
        let text = serde_json::to_vec_pretty(&written)?;
        let aside = self.path.with_extension("new");
        let mut file = options().truncate(true).open(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        fs::File::open(self.dir())?.sync_all()
    }

    /// Waits until no other process changes it.
    pub(super) fn turn(&self) -> io::Result<Turn> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.dir())?;
        let lock = options()
            .truncate(false)
            .open(self.path.with_extension("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Turn { _lock: lock })
    }

    /// Gives a damaged file another name, for who wants to look at it.
    pub(super) fn set_aside(&self, why: &str) {
        let aside = self.path.with_extension("damaged");
        let (path, shown) = (self.path.display(), aside.display());
        match fs::rename(&self.path, &aside) {
            Ok(()) => log::warn!(
                "nothing is pinned any more: {path} is damaged ({why}), and is kept as {shown}"
            ),
            Err(error) => {
                log::warn!("nothing is pinned: {path} is damaged ({why}); to {shown}: {error}");
            }
        }
    }

    fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

fn checksum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bytes = digest.iter().take(NAME_BYTES);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}
