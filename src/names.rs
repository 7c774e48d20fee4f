//! Names, as programs here know them and as the server stores them.
//!
//! Here a name is any bytes but `/` and NUL, 1 to 255 of them. Cloudreve refuses `\ : * ? " < > |`, and most of its databases
//! what is no UTF-8; it takes anything else as it is: dots and spaces at the ends, control characters, each Unicode form
//! for itself. What it refuses is exchanged by the convention of rclone, so that both tools agree about a drive
//! (`encoder`), and the exchange turns around: what [`ServerName::from_local`] makes, [`ServerName::to_local`] takes back,
//! byte for byte. What is longer than the server takes after that can be stored in part, where somebody keeps the whole
//! of it (`shortened`): [`Stored::of`] and [`ServerName::local_of`].
//!
//! A name that the server has and that is not what this house would store for any name, has no name here of its own:
//! whoever shows it has to tell it from those that have one.

mod encoder;
#[cfg(test)]
mod made_up;
mod shortened;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// Longest name the server stores, in bytes (→ api part 1 §4.4; also NAME_MAX here).
pub const NAME_MAX_BYTES: usize = 255;

/// How names that the server refuses are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamePolicy {
    /// Exchange what is refused, reversibly.
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

/// What is stored for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The name that the server gets.
    pub name: ServerName,
    /// Where that is not all of it: what is to be kept with the file, for [`ServerName::local_of`]. Text of at most 1275
    /// bytes, which may hold control characters.
    pub full: Option<String>,
}

impl Stored {
    /// What is stored for what is called `local` here. Where `full` is some it has to be kept with the file from the first
    /// moment on: without it the name cannot be had back. For who cannot keep it there is [`ServerName::from_local`].
    pub fn of(local: &OsStr, policy: NamePolicy) -> Result<Self, NameError> {
        let bytes = local.as_bytes();
        if bytes.len() > NAME_MAX_BYTES {
            return Err(NameError::TooLong);
        }
        if !is_local(bytes) {
            return Err(NameError::Refused);
        }
        let full = match policy {
            NamePolicy::Encode => encoder::encode(bytes),
            NamePolicy::Reject => match std::str::from_utf8(bytes) {
                Ok(text) if !text.bytes().any(encoder::is_refused) => text.to_owned(),
                _ => return Err(NameError::Refused),
            },
        };
        if full.len() <= NAME_MAX_BYTES {
            let name = ServerName(full.into_bytes().into());
            return Ok(Self { name, full: None });
        }
        let name = shortened::shortened(bytes, &full);
        Ok(Self {
            name: ServerName(name.into_bytes().into()),
            full: Some(full),
        })
    }
}

impl ServerName {
    /// The bytes as the server has them.
    pub fn from_wire(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The name under which the server stores what is called `local` here, where it takes all of it.
    pub fn from_local(local: &OsStr, policy: NamePolicy) -> Result<Self, NameError> {
        match Stored::of(local, policy)? {
            Stored { name, full: None } => Ok(name),
            Stored { full: Some(_), .. } => Err(NameError::TooLong),
        }
    }

    /// What this name is called here, where `full` was kept with the file: the name that [`Stored::of`] made it of, which no
    /// other name in the folder has. None where it made it of none; [`ServerName::to_local`] is readable then, and another
    /// one may have it.
    pub fn local_of(&self, full: Option<&str>, policy: NamePolicy) -> Option<OsString> {
        if self.is_plain() {
            return Some(OsStr::from_bytes(&self.0).to_owned());
        }
        if policy == NamePolicy::Encode
            && let Some(full) = full
            && let Some(local) = shortened::lengthened(&self.0, full)
        {
            return Some(OsString::from_vec(local));
        }
        let local = self.to_local(policy);
        let stored = Self::from_local(&local, policy);
        stored.is_ok_and(|stored| stored == *self).then_some(local)
    }

    /// What this name is called here. Never empty, `.` or `..`, never with `/` or NUL in it, whatever the
    /// server sent.
    pub fn to_local(&self, policy: NamePolicy) -> OsString {
        let mut local = match policy {
            NamePolicy::Encode => encoder::decode(&self.0),
            NamePolicy::Reject => self.0.to_vec(),
        };
        // A slash the server cannot store, and NUL nobody means (→ api part 1 §4.4); a hostile one must not reach the
        // kernel with them.
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
            |byte: &u8| encoder::is_refused(*byte) || matches!(byte, b'/' | 0 | 0xe2 | 0xef);
        (1..=NAME_MAX_BYTES).contains(&bytes.len())
            && !matches!(bytes, b"." | b"..")
            && !bytes.iter().any(changes)
            && std::str::from_utf8(bytes).is_ok()
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

/// Whether a file can be called so here.
fn is_local(name: &[u8]) -> bool {
    (1..=NAME_MAX_BYTES).contains(&name.len())
        && !matches!(name, b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}
