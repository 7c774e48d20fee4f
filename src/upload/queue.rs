//! Which file goes next, and when.
//!
//! Rules only: instants come in as arguments, nothing is sent from here. Promises: never more than `transfers` files at
//! once, and one of these places is kept from large files; who waits longest goes first; a failure delays its own file
//! alone, unless one after the other fails at the server, when single files try whether it is well again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

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

#[derive(Debug)]
struct Entry {
    stage: Stage,
    size_bytes: u64,
    /// When it was staged first of all the times that no upload saw.
    since: Instant,
    due: Instant,
    tries: u32,
    /// Who wants it left alone.
    holds: u32,
    /// It was staged anew while it flew.
    again: bool,
    /// Somebody waits for what the next try gives.
    urgent: bool,
}

/// The files that are owed, by their numbers.
#[derive(Debug)]
pub(super) struct Queue<K> {
    rules: Rules,
    entries: HashMap<K, Entry>,
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
            entries: HashMap::new(),
            in_a_row: 0,
            last_fallen: None,
            pause: None,
            closed: false,
        }
    }

    /// It was staged, or staged anew; due after the delay. True where it flies with a content that is older now.
    pub(super) fn staged(&mut self, id: K, size_bytes: u64, now: Instant) -> bool {
        let delay = self.rules.delay;
        let entry = self.entries.entry(id).or_insert(Entry {
            stage: Stage::Waiting,
            size_bytes,
            since: now,
            due: now,
            tries: 0,
            holds: 0,
            again: false,
            urgent: false,
        });
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
    }

    /// It is owed since before; due at once.
    pub(super) fn owed(&mut self, id: K, size_bytes: u64, now: Instant) {
        self.staged(id, size_bytes, now);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.due = now;
        }
    }

    /// Somebody waits for it: it is due now, before all who are not waited for, and also where the server is left alone.
    /// False where it is not owed.
    pub(super) fn urge(&mut self, id: K, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else {
            return false;
        };
        entry.due = entry.due.min(now);
        entry.urgent = true;
        true
    }

    /// All that failed are due now.
    pub(super) fn wake(&mut self, now: Instant) {
        self.in_a_row = 0;
        self.pause = None;
        for entry in self.entries.values_mut() {
            if matches!(entry.stage, Stage::Retrying | Stage::Blocked) {
                entry.due = entry.due.min(now);
            }
        }
    }

    /// It belongs elsewhere now, where what it failed for may not hold: it is due as if it had not been tried.
    pub(super) fn moved(&mut self, id: K, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id)
            && matches!(entry.stage, Stage::Retrying | Stage::Blocked)
        {
            entry.stage = Stage::Waiting;
            entry.tries = 0;
            entry.due = entry.due.min(now);
        }
    }

    /// Lets nothing begin any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The file that is to fly now; it does from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<K> {
        let up = |stage| self.entries.values().filter(move |e| e.stage == stage);
        let flying = up(Stage::Flying).count();
        let large = up(Stage::Flying).filter(|e| !e.is_small()).count();
        let landing = up(Stage::Landing).count();
        let ill = self.in_a_row >= IN_A_ROW;
        let left_alone = ill && self.pause.is_some_and(|pause| pause > now);
        let places = if ill { 1 } else { self.rules.transfers.max(1) };
        // Who lands takes no place, but the number of these has an end, too.
        if self.closed || flying >= places || landing >= self.rules.transfers.max(1) {
            return None;
        }
        let room_for_large = large + 1 < places || places == 1;
        let (id, entry) = self
            .entries
            .iter_mut()
            .filter(|(_, e)| e.is_ready(now) && (room_for_large || e.is_small()))
            .filter(|(_, e)| e.urgent || !left_alone)
            // Whether the server is well is tried with one that did not fail yet: its failures were of its own, perhaps.
            .min_by_key(|(id, e)| (!e.urgent, if ill { e.tries } else { 0 }, e.since, **id))?;
        entry.stage = Stage::Flying;
        entry.again = false;
        entry.urgent = false;
        Some(*id)
    }

    /// When something more is due after `now`; what is due already waits for a place.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let waiting = self
            .entries
            .values()
            .filter(|entry| !entry.is_up() && entry.holds == 0);
        let due = waiting.map(|entry| self.due(entry));
        due.filter(|due| *due > now).min()
    }

    /// All of it was sent: its place is free.
    pub(super) fn sent(&mut self, id: K) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.stage == Stage::Flying
        {
            entry.stage = Stage::Landing;
        }
    }

    /// It is on the server; with `newest`, as it is here.
    pub(super) fn delivered(&mut self, id: K, newest: bool, now: Instant) {
        self.in_a_row = 0;
        self.pause = None;
        self.overtaken(id, !newest, now);
    }

    /// It did not come to an end, since the content changed or somebody held it; with `owed`, it is staged now.
    pub(super) fn overtaken(&mut self, id: K, owed: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.again || owed || entry.holds > 0 {
            if !entry.again {
                entry.due = now;
            }
            entry.stage = Stage::Waiting;
            entry.tries = 0;
            entry.again = false;
        } else {
            self.entries.remove(&id);
        }
    }

    /// It failed. `jitter`, from 0 to 1, keeps files and machines from trying in step.
    pub(super) fn failed(&mut self, id: K, fault: Fault, now: Instant, jitter: f64) {
        if fault == Fault::Server {
            if self.last_fallen != Some(id) || self.in_a_row >= IN_A_ROW || self.entries.len() == 1
            {
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
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
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
            Fault::File | Fault::Server => (Stage::Retrying, now + delay(entry.tries - 1, jitter)),
        };
    }

    /// Nothing is owed of it any more.
    pub(super) fn forget(&mut self, id: K) {
        if self.entries.get(&id).is_some_and(|entry| entry.holds == 0) {
            self.entries.remove(&id);
        }
    }

    /// Keeps it on the ground until as many [`Queue::release`] follow. True where it flies: it is to be stopped.
    pub(super) fn hold(&mut self, id: K, now: Instant) -> bool {
        let entry = self.entries.entry(id).or_insert(Entry {
            stage: Stage::Waiting,
            size_bytes: 0,
            since: now,
            due: now,
            tries: 0,
            holds: 0,
            again: false,
            urgent: false,
        });
        entry.holds += 1;
        entry.is_up()
    }

    /// One who held it is done; with `owed`, it is staged now.
    pub(super) fn release(&mut self, id: K, owed: bool) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds == 0 && !owed && !entry.is_up() {
            self.entries.remove(&id);
        }
    }

    /// How many failed at the server since one last went well.
    pub(super) fn fallen(&self) -> u32 {
        self.in_a_row
    }

    /// Whether it is on its way.
    pub(super) fn is_up(&self, id: K) -> bool {
        self.entries.get(&id).is_some_and(Entry::is_up)
    }

    /// How it stands, and when it is tried next unless it is under way; none where it is not owed.
    pub(super) fn stage(&self, id: K) -> Option<(Stage, Option<Instant>)> {
        let entry = self.entries.get(&id)?;
        Some((entry.stage, (!entry.is_up()).then(|| self.due(entry))))
    }

    fn due(&self, entry: &Entry) -> Instant {
        match self.pause {
            Some(pause) if self.in_a_row >= IN_A_ROW && !entry.urgent => pause.max(entry.due),
            _ => entry.due,
        }
    }
}

impl Entry {
    fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Flying | Stage::Landing)
    }

    fn is_small(&self) -> bool {
        self.size_bytes <= SMALL_BYTES
    }

    fn is_ready(&self, now: Instant) -> bool {
        !self.is_up() && self.holds == 0 && self.due <= now
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
mod tests {
    use super::*;

    const LARGE: u64 = SMALL_BYTES + 1;

    fn queue(transfers: usize) -> (Queue<u32>, Instant) {
        let rules = Rules {
            delay: Duration::from_secs(1),
            transfers,
        };
        (Queue::new(rules), Instant::now())
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn many_saves_within_the_delay_are_one_upload() {
        let (mut queue, start) = queue(8);
        for save in 0..10 {
            queue.staged(1, 10, after(start, save * 100));
        }
        assert_eq!(queue.next(after(start, 1800)), None);
        assert_eq!(queue.next_due(start), Some(after(start, 1900)));
        assert_eq!(queue.next(after(start, 1900)), Some(1));
        assert_eq!(queue.next(after(start, 9000)), None);
    }

    #[test]
    fn a_file_that_is_saved_without_end_is_uploaded_now_and_then() {
        let (mut queue, start) = queue(8);
        let begun = (0..100)
            .map(|half| after(start, half * 500))
            .find(|now| {
                queue.staged(1, 10, *now);
                queue.next(*now).is_some()
            })
            .expect("begins at last");
        assert_eq!(begun, after(start, 30_000));
    }

    #[test]
    fn what_failed_under_one_name_is_due_under_another() {
        let (mut queue, start) = queue(8);
        queue.owed(1, 10, start);
        assert_eq!(queue.next(start), Some(1));
        queue.failed(1, Fault::Blocked, start, 0.5);
        assert_eq!(queue.next(after(start, 5000)), None);
        queue.hold(1, after(start, 5000));
        queue.moved(1, after(start, 5000));
        assert_eq!(queue.next(after(start, 5000)), None, "still held");
        queue.release(1, true);
        assert_eq!(queue.next(after(start, 5000)), Some(1));
    }

    #[test]
    fn the_oldest_goes_first_and_no_more_than_allowed_at_once() {
        let (mut queue, start) = queue(2);
        for id in [3, 1, 2] {
            queue.staged(id, 10, after(start, u64::from(id)));
        }
        let now = after(start, 5000);
        assert_eq!(queue.next(now), Some(1));
        assert_eq!(queue.next(now), Some(2));
        assert_eq!(queue.next(now), None);
        queue.sent(1);
        assert_eq!(queue.next(now), Some(3), "who lands takes no place");
    }

    #[test]
    fn one_place_is_kept_for_small_files() {
        let (mut queue, start) = queue(3);
        for id in 0..5 {
            queue.owed(id, LARGE, start);
        }
        assert!(queue.next(start).is_some());
        assert!(queue.next(start).is_some());
        assert_eq!(queue.next(start), None);
        queue.owed(9, SMALL_BYTES, after(start, 1));
        assert_eq!(queue.next(after(start, 1)), Some(9));
    }

    #[test]
    fn with_one_place_large_files_go_too() {
        let (mut queue, start) = queue(1);
        queue.owed(1, LARGE, start);
        assert_eq!(queue.next(start), Some(1));
    }

    #[test]
    fn a_failure_delays_its_own_file_longer_each_time() {
        let (mut queue, start) = queue(8);
        queue.owed(1, 10, start);
        let mut now = start;
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(queue.next(now), Some(1));
            queue.failed(1, Fault::File, now, 1.0);
            let due = queue.next_due(now).expect("tried again");
            assert_eq!((due - now).as_secs(), expected);
            now = due;
        }
        queue.failed(1, Fault::File, now, 0.0);
        assert_eq!((queue.next_due(now).expect("again") - now).as_secs(), 150);
    }

    #[test]
    fn a_failing_file_does_not_stop_the_others() {
        let (mut queue, start) = queue(1);
        queue.owed(1, 10, start);
        queue.owed(2, 10, after(start, 1));
        let now = after(start, 10);
        assert_eq!(queue.next(now), Some(1));
        queue.failed(1, Fault::Blocked, now, 0.5);
        assert_eq!(queue.next(now), Some(2));
        assert_eq!(queue.stage(1).expect("owed").0, Stage::Blocked);
    }

    #[test]
    fn a_server_that_fails_one_file_after_the_other_is_asked_by_one_alone() {
        let (mut queue, start) = queue(4);
        for id in 0..10 {
            queue.owed(id, 10, start);
        }
        let up: Vec<u32> = std::iter::from_fn(|| queue.next(start)).collect();
        assert_eq!(up.len(), 4);
        for id in &up {
            queue.failed(*id, Fault::Server, start, 1.0);
        }
        assert_eq!(queue.next(start), None);
        let probe = queue.next_due(start).expect("a probe");
        let first = queue.next(probe).expect("one");
        assert!(!up.contains(&first), "another one than those that failed");
        assert_eq!(queue.next(probe), None);
        queue.failed(first, Fault::Server, probe, 1.0);
        let later = queue.next_due(probe).expect("another probe");
        assert!(later - probe > probe - start, "and less and less often");
        let second = queue.next(later).expect("one");
        queue.delivered(second, true, later);
        assert_eq!(std::iter::from_fn(|| queue.next(later)).count(), 4);
    }

    #[test]
    fn one_file_that_the_server_chokes_on_is_no_sign_that_it_is_ill() {
        let (mut queue, start) = queue(4);
        queue.owed(1, 10, start);
        queue.owed(2, 10, start);
        queue.owed(3, 10, start);
        let mut now = start;
        for _ in 0..3 {
            while queue.next(now) != Some(1) {
                now += Duration::from_secs(1);
            }
            queue.failed(1, Fault::Server, now, 1.0);
        }
        queue.owed(4, 10, now);
        queue.delivered(2, true, now);
        assert!(queue.next(now).is_some());
    }

    #[test]
    fn a_sign_of_life_makes_all_that_failed_due() {
        let (mut queue, start) = queue(4);
        for id in 0..4 {
            queue.owed(id, 10, start);
            queue.next(start);
        }
        for id in 0..3 {
            queue.failed(id, Fault::Server, start, 1.0);
        }
        queue.failed(3, Fault::Blocked, start, 1.0);
        queue.wake(start);
        assert_eq!(std::iter::from_fn(|| queue.next(start)).count(), 4);
    }

    #[test]
    fn who_is_waited_for_goes_first_and_also_where_the_server_is_left_alone() {
        let (mut queue, start) = queue(1);
        for id in 0..4 {
            queue.owed(id, 10, start);
        }
        assert!(queue.urge(2, start));
        assert_eq!(queue.next(start), Some(2));
        queue.failed(2, Fault::Server, start, 1.0);
        assert_eq!(queue.next(start), Some(0));
        queue.failed(0, Fault::Server, start, 1.0);
        assert_eq!(queue.next(start), None);
        queue.urge(2, start);
        assert_eq!(queue.next(start), Some(2));
        assert!(!queue.urge(77, start));
    }

    #[test]
    fn what_is_staged_while_it_flies_flies_again_after_the_delay() {
        let (mut queue, start) = queue(4);
        queue.owed(1, 10, start);
        assert_eq!(queue.next(start), Some(1));
        assert!(queue.staged(1, 20, after(start, 100)));
        queue.overtaken(1, true, after(start, 200));
        assert_eq!(queue.next(after(start, 1000)), None);
        assert_eq!(queue.next(after(start, 1100)), Some(1));
        queue.delivered(1, true, after(start, 1200));
        assert_eq!(queue.stage(1), None);
    }

    #[test]
    fn what_is_held_stays_on_the_ground_until_all_have_let_go() {
        let (mut queue, start) = queue(4);
        queue.owed(1, 10, start);
        assert!(!queue.hold(1, start));
        assert!(!queue.hold(1, start));
        assert_eq!(queue.next(start), None);
        queue.release(1, true);
        assert_eq!(queue.next(start), None);
        queue.release(1, true);
        assert_eq!(queue.next(start), Some(1));
        assert!(queue.hold(1, start), "it flies, and is to be stopped");
        queue.overtaken(1, true, start);
        assert_eq!(queue.next(start), None);
        queue.release(1, false);
        assert_eq!(queue.stage(1), None);
    }

    #[test]
    fn nothing_begins_after_the_end() {
        let (mut queue, start) = queue(4);
        queue.owed(1, 10, start);
        queue.close();
        assert_eq!(queue.next(start), None);
    }
}
