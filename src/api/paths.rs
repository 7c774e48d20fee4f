//! What is made or written by its path while that changes.
//!
//! The server makes all that is missing at and above a path to which something is sent (→ api part 1 §8.1). A path may be
//! known from before the file or a folder above got another one by a call of ours: what is sent there then lies in a second
//! file or folder of the old name, which nobody looks for. So neither is asked for while the other is under way, and who
//! comes soon after such a move has to find first what he takes to be there.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Error;
use crate::asker;
use crate::uri::FileUri;

/// How long after a move somebody may have a path from before it: longer than a call and what it waits for take.
const REMEMBERED: Duration = Duration::from_secs(120);
/// Most moves that are remembered, the latest.
const MOST: usize = 256;

/// All that is sent and moved now, and the latest moves.
#[derive(Debug, Default)]
pub(super) struct Paths {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    sending: Vec<(u64, FileUri)>,
    moves: VecDeque<Move>,
    last: u64,
}

#[derive(Debug)]
struct Move {
    number: u64,
    from: FileUri,
    to: FileUri,
    /// Until when it is remembered; none while it is under way.
    until: Option<Instant>,
}

/// Something is sent to a path while this lives.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    paths: &'a Paths,
    number: u64,
}

/// Something is moved while this lives.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    paths: &'a Paths,
    numbers: Vec<u64>,
    is_alone: bool,
}

impl Paths {
    /// Something is to be sent to `uri`: waits until nothing there or above is moved, but no longer than `longest`.
    pub(super) async fn send(&self, uri: &FileUri, longest: Duration) -> Sending<'_> {
        let is_still = |state: &State| {
            let mut moves = state.moves.iter();
            !moves.any(|one| one.until.is_none() && uri.is_within(&one.from))
        };
        self.wait(longest, is_still).await;
        let mut state = self.state.lock().unwrap();
        let number = state.next();
        state.sending.push((number, uri.clone()));
        Sending {
            paths: self,
            number,
        }
    }

    /// Whether what was at `uri` may be elsewhere since a moment ago: that or a folder above was moved.
    pub(super) fn may_have_left(&self, uri: &FileUri) -> bool {
        let mut state = self.state.lock().unwrap();
        state.forget(Instant::now());
        let mut moves = state.moves.iter();
        moves.any(|one| uri.is_within(&one.from))
    }

    /// Where what was at `uri` a moment ago is since all that we moved, unless that was refused.
    pub(super) fn now(&self, uri: &FileUri) -> FileUri {
        let mut state = self.state.lock().unwrap();
        state.forget(Instant::now());
        let moved = |at: FileUri, one: &Move| at.moved(&one.from, &one.to).unwrap_or(at);
        state.moves.iter().fold(uri.clone(), moved)
    }

    /// What is at the first of each of `all` is to be moved to the second: waits until nothing is sent to the first or below,
    /// but no longer than `longest`.
    pub(super) async fn moves(&self, all: &[(FileUri, FileUri)], longest: Duration) -> Moving<'_> {
        let numbers = {
            let mut state = self.state.lock().unwrap();
            let begun = all.iter().map(|(from, to)| state.begin(from, to));
            begun.collect()
        };
        let mut moving = Moving {
            paths: self,
            numbers,
            is_alone: false,
        };
        let is_still = |state: &State| {
            let is_in_one = |uri: &FileUri| all.iter().any(|(from, _)| uri.is_within(from));
            !state.sending.iter().any(|(_, uri)| is_in_one(uri))
        };
        moving.is_alone = self.wait(longest, is_still).await;
        moving
    }

    /// Whether it came to be so.
    async fn wait(&self, longest: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + longest;
        loop {
            let ended = self.ended.notified();
            if is_so(&self.state.lock().unwrap()) {
                return true;
            }
            if asker::until(until, ended).await.is_err() {
                return false;
            }
        }
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn begin(&mut self, from: &FileUri, to: &FileUri) -> u64 {
        let number = self.next();
        self.moves.push_back(Move {
            number,
            from: from.clone(),
            to: to.clone(),
            until: None,
        });
        if self.moves.len() > MOST {
            self.moves.pop_front();
        }
        number
    }

    fn forget(&mut self, now: Instant) {
        let is_of_use = |one: &Move| one.until.is_none_or(|until| until > now);
        self.moves.retain(is_of_use);
    }
}

impl Moving<'_> {
    /// Whether nothing is sent to what is moved, or below it.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// It came to `answer`. Where that is of nothing that was done, it is as if nobody had asked for it.
    pub(super) fn ended<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        let is_known = !matches!(
            answer,
            Ok(_)
                | Err(Error::Transport { .. }
                    | Error::Timeout(_)
                    | Error::Trouble { .. }
                    | Error::Interrupted)
        );
        if is_known {
            let mut state = self.paths.state.lock().unwrap();
            state
                .moves
                .retain(|one| !self.numbers.contains(&one.number));
        }
        answer
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let until = Some(Instant::now() + REMEMBERED);
        let mut state = self.paths.state.lock().unwrap();
        for one in &mut state.moves {
            if self.numbers.contains(&one.number) {
                one.until = until;
            }
        }
        drop(state);
        self.paths.ended.notify_waiters();
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut state = self.paths.state.lock().unwrap();
        state.sending.retain(|(number, _)| *number != self.number);
        drop(state);
        self.paths.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn uri(text: &str) -> FileUri {
        FileUri::parse_wire(&format!("cloudreve://my/{text}")).unwrap()
    }

    fn to_b(from: &str) -> (FileUri, FileUri) {
        (uri(from), uri("b"))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_below_a_folder_and_its_move_wait_for_each_other_and_others_do_not() {
        let paths = Paths::default();
        let moving = paths.moves(&[to_b("a")], LONG).await;
        let began = Instant::now();
        drop(paths.send(&uri("ab/c"), LONG).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let below = async {
            drop(paths.send(&uri("a/b"), LONG).await);
            Instant::now()
        };
        let ends = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            moving.ended(Ok(())).unwrap();
            Instant::now()
        };
        let (sent, ended) = tokio::join!(below, ends);
        assert!(sent >= ended);
        let sending = paths.send(&uri("a/b"), LONG).await;
        let moved = async {
            drop(paths.moves(&[to_b("c"), to_b("a")], LONG).await);
            Instant::now()
        };
        let ends = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(sending);
            Instant::now()
        };
        let (moved, ended) = tokio::join!(moved, ends);
        assert!(moved >= ended);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_waited_for_too_long_is_passed_by() {
        let paths = Paths::default();
        let began = Instant::now();
        let _moving = paths.moves(&[to_b("a")], LONG).await;
        let _sending = paths.send(&uri("a"), LONG).await;
        assert_eq!(began.elapsed(), LONG);
        let _again = paths.moves(&[to_b("a")], LONG).await;
        assert_eq!(began.elapsed(), 2 * LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_he_may_for_all_that_is_done_for_him() {
        let paths = Paths::default();
        let _moving = paths.moves(&[to_b("a")], LONG).await;
        let (began, most, below) = (Instant::now(), Duration::from_secs(2), uri("a/b"));
        let sent = paths.send(&below, LONG);
        drop(asker::hurried(began + most, sent).await);
        assert_eq!(began.elapsed(), most);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_is_remembered_for_a_while_unless_it_was_refused() {
        let paths = Paths::default();
        for (from, answer) in [
            ("done", Ok(())),
            ("lost", Err(Error::Timeout(LONG))),
            ("refused", Err(Error::Exists)),
        ] {
            drop(paths.moves(&[to_b(from)], LONG).await.ended(answer));
        }
        for (past, doubted) in [
            (Duration::ZERO, [true, true, false]),
            (REMEMBERED, [false; 3]),
        ] {
            tokio::time::advance(past).await;
            for (from, has_left) in ["done", "lost", "refused"].into_iter().zip(doubted) {
                let below = uri(&format!("{from}/x"));
                assert_eq!(
                    paths.may_have_left(&below),
                    has_left,
                    "{from} after {past:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn what_lies_below_is_where_all_moves_brought_it() {
        let paths = Paths::default();
        for (from, to) in [("a", "c"), ("x", "y"), ("c/d", "e")] {
            drop(paths.moves(&[(uri(from), uri(to))], LONG).await);
        }
        for (before, now) in [("a/f", "c/f"), ("a/d/f", "e/f"), ("x", "y"), ("ab", "ab")] {
            assert_eq!(paths.now(&uri(before)), uri(now), "{before}");
        }
    }
}
