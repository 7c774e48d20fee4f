//! Content that others write to without a word: the kernel, for handles to which it was lent.
//!
//! What is lent is written to by the kernel itself, at the speed of the disk (FUSE passthrough), and none of these writes
//! comes by here. What the rest of the house relies on holds all the same:
//!
//! - *It is owed.* A content that is lent was described beside itself before, so whatever is in the file when the process
//!   dies is owed at the next start, as that of any file that was open then.
//! - *Nothing is sent that is being written.* An upload compares [`Local::generation`] around each piece that it reads,
//!   which says nothing of writes that nobody saw. Nor do the file's times: its bytes follow them, by a third of a second
//!   on a busy machine. So what is lent is [`State::Dirty`] until the last handle is given back, whoever closes, syncs or
//!   asks for it meanwhile. Lending counts as a change before the kernel hears of it: an upload that is under way ends.
//! - *Size and time are those of the file*, looked at whenever somebody asks.
//! - *A mapping outlives its handle*: the kernel maps the file here, and gives the handle back while programs still write
//!   by the mapping. The same is true of a mount whose daemon was killed. So where a mapping is possible, and at the
//!   start, the kernel is asked whether anybody may still write ([`lease`](crate::staging::lease)); until nobody may, it
//!   stays [`State::Dirty`], and whoever cares asks again.
//!
//! Only what is here as a whole is lent: a hole reads as zeros, never as the base.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, Local};
use crate::staging::lease;

/// Who may write without a word.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// Handles to which it is lent.
    handles: u64,
    /// One of those was fit to be mapped, or an earlier process lent it: the kernel is to be asked.
    perhaps: bool,
    /// Somebody was told that what he wrote is owed.
    is_promised: bool,
}

impl Lent {
    /// As an earlier process left it: somebody may still write, if `perhaps`.
    pub(super) fn left(perhaps: bool) -> Self {
        Self {
            handles: 0,
            perhaps,
            is_promised: perhaps,
        }
    }

    pub(super) fn is_out(&self) -> bool {
        self.handles > 0 || self.perhaps
    }
}

/// A handle of the kernel's that may write to a content. Given back when it is dropped.
#[derive(Debug)]
pub struct Loan(Arc<Local>);

impl Loan {
    /// The content, open to be read: enough for the kernel, which opens it once more for each handle. One that could be
    /// written to would itself count as somebody who may.
    pub fn file(&self) -> io::Result<File> {
        let local = &self.0;
        local.slot.disk.folder.look(local.number)
    }

    /// What is lent.
    pub fn local(&self) -> &Arc<Local> {
        &self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut inner = self.0.inner.write().unwrap();
        if let Err(error) = self.0.catch_up(&mut inner) {
            log::error!("what was written last is not looked at: {error}");
        }
        inner.lent.handles -= 1;
        self.0.is_lent_now(&inner);
    }
}

impl Local {
    /// Lends the content to one more handle, which may be mapped if `may_map`. Counts as a change of it. None where a part
    /// of it is not here. ENOSPC where contents may not grow now.
    pub fn lend(self: &Arc<Self>, may_map: bool) -> io::Result<Option<Loan>> {
        if self.inner.read().unwrap().visible() > 0 {
            return Ok(None);
        }
        self.slot.disk.reserve.allow()?;
        let mut inner = self.change()?;
        if inner.visible() > 0 {
            return Ok(None);
        }
        inner.lent.handles += 1;
        inner.lent.perhaps |= may_map;
        self.is_lent_now(&inner);
        Ok(Some(Loan(Arc::clone(self))))
    }

    /// Whether others may write to it without a word.
    pub fn is_lent(&self) -> bool {
        self.is_lent.load(Ordering::Acquire)
    }

    /// Whether nobody has it any more to whom it was lent, and somebody may write to it all the same.
    pub fn lingers(&self) -> bool {
        let lent = &self.inner.read().unwrap().lent;
        lent.handles == 0 && lent.perhaps
    }

    /// Whether somebody closed or synced it while others may write to it: it is owed, and not to be sent yet. Also when the
    /// last of these gave it back, until [`Local::stage`].
    pub fn is_promised(&self) -> bool {
        self.inner.read().unwrap().lent.is_promised
    }

    /// No handle will be given back any more, since the kernel forgot them all; who has one may write on.
    pub fn forget_handles(&self) {
        let mut inner = self.inner.write().unwrap();
        inner.lent = Lent::left(inner.lent.is_out());
    }

    /// Looks at the file, where others may have written to it.
    pub(super) fn look(&self) {
        if !self.is_lent() {
            return;
        }
        let mut inner = self.inner.write().unwrap();
        if let Err(error) = self.catch_up(&mut inner) {
            log::warn!("what was written to a file is not looked at: {error}");
        }
    }

    /// Takes over what others made of the file.
    pub(super) fn catch_up(&self, inner: &mut Inner) -> io::Result<()> {
        if !inner.lent.is_out() {
            return Ok(());
        }
        let metadata = self.content()?.metadata()?;
        let (size_bytes, mtime) = (metadata.len(), metadata.modified()?);
        if (size_bytes, mtime) != (inner.size_bytes, inner.mtime) {
            self.generation.fetch_add(1, Ordering::AcqRel);
            (inner.size_bytes, inner.mtime) = (size_bytes, mtime);
        }
        Ok(())
    }

    /// Whether it is nobody's but ours from now on.
    pub(super) fn reclaim(&self, inner: &mut Inner) -> io::Result<bool> {
        let is_to_ask = inner.lent.handles == 0 && inner.lent.perhaps;
        if is_to_ask && self.is_written()? == Some(false) {
            self.catch_up(inner)?;
            // What a mapping wrote need not have changed size or time that somebody looked at.
            self.generation.fetch_add(1, Ordering::AcqRel);
            inner.lent = Lent::default();
            self.is_lent_now(inner);
        }
        inner.lent.is_promised = inner.lent.is_out();
        Ok(!inner.lent.is_out())
    }

    /// Whether anybody else may write to the file at this moment, by the kernel's word. None where it cannot be told, since
    /// the file is in use here.
    pub(in crate::staging) fn is_written(&self) -> io::Result<Option<bool>> {
        let mut files = self.files.lock().unwrap();
        // We would be one who may.
        match files.content.take().map(Arc::try_unwrap) {
            Some(Err(used)) => {
                files.content = Some(used);
                return Ok(None);
            }
            Some(Ok(content)) => drop(content),
            None => {}
        }
        files.map = None;
        let file = self.slot.disk.folder.look(self.number)?;
        Ok(Some(lease::is_written(&file)?))
    }

    fn is_lent_now(&self, inner: &Inner) {
        self.is_lent.store(inner.lent.is_out(), Ordering::Release);
    }
}
