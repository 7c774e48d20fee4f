//! What each name has meant, and each file had in it, and so how old what is seen of it is.
//!
//! An old name leads to the newest content of its file: the two are as old as they are by themselves.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    /// On its way to its first content, which a server may show.
    Empty,
    /// The file of this number, wherever it was before, or the content of this number.
    File(u64),
}

impl Value {
    pub(super) fn is_there(self) -> bool {
        self != Self::Absent
    }
}

/// A name, from now on.
#[derive(Debug, Clone, Copy)]
struct Change {
    value: Value,
    /// It may show from then on.
    began: Instant,
    /// From then on the server has nothing older.
    done: Option<Instant>,
}

/// All names of one folder, or all files.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<BTreeMap<String, Vec<Change>>>);

impl History {
    /// From now on `name` may be seen to mean `value`.
    pub(super) fn begin(&self, name: &str, value: Value) {
        let began = Instant::now();
        let mut names = self.0.lock().unwrap();
        let changes = names.entry(name.to_owned()).or_insert_with(|| {
            vec![Change {
                value: Value::Absent,
                began,
                done: Some(began),
            }]
        });
        let is_new = !changes.last().is_some_and(|last| last.value.is_there());
        let first = (is_new && value.is_there()).then_some(Value::Empty);
        let values = first.into_iter().chain([value]);
        changes.extend(values.map(|value| Change {
            value,
            began,
            done: None,
        }));
    }

    /// The last change of `name` was done.
    pub(super) fn done(&self, name: &str) {
        let now = Instant::now();
        let mut names = self.0.lock().unwrap();
        let changes = names.get_mut(name).expect("it was begun").iter_mut();
        changes.for_each(|change| {
            change.done.get_or_insert(now);
        });
    }

    /// What each name means now.
    pub(super) fn newest(&self) -> Vec<(String, Value)> {
        let names = self.0.lock().unwrap();
        let newest = names.iter().filter_map(|(name, changes)| {
            let last = changes.last()?;
            Some((name.clone(), last.value))
        });
        newest.collect()
    }

    /// For how long `name` had meant something else when it was looked at from `began` to `over` and seen to be such as `is`
    /// says. None where it never was.
    pub(super) fn age(
        &self,
        name: &str,
        is: impl Fn(Value) -> bool,
        (began, over): (Instant, Instant),
    ) -> Option<Duration> {
        let names = self.0.lock().unwrap();
        let Some(changes) = names.get(name) else {
            return is(Value::Absent).then_some(Duration::ZERO);
        };
        let seen = changes.iter().enumerate().filter_map(|(index, change)| {
            let replaced = changes.get(index + 1).and_then(|next| next.done);
            let age = replaced.map_or(Duration::ZERO, |at| began.saturating_duration_since(at));
            (is(change.value) && change.began <= over).then_some(age)
        });
        seen.min()
    }

    /// What `name` has meant, for who has to find out why something else was seen.
    pub(super) fn told(&self, name: &str, at: Instant) -> String {
        let names = self.0.lock().unwrap();
        let changes = names.get(name).into_iter().flatten();
        let told = changes.map(|change| {
            let ago = |moment: Instant| at.saturating_duration_since(moment).as_secs_f64();
            let (began, done) = (ago(change.began), change.done.map(ago));
            format!("{:?} {began:.2}..{done:.2?} s before", change.value)
        });
        told.collect::<Vec<_>>().join(", ")
    }
}
