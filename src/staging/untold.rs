//! Attributes that the server has not heard yet, of files whose content it has.
//!
//! What is told of a file whose content is here lies with that ([`Local`](super::Local)); when the content has been
//! delivered and something of it changed meanwhile, it comes here. One entry a file: the newest is all that anybody
//! needs to hear. Journaled like content, but for what has no name any more, and for the root of a drive, of which the
//! server keeps nothing: these are remembered as long as the mount lives.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use crate::attributes::Attributes;
use crate::entity::Entity;
use crate::model::{EntityId, FileId};
use crate::staging::about::About;
use crate::staging::journal::Change;
use crate::staging::slot::Slot;
use crate::staging::{Base, Place};

/// Files that are kept before those are looked for that show no longer.
const SWEEP_MIN: usize = 64;

/// A file of which the server is to hear.
#[derive(Debug, Clone)]
pub struct Untold {
    /// Which.
    pub file: FileId,
    /// Where it was when it was changed.
    pub place: Place,
    /// All that is told of it.
    pub attributes: Arc<Attributes>,
    /// Another one for each change.
    pub number: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Untolds {
    files: Mutex<Files>,
    /// How many files there are: most mounts have none, and look often.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Files {
    by_id: HashMap<FileId, Kept>,
    next: u64,
    /// All changes up to this number survive a power cut.
    durable: u64,
    /// Files at which those are dropped next that show no longer.
    sweep_at: usize,
}

#[derive(Debug, Clone)]
struct Kept {
    attributes: Arc<Attributes>,
    number: u64,
    /// Where it is journaled, and of what place; none of what is only remembered.
    journaled: Option<(Weak<Slot>, Place)>,
    /// The server heard it; until then it shows all the same.
    until: Option<Instant>,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Untolds {
    /// What is told of `file`.
    pub(super) fn get(&self, file: &FileId) -> Option<Arc<Attributes>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let files = self.files.lock().unwrap();
        let kept = files.by_id.get(file)?;
        let is_over = kept.is_over(Instant::now());
        (!is_over).then(|| Arc::clone(&kept.attributes))
    }

    /// All of which the server is to hear.
    pub(super) fn all(&self) -> Vec<Untold> {
        let files = self.files.lock().unwrap();
        let all = files.by_id.iter().filter_map(|(file, kept)| {
            let (_, place) = kept.journaled.as_ref()?;
            Some(Untold {
                file: file.clone(),
                place: place.clone(),
                attributes: Arc::clone(&kept.attributes),
                number: kept.number,
            })
        });
        all.collect()
    }

    /// `attributes` are remembered of `file`, and nobody is to hear of them.
    pub(super) fn remember(&self, file: FileId, attributes: Arc<Attributes>) {
        self.insert(file, attributes, None);
    }

    /// As the journal of `slot` says. The slot of a mount is found before those that it takes over, and is newer.
    pub(super) fn found(&self, slot: &Arc<Slot>, about: About) {
        let Some(base) = about.base else { return };
        if self.get(&base.file).is_some() {
            return;
        }
        let attributes = about.attributes.unwrap_or_default();
        let journaled = Some((Arc::downgrade(slot), about.place));
        self.insert(base.file, attributes, journaled);
    }

    /// The server is to hear of `attributes` of `file`, which lies in `place`: noted in `slot` by way of `write`.
    pub(super) fn tell(
        &self,
        slot: &Arc<Slot>,
        file: &FileId,
        place: Place,
        attributes: Arc<Attributes>,
        write: impl FnOnce(Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let about = About::new(place.clone(), Some(nothing_of(file)));
        let about = about.telling(Some(Arc::clone(&attributes)), true);
        write(Change::Tell(file.clone(), Some(about.text())))?;
        let before = self.insert(
            file.clone(),
            attributes,
            Some((Arc::downgrade(slot), place)),
        );
        let other = before.and_then(|(other, _)| other.upgrade());
        match other.filter(|other| !Arc::ptr_eq(other, slot)) {
            Some(other) => other.journal.note(Change::Tell(file.clone(), None)),
            None => Ok(()),
        }
    }

    /// The server heard of it as it was with `number`: it shows until `until`. Whether it was so still.
    pub(super) fn heard(&self, file: &FileId, number: u64, until: Instant) -> io::Result<bool> {
        let journaled = {
            let mut files = self.files.lock().unwrap();
            let kept = files.by_id.get_mut(file);
            let Some(kept) = kept.filter(|kept| kept.number == number) else {
                return Ok(false);
            };
            kept.until = Some(until);
            kept.journaled.take()
        };
        forget_in(journaled, file)?;
        Ok(true)
    }

    /// The server is to hear nothing of it any more. Whether it was to.
    pub(super) fn forget(&self, file: &FileId) -> io::Result<bool> {
        let kept = {
            let mut files = self.files.lock().unwrap();
            let kept = files.by_id.remove(file);
            self.count.store(files.by_id.len(), Ordering::Release);
            kept
        };
        let journaled = kept.and_then(|kept| kept.journaled);
        let was = journaled.is_some();
        forget_in(journaled, file)?;
        Ok(was)
    }

    /// Whether all that is to be told survives a power cut.
    pub(super) fn all_durable(&self) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return true;
        }
        let files = self.files.lock().unwrap();
        files.durable == files.next
    }

    /// The number of the last change.
    pub(super) fn newest(&self) -> u64 {
        self.files.lock().unwrap().next
    }

    /// The changes up to `newest` survive a power cut.
    pub(super) fn durable(&self, newest: u64) {
        let mut files = self.files.lock().unwrap();
        files.durable = files.durable.max(newest);
    }

    /// Whether any are journaled in `slot`.
    pub(super) fn any_of(&self, slot: &Slot) -> bool {
        let files = self.files.lock().unwrap();
        let mut slots = files
            .by_id
            .values()
            .filter_map(|kept| kept.journaled.as_ref());
        slots.any(|(of, _)| std::ptr::eq(of.as_ptr(), slot))
    }

    fn insert(
        &self,
        file: FileId,
        attributes: Arc<Attributes>,
        journaled: Option<(Weak<Slot>, Place)>,
    ) -> Option<(Weak<Slot>, Place)> {
        let mut files = self.files.lock().unwrap();
        files.next += 1;
        let kept = Kept {
            attributes,
            number: files.next,
            journaled,
            until: None,
        };
        if files.by_id.len() >= files.sweep_at {
            let now = Instant::now();
            files.by_id.retain(|_, kept| !kept.is_over(now));
            files.sweep_at = (2 * files.by_id.len()).max(SWEEP_MIN);
        }
        let before = files.by_id.insert(file, kept);
        self.count.store(files.by_id.len(), Ordering::Release);
        before?.journaled
    }
}

fn forget_in(journaled: Option<(Weak<Slot>, Place)>, file: &FileId) -> io::Result<()> {
    match journaled.and_then(|(slot, _)| slot.upgrade()) {
        Some(slot) => slot.journal.note(Change::Tell(file.clone(), None)),
        None => Ok(()),
    }
}

/// `file`, without any content, in the words of what lies beside contents.
fn nothing_of(file: &FileId) -> Base {
    Base {
        file: file.clone(),
        entity: Entity {
            id: EntityId("".into()),
            size_bytes: 0,
        },
        visible_bytes: 0,
    }
}
