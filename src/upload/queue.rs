//! Which file goes next, and when.
//!
//! Rules only: instants come in as arguments, nothing is sent from here. Promises: never more than `transfers` files at
//! once, and one of these places is kept from large files; who waits longest goes first; a failure delays its own file
//! alone, unless one after the other fails at the server, when single files try whether it is well again.

mod line;

use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use line::{Entry, Line};

/// Up to this size a file is small, in bytes: it is sent in no time, and people wait for it.
pub(super) const SMALL_BYTES: u64 = 1 << 20;
/// Delay after the first failure; each later one doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// No file and no server waits longer than this for the next try.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// Between two tries of what is of no use before somebody does something: somebody may have.
const BLOCKED_DELAY: Duration = Duration::from_secs(600);
/// A file that is saved again and again is not put off any longer than so many delays.
const MOST_DELAYS: u32 = 30;
/// So many times the files that are sent at once may be looked for at once: all that were sent together are looked for
/// together, and the next ones go meanwhile.
const LANDING: usize = 4;
/// So many files that fail at the server, with none that goes well between them, are not the files' fault.
const IN_A_ROW: u32 = 2;

/// What a queue holds to.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Quiet time after a file was staged.
    pub(super) delay: Duration,
    /// Files at once, at least one.
    pub(super) transfers: usize,
}

/// What a failure says of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It concerns this file, and may pass.
    File,
    /// The server or the wire: what else is tried now fails, too.
    Server,
    /// It does not pass by itself.
    Blocked,
}

/// How one file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not tried yet.
    Waiting,
    /// On its way.
    Flying,
    /// All of it was sent, and is being looked for at the server.
    Landing,
    /// To be tried again.
    Retrying,
    /// To be tried again, with little hope.
    Blocked,
}

/// The files that are owed, by their numbers.
#[derive(Debug)]
pub(super) struct Queue<K> {
    rules: Rules,
    line: Line<K>,
    /// Who fell one after the other, at the server.
    in_a_row: u32,
    last_fallen: Option<K>,
    /// Until when the server is left alone, where it is.
    pause: Option<Instant>,
    closed: bool,
}

impl<K: Copy + Eq + Hash + Ord> Queue<K> {
    /// An empty one.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            line: Line::default(),
            in_a_row: 0,
            last_fallen: None,
            pause: None,
            closed: false,
        }
    }

    /// It was staged, or staged anew; due after the delay. True where it flies with a content that is older now.
    pub(super) fn staged(&mut self, id: K, size_bytes: u64, now: Instant) -> bool {
        let delay = self.rules.delay;
        let new = Entry::new(size_bytes, now);
        self.line.change_or(id, new, |entry| {
            entry.size_bytes = size_bytes;
            entry.due = (now + delay)
                .min(entry.since + delay * MOST_DELAYS)
                .max(now);
            if entry.is_up() {
                entry.again = true;
                entry.since = now;
                entry.due = now + delay;
                return true;
            }
            entry.stage = Stage::Waiting;
            entry.tries = 0;
            false
        })
    }

    /// It is owed since before; due at once.
    pub(super) fn owed(&mut self, id: K, size_bytes: u64, now: Instant) {
        self.staged(id, size_bytes, now);
        self.line.change(id, |entry| entry.due = now);
    }

    /// Somebody waits for it: it is due now, before all who are not waited for, and also where the server is left alone.
    /// False where it is not owed.
    pub(super) fn urge(&mut self, id: K, now: Instant) -> bool {
        let urged = self.line.change(id, |entry| {
            entry.due = entry.due.min(now);
            entry.urgent = true;
        });
        urged.is_some()
    }

    /// All that failed are due now.
    pub(super) fn wake(&mut self, now: Instant) {
        self.in_a_row = 0;
        self.pause = None;
        for id in self.line.those(Entry::has_failed) {
            self.line.change(id, |entry| entry.due = entry.due.min(now));
        }
    }

    /// It belongs elsewhere now, where what it failed for may not hold: it is due as if it had not been tried.
    pub(super) fn moved(&mut self, id: K, now: Instant) {
        self.line.change(id, |entry| {
            if entry.has_failed() {
                entry.stage = Stage::Waiting;
                entry.tries = 0;
                entry.due = entry.due.min(now);
            }
        });
    }

    /// Lets nothing begin any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The file that is to fly now; it does from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<K> {
        let up = self.line.up();
        let ill = self.in_a_row >= IN_A_ROW;
        let left_alone = ill && self.pause.is_some_and(|pause| pause > now);
        let transfers = self.rules.transfers.max(1);
        let places = if ill { 1 } else { transfers };
        // Who lands takes no place, but the number of these has an end, too.
        if self.closed || up.flying >= places || up.landing >= transfers * LANDING {
            return None;
        }
        let room_for_large = up.large + 1 < places || places == 1;
        let id = {
            let mut due = self.line.due(now, room_for_large);
            let first = match (ill, left_alone) {
                (false, _) => due.next(),
                (true, true) => due.next().filter(|(_, entry)| entry.urgent),
                // Whether the server is well is tried with one that did not fail yet: its failures were of its own, perhaps.
                (true, false) => due.min_by_key(|(id, e)| (!e.urgent, e.tries, e.since, *id)),
            };
            first.map(|(id, _)| id)?
        };
        self.line.change(id, |entry| {
            entry.stage = Stage::Flying;
            entry.again = false;
            entry.urgent = false;
        });
        Some(id)
    }

    /// When something more is due after `now`; what is due already waits for a place.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let pause = self.pause();
        let waits = |entry: &Entry| match pause {
            Some(pause) if !entry.urgent => pause.max(entry.due),
            _ => entry.due,
        };
        let is_kept = |(_, entry): &(K, &Entry)| waits(entry) > now;
        let kept = pause.filter(|_| self.line.due(now, true).any(|entry| is_kept(&entry)));
        let mut first = kept;
        for entry in self.line.later(now) {
            // From here on none is due earlier, whatever the server's state.
            if first.is_some_and(|first| first <= entry.due) {
                break;
            }
            let due = waits(entry);
            first = Some(first.map_or(due, |first| first.min(due)));
        }
        first
    }

    /// All of it was sent: its place is free.
    pub(super) fn sent(&mut self, id: K) {
        self.line.change(id, |entry| {
            if entry.stage == Stage::Flying {
                entry.stage = Stage::Landing;
            }
        });
    }

    /// It is on the server; with `newest`, as it is here.
    pub(super) fn delivered(&mut self, id: K, newest: bool, now: Instant) {
        self.in_a_row = 0;
        self.pause = None;
        self.overtaken(id, !newest, now);
    }

    /// It did not come to an end, since the content changed or somebody held it; with `owed`, it is staged now.
    pub(super) fn overtaken(&mut self, id: K, owed: bool, now: Instant) {
        let stays = self.line.change(id, |entry| {
            if !entry.again {
                entry.due = now;
            }
            let stays = entry.again || owed || entry.holds > 0;
            entry.stage = Stage::Waiting;
            entry.tries = 0;
            entry.again = false;
            stays
        });
        if stays == Some(false) {
            self.line.remove(id);
        }
    }

    /// It failed. `jitter`, from 0 to 1, keeps files and machines from trying in step.
    pub(super) fn failed(&mut self, id: K, fault: Fault, now: Instant, jitter: f64) {
        if fault == Fault::Server {
            if self.last_fallen != Some(id) || self.in_a_row >= IN_A_ROW || self.line.len() == 1 {
                self.in_a_row = self.in_a_row.saturating_add(1);
            }
            self.last_fallen = Some(id);
            let rounds = self.in_a_row.saturating_sub(IN_A_ROW);
            self.pause = Some(now + delay(rounds, jitter));
        } else {
            // The server answered, and not with a sigh.
            self.in_a_row = 0;
            self.pause = None;
        }
        self.line.change(id, |entry| {
            if entry.again {
                entry.stage = Stage::Waiting;
                entry.tries = 0;
                entry.again = false;
                return;
            }
            entry.tries = entry.tries.saturating_add(1);
            (entry.stage, entry.due) = match fault {
                Fault::Blocked => (
                    Stage::Blocked,
                    now + BLOCKED_DELAY.mul_f64(0.9 + jitter.clamp(0.0, 1.0) / 5.0),
                ),
                Fault::File | Fault::Server => {
                    (Stage::Retrying, now + delay(entry.tries - 1, jitter))
                }
            };
        });
    }

    /// Nothing is owed of it any more.
    pub(super) fn forget(&mut self, id: K) {
        if self.line.get(id).is_some_and(|entry| entry.holds == 0) {
            self.line.remove(id);
        }
    }

    /// Keeps it on the ground until as many [`Queue::release`] follow. True where it flies: it is to be stopped.
    pub(super) fn hold(&mut self, id: K, now: Instant) -> bool {
        self.line.change_or(id, Entry::new(0, now), |entry| {
            entry.holds += 1;
            entry.is_up()
        })
    }

    /// One who held it is done; with `owed`, it is staged now.
    pub(super) fn release(&mut self, id: K, owed: bool) {
        let is_done = self.line.change(id, |entry| {
            entry.holds = entry.holds.saturating_sub(1);
            entry.holds == 0 && !owed && !entry.is_up()
        });
        if is_done == Some(true) {
            self.line.remove(id);
        }
    }

    /// How many failed at the server since one last went well.
    pub(super) fn fallen(&self) -> u32 {
        self.in_a_row
    }

    /// Whether it is on its way.
    pub(super) fn is_up(&self, id: K) -> bool {
        self.line.get(id).is_some_and(Entry::is_up)
    }

    /// How it stands, and when it is tried next unless it is under way; none where it is not owed.
    pub(super) fn stage(&self, id: K) -> Option<(Stage, Option<Instant>)> {
        let entry = self.line.get(id)?;
        let due = match self.pause() {
            Some(pause) if !entry.urgent => pause.max(entry.due),
            _ => entry.due,
        };
        Some((entry.stage, (!entry.is_up()).then_some(due)))
    }

    /// Until when the server is left alone, if it is.
    fn pause(&self) -> Option<Instant> {
        self.pause.filter(|_| self.in_a_row >= IN_A_ROW)
    }
}

/// After as many failures before this one: doubled each time, and from a half of that to all of it.
fn delay(failures: u32, jitter: f64) -> Duration {
    let whole = FIRST_DELAY
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_DELAY);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
