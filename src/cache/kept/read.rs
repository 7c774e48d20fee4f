//! Reading: which blocks are there, their bytes, and whether these are right.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::{Files, Kept, Now, Presence, State, Sums};
use crate::cache::Shared;
use crate::cache::index::{
    HEADER_BYTES, PAGE_BYTES, STAMP_AT, SUM_BYTES, Stamp, TRAILER_BYTES, boot, page_of, sum_at,
    words,
};
use crate::cache::names::Kind;
use crate::cache::pages::{Page, sums_in};
use crate::cache::place::How;
use crate::cache::queue::Job;
use crate::cache::usage::read_at_most;
use crate::entity::BLOCK_SIZE_BYTES;

/// Uses of the same stretch of this many bytes are told to the writer once a minute.
const STRETCH_BYTES: u64 = 4 << 20;

impl Files {
    fn data(&self, open: impl FnOnce() -> io::Result<File>) -> io::Result<&File> {
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let data = open()?;
        // The kernel reads twice as far ahead then, in large pieces: as fast as the disk. Asking for more by
        // `Advice::WillNeed` comes in single pages, at half the speed. Where it is not taken, the read itself waits.
        if let Err(error) = rustix::fs::fadvise(&data, 0, None, Advice::Sequential) {
            log::trace!("no read-ahead of cached content: {error}");
        }
        Ok(self.data.get_or_init(|| data))
    }
}

impl Kept {
    /// Whether there is a file, as far as is known without opening it.
    pub(super) fn may_be_here(&self, shared: &Shared, state: &mut State) -> bool {
        match state.presence {
            Presence::Here(_) => return true,
            Presence::Absent(period) if period == shared.period() => return false,
            Presence::Absent(_) | Presence::Unknown => {}
        }
        let kind = if self.is_small() {
            Kind::Small
        } else {
            Kind::Index
        };
        // What the scan did not find may have come since, by another process.
        let is_first = matches!(state.presence, Presence::Unknown);
        let is_there = is_first && shared.knows(self.name) == Some(true)
            || shared
                .folder()
                .is_some_and(|folder| folder.has(self.name, kind));
        state.presence = match is_there {
            true => Presence::Here(None),
            false => Presence::Absent(shared.period()),
        };
        is_there
    }

    /// The files, opened if need be.
    pub(super) fn files(&self, shared: &Arc<Shared>, state: &mut State) -> Option<Arc<Files>> {
        if let Presence::Here(Some(files)) = &state.presence {
            return Some(Arc::clone(files));
        }
        if !self.may_be_here(shared, state) {
            return None;
        }
        let opened = shared.folder()?.file(self.name, Kind::Index, How::Read);
        let Ok(index) = opened else {
            self.absent(shared, state);
            return None;
        };
        let right = shared.handles.right();
        let stays_open = right.is_some();
        let files = Arc::new(Files {
            index,
            data: OnceLock::new(),
            is_ours: AtomicBool::new(false),
            _right: right,
        });
        state.presence = Presence::Here(stays_open.then(|| Arc::clone(&files)));
        Some(files)
    }

    fn absent(&self, shared: &Shared, state: &mut State) {
        shared.forget(self.name);
        state.presence = Presence::Absent(shared.period());
        state.pages.clear();
        state.stamp = None;
    }

    /// The checksums of `blocks`, as far as that needs no wait.
    pub(super) fn sums(&self, shared: &Arc<Shared>, blocks: &Range<u64>) -> Sums {
        self.sums_in(shared, &mut self.state(), blocks)
    }

    pub(super) fn sums_in(
        &self,
        shared: &Arc<Shared>,
        state: &mut State,
        blocks: &Range<u64>,
    ) -> Sums {
        let now = shared.period();
        let Some(files) = self.files(shared, state) else {
            return Sums::Missing;
        };
        let mut sums = Vec::with_capacity((blocks.end - blocks.start) as usize);
        for block in blocks.clone() {
            let mut found = state.pages.sum(block, now);
            if found.is_none() {
                let number = page_of(block);
                match self.load(&files, number, false) {
                    Ok(page) => self.take_in(state, number, now, page),
                    Err(error) if is_wait(&error) => return Sums::Unread(files, number),
                    Err(_) => {
                        self.absent(shared, state);
                        return Sums::Missing;
                    }
                }
                found = state.pages.sum(block, now);
            }
            match found {
                Some(sum) if sum != 0 => sums.push(sum),
                _ => return Sums::Missing,
            }
        }
        Sums::Here(files, sums)
    }

    /// The checksums of `blocks`; None where one is missing. Waits for the disk, without holding what others wait for.
    pub(super) fn sums_from_disk(
        &self,
        shared: &Arc<Shared>,
        blocks: &Range<u64>,
    ) -> Option<(Arc<Files>, Vec<u64>)> {
        let pages = page_of(blocks.end) - page_of(blocks.start) + 1;
        for _ in 0..=pages {
            match self.sums(shared, blocks) {
                Sums::Missing => return None,
                Sums::Here(files, sums) => return Some((files, sums)),
                Sums::Unread(files, number) => {
                    let loaded = self.load(&files, number, true);
                    let mut state = self.state();
                    match loaded {
                        Ok(page) => self.take_in(&mut state, number, shared.period(), page),
                        Err(_) => {
                            self.absent(shared, &mut state);
                            return None;
                        }
                    }
                }
            }
        }
        None
    }

    fn take_in(
        &self,
        state: &mut State,
        number: u64,
        now: u64,
        (sums, stamp): (Vec<u64>, Option<Stamp>),
    ) {
        if number == 0 {
            state.stamp = stamp;
        }
        state.pages.insert(Page::new(number, now, sums));
    }

    /// Reads a page of the index: its checksums, and the stamp where it is the first. `WouldBlock` where that has to wait
    /// and `may_wait` is not set; `InvalidData` where it is not the index of this entity, `NotFound` where it was removed
    /// since it was opened: what is kept from then on is in another file.
    pub(super) fn load(
        &self,
        files: &Files,
        number: u64,
        may_wait: bool,
    ) -> io::Result<(Vec<u64>, Option<Stamp>)> {
        if is_removed(&files.index) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let read = |at: u64, len: u64| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; len as usize];
            let got = match may_wait {
                true => read_at_most(&files.index, &mut bytes, at)?,
                false => read_at_once(&files.index, &mut bytes, at)?,
            };
            // Beyond the end of a file that was cut off nothing is kept.
            match got == bytes.len() || may_wait {
                true => Ok(bytes),
                false => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        if number != 0 && !files.is_ours.load(Ordering::Relaxed) {
            let header = read(0, HEADER_BYTES)?;
            self.check_header(files, &header)?;
        }
        let first_byte = number * PAGE_BYTES;
        let len = PAGE_BYTES.min(sum_at(self.entity.blocks()) - first_byte);
        let mut bytes = read(first_byte, len)?;
        let mut stamp = None;
        if number == 0 {
            self.check_header(files, &bytes)?;
            stamp = Stamp::decode(
                self.seal,
                boot(),
                &bytes[STAMP_AT as usize..HEADER_BYTES as usize],
            );
            bytes.drain(..HEADER_BYTES as usize);
        }
        debug_assert_eq!(
            bytes.len() as u64,
            sums_in(&self.entity, number) as u64 * SUM_BYTES
        );
        Ok((words(&bytes), stamp))
    }

    fn check_header(&self, files: &Files, header: &[u8]) -> io::Result<()> {
        if !self.seal.is_header(&self.entity, header) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        files.is_ours.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The bytes of `blocks`, whose checksums should be `sums`.
    pub(super) fn read_blocks(
        &self,
        shared: &Arc<Shared>,
        files: &Arc<Files>,
        blocks: Range<u64>,
        sums: &[u64],
        may_wait: bool,
    ) -> Now {
        let open = || -> io::Result<File> {
            let folder = shared.folder().ok_or(io::ErrorKind::NotFound)?;
            folder.file(self.name, Kind::Data, How::Read)
        };
        let Ok(data) = files.data(open) else {
            self.absent(shared, &mut self.state());
            return Now::Missing;
        };
        let range = self.entity.bytes_of(&blocks);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let len = match may_wait {
            true => read_at_most(data, &mut bytes, range.start),
            false => read_at_once(data, &mut bytes, range.start),
        };
        let len = match len {
            Ok(len) => len,
            Err(error) if is_wait(&error) => return Now::OnDisk,
            Err(error) => {
                // A disk that fails here fails this block: it is fetched again, and written elsewhere.
                log::debug!(
                    "cached content of {} could not be read: {error}",
                    self.entity.id
                );
                0
            }
        };
        if len < bytes.len() && !may_wait {
            return Now::OnDisk;
        }
        let mut is_right = true;
        for (at, (block, sum)) in blocks.zip(sums).enumerate() {
            let start = at * BLOCK_SIZE_BYTES as usize;
            let end = (start + BLOCK_SIZE_BYTES as usize).min(bytes.len());
            if end > len || self.seal.sum(block, &bytes[start..end]) != *sum {
                is_right = false;
                self.doubt(shared, &files.index, block, *sum);
            }
        }
        if !is_right {
            return Now::Missing;
        }
        let mut state = self.state();
        self.tell_use(shared, &mut state, Some(range.start));
        Now::Here(Bytes::from(bytes))
    }

    /// A block does not match `sum`: it was taken away meanwhile, or it is damaged.
    pub(in crate::cache) fn doubt(&self, shared: &Shared, index: &File, block: u64, sum: u64) {
        if is_removed(index) {
            return self.gone();
        }
        let mut bytes = [0; SUM_BYTES as usize];
        let now = read_at_most(index, &mut bytes, sum_at(block));
        if now.is_ok() && u64::from_le_bytes(bytes) != sum {
            self.outdated(block);
        } else {
            self.damaged(shared, block);
        }
    }

    /// The content of an entity of one block.
    pub(super) fn read_small(&self, shared: &Arc<Shared>, may_wait: bool) -> Now {
        if !self.may_be_here(shared, &mut self.state()) {
            return Now::Missing;
        }
        let opened = shared
            .folder()
            .and_then(|folder| folder.file(self.name, Kind::Small, How::Read).ok());
        let Some(file) = opened else {
            self.absent(shared, &mut self.state());
            return Now::Missing;
        };
        let len = self.entity.size_bytes as usize;
        let mut bytes = vec![0; len + TRAILER_BYTES];
        let got = match may_wait {
            true => read_at_most(&file, &mut bytes, 0),
            false => read_at_once(&file, &mut bytes, 0),
        };
        match got {
            Err(error) if is_wait(&error) => return Now::OnDisk,
            // What was cut off is seen below, where waiting is allowed; so is a disk that fails.
            Ok(got) if got < bytes.len() && !may_wait => return Now::OnDisk,
            Ok(_) | Err(_) => {}
        }
        if bytes[len..] != self.seal.trailer(&bytes[..len]) {
            self.damaged(shared, 0);
            self.absent(shared, &mut self.state());
            return Now::Missing;
        }
        bytes.truncate(len);
        self.tell_use(shared, &mut self.state(), Some(0));
        Now::Here(Bytes::from(bytes))
    }

    /// Tells the writer that something was used, now and then; None tells it of everything.
    pub(super) fn tell_use(&self, shared: &Shared, state: &mut State, at_bytes: Option<u64>) {
        let told = (
            at_bytes.map_or(u64::MAX, |at| at / STRETCH_BYTES),
            shared.minute(),
        );
        if state.told == Some(told) {
            return;
        }
        let Some(kept) = self.me.upgrade() else {
            return;
        };
        let block = at_bytes.map(|at| at / BLOCK_SIZE_BYTES);
        // Where there is no room for it, the next read tells it.
        if shared.queue.push(Job::Used { kept, block }) {
            state.told = Some(told);
        }
    }
}

/// Reads what the kernel has in memory; `WouldBlock` where that is nothing.
fn read_at_once(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut buffers = [IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file.as_fd(), &mut buffers, at, ReadWriteFlags::NOWAIT) {
        Ok(len) => Ok(len),
        // Some file systems cannot say whether they would wait.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an open file has no name any more.
fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.nlink() == 0)
}

fn is_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
