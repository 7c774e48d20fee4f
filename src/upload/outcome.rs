//! What becomes of a file after each failure: when it is tried again, and what a person is told.

use std::io;
use std::sync::Arc;

use super::queue::Fault;
use super::{Blocked, Reason, Undelivered};
use crate::api::{Error, UNCLASSIFIED};
use crate::names::STORED_MAX_BYTES;
use crate::uri::FileUri;

/// Why a try did not end with the file on the server.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server or the wire.
    Api(Error),
    /// Not without somebody doing something.
    Blocked(Blocked),
    /// Our own disk.
    Disk(Arc<io::Error>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match next_step(&error) {
            Some(step) => Self::Blocked(Blocked {
                words: format!("{error}; {step}"),
                reason: reason(&error),
            }),
            None => Self::Api(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

/// For who asked the server something, and delivers nothing.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Api(error) => error,
            Failure::Blocked(blocked) => Self::Local(blocked.words),
            Failure::Disk(error) => Self::Local(error.to_string()),
        }
    }
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Api(error) => Self::Api(error),
            Failure::Blocked(blocked) => Self::Blocked(blocked),
            Failure::Disk(error) => Self::Disk(error),
        }
    }
}

impl Failure {
    /// What it says of the next try.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Api(Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. }) => {
                Fault::Server
            }
            Self::Api(_) | Self::Disk(_) => Fault::File,
            Self::Blocked(_) => Fault::Blocked,
        }
    }

    /// Whether it was the wire, rather than who is at its other end.
    pub(super) fn is_of_the_wire(&self) -> bool {
        matches!(self, Self::Api(Error::Transport { .. } | Error::Timeout(_)))
    }

    /// Whether the server answered that it is in trouble.
    pub(super) fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Api(Error::Trouble { .. }))
    }

    /// In words for a person.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Api(error) => error.to_string(),
            Self::Blocked(blocked) => blocked.words.clone(),
            Self::Disk(error) => {
                format!("the staged content cannot be read or noted here: {error}")
            }
        }
    }
}

fn reason(error: &Error) -> Option<Reason> {
    match error {
        Error::Full => Some(Reason::Full),
        Error::TooLarge { .. } => Some(Reason::TooLarge),
        Error::NameRefused { .. } => Some(Reason::Name),
        _ => None,
    }
}

/// What somebody has to do before another try can go well; none where time may do.
fn next_step(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Full => "make room on the server (the trash and old versions count, too)",
        Error::TooLarge { .. } => {
            "copy it elsewhere, or have the server's administrator raise the limit"
        }
        Error::NameRefused { .. } => "rename it",
        Error::Denied { .. } => "copy it to a folder that you may write to",
        Error::Unsupported => "copy it elsewhere",
        Error::ShareGone(_) | Error::SharePassword => "copy it to another folder",
        Error::EntityGone => {
            "parts of it that were not written here were in that version: copy what is left of it to another name"
        }
        // It says itself what to do.
        Error::SignedOut(_) => "it is kept here until then",
        Error::WrongPassword | Error::Captcha | Error::SecondFactor => "sign in again",
        Error::NotFound
        | Error::UrlExpired
        | Error::Exists
        | Error::Changed
        | Error::SessionGone
        | Error::Locked(_)
        | Error::Refused { .. }
        | Error::Trouble { .. }
        | Error::Transport { .. }
        | Error::Timeout(_)
        | Error::Interrupted
        | Error::Local(_) => return None,
    })
}

/// What an answer to an upload to `uri` means that gives no reason, where the name may be one.
pub(super) fn of_name(error: Error, uri: &FileUri) -> Failure {
    const NOT_STORED: i64 = 50004;
    let length = uri.name().map_or(0, |name| name.as_bytes().len());
    match error {
        Error::Trouble {
            code: code @ (UNCLASSIFIED | NOT_STORED),
            said,
        } if length > STORED_MAX_BYTES => Failure::Blocked(Blocked {
            words: format!(
                "the server's storage does not take it, most likely for its name of {length} bytes ({said}, code {code}); rename \
                 it to one of {STORED_MAX_BYTES} bytes or fewer"
            ),
            reason: Some(Reason::Name),
        }),
        error => error.into(),
    }
}

/// What a full storage means for a new version of `new` bytes over one of `old`, where `free` bytes are left.
pub(super) fn of_room(new: u64, old: u64, free: u64) -> Failure {
    let more = new.saturating_sub(free);
    if more == 0 || more > old {
        return Error::Full.into();
    }
    Failure::Blocked(Blocked {
        words: format!(
            "{}: until the new version is whole the old one counts, too, and {more} bytes are missing for both; make room on the \
             server (the trash and old versions count, too), or give up the old version first: mount with --overwrite delete and \
             --delete permanent",
            Error::Full
        ),
        reason: Some(Reason::Full),
    })
}

/// Whether an answer of this kind proves that what was asked for was not done.
pub(super) fn is_refusal(error: &Error) -> bool {
    !matches!(
        error,
        Error::Transport { .. } | Error::Timeout(_) | Error::Trouble { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServerName;
    use std::time::Duration;

    #[track_caller]
    fn check(error: Error, fault: Fault, refusal: bool) {
        assert_eq!(is_refusal(&error), refusal, "{error}");
        let failure = Failure::from(error);
        assert_eq!(failure.fault(), fault, "{failure:?}");
        assert!(!failure.words().is_empty());
    }

    #[test]
    fn a_server_that_fails_with_a_long_name_fails_for_it_and_with_a_short_one_for_another_reason() {
        let fails = |length: usize, code| {
            let uri = FileUri::my().child(ServerName::from_wire(vec![b'n'; length]));
            let said = "s".to_owned();
            of_name(Error::Trouble { code, said }, &uri).fault()
        };
        assert_eq!(fails(STORED_MAX_BYTES + 1, -1), Fault::Blocked);
        assert_eq!(fails(STORED_MAX_BYTES + 1, 50004), Fault::Blocked);
        assert_eq!(fails(STORED_MAX_BYTES + 1, 50001), Fault::Server);
        assert_eq!(fails(STORED_MAX_BYTES, -1), Fault::Server);
    }

    #[test]
    fn who_has_room_for_the_new_version_alone_is_told_so() {
        let says_both = |new, old, free| of_room(new, old, free).words().contains("for both");
        assert!(says_both(100, 80, 20));
        assert!(!says_both(100, 79, 20), "not even alone");
        assert!(!says_both(100, 80, 100), "there is room by now");
    }

    #[test]
    fn each_failure_says_when_it_is_tried_again() {
        let said = || "s".to_owned();
        check(Error::Full, Fault::Blocked, true);
        check(Error::TooLarge { said: said() }, Fault::Blocked, true);
        check(Error::NameRefused { said: said() }, Fault::Blocked, true);
        check(Error::SignedOut(said()), Fault::Blocked, true);
        check(Error::EntityGone, Fault::Blocked, true);
        let code = 403;
        check(Error::Denied { code, said: said() }, Fault::Blocked, true);
        check(Error::Refused { code, said: said() }, Fault::File, true);
        check(Error::SessionGone, Fault::File, true);
        check(Error::NotFound, Fault::File, true);
        let code = 50001;
        check(Error::Trouble { code, said: said() }, Fault::Server, false);
        check(Error::Timeout(Duration::ZERO), Fault::Server, false);
    }
}
