//! The bytes of a local file: written, read, and told apart from those that are still in the base.
//!
//! The content is a plain sparse file of the file's size. Where the base shows, the map says what is here: bytes are
//! written first, their record follows, and only then they count.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Inner, Local, set_mtime};
use crate::crash::{self, Point};
use crate::staging::journal::Kept;
use crate::staging::map::Record;
use crate::staging::{Piece, State};

/// The largest size of a file on Linux.
const MOST_BYTES: u64 = i64::MAX as u64;

/// Bytes of zeros that are written at once where no hole can be made.
const ZEROS: &[u8] = &[0; 64 << 10];

impl Local {
    /// pwrite(2), all of it. ENOSPC harms nothing that is here. Makes it [`State::Dirty`].
    pub fn write(&self, offset: u64, bytes: &[u8], now: SystemTime) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.filter(|end| *end <= MOST_BYTES).ok_or_else(too_big)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.slot.disk.reserve.allow()?;
        let mut inner = self.change()?;
        let file = self.content()?;
        if end > inner.size_bytes {
            self.settle_cut(&mut inner)?;
        }
        let written = file
            .write_all_at(bytes, offset)
            .and_then(|()| self.is_here(&mut inner, offset..end));
        if let Err(error) = written {
            self.shrink_back(&file, &inner, end);
            return Err(error);
        }
        inner.size_bytes = inner.size_bytes.max(end);
        inner.mtime = now;
        crash::pass(Point::Written);
        Ok(())
    }

    /// ftruncate(2), shorter or longer.
    pub fn truncate(&self, size_bytes: u64, now: SystemTime) -> io::Result<()> {
        if size_bytes > MOST_BYTES {
            return Err(too_big());
        }
        let mut inner = match size_bytes {
            0 => self.wipe()?,
            _ => self.change()?,
        };
        let file = self.content()?;
        if size_bytes > inner.size_bytes {
            self.settle_cut(&mut inner)?;
        }
        if inner.is_filling {
            self.append(&Record::Written(0..0))?;
            inner.is_filling = false;
        }
        file.set_len(size_bytes)?;
        inner.size_bytes = size_bytes;
        inner.mtime = now;
        if size_bytes < inner.visible() {
            inner.show_base_to(size_bytes);
            inner.cut_owed = true;
            // Until it grows again, its size says the same.
            if let Err(error) = self.settle_cut(&mut inner) {
                log::debug!("how far the base shows is not noted yet: {error}");
            }
        }
        Ok(())
    }

    /// Zeros from here on, as `fallocate` with PUNCH_HOLE or ZERO_RANGE makes them; within the size.
    pub fn zero(&self, range: Range<u64>, now: SystemTime) -> io::Result<()> {
        let mut inner = self.change()?;
        let range = range.start..range.end.min(inner.size_bytes);
        if range.is_empty() {
            return Ok(());
        }
        let file = self.content()?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&*file, flags, range.start, range.end - range.start) {
            Err(Errno::OPNOTSUPP) => write_zeros(&file, range.clone())?,
            other => other?,
        }
        self.is_here(&mut inner, range)?;
        inner.mtime = now;
        Ok(())
    }

    /// Reserves room on the disk, as `fallocate` does; grows the file if `range` ends behind it and `grow`.
    pub fn allocate(&self, range: Range<u64>, grow: bool, now: SystemTime) -> io::Result<()> {
        if range.end > MOST_BYTES {
            return Err(too_big());
        }
        if range.is_empty() {
            return Err(Errno::INVAL.into());
        }
        self.slot.disk.reserve.allow()?;
        let is_growth = grow && range.end > self.size_bytes();
        let mut inner = if is_growth {
            self.change()?
        } else {
            let mut inner = self.inner.write().unwrap();
            self.catch_up(&mut inner)?;
            inner
        };
        let file = self.content()?;
        if is_growth {
            self.settle_cut(&mut inner)?;
        }
        // Where a part fails, what was reserved stays so: it is no content, and the size is not touched.
        let flags = FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&*file, flags, range.start, range.end - range.start)?;
        if is_growth && range.end > inner.size_bytes {
            file.set_len(range.end)?;
            inner.size_bytes = range.end;
            inner.mtime = now;
        }
        self.settle_mtime(&file, &mut inner)
    }

    /// Sets mtime. Makes it [`State::Dirty`].
    pub fn set_mtime(&self, mtime: SystemTime) -> io::Result<()> {
        let mut inner = self.change()?;
        let file = self.content()?;
        inner.mtime = mtime;
        self.settle_mtime(&file, &mut inner)
    }

    /// It shows this time, and is owed as much as before.
    pub fn show_mtime(&self, mtime: SystemTime) {
        self.inner.write().unwrap().mtime = mtime;
    }

    /// What `range`, cut at the end of the file, is made of, in order and without gaps.
    pub fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        self.look();
        let inner = self.inner.read().unwrap();
        let end = range.end.min(inner.size_bytes);
        let mut pieces = Vec::new();
        let mut at = range.start;
        for gap in inner.here.gaps(range.start..end.min(inner.visible())) {
            if at < gap.start {
                pieces.push(Piece::Here(at..gap.start));
            }
            at = gap.end;
            pieces.push(Piece::Base(gap));
        }
        if at < end {
            pieces.push(Piece::Here(at..end));
        }
        pieces
    }

    /// Bytes that are here: of one [`Piece::Here`]. Short at the end of the file; an error where a part is only in the
    /// base.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let inner = self.inner.read().unwrap();
        let end = range.end.min(inner.size_bytes);
        if range.start >= end {
            return Ok(Bytes::new());
        }
        if !inner.here.covers(range.start..end.min(inner.visible())) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "bytes that are only in the base were to be read here",
            ));
        }
        read_at(&*self.content()?, range.start..end)
    }

    /// Bytes of the base at `offset`: kept where nothing was written meanwhile. No change of the content.
    pub fn fill(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner.write().unwrap();
        let end = offset
            .saturating_add(bytes.len() as u64)
            .min(inner.visible());
        let gaps: Vec<_> = inner.here.gaps(offset..end).collect();
        if gaps.is_empty() {
            return Ok(());
        }
        self.slot.disk.reserve.allow()?;
        let file = self.content()?;
        if !inner.is_filling {
            self.append(&Record::Filling(inner.mtime))?;
            inner.is_filling = true;
        }
        for gap in gaps {
            let part = (gap.start - offset) as usize..(gap.end - offset) as usize;
            file.write_all_at(&bytes[part], gap.start)?;
            self.append(&Record::Filled(gap.clone()))?;
            inner.here.insert(gap);
        }
        Ok(())
    }

    /// The first part that is only in the base; none where all is here.
    pub fn missing(&self) -> Option<Range<u64>> {
        self.inner.read().unwrap().missing()
    }

    /// Begins a change of the content: nobody else sees it until the lock is given back, and it is owed if it is not
    /// unlinked.
    pub(super) fn change(&self) -> io::Result<RwLockWriteGuard<'_, Inner>> {
        loop {
            let mut inner = self.inner.write().unwrap();
            let must_wait = inner.is_leaving || inner.is_guarded;
            if !must_wait && inner.state != State::Delivered {
                self.generation.fetch_add(1, Ordering::AcqRel);
                self.catch_up(&mut inner)?;
                if inner.state != State::Unlinked {
                    inner.state = State::Dirty;
                }
                return Ok(inner);
            }
            drop(inner);
            self.prepare_change()?;
        }
    }

    /// As [`Local::change`], of all of it.
    fn wipe(&self) -> io::Result<RwLockWriteGuard<'_, Inner>> {
        loop {
            let mut inner = self.change()?;
            if inner.kept != Kept::OnDisk {
                inner.kept = Kept::InCache;
                inner.wipes += 1;
                return Ok(inner);
            }
            drop(inner);
            self.unsettle()?;
        }
    }

    /// The bytes of `range`, just written, are here; so is the time of the write.
    fn is_here(&self, inner: &mut Inner, range: Range<u64>) -> io::Result<()> {
        let part = range.start..range.end.min(inner.visible());
        if !inner.here.covers(part.clone()) {
            self.append(&Record::Written(part.clone()))?;
            inner.here.insert(part);
        } else if inner.is_filling {
            self.append(&Record::Written(0..0))?;
        }
        inner.is_filling = false;
        Ok(())
    }

    /// The map has how far the base shows: what grows from here on is zeros.
    fn settle_cut(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.cut_owed {
            self.append(&Record::Cut(inner.visible()))?;
            inner.cut_owed = false;
            inner.is_filling = false;
        }
        Ok(())
    }

    /// The file's own time of modification is ours.
    pub(super) fn settle_mtime(&self, file: &File, inner: &mut Inner) -> io::Result<()> {
        set_mtime(file, inner.mtime)?;
        if inner.is_filling {
            self.append(&Record::Written(0..0))?;
            inner.is_filling = false;
        }
        Ok(())
    }

    /// After a write that failed: what lay behind the end does so again. Where others write, too, it may be theirs.
    fn shrink_back(&self, file: &File, inner: &Inner, end: u64) {
        if end > inner.size_bytes
            && !inner.lent.is_out()
            && let Err(error) = file.set_len(inner.size_bytes)
        {
            log::warn!("a write that failed has left zeros behind the end of a file: {error}");
        }
    }
}

fn read_at(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let len = (range.end - range.start) as usize;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = range.start + bytes.len() as u64;
        let got = rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at);
        match got {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(len);
    Ok(bytes.into())
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

fn too_big() -> io::Error {
    Errno::FBIG.into()
}
