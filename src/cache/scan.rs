//! What is on disk, found by looking: how much, and in which order it was used.

use std::io;

use rustix::fs::{FileType, SeekFrom, Stat};

use crate::cache::disk::UNIT_BYTES;
use crate::cache::listed;
use crate::cache::names::{self, Kind, Name, USAGE};
use crate::cache::order::Part;
use crate::cache::place::{Folder, How};

/// The access time, in seconds since 1970, of the index of an entity that was used again: such entities leave later.
/// Nothing on this system is that old.
pub(super) const PROVEN_ATIME: i64 = 1;

/// Bytes of data for which a file system may need one more block to say where they are, once it has written them: a block
/// of 4 KiB names about 340 stretches, and ours are cut as readers go.
const STRETCHES_BYTES: u64 = 8 << 20;

/// A part of an entity that is on disk.
pub(super) struct Found {
    pub(super) part: Part,
    pub(super) bytes: u64,
    pub(super) used_s: u64,
    used_ns: u64,
    pub(super) is_proven: bool,
}

/// All that is on disk.
#[derive(Default)]
pub(super) struct Seen {
    /// The sites in it, by their numbers in [`Part::site`].
    pub(super) sites: Vec<(String, Folder)>,
    pub(super) found: Vec<Found>,
    /// Files whose other half is missing.
    pub(super) orphans: Vec<(u16, Name, Kind)>,
    /// Bytes on disk, directories included.
    pub(super) bytes: u64,
}

/// Bytes that count for a file of this kind.
pub(super) fn charge(kind: Kind, blocks: u64) -> u64 {
    let bytes = blocks * 512;
    match kind {
        Kind::Data if bytes > 0 => bytes + UNIT_BYTES * (1 + bytes / STRETCHES_BYTES),
        Kind::Data | Kind::Index | Kind::Small => bytes,
    }
}

/// Looks at everything in `content`; parts of entities have `part_bytes`. `Interrupted` where `is_stopped` says so.
pub(super) fn scan(
    content: Folder,
    part_bytes: u64,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<Seen> {
    let mut seen = Seen {
        bytes: content.own_bytes(),
        ..Seen::default()
    };
    // Before it was ever written it has no block yet.
    let usage = content
        .stat(USAGE)
        .map_or(0, |stat| stat.st_blocks as u64 * 512);
    seen.bytes += usage.max(UNIT_BYTES);
    let mut sites = content.sites()?;
    sites.truncate(usize::from(u16::MAX));
    for (number, (_, folder)) in sites.iter().enumerate() {
        seen.bytes += folder.own_bytes() + listed::charge(folder);
        scan_site(folder, number as u16, part_bytes, is_stopped, &mut seen)?;
    }
    seen.sites = sites;
    seen.found
        .sort_by_key(|found| (found.used_s, found.used_ns));
    Ok(seen)
}

fn scan_site(
    folder: &Folder,
    site: u16,
    part_bytes: u64,
    is_stopped: &dyn Fn() -> bool,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut files = Vec::new();
    for name in folder.names(FileType::RegularFile)? {
        files.extend(names::parse(&name?));
    }
    // The data of an entity comes before its index.
    files.sort_unstable_by_key(|(name, kind)| (*name, *kind != Kind::Data));
    for (at, (name, kind)) in files.iter().enumerate() {
        if at % 256 == 0 && is_stopped() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Somebody else may have removed it just now.
        let Ok(stat) = folder.stat(&name.file(*kind)) else {
            continue;
        };
        let bytes = charge(*kind, stat.st_blocks as u64);
        seen.bytes += bytes;
        let has = |wanted: Kind| {
            let around = &files[at.saturating_sub(1)..(at + 2).min(files.len())];
            around.contains(&(*name, wanted))
        };
        match kind {
            Kind::Small => seen.part(site, *name, 0, bytes, &stat),
            Kind::Index if has(Kind::Data) => {
                let data = folder.stat(&name.file(Kind::Data)).ok();
                scan_parts(folder, site, *name, part_bytes, (&stat, data), seen);
            }
            Kind::Data if has(Kind::Index) => {}
            Kind::Index | Kind::Data => seen.orphans.push((site, *name, *kind)),
        }
    }
    Ok(())
}

/// Which parts of an entity are there.
fn scan_parts(
    folder: &Folder,
    site: u16,
    name: Name,
    part_bytes: u64,
    (index, data): (&Stat, Option<Stat>),
    seen: &mut Seen,
) {
    let index_bytes = charge(Kind::Index, index.st_blocks as u64);
    let Some(data) = data else { return };
    let (size, held) = (data.st_size as u64, data.st_blocks as u64 * 512);
    let all = charge(Kind::Data, data.st_blocks as u64);
    if size <= part_bytes || held == 0 {
        return seen.part(site, name, 0, all + index_bytes, index);
    }
    let parts = size.div_ceil(part_bytes);
    if held >= size {
        for number in 0..parts {
            seen.part(site, name, number as u32, all / parts, index);
        }
        return;
    }
    let Ok(file) = folder.file(name, Kind::Data, How::Read) else {
        return;
    };
    let mut at = 0;
    let mut last = None;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let number = start / part_bytes;
        // Each part where there is something counts as if it had its share of what is there.
        last = Some(number);
        seen.part(site, name, number as u32, part_bytes.min(held), index);
        at = (number + 1) * part_bytes;
        if at >= size {
            break;
        }
    }
    if last.is_none() {
        seen.part(site, name, 0, all + index_bytes, index);
    }
}

impl Seen {
    /// Removes a file whose other half is still missing. Within a turn: nobody is making the two just now.
    pub(super) fn drop_orphan(&mut self, site: u16, name: Name, kind: Kind) -> io::Result<()> {
        let other = match kind {
            Kind::Data => Kind::Index,
            Kind::Index | Kind::Small => Kind::Data,
        };
        let folder = &self.sites[usize::from(site)].1;
        if folder.has(name, other) {
            return Ok(());
        }
        let found = folder.stat(&name.file(kind));
        if folder.remove(name, kind)? {
            let bytes = found.map_or(0, |stat| charge(kind, stat.st_blocks as u64));
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        Ok(())
    }

    fn part(&mut self, site: u16, name: Name, number: u32, bytes: u64, stat: &Stat) {
        self.found.push(Found {
            part: Part { site, number, name },
            bytes,
            used_s: stat.st_mtime as u64,
            used_ns: stat.st_mtime_nsec,
            is_proven: stat.st_atime == PROVEN_ATIME,
        });
    }
}
