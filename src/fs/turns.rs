//! Who changes names in a folder, one after the other.
//!
//! The kernel lets one call at a time do so, but a call whose program is killed is answered at once, and goes on here: the
//! next one, which would find it half done, waits for its end. Nobody who asks waits for a turn of any kind longer than for an
//! answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as Turn, MutexGuard, OwnedMutexGuard};

use crate::asker::{self, GaveUp};
use crate::inodes::Ino;

use super::{Error, Fs};

/// The folders in which names are being changed.
#[derive(Debug, Default)]
pub(super) struct Turns {
    folders: Mutex<HashMap<Ino, Arc<Turn<()>>>>,
}

/// It is the turn of whoever holds this.
pub(super) struct Taken<'a> {
    turns: &'a Turns,
    held: Vec<(Ino, OwnedMutexGuard<()>)>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut folders = self.turns.folders.lock().unwrap();
        for (folder, held) in self.held.drain(..) {
            drop(held);
            // Who waits for it has it, too.
            if folders
                .get(&folder)
                .is_some_and(|turn| Arc::strong_count(turn) == 1)
            {
                folders.remove(&folder);
            }
        }
    }
}

impl Fs {
    /// Waits until nobody else changes names in any of `folders`, no longer than for an answer: an error then.
    pub(super) async fn turn_in<const N: usize>(
        &self,
        mut folders: [Ino; N],
    ) -> Result<Taken<'_>, Error> {
        // In one order, so that no two wait for each other.
        folders.sort_unstable();
        let mut taken = Taken {
            turns: &self.turns,
            held: Vec::with_capacity(N),
        };
        for folder in folders {
            if taken.held.last().is_some_and(|(last, _)| *last == folder) {
                continue;
            }
            let turn = {
                let mut folders = self.turns.folders.lock().unwrap();
                Arc::clone(folders.entry(folder).or_default())
            };
            let held = self.in_time_for(turn.lock_owned()).await?;
            taken.held.push((folder, held));
        }
        Ok(taken)
    }

    /// Waits until nobody else tells the server of a change of which it has not heard, or makes another one of it.
    pub(super) async fn turn_of_unheard(&self) -> Result<MutexGuard<'_, ()>, Error> {
        self.in_time_for(self.namespace.unheard.turn.lock()).await
    }

    /// Waits for `turn`, no longer than for an answer.
    pub(super) async fn in_time_for<T>(&self, turn: impl Future<Output = T>) -> Result<T, Error> {
        let waited = asker::within(self.namespace.options.timeout, turn).await;
        waited.map_err(|gave_up| match gave_up {
            GaveUp::Killed => Error::Interrupted,
            GaveUp::TooLong => self.removals.unsent(),
        })
    }
}
