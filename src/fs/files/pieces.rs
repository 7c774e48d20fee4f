//! Reading what was written over a version: what is here from the local file, the rest from that version.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{File, Files, Locate, error};
use crate::fs::Error;
use crate::fs::changes::disk;
use crate::read::Source;
use crate::staging::{Base, Local, Piece};

impl Files {
    /// pread(2) of a local file: short only at its end. A part of the version below that cannot be read is an error, never
    /// zeros.
    pub(super) async fn read_local(
        &self,
        file: &File,
        local: &Arc<Local>,
        offset: u64,
        size_bytes: u32,
    ) -> Result<Bytes, Error> {
        let range = offset..offset.saturating_add(u64::from(size_bytes));
        // In this order: where it gets another base meanwhile, nothing is missing any more.
        let base = local.base();
        let pieces = local.pieces(range);
        if let [Piece::Here(range)] = &pieces[..] {
            return local.read(range.clone()).map_err(disk);
        }
        let mut bytes = BytesMut::with_capacity(size_bytes as usize);
        for piece in pieces {
            let (range, part) = match piece {
                Piece::Here(range) => (range.clone(), local.read(range).map_err(disk)?),
                Piece::Base(range) => {
                    let base = base.as_ref().ok_or_else(|| ended(&range))?;
                    let part = self.read_base(file, local, base, range.clone()).await;
                    (
                        range.clone(),
                        part.or_else(|err| read_here(local, range, err))?,
                    )
                }
            };
            bytes.extend_from_slice(&part);
            if (part.len() as u64) < range.end - range.start {
                // It was truncated meanwhile.
                break;
            }
        }
        Ok(bytes.freeze())
    }

    async fn read_base(
        &self,
        file: &File,
        local: &Arc<Local>,
        base: &Base,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        let source = source_of(base, file.content.locate());
        let stream = self.stream_of(file, source);
        // No longer than what the kernel asks for at once.
        let len = (range.end - range.start) as u32;
        let bytes = stream.read(range.start, len).await.map_err(error)?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(ended(&range));
        }
        // The upload will need them, too. Where there is no room, it will find out for itself.
        if let Err(err) = local.fill(range.start, &bytes) {
            log::debug!("what was read is not kept: {err}");
        }
        Ok(bytes)
    }
}

/// The bytes of `range`, of which the base gave nothing but `err`. It may have been filled in meanwhile, and the base
/// replaced: then they are here.
fn read_here(local: &Local, range: Range<u64>, err: Error) -> Result<Bytes, Error> {
    match &local.pieces(range.clone())[..] {
        [Piece::Here(here)] if *here == range => local.read(range).map_err(disk),
        _ => Err(err),
    }
}

/// What lies under a local file, to be read.
pub(super) fn source_of(base: &Base, locate: Locate) -> Source {
    Source {
        file: base.file.clone(),
        entity: base.entity.id.clone(),
        size_bytes: base.entity.size_bytes,
        locate,
    }
}

fn ended(range: &Range<u64>) -> Error {
    Error::Io(crate::api::Error::Local(format!(
        "the version below what was written ends before byte {}",
        range.end
    )))
}
