//! What each name has meant, and so what may be seen of it at a moment.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use cloudreve_test_server::generated_bytes;

/// Who changes and looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A mount whose close(2) waits for the server.
    One,
    /// A mount that delivers later.
    Other,
    /// A client of the server's API.
    Client,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    /// With the content of this number.
    File(u64),
    /// With one file in it, of this number.
    Folder(u64),
    /// A folder on its way to be made or removed: nothing is in it.
    Empty,
}

impl Value {
    /// Whether there is content that nothing else has.
    fn is_content(self) -> bool {
        matches!(self, Self::File(_) | Self::Folder(_))
    }
}

/// A name, from now on.
#[derive(Debug, Clone)]
struct Change {
    value: Value,
    /// Older contents of what was renamed to it: its name may be seen before its content is.
    older: Vec<Value>,
    /// What was there before is there from now on.
    went: Option<usize>,
    by: Who,
    /// It may show from then on.
    began: Instant,
    /// Who did it sees it from then on.
    done: Option<Instant>,
    /// The server has it, so that others see it once they were told.
    delivered: Option<Instant>,
}

impl Change {
    /// All that may be seen of it.
    fn values(&self) -> impl Iterator<Item = Value> {
        [self.value].into_iter().chain(self.older.iter().copied())
    }
}

/// What somebody did to names, or saw of them.
pub(super) struct Deed {
    pub(super) who: Who,
    pub(super) names: Vec<usize>,
    /// In words, with what came of it.
    pub(super) what: String,
    /// The content that it is about.
    pub(super) value: Option<Value>,
    pub(super) began: SystemTime,
    pub(super) took: Duration,
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, who) = (clock(self.began), self.who);
        let (what, took) = (&self.what, self.took);
        write!(out, "{at} {who:?}: {what}, took {took:.1?}")
    }
}

/// A moment of this hour, as the daemons' logs have it.
pub(super) fn clock(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let (minute, second) = (since.as_secs() / 60 % 60, since.as_secs() % 60);
    format!("{minute:02}:{second:02}.{:03}", since.subsec_millis())
}

/// All names.
pub(super) struct Histories {
    /// How long after its delivery a change may be unseen by others.
    late: Duration,
    all: Vec<Mutex<Vec<Change>>>,
    /// Whoever changes a name has it alone.
    turns: Vec<Mutex<()>>,
    /// All that was done, for who reads of a failure.
    deeds: Mutex<Vec<Deed>>,
}

impl Histories {
    /// So many names, none of which means anything.
    pub(super) fn new(count: usize, late: Duration) -> Self {
        let now = Instant::now();
        let nothing = Change {
            value: Value::Absent,
            older: Vec::new(),
            went: None,
            by: Who::Client,
            began: now,
            done: Some(now),
            delivered: Some(now),
        };
        Self {
            late,
            all: (0..count)
                .map(|_| Mutex::new(vec![nothing.clone()]))
                .collect(),
            turns: (0..count).map(|_| Mutex::default()).collect(),
            deeds: Mutex::default(),
        }
    }

    fn history(&self, name: usize) -> MutexGuard<'_, Vec<Change>> {
        self.all[name].lock().unwrap()
    }

    /// The right to change a name, and what it means, where `who` must have seen the last change: then it conflicts with
    /// nobody.
    pub(super) fn turn(&self, name: usize, who: Who) -> Option<(MutexGuard<'_, ()>, Value)> {
        let turn = self.turns[name].try_lock().ok()?;
        let history = self.history(name);
        let last = history.last().expect("it has always meant something");
        let seen = last.by == who || self.is_seen(last, who, Instant::now());
        let value = last.value;
        seen.then_some((turn, value))
    }

    fn is_seen(&self, change: &Change, who: Who, at: Instant) -> bool {
        let since = match who {
            _ if change.by == who => change.done,
            // It looks at the server itself.
            Who::Client => change.delivered,
            Who::One | Who::Other => change.delivered.map(|delivered| delivered + self.late),
        };
        since.is_some_and(|since| since <= at)
    }

    /// From now on `name` may be seen to mean `value`.
    pub(super) fn begin(&self, name: usize, value: Value, by: Who) {
        self.add(name, value, Vec::new(), None, by);
    }

    /// From now on `value` may be seen at `to`, and no more at `from`.
    pub(super) fn begin_rename(&self, from: usize, to: usize, value: Value, by: Who) {
        let history = self.history(from);
        let older = history.iter().flat_map(Change::values);
        let older = older.filter(|older| *older != Value::Absent).collect();
        drop(history);
        self.add(to, value, older, None, by);
        self.add(from, Value::Absent, Vec::new(), Some(to), by);
    }

    fn add(&self, name: usize, value: Value, older: Vec<Value>, went: Option<usize>, by: Who) {
        let change = Change {
            value,
            older,
            went,
            by,
            began: Instant::now(),
            done: None,
            delivered: None,
        };
        self.history(name).push(change);
    }

    /// The last change of `name` was done; the server has it, if so.
    pub(super) fn done(&self, name: usize, delivered: bool) {
        let now = Instant::now();
        let mut history = self.history(name);
        let last = history.last_mut().expect("it was begun");
        last.done = Some(now);
        last.delivered = delivered.then_some(now);
    }

    /// The server has all that `who` has done before `since`.
    pub(super) fn delivered(&self, who: Who, since: Instant) {
        let now = Instant::now();
        for history in &self.all {
            for change in history.lock().unwrap().iter_mut() {
                if change.by == who && change.done.is_some_and(|done| done <= since) {
                    change.delivered.get_or_insert(now);
                }
            }
        }
    }

    /// All have seen what each name means: from now on anybody may change it.
    pub(super) fn all_seen(&self) {
        let long_ago = Instant::now() - self.late;
        for history in &self.all {
            let mut history = history.lock().unwrap();
            let mut last = history
                .last()
                .expect("it has always meant something")
                .clone();
            last.older.clear();
            (last.done, last.delivered) = (Some(long_ago), Some(long_ago));
            *history = vec![last];
        }
    }

    /// What `name` means.
    pub(super) fn newest(&self, name: usize) -> Value {
        self.history(name)
            .last()
            .expect("it has always meant something")
            .value
    }

    /// What `who` may have seen of a name who looked between `began` and now.
    pub(super) fn possible(&self, name: usize, who: Who, began: Instant) -> Vec<Value> {
        let history = self.history(name);
        let newest_seen = history
            .iter()
            .rposition(|change| self.is_seen(change, who, began));
        let mut possible: Vec<_> = newest_seen
            .map(|at| history[at].value)
            .into_iter()
            .collect();
        let later = &history[newest_seen.map_or(0, |at| at + 1)..];
        possible.extend(later.iter().flat_map(Change::values));
        possible
    }

    /// What became of files that were behind `name`, where `who` may not have seen yet that they went elsewhere: for a
    /// moment the old name leads to what they are now.
    pub(super) fn heirs(&self, name: usize, who: Who, began: Instant) -> Vec<Value> {
        let history = self.history(name);
        let unseen = |change: &&Change| !self.is_seen(change, who, began);
        let mut went: Vec<_> = history
            .iter()
            .filter(unseen)
            .filter_map(|change| Some((change.went?, change.began)))
            .collect();
        drop(history);
        let (mut heirs, mut at) = (Vec::new(), 0);
        while let Some((name, since)) = went.get(at).copied() {
            at += 1;
            let history = self.history(name);
            // What it came as was noted a moment before it went.
            let newest = history.iter().rposition(|change| change.began <= since);
            for change in &history[newest.unwrap_or(0)..] {
                heirs.extend(change.values());
                let on = change.went.map(|to| (to, change.began));
                went.extend(on.filter(|on| !went.contains(on)));
            }
        }
        heirs.retain(|heir| heir.is_content());
        heirs
    }

    /// How many names there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether `name` changed, for whoever looked between `began` and now.
    pub(super) fn is_moving(&self, name: usize, who: Who, began: Instant) -> bool {
        self.possible(name, who, began).len() > 1
    }

    /// Notes what was done or seen, for who reads of a failure.
    pub(super) fn note(&self, deed: Deed) {
        self.deeds.lock().unwrap().push(deed);
    }

    /// What became of a name lately, and where `found` was, for who reads of a failure.
    pub(super) fn told(&self, name: usize, found: Option<Value>) -> String {
        let ago = |at: Option<Instant>| at.map(|at| format!("{:.1?}", at.elapsed()));
        let history = self.history(name);
        let lately = history.iter().rev().take(6).map(|change| {
            let (began, done) = (ago(Some(change.began)), ago(change.done));
            let delivered = ago(change.delivered);
            format!(
                "\n    {:?} by {:?}: began {began:?}, done {done:?}, delivered {delivered:?} ago",
                change.value, change.by
            )
        });
        let lately: String = lately.collect();
        drop(history);
        let deeds = self.deeds.lock().unwrap();
        let is_about = |deed: &&Deed| {
            let is_of_found = found.is_some_and(|found| {
                found.is_content() && deed.value == Some(found) && !deed.names.contains(&name)
            });
            is_of_found || deed.names.contains(&name)
        };
        let told = deeds.iter().rev().filter(is_about).take(40);
        let told: Vec<_> = told.map(|deed| format!("\n      {deed}")).collect();
        let told: String = told.into_iter().rev().collect();
        format!("{lately}{told}")
    }
}

/// What file `number` holds; its first eight bytes are the number.
pub(super) fn content(number: u64) -> Vec<u8> {
    let size = match number % 23 {
        0 => 300_000,
        other => other * 400,
    };
    let mut content = number.to_le_bytes().to_vec();
    content.extend(generated_bytes(number, 0..size));
    content
}

/// Which file holds this; none where it is no file's content.
pub(super) fn number(found: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(found.get(..8)?.try_into().ok()?);
    (found == content(number)).then_some(number)
}
