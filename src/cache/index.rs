//! What a kept block is known by: the checksum, and the files that hold checksums.
//!
//! An index file has a header and 8 bytes for each block: its checksum, or 0 where it is not kept. The file of a small
//! entity has its only checksum behind the bytes. All checksums are seeded with what the entity is and which block it is,
//! so that bytes that lie in a wrong place, or in another entity's file, do not match.

use std::sync::OnceLock;
use std::time::SystemTime;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::entity::{BLOCK_SIZE_BYTES, Entity};

/// Bytes of an index file before the first checksum.
pub(super) const HEADER_BYTES: u64 = 512;

/// Bytes of an index file that are read at once: a page of the kernel's cache, which is also what most disks write whole.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Bytes of a checksum.
pub(super) const SUM_BYTES: u64 = 8;

/// Bytes behind the content of a small entity.
pub(super) const TRAILER_BYTES: usize = 16;

/// Where the stamp is in the header.
pub(super) const STAMP_AT: u64 = 448;

/// Bytes of the stamp.
pub(super) const STAMP_BYTES: usize = 64;

/// Longest entity id that is kept; the server's have about ten bytes.
pub(super) const ID_MAX_BYTES: usize = 255;

const INDEX_MAGIC: &[u8; 8] = b"CRFindx\x01";
const SMALL_MAGIC: &[u8; 8] = b"CRFsmal\x01";

/// Makes checksums of one entity's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal(u64);

impl Seal {
    pub(super) fn of(entity: &Entity) -> Self {
        let mut what = entity.id.0.as_bytes().to_vec();
        what.extend_from_slice(&entity.size_bytes.to_le_bytes());
        what.extend_from_slice(&BLOCK_SIZE_BYTES.to_le_bytes());
        Self(xxh3_64(&what))
    }

    /// The checksum of a block; never 0, which says that there is none.
    pub(super) fn sum(self, block: u64, bytes: &[u8]) -> u64 {
        // An odd factor, so that neighbouring blocks have seeds that differ in many bits.
        let seed = self.0 ^ block.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        xxh3_64_with_seed(bytes, seed).max(1)
    }

    /// What stands behind the bytes of a small entity.
    pub(super) fn trailer(self, bytes: &[u8]) -> [u8; TRAILER_BYTES] {
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..8].copy_from_slice(SMALL_MAGIC);
        trailer[8..].copy_from_slice(&self.sum(0, bytes).to_le_bytes());
        trailer
    }

    /// The header of the index of `entity`, without a stamp.
    pub(super) fn header(self, entity: &Entity) -> Vec<u8> {
        let id = entity.id.0.as_bytes();
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(INDEX_MAGIC);
        header.extend_from_slice(&self.0.to_le_bytes());
        header.extend_from_slice(&entity.size_bytes.to_le_bytes());
        header.extend_from_slice(&BLOCK_SIZE_BYTES.to_le_bytes());
        header.extend_from_slice(&(id.len() as u64).to_le_bytes());
        header.extend_from_slice(id);
        header.resize(STAMP_AT as usize - 8, 0);
        let sum = xxh3_64(&header);
        header.extend_from_slice(&sum.to_le_bytes());
        header.resize(HEADER_BYTES as usize, 0);
        header
    }

    /// Whether `header` is that of the index of `entity`, whatever its stamp.
    pub(super) fn is_header(self, entity: &Entity, header: &[u8]) -> bool {
        let ours = self.header(entity);
        let len = STAMP_AT as usize;
        header.len() >= HEADER_BYTES as usize && header[..len] == ours[..len]
    }
}

/// A moment of a data file when all its blocks were known to be good: while the file still looks like this, nobody has
/// written to it. Holds until the machine starts anew: before that the kernel has all that was written, after a power
/// cut the disk may have half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) [u64; 6]);

impl Stamp {
    pub(super) fn of(data: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self([
            data.size(),
            data.ino(),
            data.mtime() as u64,
            data.mtime_nsec() as u64,
            data.ctime() as u64,
            data.ctime_nsec() as u64,
        ])
    }

    /// For the time since the machine, by its name `boot`, was started.
    pub(super) fn encode(&self, seal: Seal, boot: u64) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        for (at, value) in self.0.iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = seal.sum(u64::MAX - 1, &bytes[..48]) ^ boot;
        bytes[48..56].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None where there is none, a damaged one, or one from before the machine was started last.
    pub(super) fn decode(seal: Seal, boot: u64, bytes: &[u8]) -> Option<Self> {
        let words = words(bytes);
        let stamp = Self(words.get(..6)?.try_into().ok()?);
        let sum = seal.sum(u64::MAX - 1, &bytes[..48]) ^ boot;
        (words.get(6) == Some(&sum)).then_some(stamp)
    }
}

/// A number that is another one each time the machine is started (random(4)); where the kernel does not tell, each time
/// the program is.
pub(super) fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| match std::fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) => xxh3_64(&id),
        Err(_) => xxh3_64(format!("{:?} {}", SystemTime::now(), std::process::id()).as_bytes()),
    })
}

/// Where the checksum of `block` is in an index file.
pub(super) fn sum_at(block: u64) -> u64 {
    HEADER_BYTES + block * SUM_BYTES
}

/// The page of an index file that has the checksum of `block`.
pub(super) fn page_of(block: u64) -> u64 {
    sum_at(block) / PAGE_BYTES
}

/// The first block whose checksum is in `page`.
pub(super) fn first_of(page: u64) -> u64 {
    (page * PAGE_BYTES).saturating_sub(HEADER_BYTES) / SUM_BYTES
}

/// Bytes of the index file of `entity`.
pub(super) fn index_bytes(entity: &Entity) -> u64 {
    sum_at(entity.blocks())
}

/// Little-endian numbers of 8 bytes each.
pub(super) fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityId;

    fn entity(id: &str, size_bytes: u64) -> Entity {
        Entity {
            id: EntityId(id.into()),
            size_bytes,
        }
    }

    #[test]
    fn the_same_bytes_have_another_checksum_in_another_place() {
        let sums = [
            Seal::of(&entity("a", 9)).sum(0, b"bytes"),
            Seal::of(&entity("a", 9)).sum(1, b"bytes"),
            Seal::of(&entity("b", 9)).sum(0, b"bytes"),
            Seal::of(&entity("a", 8)).sum(0, b"bytes"),
        ];
        for (at, sum) in sums.iter().enumerate() {
            assert!(!sums[..at].contains(sum) && *sum != 0);
        }
    }

    #[test]
    fn a_header_fits_its_entity_alone() {
        let (a, b) = (entity("a", 1 << 40), entity("b", 1 << 40));
        let mut header = Seal::of(&a).header(&a);
        assert_eq!(header.len() as u64, HEADER_BYTES);
        assert!(Seal::of(&a).is_header(&a, &header));
        assert!(!Seal::of(&b).is_header(&b, &header));
        header[100] ^= 1;
        assert!(!Seal::of(&a).is_header(&a, &header));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written_or_not_at_all() {
        let seal = Seal::of(&entity("a", 1));
        let stamp = Stamp([1, 2, 3, 4, 5, 6]);
        let mut bytes = stamp.encode(seal, 7);
        assert_eq!(Stamp::decode(seal, 7, &bytes), Some(stamp));
        assert_eq!(
            Stamp::decode(seal, 8, &bytes),
            None,
            "the machine was started anew"
        );
        assert_eq!(Stamp::decode(seal, 7, &[0; STAMP_BYTES]), None);
        bytes[9] ^= 4;
        assert_eq!(Stamp::decode(seal, 7, &bytes), None);
        assert_eq!(Stamp::decode(seal, 7, &bytes[..20]), None);
    }

    #[test]
    fn pages_of_an_index_follow_each_other() {
        assert_eq!((page_of(0), first_of(0)), (0, 0));
        let first = first_of(1);
        assert_eq!((page_of(first - 1), page_of(first)), (0, 1));
        assert_eq!(first_of(2) - first, PAGE_BYTES / SUM_BYTES);
    }
}
