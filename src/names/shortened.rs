//! Names whose stored form would be longer than the server takes: a part of them is stored, and the whole is kept beside.
//!
//! The stored name is the beginning of the full one, the mark `‛~`, a fingerprint of the full name, and its ending where
//! that is short, for storages choose by it what they take. The mark is no piece of any name's exchange, so it stands in no
//! other stored name. The full name in its exchanged form is kept where whoever lists the file finds it; only where it is
//! the very one that the stored name was made of it is believed. So a name that somebody changed elsewhere, or that lost
//! what was kept, shows as it is stored.
//!
//! What is made here is looked for by later versions of this program: its form is not to change.

use sha2::{Digest, Sha256};

use super::encoder::{QUOTE, decode, encode, encode_beginning};
use super::{NAME_MAX_BYTES, is_local};

/// Stands behind [`QUOTE`] where no exchange puts it.
const MARK: char = '~';
/// How much of the beginning stays. With all that follows it is short of what a server's own disk takes, which puts up to
/// some 20 bytes before a name (→ api part 2 §13).
const BEGINNING_BYTES: usize = 150;
/// How much of the fingerprint is used: names in one folder that meet in it are not to be found.
const FINGERPRINT_BYTES: usize = 16;
/// Longest ending that stays, with its dot.
const ENDING_BYTES: usize = 16;

/// The stored form of a name that is `full` once it is exchanged.
pub(super) fn shortened(local: &[u8], full: &str) -> String {
    let mut name = encode_beginning(local, BEGINNING_BYTES);
    name.extend([QUOTE, MARK]);
    for byte in &Sha256::digest(full)[..FINGERPRINT_BYTES] {
        name += &format!("{byte:02x}");
    }
    name += &ending(local);
    name
}

/// The name that is stored as `stored`, if `full` is what was kept of it.
pub(super) fn lengthened(stored: &[u8], full: &str) -> Option<Vec<u8>> {
    if full.len() <= NAME_MAX_BYTES {
        return None;
    }
    let local = decode(full.as_bytes());
    let is_it =
        is_local(&local) && encode(&local) == full && shortened(&local, full).as_bytes() == stored;
    is_it.then_some(local)
}

/// The ending, with its dot, as it is stored; nothing where it is long. A name's first dot begins none.
fn ending(local: &[u8]) -> String {
    match local.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && dot + 1 < local.len() => {
            let ending = encode(&local[dot..]);
            if ending.len() > ENDING_BYTES {
                return String::new();
            }
            ending
        }
        _ => String::new(),
    }
}
