//! Who changes names in a folder, one after the other.
//!
//! The kernel lets one call at a time do so, but a call whose program is killed is answered at once, and goes on here: the
//! next one, which would find it half done, waits for its end. Nobody who asks waits for a turn of any kind longer than for an
//! answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, MutexGuard, OwnedMutexGuard};
use tokio::time::Instant;

use crate::asker::{self, GaveUp};
use crate::inodes::Ino;

use super::{Error, Fs};

/// The folders in which names are being changed.
#[derive(Debug, Default)]
pub(super) struct Turns {
    folders: Mutex<HashMap<Ino, Arc<Turn<()>>>>,
}

/// Most that may be added to the time of one who waited in a line for others that were not answered: all of a line together
/// get no more.
const SLACK: Duration = Duration::from_secs(2);
/// Who comes so soon after another one has waited for him.
const IN_LINE: Duration = Duration::from_millis(50);

/// Renames between folders, of which the kernel lets one at a time in a whole drive go on: whoever is let in after one that was
/// not answered in time has waited as long already.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Option<Late>>);

/// A line that formed behind one that was not answered in time.
#[derive(Debug, Clone, Copy)]
struct Late {
    /// When that one began.
    since: Instant,
    /// When the last one ended.
    ended: Instant,
}

impl Line {
    /// The line in which one stands that is let in at `now`, and how long that may still take, where each may take `most`. None
    /// where there is none, or where it has had all of its time: who comes then has not stood in it from the beginning.
    fn behind(&self, now: Instant, most: Duration) -> Option<(Late, Duration)> {
        let late = (*self.0.lock().unwrap())?;
        let left = (late.since + most + SLACK).saturating_duration_since(now);
        let is_in_line = now.saturating_duration_since(late.ended) < IN_LINE;
        (is_in_line && !left.is_zero()).then_some((late, left))
    }

    /// How long one that is let in at `now` may take: half of what is left for its line.
    fn begins(&self, now: Instant, most: Duration) -> Duration {
        self.behind(now, most).map_or(most, |(_, left)| left / 2)
    }

    /// One that was let in at `began` has ended at `now`; it was not answered in time where it `is_late`.
    fn ended(&self, (began, now): (Instant, Instant), most: Duration, is_late: bool) {
        let line = match self.behind(began, most) {
            Some((late, _)) => Some(Late { ended: now, ..late }),
            None => is_late.then_some(Late {
                since: began,
                ended: now,
            }),
        };
        *self.0.lock().unwrap() = line;
    }
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

    /// As [`Fs::in_time`], of a rename from one folder to another.
    pub async fn in_time_in_line<T>(
        &self,
        rename: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (began, most) = (Instant::now(), self.namespace.options.timeout);
        let latest = began + self.renames.begins(began, most);
        let done = asker::hurried(latest, rename).await;
        let now = Instant::now();
        let is_late = done.is_err() && now >= latest;
        self.renames.ended((began, now), most, is_late);
        done
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_line_nobody_waits_longer_than_for_one_answer_and_some_slack() {
        let pause = Duration::from_millis(1);
        for most in [Duration::from_secs(3), Duration::from_secs(30)] {
            let (line, began) = (Line::default(), Instant::now());
            let mut now = began;
            for nth in 0..10 {
                let had = line.begins(now, most);
                // Some are done at once in between.
                let took = if nth % 3 == 2 { pause } else { had };
                line.ended((now, now + took), most, took == had);
                now += took + pause;
            }
            assert!(now - began <= most + SLACK);
        }
    }

    #[test]
    fn who_stands_in_no_line_has_all_of_his_time() {
        let (line, most) = (Line::default(), Duration::from_secs(3));
        let now = Instant::now();
        assert_eq!(line.begins(now, most), most);
        line.ended((now, now + most / 2), most, false);
        assert_eq!(line.begins(now + most / 2, most), most, "it was answered");
        line.ended((now, now + most), most, true);
        assert_eq!(line.begins(now + most, most), SLACK / 2);
        assert_eq!(
            line.begins(now + most + IN_LINE, most),
            most,
            "he came later"
        );
        // A line does not go on for ever where one after the other is answered slowly.
        let mut at = now + most;
        while line.begins(at, most) < most {
            line.ended((at, at + IN_LINE), most, false);
            at += IN_LINE;
        }
        assert_eq!(at - now, most + SLACK);
    }
}
