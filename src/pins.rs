//! What is to stay at hand: pinned files and folders, by the server's identity, so that a rename or a move loses none.
//!
//! State, not cache: a small file for each drive below the state directory, on disk before a call answers. Deleting it
//! unpins all. One that is damaged is set aside and said in the log; one of a later version is left alone, and nothing
//! can be pinned then. Mounts of the same drive share it. Never fetches anything, and never asks the server.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::watch;

use self::file::{File, Read};
use crate::model::FileId;

/// A pinned file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which.
    pub id: FileId,
    /// Where it was last seen, below the mount point.
    pub path: PathBuf,
}

/// The pins of one drive.
pub struct Pins {
    file: File,
    /// Why nothing can be pinned.
    refused: Option<String>,
    pins: Mutex<Vec<Pin>>,
    changes: watch::Sender<u64>,
}

impl Pins {
    /// Those of `drive`, which is the same text at each mount of it, kept below `state_dir`. Whatever is there, this comes
    /// to an end.
    pub fn open(state_dir: &Path, drive: &str) -> Self {
        let file = File::new(state_dir, drive);
        let (pins, refused) = match file.read() {
            Ok(Read::Pins(pins)) => (pins, None),
            Ok(Read::Newer(format)) => {
                let why = format!(
                    "{} has format {format}, made by a newer version of this program",
                    file.path().display()
                );
                log::warn!("nothing is pinned: {why}");
                (Vec::new(), Some(why))
            }
            Ok(Read::Damaged(why)) => {
                file.set_aside(&why);
                (Vec::new(), None)
            }
            Err(error) => {
                let why = format!("{}: {error}", file.path().display());
                log::warn!("nothing is pinned: {why}");
                (Vec::new(), Some(why))
            }
        };
        Self {
            file,
            refused,
            pins: Mutex::new(pins),
            changes: watch::Sender::new(0),
        }
    }

    /// Pins `id`, which is at `path` below the mount point. On disk when this returns; blocks the thread for that long.
    pub fn pin(&self, id: &FileId, path: &Path) -> io::Result<()> {
        self.change(|pins| {
            let pin = Pin {
                id: id.clone(),
                path: path.to_owned(),
            };
            match pins.iter_mut().find(|pin| pin.id == *id) {
                Some(known) => *known = pin,
                None => pins.push(pin),
            }
        })
    }

    /// Notes where `id` is by now, if it is pinned. Blocks the thread.
    pub fn moved(&self, id: &FileId, path: &Path) -> io::Result<()> {
        self.change(|pins| {
            if let Some(pin) = pins.iter_mut().find(|pin| pin.id == *id) {
                path.clone_into(&mut pin.path);
            }
        })
    }

    /// Lets go of `id`; whether it was pinned. On disk when this returns; blocks the thread for that long.
    pub fn unpin(&self, id: &FileId) -> io::Result<bool> {
        let mut was_pinned = false;
        self.change(|pins| {
            let before = pins.len();
            pins.retain(|pin| pin.id != *id);
            was_pinned = pins.len() < before;
        })?;
        Ok(was_pinned)
    }

    /// Whether `id` itself is pinned.
    pub fn has(&self, id: &FileId) -> bool {
        self.pins.lock().unwrap().iter().any(|pin| pin.id == *id)
    }

    /// A name for this drive's pins that no other drive's have, nor those below another state directory.
    pub fn owner(&self) -> String {
        self.file.owner()
    }

    /// All of them, those first that were pinned first.
    pub fn all(&self) -> Vec<Pin> {
        self.pins.lock().unwrap().clone()
    }

    /// Takes over what another mount of the drive changed.
    pub fn look_again(&self) {
        if let Ok(Read::Pins(pins)) = self.file.read() {
            self.take(pins);
        }
    }

    /// Counts changes, for who wants to wait for the next one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Pin>)) -> io::Result<()> {
        if let Some(why) = &self.refused {
            return Err(io::Error::new(io::ErrorKind::Unsupported, why.clone()));
        }
        let _turn = self.file.turn()?;
        // Another mount may have written since.
        let mut pins = match self.file.read()? {
            Read::Pins(pins) => pins,
            Read::Damaged(_) => self.all(),
            Read::Newer(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        change(&mut pins);
        self.file.write(&pins)?;
        self.take(pins);
        Ok(())
    }

    fn take(&self, new: Vec<Pin>) {
        let mut pins = self.pins.lock().unwrap();
        if *pins != new {
            *pins = new;
            drop(pins);
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> FileId {
        FileId(text.into())
    }

    fn paths(pins: &Pins) -> Vec<PathBuf> {
        pins.all().into_iter().map(|pin| pin.path).collect()
    }

    #[test]
    fn pins_are_there_again_after_a_restart_and_only_for_their_drive() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path(), "drive");
        pins.pin(&id("a"), Path::new("x/a")).unwrap();
        pins.pin(&id("b"), Path::new("b")).unwrap();
        pins.pin(&id("a"), Path::new("moved/a")).unwrap();
        let again = Pins::open(dir.path(), "drive");
        assert_eq!(again.all(), pins.all());
        assert_eq!(paths(&again), [Path::new("moved/a"), Path::new("b")]);
        assert!(Pins::open(dir.path(), "other").all().is_empty());
        assert!(again.unpin(&id("a")).unwrap());
        assert!(!again.unpin(&id("a")).unwrap());
        assert!(again.has(&id("b")) && !again.has(&id("a")));
    }

    #[test]
    fn two_mounts_of_a_drive_lose_none_of_each_others_pins() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (
            Pins::open(dir.path(), "drive"),
            Pins::open(dir.path(), "drive"),
        );
        let changes = other.changes();
        one.pin(&id("a"), Path::new("a")).unwrap();
        other.pin(&id("b"), Path::new("b")).unwrap();
        assert_eq!(paths(&other), [Path::new("a"), Path::new("b")]);
        assert!(changes.has_changed().unwrap());
        one.look_again();
        assert_eq!(one.all(), other.all());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_newer_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Pins::open(dir.path(), "drive")
            .pin(&id("a"), Path::new("a"))
            .unwrap();
        let file = File::new(dir.path(), "drive").path().to_owned();
        let good = std::fs::read_to_string(&file).unwrap();
        for damaged in ["", "{", &good[..good.len() / 2], "[]", "{\"format\":1}"] {
            std::fs::write(&file, damaged).unwrap();
            let pins = Pins::open(dir.path(), "drive");
            assert!(pins.all().is_empty() && !file.exists(), "{damaged}");
            let aside = file.with_extension("damaged");
            assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
            pins.pin(&id("a"), Path::new("a")).unwrap();
            assert_eq!(Pins::open(dir.path(), "drive").all().len(), 1);
        }
        let newer = good.replace("\"format\": 1", "\"format\": 2");
        std::fs::write(&file, &newer).unwrap();
        let pins = Pins::open(dir.path(), "drive");
        let refused = pins.pin(&id("b"), Path::new("b")).unwrap_err();
        assert!(refused.to_string().contains("newer version"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
    }
}
