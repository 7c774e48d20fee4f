//! The duty to bring blocks, and how it ends.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::state::{Coming, State};
use super::{Blocks, Segment};
use crate::entity::{Entity, blocks_in};

/// The duty to bring a run of neighbouring blocks, in order. Dropped with blocks still owed, their waiters see
/// [`super::Missed::Abandoned`] and the next who wants them gets the claim.
pub struct Claim<E> {
    blocks: Arc<Blocks<E>>,
    entity: Arc<Entity>,
    owed: Range<u64>,
    awaited: Arc<Notify>,
}

impl<E> Claim<E> {
    pub(super) fn new(
        blocks: &Arc<Blocks<E>>,
        entity: &Arc<Entity>,
        owed: Range<u64>,
        awaited: Arc<Notify>,
    ) -> Self {
        Self {
            blocks: Arc::clone(blocks),
            entity: Arc::clone(entity),
            owed,
            awaited,
        }
    }

    /// The entity.
    pub fn entity(&self) -> &Arc<Entity> {
        &self.entity
    }

    /// The blocks still owed.
    pub fn owed(&self) -> Range<u64> {
        self.owed.clone()
    }

    /// The bytes of the blocks still owed.
    pub fn owed_bytes(&self) -> Range<u64> {
        self.entity.bytes_of(&self.owed)
    }

    /// Bytes in the block that is owed next; 0 where none is.
    pub fn next_len(&self) -> u64 {
        match self.owed.is_empty() {
            true => 0,
            false => self.entity.block_len(self.owed.start),
        }
    }

    /// Told each time when somebody begins to wait for a part of it; remembers one call that nobody listened to.
    pub fn awaited(&self) -> Arc<Notify> {
        Arc::clone(&self.awaited)
    }

    /// Where the first of those who wait has all it waits for. None where nobody waits.
    pub fn first_stop(&self) -> Option<u64> {
        self.stops(|ends| ends.min())
    }

    /// Where the last one has all it waits for of those who need nothing from the block `until` on.
    pub fn last_stop(&self, until: u64) -> Option<u64> {
        self.stops(|ends| ends.filter(|end| *end <= until).max())
    }

    fn stops(
        &self,
        choose: impl FnOnce(&mut dyn Iterator<Item = u64>) -> Option<u64>,
    ) -> Option<u64> {
        let state = self.blocks.state.lock().unwrap();
        let waiting = &self.coming(&state)?.waiting;
        let live = waiting.iter().filter(|one| !one.tell.is_closed());
        choose(&mut live.map(|one| one.blocks.end))
    }

    /// Delivers the next blocks, at least one, in one piece of memory: whoever waits for them has them, whatever
    /// becomes of the others.
    pub fn publish(&mut self, bytes: Bytes) {
        let first = self.owed.start;
        let next = first + blocks_in(bytes.len() as u64);
        let run = self.entity.bytes_of(&(first..next));
        debug_assert!(first < next && next <= self.owed.end);
        debug_assert_eq!(bytes.len() as u64, run.end - run.start);
        let segment = Segment { first, bytes };
        let mut state = self.blocks.state.lock().unwrap();
        let Some(mut coming) = self.take_coming(&mut state) else {
            return;
        };
        state.coming_bytes -= segment.bytes.len() as u64;
        let (mut done, mut open) = (Vec::new(), Vec::new());
        let mut is_demanded = false;
        for mut waiting in coming.waiting.drain(..) {
            if waiting.blocks.start < next {
                is_demanded = true;
                waiting.got.push(segment.clone());
            }
            match waiting.blocks.end <= next {
                true => done.push(waiting),
                false => open.push(waiting),
            }
        }
        coming.waiting = open;
        self.owed.start = next;
        if !self.owed.is_empty() {
            let content = state.content(&self.entity);
            content.coming.insert(next, coming);
        }
        state.hold(&self.entity, segment, is_demanded);
        state.evict(self.blocks.budget_bytes);
        drop(state);
        for waiting in done {
            // Who waited may have gone away.
            let _ = waiting.tell.send(Ok(waiting.got));
        }
    }

    /// Gives the rest up, unless somebody waits for a part of it. Whether it did.
    pub fn abandon_if_unawaited(&mut self) -> bool {
        let blocks = Arc::clone(&self.blocks);
        let mut state = blocks.state.lock().unwrap();
        let is_awaited = |coming: &Coming<E>| {
            let mut waiting = coming.waiting.iter();
            waiting.any(|waiting| !waiting.tell.is_closed())
        };
        if self.coming(&state).is_some_and(is_awaited) {
            return false;
        }
        drop(self.take_rest(&mut state));
        true
    }

    fn coming<'a>(&self, state: &'a State<E>) -> Option<&'a Coming<E>> {
        let content = state.contents.get(&self.entity)?;
        content.coming.get(&self.owed.start)
    }

    fn take_coming(&self, state: &mut State<E>) -> Option<Coming<E>> {
        let content = state.contents.get_mut(&self.entity)?;
        content.coming.remove(&self.owed.start)
    }

    /// Takes all that is owed off the list of what is coming.
    fn take_rest(&mut self, state: &mut State<E>) -> Option<Coming<E>> {
        if self.owed.is_empty() {
            return None;
        }
        let coming = self.take_coming(state)?;
        let bytes = self.owed_bytes();
        state.coming_bytes -= bytes.end - bytes.start;
        self.owed.start = self.owed.end;
        state.forget_if_empty(&self.entity);
        Some(coming)
    }
}

impl<E: Clone> Claim<E> {
    /// Tells all who wait for the rest why it does not come. A later reader tries afresh.
    pub fn fail(mut self, error: E) {
        let blocks = Arc::clone(&self.blocks);
        let rest = self.take_rest(&mut blocks.state.lock().unwrap());
        for waiting in rest.into_iter().flat_map(|coming| coming.waiting) {
            // Who waited may have gone away.
            let _ = waiting.tell.send(Err(error.clone()));
        }
    }
}

impl<E> Drop for Claim<E> {
    fn drop(&mut self) {
        let blocks = Arc::clone(&self.blocks);
        let rest = self.take_rest(&mut blocks.state.lock().unwrap());
        drop(rest);
    }
}
