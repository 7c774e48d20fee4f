//! Sees how long calls take and what they come to, and notes what must not be.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Notes of one kind that are kept; more of it say nothing new.
const NOTED: usize = 40;

/// Shared by all who work, look and kill.
pub(super) struct Watcher {
    /// A call that takes longer is one too long.
    longest: Duration,
    began: Instant,
    seen: Mutex<Seen>,
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// An answer.
    Answer,
    /// All of some content: for that it may wait on while bytes come, however few.
    Content,
}

#[derive(Default)]
struct Seen {
    weather: String,
    /// Since when bytes come slowly, and how long they did before.
    slow_since: Option<Instant>,
    slow_before: Duration,
    /// By what was measured.
    times: BTreeMap<String, Vec<Duration>>,
    /// By errno.
    errors: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Seen {
    /// How long bytes came slowly so far.
    fn slow(&self) -> Duration {
        let now = self.slow_since.map(|since| since.elapsed());
        self.slow_before + now.unwrap_or_default()
    }
}

impl Watcher {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            began: Instant::now(),
            seen: Mutex::default(),
        }
    }

    /// How long it has been watching.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on the weather is so; bytes come slowly, or a few at a time, where it `is_slow`.
    pub(super) fn weather(&self, weather: String, is_slow: bool) {
        let mut seen = self.seen.lock().unwrap();
        seen.weather = weather;
        seen.slow_before = seen.slow();
        seen.slow_since = is_slow.then(Instant::now);
    }

    /// Notes what must not be, with the weather.
    pub(super) fn wrong(&self, what: String) {
        let after = self.began.elapsed();
        let mut seen = self.seen.lock().unwrap();
        let note = format!("after {after:.1?}, {}: {what}", seen.weather);
        if seen.wrong.len() < NOTED {
            seen.wrong.push(note);
        }
    }

    /// Runs a call; nothing where it failed for want of the server. Another error, or to wait too long, must not be.
    pub(super) fn call<T>(
        &self,
        what: &str,
        waits_for: WaitsFor,
        run: impl FnOnce() -> io::Result<T>,
    ) -> Option<T> {
        let slow = || self.seen.lock().unwrap().slow();
        let (began, slow_before) = (Instant::now(), slow());
        let came = run();
        let took = began.elapsed();
        self.took("call", took);
        let longest = match waits_for {
            WaitsFor::Answer => self.longest,
            WaitsFor::Content => self.longest + (slow() - slow_before),
        };
        if took > longest {
            self.wrong(format!("{what} took {took:?}"));
        }
        match came {
            Ok(came) => Some(came),
            Err(err) => {
                if !matches!(err.raw_os_error(), Some(libc::EIO | libc::ETIMEDOUT)) {
                    self.wrong(format!("{what}: {err}"));
                }
                let mut seen = self.seen.lock().unwrap();
                *seen.errors.entry(err.to_string()).or_default() += 1;
                None
            }
        }
    }

    pub(super) fn took(&self, what: &str, took: Duration) {
        let mut seen = self.seen.lock().unwrap();
        seen.times.entry(what.to_owned()).or_default().push(took);
    }

    /// How long `what` took at most in so many of a thousand times.
    pub(super) fn per_mille(&self, what: &str, of_a_thousand: usize) -> Duration {
        let seen = self.seen.lock().unwrap();
        let mut times = seen.times.get(what).cloned().unwrap_or_default();
        times.sort();
        let last = times.len().saturating_sub(1);
        let at = (times.len() * of_a_thousand / 1000).min(last);
        times.get(at).copied().unwrap_or_default()
    }

    /// What was measured, a line for each kind.
    pub(super) fn said(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let counts: Vec<_> = seen
            .times
            .iter()
            .map(|(what, times)| (what.clone(), times.len()))
            .collect();
        let mut said = format!("errors: {:?}\n", seen.errors);
        drop(seen);
        for (what, count) in counts {
            let at = |per_mille| self.per_mille(&what, per_mille);
            said += &format!(
                "{what}: {count} times, p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, at most {:.1?}\n",
                at(500),
                at(990),
                at(999),
                at(1000)
            );
        }
        said
    }

    /// All that must not be.
    pub(super) fn all_wrong(&self) -> Vec<String> {
        self.seen.lock().unwrap().wrong.clone()
    }
}
