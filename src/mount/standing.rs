//! How a mount stands with its server, its account and its share, in words: each trouble has a state and a next step.
//!
//! Arithmetic and sentences: no room is asked.

use std::time::{Duration, SystemTime};

use crate::api::Health;
use crate::cli::values::{show_moment, show_size};
use crate::model::Capacity;
use crate::watch::{self, State};

/// From here on a wrong clock is worth a word: signed URLs and tokens live by it.
const SKEW_WORTH_TELLING_SECONDS: i64 = 120;

/// A server that takes so long for small answers is slow.
const SLOW: Duration = Duration::from_secs(2);

/// A stream that is lost for so long is not back in a moment.
const STREAM_GRACE: Duration = Duration::from_secs(10);

/// What the share of a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// There.
    There,
    /// Revoked, expired, or its file is deleted.
    Gone,
    /// It wants another password than it was given.
    Locked,
}

/// All that is known.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) health: Health,
    pub(super) anonymous: bool,
    /// The stream of events, if one is followed.
    pub(super) stream: Option<watch::Health>,
    pub(super) capacity: Option<Capacity>,
    /// None where the mount is of no share, or nobody knows.
    pub(super) share: Option<Share>,
    /// Where the server fails this account: whether it answers others.
    pub(super) serves_others: Option<bool>,
    pub(super) now: SystemTime,
}

impl Standing {
    /// Whether the server answers others, and to this account only that it is in trouble.
    fn is_refused(&self) -> bool {
        let fails = self.health.failing.is_some() && self.serves_others == Some(true);
        self.health.is_refused || fails
    }

    /// Since when the stream of events is lost, if that is no matter of a moment.
    fn stream_lost(&self) -> Option<SystemTime> {
        let stream = self.stream.as_ref()?;
        let State::Lost(_) = stream.state else {
            return None;
        };
        let age = self.now.duration_since(stream.since).unwrap_or_default();
        (age >= STREAM_GRACE).then_some(stream.since)
    }

    fn is_slow(&self) -> Option<Duration> {
        self.health.pace.filter(|pace| *pace >= SLOW)
    }

    /// `online`, `degraded`, `offline`; and since when, if that is known.
    pub(super) fn server(&self) -> (&'static str, Option<SystemTime>) {
        let health = &self.health;
        if let Some(since) = health.unreachable_since {
            return ("offline", Some(since));
        }
        if let Some(failing) = health.failing {
            return ("degraded", Some(failing.since));
        }
        let stream = self.stream_lost();
        match stream.is_some() || self.is_slow().is_some() || health.last_error.is_some() {
            true => ("degraded", stream),
            false => ("online", None),
        }
    }

    /// `signed_in`, `anonymous`, `signed_out`, `refused`.
    pub(super) fn account(&self) -> &'static str {
        match &self.health.signed_out {
            _ if self.anonymous => "anonymous",
            _ if self.is_refused() => "refused",
            Some(_) => "signed_out",
            None => "signed_in",
        }
    }

    /// `there`, `gone`, `locked`; none where the mount is of no share.
    pub(super) fn share(&self) -> Option<&'static str> {
        self.share.map(|share| match share {
            Share::There => "there",
            Share::Gone => "gone",
            Share::Locked => "locked",
        })
    }

    /// What a person should do, most important first; empty where all is well.
    pub(super) fn next_steps(&self) -> Vec<String> {
        let health = &self.health;
        let mut steps = Vec::new();
        steps.extend(health.signed_out.clone());
        if let Some(since) = health.unreachable_since {
            steps.push(format!(
                "the server has not been reached since {}: check the network; what is in memory is still served",
                show_moment(since)
            ));
        } else if let Some(failing) = health.failing {
            steps.push(self.failing(show_moment(failing.since)));
        }
        match self.share {
            Some(Share::Gone) => steps.push(
                "the share was revoked or has expired: ask who shared it for a new link, and mount that".to_owned(),
            ),
            Some(Share::Locked) => steps.push(
                "the share has another password by now: ask who shared it, and mount it with that".to_owned(),
            ),
            Some(Share::There) | None => {}
        }
        steps.extend(self.capacity.and_then(full));
        if health.unreachable_since.is_none() {
            steps.extend(self.is_slow().map(|pace| {
                format!(
                    "the server takes {} s for small answers: look what keeps it or the network busy",
                    pace.as_secs()
                )
            }));
            steps.extend(self.stream_lost().map(|since| {
                format!(
                    "what others change shows late since {}, for the stream of events is lost: 'cloudreve-fuse doctor' says whether a proxy stops it",
                    show_moment(since)
                )
            }));
        }
        let skew = health.clock_skew_seconds;
        if skew.abs() >= SKEW_WORTH_TELLING_SECONDS {
            let side = if skew > 0 { "behind" } else { "ahead of" };
            steps.push(format!(
                "this machine's clock is {} s {side} the server's: set it (timedatectl set-ntp true)",
                skew.abs()
            ));
        }
        steps
    }

    /// What to do about what failed last, where nothing else is to be done.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.health.last_error.as_ref().map(|_| {
            "the last failure is some minutes old at most: if it comes again, 'cloudreve-fuse doctor' looks for the cause".to_owned()
        })
    }

    fn failing(&self, since: String) -> String {
        match self.serves_others {
            Some(true) => format!(
                "the server answers others, and not this account since {since}: it was banned or deleted; ask the server's administrator"
            ),
            Some(false) | None => format!(
                "the server answers that it is in trouble since {since}: if that lasts, its administrator has to restart it; what is in memory is still served"
            ),
        }
    }
}

/// What to do where the account's storage is used up.
fn full(capacity: Capacity) -> Option<String> {
    let Capacity {
        total_bytes,
        used_bytes,
    } = capacity;
    (used_bytes >= total_bytes).then(|| {
        format!(
            "the account's storage is used up, {} of {}: make room on the server (the trash and old versions count, too); what is written meanwhile is kept here",
            show_size(used_bytes),
            show_size(total_bytes)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Failing;

    fn standing() -> Standing {
        Standing {
            health: Health {
                signed_out: None,
                is_refused: false,
                unreachable_since: None,
                failing: None,
                pace: Some(Duration::from_millis(20)),
                last_error: None,
                clock_skew_seconds: 0,
                requests: 1,
            },
            anonymous: false,
            stream: None,
            capacity: Some(Capacity {
                total_bytes: 2,
                used_bytes: 1,
            }),
            share: None,
            serves_others: None,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(3600),
        }
    }

    /// What a standing is that `change` was made to: server, account, and its only step has `word` in it.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Standing), server: &str, account: &str, word: &str) {
        let mut standing = standing();
        change(&mut standing);
        assert_eq!((standing.server().0, standing.account()), (server, account));
        let steps = standing.next_steps();
        assert!(steps.len() == 1 && steps[0].contains(word), "{steps:?}");
    }

    const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

    fn lost(since: SystemTime) -> Option<watch::Health> {
        Some(watch::Health {
            state: State::Lost("cut".into()),
            since,
            last_sign: None,
            changes: 0,
            gaps: 0,
        })
    }

    #[test]
    fn a_mount_in_good_order_has_nothing_to_say() {
        let good = standing();
        assert_eq!(good.next_steps(), Vec::<String>::new());
        assert_eq!(
            (good.server(), good.account()),
            (("online", None), "signed_in")
        );
        let anonymous = Standing {
            anonymous: true,
            ..good
        };
        assert_eq!(anonymous.account(), "anonymous");
    }

    #[test]
    fn each_trouble_has_its_state_and_its_step() {
        let failing = Some(Failing {
            since: LONG_AGO,
            code: 50001,
        });
        let out = |s: &mut Standing| s.health.signed_out = Some("sign in again".into());
        check(out, "online", "signed_out", "sign in again");
        let gone = |s: &mut Standing| s.health.unreachable_since = Some(LONG_AGO);
        check(gone, "offline", "signed_in", "1970-01-01T00:00:00Z");
        let ill = |s: &mut Standing| s.health.failing = failing;
        check(ill, "degraded", "signed_in", "restart it");
        let banned = |s: &mut Standing| {
            s.health.failing = failing;
            s.serves_others = Some(true);
        };
        check(banned, "degraded", "refused", "administrator");
        let slow = |s: &mut Standing| s.health.pace = Some(Duration::from_secs(7));
        check(slow, "degraded", "signed_in", "takes 7 s");
        let silent = |s: &mut Standing| s.stream = lost(LONG_AGO);
        check(silent, "degraded", "signed_in", "stream of events");
        let revoked = |s: &mut Standing| s.share = Some(Share::Gone);
        check(revoked, "online", "signed_in", "new link");
        let locked = |s: &mut Standing| s.share = Some(Share::Locked);
        check(locked, "online", "signed_in", "password");
        let full = |s: &mut Standing| s.capacity.as_mut().unwrap().used_bytes = 2;
        check(full, "online", "signed_in", "2 B of 2 B");
        let early = |s: &mut Standing| s.health.clock_skew_seconds = -300;
        check(early, "online", "signed_in", "300 s ahead of");
    }

    #[test]
    fn what_passes_in_a_moment_is_no_trouble() {
        let mut standing = standing();
        standing.stream = lost(standing.now - Duration::from_secs(1));
        assert_eq!(standing.server().0, "online");
        assert_eq!(standing.next_steps(), Vec::<String>::new());
    }

    #[test]
    fn the_most_important_trouble_comes_first() {
        let mut bad = standing();
        bad.health.signed_out = Some("sign in again".into());
        bad.health.unreachable_since = Some(LONG_AGO);
        bad.health.clock_skew_seconds = -300;
        bad.health.last_error = Some("refused".into());
        let steps = bad.next_steps();
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[0], "sign in again");
        assert_eq!(bad.server(), ("offline", Some(LONG_AGO)));
    }

    #[test]
    fn an_error_after_which_others_were_answered_is_a_degraded_server() {
        let mut shaky = standing();
        shaky.health.last_error = Some("502".into());
        assert_eq!(shaky.server(), ("degraded", None));
        assert!(shaky.last_failure().unwrap().contains("doctor"));
        assert_eq!(standing().last_failure(), None);
    }
}
