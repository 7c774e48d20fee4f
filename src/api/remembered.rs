//! What the server says of itself and of the account, believed for minutes: it is asked for at each of many files and
//! changes when an administrator or the account's owner changes it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::paths::Paths;
use super::spelling::Spelling;
use super::wire::WireSettings;

/// How long it is believed.
const TTL: Duration = Duration::from_secs(300);

/// One thing that was said, and when.
#[derive(Debug)]
pub(super) struct Said<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Said<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Said<T> {
    /// What was said, while that is believed at `now`.
    pub(super) fn get(&self, now: Instant) -> Option<T> {
        let said = self.0.lock().unwrap();
        let (at, value) = said.as_ref()?;
        (now.saturating_duration_since(*at) < TTL).then(|| value.clone())
    }

    /// It was said at `now`.
    pub(super) fn set(&self, value: T, now: Instant) {
        *self.0.lock().unwrap() = Some((now, value));
    }

    /// It is not so any more.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// All that is remembered so.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The account's settings about versions.
    pub(super) settings: Said<WireSettings>,
    /// How many URIs one call may have.
    pub(super) batch_max: Said<usize>,
    /// Which names the server takes for the same, as long as the process lives.
    pub(super) spelling: Spelling,
    /// What is made and moved.
    pub(super) paths: Paths,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_believed_for_five_minutes_and_not_when_it_is_known_to_be_wrong() {
        let said = Said::default();
        let now = Instant::now();
        assert_eq!(said.get(now), None);
        said.set(7, now);
        assert_eq!(said.get(now + TTL - Duration::from_millis(1)), Some(7));
        assert_eq!(said.get(now + TTL), None);
        said.set(8, now + TTL);
        said.forget();
        assert_eq!(said.get(now + TTL), None);
    }
}
