//! Entities, and the blocks they are cut into for caching.
//!
//! The server never changes an entity, it makes a new one; so a block cannot go stale, only a file can come to point at
//! another entity.

use std::ops::Range;

use crate::model::EntityId;

/// Bytes in one block; the last one of an entity may be shorter. Small enough that a random read of 4 KiB moves little
/// more than it asked, large enough that the bookkeeping of a block is nothing beside copying it.
pub const BLOCK_SIZE_BYTES: u64 = 16 * 1024;

/// Blocks that `len` bytes fill, the last one perhaps in part.
pub fn blocks_in(len: u64) -> u64 {
    len.div_ceil(BLOCK_SIZE_BYTES)
}

/// An entity as the unit of caching. Its size is part of what it is: a server that gave an old number to new
/// content would otherwise have us mix the two (→ api part 2 §3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entity {
    /// The server's name for it.
    pub id: EntityId,
    /// Bytes in it.
    pub size_bytes: u64,
}

impl Entity {
    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.size_bytes.div_ceil(BLOCK_SIZE_BYTES)
    }

    /// The blocks that `range`, in bytes and not empty, touches.
    pub fn blocks_of(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.size_bytes).div_ceil(BLOCK_SIZE_BYTES);
        range.start / BLOCK_SIZE_BYTES..end
    }

    /// Bytes in the block `index`.
    pub fn block_len(&self, index: u64) -> u64 {
        self.size_bytes
            .saturating_sub(index * BLOCK_SIZE_BYTES)
            .min(BLOCK_SIZE_BYTES)
    }

    /// The bytes of `blocks`.
    pub fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        let end = (blocks.end * BLOCK_SIZE_BYTES).min(self.size_bytes);
        (blocks.start * BLOCK_SIZE_BYTES).min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_the_blocks_it_has_bytes_in() {
        const B: u64 = BLOCK_SIZE_BYTES;
        let entity = Entity {
            id: EntityId("e".into()),
            size_bytes: B * 2 + 10,
        };
        assert_eq!(entity.blocks(), 3);
        assert_eq!(entity.blocks_of(&(0..1)), 0..1);
        assert_eq!(entity.blocks_of(&(B - 1..B + 1)), 0..2);
        assert_eq!(entity.blocks_of(&(B..B * 9)), 1..3);
        assert_eq!((entity.block_len(1), entity.block_len(2)), (B, 10));
        assert_eq!(entity.block_len(3), 0);
        assert_eq!(entity.bytes_of(&(1..3)), B..B * 2 + 10);
        assert_eq!(entity.bytes_of(&(5..9)), B * 2 + 10..B * 2 + 10);
    }
}
