//! Notices that the machine has slept: what was known before is looked at again, and whether the server can be reached from
//! where it woke.
//!
//! Beliefs are as old as the clock says that stands still while the machine sleeps, so without this a drive would show for
//! `--metadata-ttl` more what it was before a night.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::api::Api;
use crate::fs::Fs;
use crate::task::Task;
use crate::watch::{Gap, Happening};

/// How often the clocks are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// A shorter sleep is none.
const SHORTEST: Duration = Duration::from_secs(2);

/// How long the server is waited for after waking, before it counts as gone until it answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// The two clocks whose distance is how long the machine has slept since it was started.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// Goes on while the machine sleeps.
    always: Duration,
    /// Stands still then.
    awake: Duration,
}

impl Clocks {
    fn now() -> Self {
        // In this order, so that a pause in between is no sleep.
        let always = read(libc::CLOCK_BOOTTIME);
        let awake = read(libc::CLOCK_MONOTONIC);
        Self { always, awake }
    }

    /// How long the machine slept between `before` and this; none where it did not.
    fn slept_since(self, before: Self) -> Option<Duration> {
        let always = self.always.saturating_sub(before.always);
        let awake = self.awake.saturating_sub(before.awake);
        let slept = always.saturating_sub(awake);
        (slept >= SHORTEST).then_some(slept)
    }
}

/// Through the C library, as std reads its clocks: that is where a test has them jump.
fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[expect(unsafe_code, reason = "std does not read this clock")]
    // SAFETY: it writes to `now` alone, which outlives the call. Linux has both clocks: it cannot fail.
    unsafe {
        libc::clock_gettime(clock, &raw mut now);
    }
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Tells `fs`, and looks for the server behind `api`. Must be called within a runtime.
pub(super) fn watch_for_sleep(fs: &Arc<Fs>, api: &Api) -> Task {
    Task::spawn(look(Arc::downgrade(fs), api.clone()))
}

async fn look(fs: Weak<Fs>, api: Api) {
    let mut before = Clocks::now();
    loop {
        sleep(PERIOD).await;
        let now = Clocks::now();
        let slept = now.slept_since(before);
        before = now;
        let (Some(slept), Some(fs)) = (slept, fs.upgrade()) else {
            continue;
        };
        log::info!("the machine slept for {} s", slept.as_secs());
        fs.others_changed(&Happening::Gap(Gap::Slept));
        drop(fs);
        if timeout(PATIENCE, api.ping()).await.is_err() {
            // What is answered from here on says that it is back.
            api.reach().set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(always: u64, awake: u64) -> Clocks {
        Clocks {
            always: Duration::from_millis(always),
            awake: Duration::from_millis(awake),
        }
    }

    #[test]
    fn the_machine_slept_where_one_clock_went_on_alone() {
        let before = clocks(500_000, 400_000);
        let check = |always: u64, awake: u64, slept: Option<u64>| {
            let now = clocks(500_000 + always, 400_000 + awake);
            assert_eq!(now.slept_since(before), slept.map(Duration::from_millis));
        };
        check(1_000, 1_000, None);
        check(60_000, 60_000, None);
        check(2_900, 1_000, None);
        check(3_000, 1_000, Some(2_000));
        check(28_801_000, 1_000, Some(28_800_000));
        // Read in the wrong order, or set back by somebody.
        check(1_000, 1_001, None);
        assert_eq!(clocks(0, 0).slept_since(before), None);
    }

    #[test]
    fn both_clocks_go_on_while_it_is_awake() {
        let before = Clocks::now();
        let now = Clocks::now();
        assert!(now.always >= before.always && now.awake >= before.awake);
        assert!(before.always > Duration::ZERO && before.awake > Duration::ZERO);
        assert_eq!(now.slept_since(before), None);
    }
}
