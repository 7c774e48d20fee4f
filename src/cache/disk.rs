//! The files as they are written: blocks in, parts out.
//!
//! Everything here is done by one thread, and within a turn ([`crate::cache::usage`]), so that no other process writes or
//! removes meanwhile. Data is written before its checksum and taken away after it: at no moment does a checksum stand for
//! bytes that never were those of the block, and where a crash mixes the order on disk, the checksum does not match.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, FlockOperation};

use crate::cache::index::{
    HEADER_BYTES, PAGE_BYTES, STAMP_AT, STAMP_BYTES, TRAILER_BYTES, index_bytes, page_of, sum_at,
    words,
};
use crate::cache::kept::Kept;
use crate::cache::names::{Kind, Name};
use crate::cache::place::{Folder, How};
use crate::cache::scan::charge;
use crate::cache::usage::read_at_most;
use crate::entity::{BLOCK_SIZE_BYTES, Entity};

/// Bytes of the blocks of the file system, as far as it matters: none of those in use has larger ones by default.
pub(super) const UNIT_BYTES: u64 = 4096;

/// What a directory may grow by when a file is made in it.
const GROWTH_BYTES: u64 = 3 * UNIT_BYTES;

/// An entity of several blocks, open to write.
pub(super) struct Open {
    index: File,
    data: File,
}

/// What became of an attempt to remove a part.
pub(super) enum Removed {
    /// It is gone, other parts are not.
    Part,
    /// It is gone, and nothing is left of its entity.
    All,
    /// The kernel reads it, or somebody found it worth keeping.
    Stays,
}

/// Bytes that storing these blocks may need at most.
pub(super) fn need_bytes(entity: &Entity, first: u64, len: u64) -> u64 {
    let data = len.next_multiple_of(UNIT_BYTES) + UNIT_BYTES;
    if entity.blocks() == 1 {
        return data + GROWTH_BYTES;
    }
    let last = first + len.div_ceil(BLOCK_SIZE_BYTES);
    let pages = page_of(last) - page_of(first) + 2;
    data + (pages + 2) * PAGE_BYTES + GROWTH_BYTES
}

/// Writes an entity of one block, if it is not there.
pub(super) fn store_small(folder: &Folder, kept: &Kept, pieces: &[Bytes]) -> io::Result<()> {
    let file = match folder.file(kept.name(), Kind::Small, How::New) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = folder.file(kept.name(), Kind::Small, How::Write)?;
            if is_good(&file, kept)? {
                return Ok(());
            }
            file
        }
        other => other?,
    };
    let whole = joined(pieces);
    let trailer = kept.seal().trailer(&whole);
    // A damaged file may be longer.
    let written = file
        .set_len((whole.len() + TRAILER_BYTES) as u64)
        .and_then(|()| write_all(&file, &[&whole, &trailer], 0));
    if written.is_err() {
        folder.remove(kept.name(), Kind::Small)?;
    }
    written
}

/// Whether the file of a small entity is whole.
pub(super) fn is_good(file: &File, kept: &Kept) -> io::Result<bool> {
    let len = kept.entity().size_bytes as usize;
    let mut bytes = vec![0; len + TRAILER_BYTES];
    let got = read_at_most(file, &mut bytes, 0)?;
    Ok(got == bytes.len() && bytes[len..] == kept.seal().trailer(&bytes[..len]))
}

impl Open {
    /// Opens the files of an entity, and makes what is missing or not of this entity anew.
    pub(super) fn make(folder: &Folder, kept: &Kept) -> io::Result<Self> {
        let entity = kept.entity();
        let index = folder.file(kept.name(), Kind::Index, How::Make)?;
        let data = folder.file(kept.name(), Kind::Data, How::Make)?;
        let mut header = vec![0; HEADER_BYTES as usize];
        read_at_most(&index, &mut header, 0)?;
        // Of data that somebody removed the index would still say that it is kept.
        let is_new = data.metadata()?.size() == 0;
        if is_new || !kept.seal().is_header(entity, &header) {
            index.set_len(0)?;
            index.write_all_at(&kept.seal().header(entity), 0)?;
        }
        if index.metadata()?.size() != index_bytes(entity) {
            index.set_len(index_bytes(entity))?;
        }
        if data.metadata()?.size() != entity.size_bytes {
            alone(&data, || data.set_len(entity.size_bytes))?;
        }
        Ok(Self { index, data })
    }

    /// Whether the files are still those in the directory, and what they should be.
    pub(super) fn is_current(&self, folder: &Folder, kept: &Kept) -> bool {
        let entity = kept.entity();
        let is = |file: &File, kind: Kind, size: u64| {
            let (open, named) = (file.metadata(), folder.stat(&kept.name().file(kind)));
            open.is_ok_and(|open| {
                open.size() == size && named.is_ok_and(|named| named.st_ino == open.ino())
            })
        };
        let mut header = vec![0; HEADER_BYTES as usize];
        is(&self.index, Kind::Index, index_bytes(entity))
            && is(&self.data, Kind::Data, entity.size_bytes)
            && read_at_most(&self.index, &mut header, 0).is_ok()
            && kept.seal().is_header(entity, &header)
    }

    /// Writes those of the neighbouring blocks in `bytes`, from `first` on, that are not kept. The checksums of all of them.
    pub(super) fn store(&self, kept: &Kept, first: u64, bytes: &[&[u8]]) -> io::Result<Vec<u64>> {
        let mut there = vec![0; bytes.len() * 8];
        read_at_most(&self.index, &mut there, sum_at(first))?;
        let mut sums = words(&there);
        let mut at = 0;
        while at < bytes.len() {
            let missing = sums[at..].iter().take_while(|sum| **sum == 0).count();
            if missing == 0 {
                at += 1;
                continue;
            }
            let start = first + at as u64;
            let run = at..at + missing;
            self.unstamp()?;
            let run_bytes = &bytes[run.clone()];
            alone(&self.data, || {
                write_all(&self.data, run_bytes, start * BLOCK_SIZE_BYTES)
            })?;
            let mut written = Vec::with_capacity(missing * 8);
            for (number, block) in (start..).zip(run_bytes) {
                let sum = kept.seal().sum(number, block);
                sums[(number - first) as usize] = sum;
                written.extend_from_slice(&sum.to_le_bytes());
            }
            self.index.write_all_at(&written, sum_at(start))?;
            at = run.end;
        }
        Ok(sums)
    }

    /// Takes away what says that the data is complete and good.
    fn unstamp(&self) -> io::Result<()> {
        let mut stamp = [0; STAMP_BYTES];
        read_at_most(&self.index, &mut stamp, STAMP_AT)?;
        if stamp == [0; STAMP_BYTES] {
            return Ok(());
        }
        self.index.write_all_at(&[0; STAMP_BYTES], STAMP_AT)
    }

    /// Notes that `block` is not kept, if it still does not match its checksum. Whether it was there and did not: else who
    /// found it damaged has other files open than these.
    pub(super) fn forget(&self, kept: &Kept, block: u64) -> io::Result<bool> {
        let range = kept.entity().bytes_of(&(block..block + 1));
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut sum = [0; 8];
        read_at_most(&self.index, &mut sum, sum_at(block))?;
        // A disk that cannot read it is damage, too.
        let len = read_at_most(&self.data, &mut bytes, range.start).unwrap_or(0);
        if sum == [0; 8]
            || len == bytes.len() && kept.seal().sum(block, &bytes) == u64::from_le_bytes(sum)
        {
            return Ok(false);
        }
        self.unstamp()?;
        self.index.write_all_at(&[0; 8], sum_at(block))?;
        Ok(true)
    }
}

/// Changes `data` while nobody else reads it by itself, which files that were exchanged by hand could lead to, or takes it
/// for finished; `WouldBlock` where somebody does.
fn alone(data: &File, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    rustix::fs::flock(data, FlockOperation::NonBlockingLockExclusive)?;
    let changed = change();
    rustix::fs::flock(data, FlockOperation::Unlock)?;
    changed
}

/// Removes the part `number`, of `part_bytes`, of the entity `name`; its files when that was the last one.
pub(super) fn remove_part(
    folder: &Folder,
    name: Name,
    number: u64,
    part_bytes: u64,
) -> io::Result<Removed> {
    let data = match folder.file(name, Kind::Data, How::Write) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return remove_all(folder, name),
        Err(error) => return Err(error),
    };
    if rustix::fs::flock(&data, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(Removed::Stays);
    }
    let index = match folder.file(name, Kind::Index, How::Write) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return remove_all(folder, name),
        Err(error) => return Err(error),
    };
    let open = Open { index, data };
    let size = open.data.metadata()?.size();
    let end = ((number + 1) * part_bytes).min(size);
    let blocks = number * part_bytes / BLOCK_SIZE_BYTES..end.div_ceil(BLOCK_SIZE_BYTES);
    if size <= part_bytes || blocks.is_empty() {
        return remove_all(folder, name);
    }
    open.unstamp()?;
    // An index that was cut off must not grow beyond what it should be.
    if sum_at(blocks.end) <= open.index.metadata()?.size() {
        let zeros = vec![0; (blocks.end - blocks.start) as usize * 8];
        open.index.write_all_at(&zeros, sum_at(blocks.start))?;
    }
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let range = blocks.start * BLOCK_SIZE_BYTES..blocks.end * BLOCK_SIZE_BYTES;
    let punched = rustix::fs::fallocate(&open.data, punch, range.start, range.end - range.start);
    // What cannot have holes leaves as a whole.
    if punched.is_err() || open.data.metadata()?.blocks() == 0 {
        return remove_all(folder, name);
    }
    Ok(Removed::Part)
}

fn remove_all(folder: &Folder, name: Name) -> io::Result<Removed> {
    for kind in [Kind::Small, Kind::Index, Kind::Data] {
        folder.remove(name, kind)?;
    }
    Ok(Removed::All)
}

/// Bytes that the files of an entity count for, and their directory.
pub(super) fn charge_of(folder: &Folder, name: Name, is_small: bool) -> u64 {
    let kinds: &[Kind] = if is_small {
        &[Kind::Small]
    } else {
        &[Kind::Index, Kind::Data]
    };
    let files = kinds.iter().map(|kind| {
        let stat = folder.stat(&name.file(*kind));
        stat.map_or(0, |stat| charge(*kind, stat.st_blocks as u64))
    });
    folder.own_bytes() + files.sum::<u64>()
}

/// Cuts pieces, each of whole blocks, into blocks.
pub(super) fn blocks(pieces: &[Bytes]) -> Vec<&[u8]> {
    pieces
        .iter()
        .flat_map(|piece| piece.chunks(BLOCK_SIZE_BYTES as usize))
        .collect()
}

fn joined(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [piece] => piece.clone(),
        pieces => pieces.concat().into(),
    }
}

/// Writes neighbouring `pieces` with as few calls as the system allows.
fn write_all(file: &File, pieces: &[&[u8]], at: u64) -> io::Result<()> {
    /// Pieces that the kernel takes in one call (IOV_MAX).
    const AT_ONCE: usize = 1024;
    let mut at = at;
    for pieces in pieces.chunks(AT_ONCE) {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            let len = match rustix::io::pwritev(file, slices, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += len as u64;
            IoSlice::advance_slices(&mut slices, len);
        }
    }
    Ok(())
}
