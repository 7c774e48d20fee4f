//! Blocks put together into what was asked for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::buffers::Buffers;
use super::disk::Disk;
use super::tally::Tally;
use crate::api::Error;
use crate::asker;
use crate::blocks::{Missed, Piece, Segment};
use crate::cache::Kept;
use crate::entity::BLOCK_SIZE_BYTES;

/// What is read, and from where.
pub(super) struct Gather<'a> {
    pub(super) kept: &'a Arc<Kept>,
    pub(super) disk: &'a Disk,
    pub(super) buffers: &'a Arc<Buffers>,
    pub(super) tally: &'a Tally,
    /// The bytes asked for.
    pub(super) range: &'a Range<u64>,
}

/// Why there are no bytes.
pub(super) enum Lacking {
    /// Whoever was to bring them did not.
    Missed(Missed<Error>),
    /// The disk does not have what it was thought to have, or does not answer.
    NotKept,
}

impl Gather<'_> {
    /// The bytes out of `pieces`, without a copy where one segment holds them all. Completes at its first poll where
    /// all are in memory, the kernel's page cache included.
    pub(super) async fn bytes(&self, mut pieces: Vec<Piece<Error>>) -> Result<Bytes, Lacking> {
        let (mut memory, mut network, mut disk) = (0, 0, 0);
        // The disk first: what it turns out not to have is asked of the network beside what is on its way.
        for piece in &mut pieces {
            if let Piece::Kept(blocks) = piece {
                let segment = self.kept_blocks(blocks.clone()).await?;
                disk += self.overlap(&segment);
                *piece = Piece::Here(segment);
            }
        }
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Here(segment) => {
                    self.kept.store_again(segment.first, &segment.bytes);
                    memory += self.overlap(&segment);
                    segments.push(segment);
                }
                Piece::Coming(waiter) => {
                    let came = asker::unless_killed(waiter.segments()).await;
                    let came = came.unwrap_or(Err(Missed::Failed(Error::Interrupted)));
                    let came = came.map_err(Lacking::Missed)?;
                    network += came.iter().map(|one| self.overlap(one)).sum::<u64>();
                    segments.extend(came);
                }
                // None is left.
                Piece::Kept(_) => return Err(Lacking::NotKept),
            }
        }
        // Only now: what is lacking at the end is gathered anew, all of it.
        self.tally.memory.add(memory - disk);
        self.tally.network.add(network);
        self.tally.disk.add(disk);
        Ok(self.join(&segments))
    }

    async fn kept_blocks(&self, blocks: Range<u64>) -> Result<Segment, Lacking> {
        let first = blocks.start;
        let bytes = self.disk.read(self.kept, blocks).await;
        let bytes = bytes.ok_or(Lacking::NotKept)?;
        Ok(Segment { first, bytes })
    }

    /// Where `segment` has bytes of the range: in the entity, and in the segment.
    fn part<'s>(&self, segment: &'s Segment) -> (Range<u64>, &'s Bytes) {
        let start = segment.first * BLOCK_SIZE_BYTES;
        let end = start + segment.bytes.len() as u64;
        let from = start.max(self.range.start);
        let to = end.min(self.range.end).max(from);
        (from - start..to - start, &segment.bytes)
    }

    fn overlap(&self, segment: &Segment) -> u64 {
        let (part, _) = self.part(segment);
        part.end - part.start
    }

    fn join(&self, segments: &[Segment]) -> Bytes {
        let slice = |part: Range<u64>| part.start as usize..part.end as usize;
        if let [segment] = segments {
            let (part, bytes) = self.part(segment);
            return bytes.slice(slice(part));
        }
        let len = self.range.end - self.range.start;
        let mut joined = self.buffers.take(len as usize);
        for segment in segments {
            let (part, bytes) = self.part(segment);
            joined.push(&bytes[slice(part)]);
        }
        joined.freeze()
    }
}
