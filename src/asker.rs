//! The program that asked, as long as it lives, and as long as it may be kept.
//!
//! A program that is killed stays in its call until that is answered: fuser knows no FUSE_INTERRUPT, by which the kernel
//! would tell. So who answers looks by himself, now and then, whether the one that asked is about to die, and waits for
//! nothing more then. Promises: what nobody asked for waits as long as it likes; what is given up is dropped, so it is to be
//! something that may be dropped at any time.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How often it is looked. With what comes after, who is killed is gone within a second.
const PERIOD: Duration = Duration::from_millis(200);

tokio::task_local! {
    static ASKER: Asker;
    /// Until when it waits at most, for all that is done for it together; none: for each thing as long as that may take.
    static LATEST: Cell<Option<Instant>>;
}

/// A thread in a system call that is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker(Option<u32>);

/// Why something was not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// It took longer than that.
    TooLong,
    /// Who asked for it is killed.
    Killed,
}

impl Asker {
    /// The thread of that number, as the kernel tells it in a request; 0 where there is none, or none that can be seen.
    pub fn thread(number: u32) -> Self {
        Self((number != 0).then_some(number))
    }

    /// `work`, and whatever it waits for by way of this room, is for this one.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        ASKER.scope(self, work)
    }

    /// Waits until it is killed.
    pub async fn killed(self) {
        let Self(Some(number)) = self else {
            return std::future::pending().await;
        };
        loop {
            sleep(PERIOD).await;
            // One that is gone by now did not wait: the kernel reads ahead for it.
            let status = std::fs::read_to_string(format!("/proc/{number}/status"));
            if status.is_ok_and(|status| is_killed(&status)) {
                return;
            }
        }
    }
}

/// Waits for `future`; none where who asked is killed first.
pub async fn unless_killed<F: Future>(future: F) -> Option<F::Output> {
    let asker = ASKER.try_with(|asker| *asker).unwrap_or(Asker(None));
    tokio::select! {
        biased;
        done = future => Some(done),
        () = asker.killed() => None,
    }
}

/// `work`, in which all that is waited for by way of this room is waited for until `latest`: several things one after the
/// other that each take almost as long as they may are no longer than one that takes too long.
pub fn hurried<F: Future>(latest: Instant, work: F) -> impl Future<Output = F::Output> {
    LATEST.scope(Cell::new(Some(latest)), work)
}

/// `work`, which may take its time also where what it is part of is [`hurried`], and whose time does not count there.
pub async fn unhurried<F: Future>(work: F) -> F::Output {
    let began = Instant::now();
    let done = LATEST.scope(Cell::default(), work).await;
    // An error is that of nobody in a hurry.
    let _ = LATEST.try_with(|latest| {
        let took = began.elapsed();
        latest.set(latest.get().map(|latest| latest + took));
    });
    done
}

/// `deadline`, or what is earlier and counts for all that is done for who asked.
pub fn no_later_than(deadline: Instant) -> Instant {
    let latest = LATEST.try_with(Cell::get).unwrap_or_default();
    latest.map_or(deadline, |latest| latest.min(deadline))
}

/// Waits for `future` until `deadline`, or that of the whole, unless who asked is killed first.
pub async fn until<F: Future>(deadline: Instant, future: F) -> Result<F::Output, GaveUp> {
    match timeout_at(no_later_than(deadline), unless_killed(future)).await {
        Ok(Some(done)) => Ok(done),
        Ok(None) => Err(GaveUp::Killed),
        Err(_) => Err(GaveUp::TooLong),
    }
}

/// As [`until`], for as long as `limit`.
pub async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, GaveUp> {
    until(Instant::now() + limit, future).await
}

/// Whether SIGKILL waits for a thread of which /proc says `status`. Every signal that ends a process becomes one, for each
/// of its threads (→ complete_signal in kernel/signal.c).
fn is_killed(status: &str) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let waiting = |line: &str| {
        let signals = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(signals.trim(), 16).ok()
    };
    let mut waiting = status.lines().filter_map(waiting);
    waiting.any(|signals| signals & KILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn one_for_whom_sigkill_waits_is_killed() {
        let status = |own, shared| {
            format!(
                "Name:\tcat\nTgid:\t7\nSigQ:\t1/96000\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{:016x}\n",
                u64::MAX
            )
        };
        assert!(is_killed(&status(0x100, 0)));
        assert!(is_killed(&status(0x4102, 0)));
        assert!(is_killed(&status(0, 0x100)));
        assert!(!is_killed(&status(0, 0)));
        // SIGINT, which it may handle.
        assert!(!is_killed(&status(0x2, 0x2)));
        assert!(!is_killed("SigPnd:\tnonsense\nShdPnd:\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asked_for_waits_its_time_and_so_does_who_lives() {
        let never = std::future::pending::<()>;
        assert_eq!(within(FOR_EVER, never()).await, Err(GaveUp::TooLong));
        let nobody = Asker::thread(0);
        let waited = nobody.scope(within(FOR_EVER, never()));
        assert_eq!(waited.await, Err(GaveUp::TooLong));
        let me = Asker::thread(std::process::id());
        let waited = me.scope(within(Duration::from_secs(60), never()));
        assert_eq!(waited.await, Err(GaveUp::TooLong));
        assert_eq!(me.scope(within(FOR_EVER, async { 7 })).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn three_things_that_each_take_their_time_take_no_longer_than_the_whole_may() {
        let began = Instant::now();
        let slow = || within(Duration::from_secs(3), sleep(Duration::from_secs(2)));
        let never = || within(Duration::from_secs(3), std::future::pending::<()>());
        let all = hurried(began + Duration::from_secs(5), async {
            let leisure = unhurried(async { sleep(Duration::from_secs(20)).await });
            let done = [slow().await, leisure.map(Ok).await, slow().await];
            (done, [never().await, never().await])
        });
        let (done, given_up) = all.await;
        assert_eq!(done, [Ok(()), Ok(()), Ok(())]);
        assert_eq!(given_up, [Err(GaveUp::TooLong), Err(GaveUp::TooLong)]);
        assert_eq!(began.elapsed().as_secs(), 25, "five, and twenty at leisure");
    }
}
