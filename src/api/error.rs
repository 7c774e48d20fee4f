//! What the server or the wire said, as far as a caller can act on it.

use std::sync::Arc;
use std::time::Duration;

use super::Owner;
use crate::asker::GaveUp;

/// The code of trouble that the server does not name; also of `info` by id for a file that was deleted, of `thumb` where there is
/// none to make, and of a chunk whose storage has no such object.
pub const UNCLASSIFIED: i64 = -1;

/// Why a call did not do its work. `Display` is for the log and for users; it holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Definitely not there: the only variant that makes a file absent.
    #[error("the server has no such file")]
    NotFound,
    /// The share does not exist any more: revoked, expired, used up, or its files are in the trash.
    #[error("the share is gone: {0}")]
    ShareGone(String),
    /// The share wants a password, or another one.
    #[error("the share wants another password")]
    SharePassword,
    /// Nobody is signed in where somebody must be, or the credential is dead; says what to do.
    #[error("{0}")]
    SignedOut(String),
    /// Wrong e-mail or password.
    #[error("the server does not accept this e-mail and password")]
    WrongPassword,
    /// A captcha is wanted, or the answer was wrong.
    #[error("the server wants a captcha")]
    Captcha,
    /// A code of the second factor is wanted, or was wrong.
    #[error("the server wants a code of the second factor (2FA)")]
    SecondFactor,
    /// The account may not do that.
    #[error("the server does not allow it: {said} (code {code})")]
    Denied {
        /// The server's code.
        code: i64,
        /// Its words.
        said: String,
    },
    /// The version of the content asked for does not exist any more.
    #[error("this version of the content is gone")]
    EntityGone,
    /// A signed URL is no longer accepted: ask for a new one, once.
    #[error("the download URL is no longer valid")]
    UrlExpired,
    /// There is something of that name already (40004).
    #[error("there is something of that name on the server")]
    Exists,
    /// The content is not based on the version that is current there (40076).
    #[error("it was changed on the server meanwhile")]
    Changed,
    /// The account's storage is full (40051).
    #[error("the account's storage is full")]
    Full,
    /// Larger than the server or its storage takes (40049).
    #[error("the server takes no file as large as this: {said}")]
    TooLarge {
        /// Its words.
        said: String,
    },
    /// A name, or its ending, that the server or its storage does not take (40052).
    #[error("the server does not take this name: {said}")]
    NameRefused {
        /// Its words.
        said: String,
    },
    /// The upload session is unknown, finished or expired, or its lock is lost (40011, 40073 without an owner).
    #[error("the upload session is gone")]
    SessionGone,
    /// Somebody's lock, perhaps one of our own sessions', or somebody's change that is under way (409): of whom, as far as
    /// the server tells. Short ones were waited for already.
    #[error("it is locked on the server{}", named(.0))]
    Locked(Vec<Owner>),
    /// The server is too old for it, or its administrator switched it off.
    #[error("the server cannot do it")]
    Unsupported,
    /// Refused for another reason.
    #[error("the server refused: {said} (code {code})")]
    Refused {
        /// The server's code, or the HTTP status.
        code: i64,
        /// Its words.
        said: String,
    },
    /// The server is in trouble: 5xx, database errors. Proves nothing about any file.
    #[error("the server is in trouble: {said} (code {code})")]
    Trouble {
        /// The server's code, or the HTTP status.
        code: i64,
        /// Its words.
        said: String,
    },
    /// No answer, or not an answer of Cloudreve's: connection refused or cut, a proxy's page, half a body. Of what changes
    /// something: nobody knows whether it was done.
    #[error("{what}")]
    Transport {
        /// In words.
        what: String,
        /// The library's error, for the log.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// No bytes moved for as long as the caller waits; the request itself may still be done.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Who asked was killed meanwhile; what was asked may have been done.
    #[error("the program that asked was killed")]
    Interrupted,
    /// Something here: the CA file, the token store, content that is to be sent and cannot be read.
    #[error("{0}")]
    Local(String),
}

/// What code 404 of an envelope speaks of: the server uses one code for four things (→ api part 1 §1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A file of the account.
    Own,
    /// Something on a share.
    Share,
    /// A session, an application.
    Other,
}

impl Error {
    /// Something about the wire, in words.
    pub(super) fn transport(what: impl Into<String>) -> Self {
        Self::Transport {
            what: what.into(),
            source: None,
        }
    }

    /// Whether it tells that the server cannot be reached, or is in trouble, after all tries. One of no class is as often that of a
    /// request that never can succeed.
    pub fn is_of_the_link(&self) -> bool {
        match self {
            Self::Trouble { code, .. } => *code != UNCLASSIFIED,
            Self::Transport { .. } | Self::Timeout(_) => true,
            _ => false,
        }
    }

    /// Of what was waited for at most `limit`.
    pub fn gave_up(why: GaveUp, limit: Duration) -> Self {
        match why {
            GaveUp::TooLong => Self::Timeout(limit),
            GaveUp::Killed => Self::Interrupted,
        }
    }

    /// What an envelope's `code` other than 0 means. `sign_in` is the way back in for who asked.
    pub(super) fn from_code(code: i64, msg: &str, asked: Asked, sign_in: &str) -> Self {
        let said = harmless(msg);
        match code {
            401 | 40020 => Self::SignedOut(sign_in.to_owned()),
            404 if asked == Asked::Share => Self::ShareGone(said),
            // A validly signed token that names no user: the account was deleted, no file is.
            404 if asked == Asked::Own => Self::SignedOut(sign_in.to_owned()),
            403 | 40007 | 40017 | 40018 | 40082 | 40083 | 40087 | 40088 | 40089 => {
                Self::Denied { code, said }
            }
            409 => Self::Locked(Vec::new()),
            40004 => Self::Exists,
            40005 | 40071 => Self::UrlExpired,
            // Of 40073 with a list of owners more is known: see `Head::error`.
            40011 | 40073 => Self::SessionGone,
            40016 => Self::NotFound,
            40019 => Self::Unsupported,
            40022 => Self::SecondFactor,
            40026 => Self::Captcha,
            40049 => Self::TooLarge { said },
            40051 => Self::Full,
            40052 => Self::NameRefused { said },
            40069 => Self::SharePassword,
            40076 => Self::Changed,
            40077 => Self::EntityGone,
            40080 => Self::WrongPassword,
            UNCLASSIFIED | 500..=599 | 50000..=59999 => Self::Trouble { code, said },
            _ => Self::Refused { code, said },
        }
    }
}

/// By what and where something is locked, for people.
fn named(owners: &[Owner]) -> String {
    let Some(owner) = owners.first() else {
        return String::new();
    };
    let by = match owner.application.as_str() {
        "" => "another client",
        application => application,
    };
    match &owner.uri {
        Some(uri) => format!(" ({by} at {uri})"),
        None => format!(" ({by})"),
    }
}

/// The server's words made fit for logs: one short line, and in its URLs neither a share's password (error chains repeat
/// the URI that was asked for, → api part 1 §1.5) nor a query (a node or a store that cannot be reached is named with the
/// whole signed URL).
pub(super) fn harmless(msg: &str) -> String {
    const LONGEST_CHARS: usize = 200;
    let line: String = without_queries(&without_passwords(msg))
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_CHARS)
        .collect();
    match line.trim() {
        "" => "no reason given".to_owned(),
        line => line.to_owned(),
    }
}

fn without_passwords(msg: &str) -> String {
    let mut out = String::new();
    let mut rest = msg;
    while let Some((before, authority)) = next_url(rest) {
        out += before;
        let end = authority
            .find(|c: char| c == '/' || ends_url(c))
            .unwrap_or(authority.len());
        match (authority[..end].find(':'), authority[..end].rfind('@')) {
            (Some(colon), Some(host)) if colon < host => {
                out += &authority[..colon];
                out += ":***";
                rest = &authority[host..];
            }
            _ => rest = authority,
        }
    }
    out + rest
}

fn without_queries(msg: &str) -> String {
    let mut out = String::new();
    let mut rest = msg;
    while let Some((before, url)) = next_url(rest) {
        out += before;
        let end = url.find(ends_url).unwrap_or(url.len());
        match url[..end].find('?') {
            Some(query) => {
                out += &url[..query];
                out += "?***";
                rest = &url[end..];
            }
            None => rest = url,
        }
    }
    out + rest
}

/// What comes before the next URL's authority, and what from there.
fn next_url(text: &str) -> Option<(&str, &str)> {
    Some(text.split_at(text.find("://")? + "://".len()))
}

fn ends_url(c: char) -> bool {
    c == '"' || c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: i64, asked: Asked, expected: &str) {
        let error = Error::from_code(code, "msg", asked, "sign in");
        let debug = format!("{error:?}");
        assert_eq!(debug.split([' ', '(']).next(), Some(expected), "{code}");
    }

    #[test]
    fn each_code_means_one_thing_to_a_caller() {
        check(401, Asked::Own, "SignedOut");
        check(403, Asked::Own, "Denied");
        check(404, Asked::Own, "SignedOut");
        check(404, Asked::Share, "ShareGone");
        check(404, Asked::Other, "Refused");
        check(409, Asked::Own, "Locked");
        check(40001, Asked::Own, "Refused");
        check(40004, Asked::Own, "Exists");
        check(40005, Asked::Own, "UrlExpired");
        check(40011, Asked::Other, "SessionGone");
        check(40016, Asked::Own, "NotFound");
        check(40016, Asked::Share, "NotFound");
        check(40019, Asked::Own, "Unsupported");
        check(40020, Asked::Own, "SignedOut");
        check(40022, Asked::Other, "SecondFactor");
        check(40026, Asked::Other, "Captcha");
        check(40049, Asked::Own, "TooLarge");
        check(40051, Asked::Own, "Full");
        check(40052, Asked::Own, "NameRefused");
        check(40069, Asked::Share, "SharePassword");
        check(40071, Asked::Own, "UrlExpired");
        check(40073, Asked::Own, "SessionGone");
        check(40076, Asked::Own, "Changed");
        check(40077, Asked::Own, "EntityGone");
        check(40080, Asked::Other, "WrongPassword");
        check(40082, Asked::Own, "Denied");
        check(40088, Asked::Share, "Denied");
        check(40089, Asked::Own, "Denied");
        check(50001, Asked::Own, "Trouble");
        check(50010, Asked::Own, "Trouble");
        check(-1, Asked::Own, "Trouble");
        check(99999, Asked::Own, "Refused");
    }

    #[test]
    fn the_servers_words_lose_share_passwords_and_line_breaks() {
        let said =
            harmless("failed to walk cloudreve://AbCd:hunter2@share/x\nthen cloudreve://my/y");
        assert_eq!(
            said,
            "failed to walk cloudreve://AbCd:***@share/x then cloudreve://my/y"
        );
        assert_eq!(
            harmless(r#"Get "https://node/slave/f?download=true&sign=hunter2%3D:17": refused"#),
            r#"Get "https://node/slave/f?***": refused"#
        );
        assert_eq!(
            harmless("a://b:c@d?e f://g?h=i,j://k?l"),
            "a://b:***@d?*** f://g?***"
        );
        assert_eq!(
            harmless("c://a/x,c://b:hunter2@share/y?z, c://a"),
            "c://a/x,c://b:***@share/y?*** c://a"
        );
        assert_eq!(harmless("is this it? no: x://"), "is this it? no: x://");
        assert!(harmless(&"x".repeat(5000)).len() <= 200);
        assert_eq!(harmless(""), "no reason given");
    }
}
