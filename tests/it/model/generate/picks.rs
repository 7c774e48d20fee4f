//! What operations are about: slots, paths, offsets, modes, times.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::OFlags;

use super::{DEPTH, DEPTH_MAX, Generator, LEN_MAX, NAMES, SIZE_MAX, What, join};
use crate::model::design::Group;
use crate::model::op::{SLOTS, Text, Time};

impl<D: FnMut(u64) -> u64> Generator<D> {
    /// The mode of what is made; without [`Group::Modes`] that of most programs.
    pub(super) fn mode(&mut self, usual: u32) -> u32 {
        if self.groups.contains(&Group::Modes) && self.dice(3) == 0 {
            return self.any_mode() & usual;
        }
        usual
    }

    pub(super) fn any_mode(&mut self) -> u32 {
        self.one(&[
            0o644, 0o600, 0o755, 0o700, 0o444, 0, 0o777, 0o4755, 0o2755, 0o1777, 0o640,
        ])
    }

    pub(super) fn time(&mut self) -> Time {
        match self.dice(6) {
            0 => Time::Now,
            1 => Time::Omit,
            _ => Time::At(
                self.dice(1_500_000_000) as i64,
                self.dice(1_000_000_000) as u32,
            ),
        }
    }

    pub(super) fn at(&mut self) -> u64 {
        match self.dice(12) {
            0 => 0,
            1..=3 => self.dice(SIZE_MAX) / 4096 * 4096,
            4..=6 => self.dice(4096),
            _ => self.dice(SIZE_MAX),
        }
    }

    pub(super) fn len(&mut self) -> u64 {
        match self.dice(12) {
            0 => self.one(&[0, 1, 4096, 8192, 65536]),
            1..=4 => self.dice(100),
            _ => self.dice(LEN_MAX),
        }
    }

    pub(super) fn fill(&mut self) -> u64 {
        self.dice(1 << 30)
    }

    pub(super) fn any_slot(&mut self) -> usize {
        self.dice(SLOTS as u64) as usize
    }

    /// One that `actor` has open, and now and then one that it has not.
    pub(super) fn slot(&mut self, actor: usize) -> usize {
        match self.slots(actor) {
            slots if slots.is_empty() || self.dice(60) == 0 => self.any_slot(),
            slots => self.one(&slots),
        }
    }

    /// One to be read from, and now and then any.
    pub(super) fn reads(&mut self, actor: usize) -> usize {
        match self.file(actor, Some(OFlags::WRONLY)) {
            Some(slot) if self.dice(20) > 0 => slot,
            _ => self.slot(actor),
        }
    }

    /// One to be written to, and now and then any.
    pub(super) fn writes(&mut self, actor: usize) -> usize {
        match self.file(actor, Some(OFlags::RDONLY)) {
            Some(slot) if self.dice(20) > 0 => slot,
            _ => self.slot(actor),
        }
    }

    /// One that is a file, and was not opened in that way.
    pub(super) fn file(&mut self, actor: usize, not: Option<OFlags>) -> Option<usize> {
        let is_fit = |slot: &usize| {
            let open = self.open[&(actor, *slot)];
            open.is_file && Some(open.flags & OFlags::RWMODE) != not
        };
        let slots: Vec<_> = self.slots(actor).into_iter().filter(is_fit).collect();
        (!slots.is_empty()).then(|| self.one(&slots))
    }

    /// Names in a folder of the local disk, sorted; none where it is no folder.
    pub(super) fn names(&self, folder: &Text) -> Vec<Vec<u8>> {
        let path = self.plain.join(OsStr::from_bytes(&folder.0));
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_vec()).collect();
        names.sort();
        names
    }

    /// Whether `path` leads to a file of bytes.
    pub(super) fn is_file(&self, path: &Text) -> bool {
        let path = self.plain.join(OsStr::from_bytes(&path.0));
        path.metadata().is_ok_and(|found| found.is_file())
    }

    pub(super) fn is_folder(&self, path: &Text) -> bool {
        let path = self.plain.join(OsStr::from_bytes(&path.0));
        path.symlink_metadata().is_ok_and(|found| found.is_dir())
    }

    pub(super) fn count(&self, folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let counts = entries.map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => 1 + self.count(&entry.path()),
            _ => 1,
        });
        counts.sum()
    }

    /// Bytes of the longest path below `folder`; 0 where it is none.
    pub(super) fn reach(&self, folder: &Text) -> usize {
        if !self.is_folder(folder) {
            return 0;
        }
        let names = self.names(folder).into_iter();
        let reaches = names.map(|name| 1 + name.len() + self.reach(&join(folder, &name)));
        reaches.max().unwrap_or(0)
    }

    /// A folder that is there, at most so deep; the directory that is played in is the empty path.
    pub(super) fn folder(&mut self, depth: usize) -> Text {
        let mut at = Text(Vec::new());
        for _ in 0..depth {
            let inner: Vec<_> = self
                .names(&at)
                .iter()
                .map(|name| join(&at, name))
                .filter(|path| self.is_folder(path))
                .collect();
            // Mostly one goes on, but the deep places are many.
            if inner.is_empty() || self.dice(3) == 0 && depth == DEPTH {
                break;
            }
            at = inner[self.dice(inner.len() as u64) as usize].clone();
        }
        at
    }

    /// A path below the directory that is played in: of what is there, of what is not, or of what cannot be.
    pub(super) fn path(&mut self) -> Text {
        let depth = if self.dice(12) == 0 { DEPTH_MAX } else { DEPTH };
        let folder = self.folder(depth);
        let there = self.names(&folder);
        let name = if !there.is_empty() && self.dice(5) < 3 {
            there[self.dice(there.len() as u64) as usize].clone()
        } else {
            self.name()
        };
        let path = join(&folder, &name);
        match self.dice(60) {
            // Through a file, or one level deeper than there is.
            0..=1 => join(&path, b"a"),
            2 => Text([&path.0[..], b"/"].concat()),
            3 => Text([&path.0[..], b"/."].concat()),
            4 => Text([&path.0[..], b"/../a"].concat()),
            _ => path,
        }
    }

    /// As [`Self::path`], but mostly of what is there and fits; now and then the directory itself, where that is fit.
    pub(super) fn there(&mut self, what: What) -> Text {
        if self.dice(5) == 0 {
            return self.path();
        }
        if what == What::Root && self.dice(20) == 0 {
            return Text(Vec::new());
        }
        let folder = self.folder(DEPTH);
        let mut all: Vec<_> = self
            .names(&folder)
            .iter()
            .map(|name| join(&folder, name))
            .collect();
        match what {
            What::File => all.retain(|path| !self.is_folder(path)),
            What::Folder => all.retain(|path| self.is_folder(path)),
            What::Any | What::Root => {}
        }
        if all.is_empty() {
            return self.path();
        }
        all[self.dice(all.len() as u64) as usize].clone()
    }

    pub(super) fn name(&mut self) -> Vec<u8> {
        match self.dice(40) {
            0 => vec![b'n'; 255],
            1 => vec![b'n'; 256],
            2 => vec![b'n'; 230],
            3 => vec![0xff; 255],
            4 => [&[b'n'; 252][..], b":"].concat(),
            // Ordinary ones more often, so that they meet.
            5..=20 => self.one(&NAMES).to_vec(),
            _ => self.one(&NAMES[..6]).to_vec(),
        }
    }
}
