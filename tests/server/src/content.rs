//! Bytes of entities: kept in memory, or computed from a seed when somebody asks for them.
//!
//! Generated content costs no memory, whatever its size, and any range of it can be made without the bytes before.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::ids::mix;

/// The content of one entity. It never changes; cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Kept(Bytes),
    Generated { size: u64, seed: u64 },
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Kept(bytes) => bytes.len() as u64,
            Self::Generated { size, .. } => *size,
        }
    }

    /// The bytes of `range`, which must lie inside the content.
    pub(crate) fn read(&self, range: Range<u64>) -> Bytes {
        match self {
            Self::Kept(bytes) => bytes.slice(range.start as usize..range.end as usize),
            Self::Generated { seed, .. } => {
                let mut bytes = BytesMut::zeroed((range.end - range.start) as usize);
                generate(*seed, range.start, &mut bytes);
                bytes.freeze()
            }
        }
    }
}

/// The bytes that a file made by `put_generated` with this seed has in `range`, in bytes from its start.
pub fn generated_bytes(seed: u64, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
    generate(seed, range.start, &mut bytes);
    bytes
}

/// Fills `out` with the content from byte `start`: eight bytes at a time, each word from the seed and its index.
fn generate(seed: u64, start: u64, out: &mut [u8]) {
    let base = mix(seed);
    let word = |index: u64| {
        let z = (index ^ base).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (z ^ z >> 29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(31)
            .to_le_bytes()
    };
    let head = ((8 - start % 8) % 8).min(out.len() as u64) as usize;
    let (first, rest) = out.split_at_mut(head);
    let inside = (start % 8) as usize;
    first.copy_from_slice(&word(start / 8)[inside..inside + head]);
    let mut index = (start + head as u64) / 8;
    let mut words = rest.chunks_exact_mut(8);
    for chunk in &mut words {
        chunk.copy_from_slice(&word(index));
        index += 1;
    }
    let tail = words.into_remainder();
    let length = tail.len();
    tail.copy_from_slice(&word(index)[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_of_generated_content_is_the_same_as_in_the_whole() {
        let whole = generated_bytes(5, 0..100);
        for start in 0..100 {
            for end in start..100 {
                assert_eq!(
                    generated_bytes(5, start..end),
                    whole[start as usize..end as usize]
                );
            }
        }
        let content = Content::Generated { size: 100, seed: 5 };
        assert_eq!(&content.read(3..90)[..], &whole[3..90]);
    }

    #[test]
    fn different_seeds_and_places_have_different_bytes() {
        assert_ne!(generated_bytes(1, 0..64), generated_bytes(2, 0..64));
        assert_ne!(generated_bytes(1, 0..64), generated_bytes(1, 64..128));
    }
}
