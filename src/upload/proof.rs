//! Whether a version on the server has our very bytes.
//!
//! Promises: yes is said only after all bytes were compared, since two versions may differ in any one of them and a sample
//! of the others is alike then. The sample comes first all the same: most often it is enough for a no.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::attempt::Attempt;
use super::body::{Prints, blocking, print, sampled};
use super::outcome::Failure;
use crate::api::{Api, Error};
use crate::entity::Entity;
use crate::secret::Secret;
use crate::staging::Local;
use crate::uri::FileUri;

/// So many bytes are held against one another at a time, where the local file tells ours.
const PIECE_BYTES: u64 = 8 << 20;

/// What tells our bytes.
pub(super) struct Witness {
    /// A hash over the [`sampled`] parts.
    sample: u64,
    bytes: Bytes,
}

/// What tells all of them.
enum Bytes {
    /// What was printed while they were sent; from the first byte to the last one.
    Prints(Prints),
    /// The local file, as long as it has this generation.
    Here(Arc<Local>, u64),
    /// Nothing: the local file has another content by now.
    Gone,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// All bytes are the same.
    Same,
    /// They are not, or nothing tells that they are.
    Other,
    /// The local file was written to meanwhile.
    Overtaken,
}

impl Witness {
    /// For what `local` has now, in `generation`.
    pub(super) fn of_content(local: &Arc<Local>, generation: u64, sample: u64) -> Self {
        Self {
            sample,
            bytes: Bytes::Here(Arc::clone(local), generation),
        }
    }

    /// For what a try sent. `local`, if there still is one, may have another content by now.
    pub(super) fn of_attempt(local: Option<&Arc<Local>>, attempt: &Attempt) -> Self {
        let here = local.filter(|local| {
            local.generation() == attempt.generation
                && local.size_bytes() == attempt.size_bytes
                && local.missing().is_none()
        });
        let bytes = match (attempt.prints.cover(attempt.size_bytes), here) {
            (true, _) => Bytes::Prints(attempt.prints.clone()),
            (false, Some(local)) => Bytes::Here(Arc::clone(local), attempt.generation),
            (false, None) => Bytes::Gone,
        };
        Self {
            sample: attempt.sample,
            bytes,
        }
    }

    /// Holds version `entity` of the file at `uri` against it. Reads all of it from the server, in the end.
    pub(super) async fn prove(
        &self,
        api: &Api,
        uri: &FileUri,
        entity: &Entity,
    ) -> Result<Proof, Failure> {
        match self.compare(api, uri, entity).await {
            Err(Failure::Api(Error::EntityGone | Error::NotFound)) => Ok(Proof::Other),
            proof => proof,
        }
    }

    async fn compare(&self, api: &Api, uri: &FileUri, entity: &Entity) -> Result<Proof, Failure> {
        let size_bytes = entity.size_bytes;
        let parts = sampled(size_bytes);
        let is_whole = parts.len() == 1;
        let theirs = Theirs::open(api, uri, entity).await?;
        if theirs.print(parts).await? != self.sample {
            return Ok(Proof::Other);
        }
        if is_whole {
            return Ok(Proof::Same);
        }
        let parts = match &self.bytes {
            Bytes::Prints(prints) => prints.parts(),
            Bytes::Here(..) => pieces(size_bytes),
            Bytes::Gone => return Ok(Proof::Other),
        };
        for (part, printed) in parts {
            let ours = match (printed, &self.bytes) {
                (Some(print), _) => print,
                (None, Bytes::Here(local, generation)) => {
                    match ours(local, *generation, part.clone()).await? {
                        Some(print) => print,
                        None => return Ok(Proof::Overtaken),
                    }
                }
                (None, _) => return Ok(Proof::Other),
            };
            if theirs.print(vec![part]).await? != ours {
                return Ok(Proof::Other);
            }
        }
        Ok(Proof::Same)
    }
}

/// All bytes, cut into pieces of which nothing is known yet.
fn pieces(size_bytes: u64) -> Vec<(Range<u64>, Option<u64>)> {
    let starts = (0..size_bytes.div_ceil(PIECE_BYTES)).map(|nth| nth * PIECE_BYTES);
    starts
        .map(|start| (start..(start + PIECE_BYTES).min(size_bytes), None))
        .collect()
}

/// The print of a part of the local file; none where it has another content.
async fn ours(local: &Arc<Local>, generation: u64, part: Range<u64>) -> io::Result<Option<u64>> {
    let file = Arc::clone(local);
    let printed = blocking(move || print(&file, std::iter::once(part))).await;
    // Before the error is looked at: one who cut the file off has a reason to find less of it.
    match local.generation() == generation {
        true => printed.map(Some),
        false => Ok(None),
    }
}

/// A version on the server, to be read.
struct Theirs<'a> {
    api: &'a Api,
    uri: &'a FileUri,
    entity: &'a Entity,
    url: std::sync::Mutex<Option<Secret>>,
}

impl<'a> Theirs<'a> {
    async fn open(api: &'a Api, uri: &'a FileUri, entity: &'a Entity) -> Result<Self, Error> {
        let theirs = Self {
            api,
            uri,
            entity,
            url: std::sync::Mutex::new(None),
        };
        // Nothing is ever asked for content of no bytes.
        if entity.size_bytes > 0 {
            theirs.sign(false).await?;
        }
        Ok(theirs)
    }

    async fn sign(&self, fresh: bool) -> Result<(), Error> {
        let uris = [self.uri.clone()];
        let urls = match fresh {
            true => self.api.fresh_urls(&uris, Some(&self.entity.id)).await?,
            false => self.api.urls(&uris, Some(&self.entity.id)).await?,
        };
        let url = urls.urls.into_iter().flatten().next();
        *self.url.lock().unwrap() = Some(url.ok_or(Error::EntityGone)?);
        Ok(())
    }

    /// The print of these parts, one after the other.
    async fn print(&self, parts: Vec<Range<u64>>) -> Result<u64, Error> {
        let mut hash = Xxh3::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let before = hash.clone();
            match self.read(part.clone(), &mut hash).await {
                Err(Error::UrlExpired) => {
                    self.sign(true).await?;
                    hash = before;
                    self.read(part, &mut hash).await?;
                }
                read => read?,
            }
        }
        Ok(hash.digest())
    }

    async fn read(&self, part: Range<u64>, hash: &mut Xxh3) -> Result<(), Error> {
        let url = self.url.lock().unwrap().clone().ok_or(Error::EntityGone)?;
        let size_bytes = self.entity.size_bytes;
        let mut content = self.api.content(&url, part, size_bytes).await?;
        while let Some(bytes) = content.next().await? {
            hash.update(&bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_of_the_content() {
        for size in [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let mut at = 0;
            for (part, print) in pieces(size) {
                assert_eq!((part.start, print), (at, None));
                assert!(part.end > at && part.end - at <= PIECE_BYTES);
                at = part.end;
            }
            assert_eq!(at, size);
        }
    }
}
