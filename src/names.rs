//! Names, as programs here know them and as the server stores them.
//!
//! Cloudreve refuses `\ : * ? " < > |` in a name and takes any other bytes. Each refused character is stored as
//! its full-width look-alike, the convention of rclone, so that both tools agree about a drive. A name that
//! holds such a look-alike of its own is stored with the quote `‛` before it, so the mapping turns around:
//! what [`ServerName::from_local`] makes, [`ServerName::to_local`] takes back, byte for byte.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Longest name the server stores, in bytes (→ api part 1 §4.4; also NAME_MAX here).
pub const NAME_MAX_BYTES: usize = 255;

/// Stands before a look-alike that is meant literally (U+201B, rclone's quote).
const QUOTE: char = '‛';

/// What the server refuses, and the look-alike it is exchanged for.
const LOOK_ALIKES: [(char, char); 8] = [
    ('\\', '＼'),
    (':', '：'),
    ('*', '＊'),
    ('?', '？'),
    ('"', '＂'),
    ('<', '＜'),
    ('>', '＞'),
    ('|', '｜'),
];

/// How names that the server refuses are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamePolicy {
    /// Exchange refused characters for look-alikes, reversibly.
    #[default]
    Encode,
    /// Refuse such names.
    Reject,
}

/// Why a local name cannot become a server name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The server's form of the name has more than [`NAME_MAX_BYTES`].
    #[error("the name is longer than {NAME_MAX_BYTES} bytes")]
    TooLong,
    /// The name is empty, `.`, `..`, or holds what the server refuses under [`NamePolicy::Reject`].
    #[error("the server does not take this name")]
    Refused,
}

/// One path component exactly as the server stores it: bytes, usually UTF-8. Copies share them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Arc<[u8]>);

impl ServerName {
    /// The bytes as the server has them.
    pub fn from_wire(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The name under which the server stores what is called `local` here.
    pub fn from_local(local: &OsStr, policy: NamePolicy) -> Result<Self, NameError> {
        let bytes = local.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." {
            return Err(NameError::Refused);
        }
        if policy == NamePolicy::Reject && bytes.iter().any(|b| b"\\:*?\"<>|".contains(b)) {
            return Err(NameError::Refused);
        }
        let stored = match policy {
            NamePolicy::Encode => encode(bytes),
            NamePolicy::Reject => bytes.to_vec(),
        };
        match stored.len() {
            0..=NAME_MAX_BYTES => Ok(Self(stored.into())),
            _ => Err(NameError::TooLong),
        }
    }

    /// What this name is called here. Never empty, `.` or `..`, never with `/` or NUL in it, whatever the
    /// server sent.
    pub fn to_local(&self, policy: NamePolicy) -> OsString {
        let mut local = match policy {
            NamePolicy::Encode => decode(&self.0),
            NamePolicy::Reject => self.0.to_vec(),
        };
        // The server cannot store these (→ api part 1 §4.4); a hostile one must not reach the kernel with them.
        for byte in &mut local {
            if *byte == b'/' || *byte == 0 {
                *byte = b'_';
            }
        }
        match local.as_slice() {
            b"" => OsString::from("_"),
            b"." => OsString::from("．"),
            b".." => OsString::from("．．"),
            _ => OsString::from_vec(local),
        }
    }

    /// Whether the name is the same here and there by any policy, as can be told at a glance: false says nothing.
    pub fn is_plain(&self) -> bool {
        let bytes = self.as_bytes();
        // Quote and look-alikes begin with one of the last two.
        let changes =
            |byte: &u8| b"\\:*?\"<>|".contains(byte) || matches!(byte, b'/' | 0 | 0xe2 | 0xef);
        (1..=NAME_MAX_BYTES).contains(&bytes.len())
            && !matches!(bytes, b"." | b"..")
            && !bytes.iter().any(changes)
    }

    /// The bytes as the server has them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

fn encode(local: &[u8]) -> Vec<u8> {
    by_text(local, |text, stored| {
        for c in text.chars() {
            match LOOK_ALIKES.iter().find(|(refused, _)| *refused == c) {
                Some((_, look_alike)) => stored.push(*look_alike),
                None if needs_quote(c) => stored.extend([QUOTE, c]),
                None => stored.push(c),
            }
        }
    })
}

fn decode(stored: &[u8]) -> Vec<u8> {
    by_text(stored, |text, local| {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match chars.next_if(|next| c == QUOTE && needs_quote(*next)) {
                Some(literal) => local.push(literal),
                None => local.push(plain_of(c)),
            }
        }
    })
}

/// Rewrites what is UTF-8 in `bytes` and keeps the rest as it is.
fn by_text(bytes: &[u8], rewrite: impl Fn(&str, &mut String)) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.clear();
        rewrite(chunk.valid(), &mut text);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    out
}

fn needs_quote(c: char) -> bool {
    c == QUOTE || LOOK_ALIKES.iter().any(|(_, look_alike)| *look_alike == c)
}

fn plain_of(c: char) -> char {
    let known = LOOK_ALIKES.iter().find(|(_, look_alike)| *look_alike == c);
    known.map_or(c, |(plain, _)| *plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(local: &[u8], stored: &str) {
        let name = ServerName::from_local(OsStr::from_bytes(local), NamePolicy::Encode).unwrap();
        assert_eq!(name.to_string(), stored);
        assert_eq!(name.to_local(NamePolicy::Encode).as_bytes(), local);
    }

    #[test]
    fn a_refused_character_is_stored_as_its_look_alike_and_comes_back() {
        check(
            b"12:30 \\ \"why\"? <a|b>*",
            "12：30 ＼ ＂why＂？ ＜a｜b＞＊",
        );
    }

    #[test]
    fn a_look_alike_of_ones_own_comes_back_as_itself() {
        check("a：b".as_bytes(), "a‛：b");
        check("‛".as_bytes(), "‛‛");
        check("‛：‛‛".as_bytes(), "‛‛‛：‛‛‛‛");
    }

    #[test]
    fn ordinary_names_are_stored_as_they_are() {
        for name in [
            "a b#1.txt",
            "100%",
            " x. ",
            "ä/".trim_end_matches('/'),
            "~t",
            "…",
        ] {
            check(name.as_bytes(), name);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        let name =
            ServerName::from_local(OsStr::from_bytes(b"a\xff:b"), NamePolicy::Encode).unwrap();
        assert_eq!(name.as_bytes(), b"a\xff\xef\xbc\x9ab");
        assert_eq!(name.to_local(NamePolicy::Encode).as_bytes(), b"a\xff:b");
    }

    #[test]
    fn dots_and_what_is_too_long_once_stored_are_refused() {
        let encode = |name: &str| ServerName::from_local(OsStr::new(name), NamePolicy::Encode);
        assert_eq!(encode("."), Err(NameError::Refused));
        assert_eq!(encode(".."), Err(NameError::Refused));
        assert_eq!(encode(&"a".repeat(256)), Err(NameError::TooLong));
        assert_eq!(encode(&":".repeat(86)), Err(NameError::TooLong));
        assert!(encode(&":".repeat(85)).is_ok());
    }

    #[test]
    fn under_reject_a_refused_character_is_refused_and_look_alikes_are_left_alone() {
        assert_eq!(
            ServerName::from_local(OsStr::new("a:b"), NamePolicy::Reject),
            Err(NameError::Refused)
        );
        let stored = ServerName::from_wire("a：b".as_bytes());
        assert_eq!(stored.to_local(NamePolicy::Reject), "a：b");
    }

    #[test]
    fn a_plain_name_is_the_same_here_and_there() {
        let mut plain = 0;
        let letters = "a /\0\\:*?\"<>|.‛：＼｜…ä字\u{f000}".chars();
        let bytes = letters.map(|letter| letter.to_string().into_bytes());
        let mut pieces: Vec<Vec<u8>> = bytes.chain([vec![0xff], vec![0xe5], Vec::new()]).collect();
        pieces.push(vec![b'x'; NAME_MAX_BYTES]);
        for (one, other) in pieces
            .iter()
            .flat_map(|one| pieces.iter().map(move |other| (one, other)))
        {
            let name = ServerName::from_wire([one.as_slice(), other].concat());
            if !name.is_plain() {
                continue;
            }
            plain += 1;
            for policy in [NamePolicy::Encode, NamePolicy::Reject] {
                let local = name.to_local(policy);
                assert_eq!(local.as_bytes(), name.as_bytes());
                assert_eq!(ServerName::from_local(&local, policy), Ok(name.clone()));
            }
        }
        assert!(plain > 20, "{plain}");
    }

    #[test]
    fn a_hostile_name_cannot_leave_its_folder() {
        for (hostile, local) in [
            ("..", "．．"),
            (".", "．"),
            ("", "_"),
            ("../../etc", ".._.._etc"),
            ("a\0b", "a_b"),
        ] {
            assert_eq!(
                ServerName::from_wire(hostile.as_bytes()).to_local(NamePolicy::Encode),
                local
            );
        }
    }
}
