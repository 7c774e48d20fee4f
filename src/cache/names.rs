//! What things are called on disk: `content/SITE/NAME.KIND` in the cache directory.
//!
//! Only what has such a name is the cache's own; nothing else is ever opened, counted as an entity or removed.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::entity::{BLOCK_SIZE_BYTES, Entity};

/// The directory below the cache directory that holds everything of this room.
pub(super) const CONTENT: &str = "content";

/// The file in it that counts what is used, and whose lock is the turn to change anything.
pub(super) const USAGE: &str = "usage";

/// Longest instance id that names its directory itself.
const SITE_MAX_BYTES: usize = 64;

/// One entity's name on disk: a hash of what it is. Where two entities met in one name, the checksums of one would tell
/// the other that nothing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(pub(super) u64);

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The bytes of an entity of several blocks, as sparse as they are kept.
    Data,
    /// Which blocks of `Data` are kept, and their checksums.
    Index,
    /// An entity of one block, with its checksum behind it.
    Small,
}

impl Name {
    /// The block size is part of it, so that a program that cuts blocks otherwise does not see these.
    pub(super) fn of(entity: &Entity) -> Self {
        let seed = entity.size_bytes.rotate_left(20) ^ BLOCK_SIZE_BYTES;
        Self(xxh3_64_with_seed(entity.id.0.as_bytes(), seed))
    }

    /// The name of its file of this kind.
    pub(super) fn file(self, kind: Kind) -> String {
        format!("{:016x}.{}", self.0, kind.extension())
    }
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Index => "index",
            Self::Small => "small",
        }
    }
}

/// The entity and kind that a file's name tells; None where it is not one of ours.
pub(super) fn parse(file: &str) -> Option<(Name, Kind)> {
    let (name, extension) = file.split_once('.')?;
    let kind = [Kind::Data, Kind::Index, Kind::Small]
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    let is_ours = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if name.len() != 16 || !name.bytes().all(is_ours) {
        return None;
    }
    Some((Name(u64::from_str_radix(name, 16).ok()?), kind))
}

/// The directory of a site: its instance id where that is a plain name, else a hash of it.
pub(super) fn site(instance_id: &str) -> String {
    let is_plain = (1..=SITE_MAX_BYTES).contains(&instance_id.len())
        && instance_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain {
        return instance_id.to_owned();
    }
    let hash = Sha256::digest(instance_id.as_bytes());
    let hex: String = hash
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("={hex}")
}

/// Whether a directory in `content` has a name that [`site`] gives.
pub(super) fn is_site(dir: &str) -> bool {
    let plain = dir.strip_prefix('=').unwrap_or(dir);
    !dir.contains('/') && !plain.is_empty() && site(plain) == plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityId;

    #[test]
    fn only_our_own_names_are_ours() {
        let entity = Entity {
            id: EntityId("e".into()),
            size_bytes: 7,
        };
        let name = Name::of(&entity);
        for kind in [Kind::Data, Kind::Index, Kind::Small] {
            assert_eq!(parse(&name.file(kind)), Some((name, kind)));
        }
        for other in [
            "usage",
            "x.data",
            "0123456789abcdef.txt",
            "0123456789ABCDEF.data",
            ".data",
            "+123456789abcdef.data",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_site_is_one_directory_whatever_its_id() {
        assert_eq!(site("6b2f-AB"), "6b2f-AB");
        for odd in ["", "..", "a/b", "ü", "=x", &"x".repeat(65)] {
            let name = site(odd);
            assert!(name.starts_with('=') && name.len() == 33, "{name}");
            assert!(is_site(&name));
        }
        for other in ["..", ".", "lost+found", ".probe-1"] {
            assert!(!is_site(other), "{other}");
        }
    }
}
