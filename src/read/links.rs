//! Signed URLs by entity, until they expire.
//!
//! Promises: one request in flight for each entity, however many wait; a URL is used again until shortly before it
//! expires by the *server's* clock. On shares it is used to its very end, and never asked for ahead of need: each URL of
//! a share counts as one of its downloads (→ api part 2 §2.1). A file that is no longer where it was is looked for once by
//! its identity.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use lru::LruCache;

use super::Source;
use super::origin::{Origin, Signed};
use crate::api::Error;
use crate::expiry::Expiry;
use crate::model::EntityId;
use crate::secret::Secret;
use crate::uri::FileSystem;

/// URLs remembered; each is a few hundred bytes.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A URL is not used in its last minute, or in the last quarter of a shorter life, so that a request on its way does
/// not arrive after its end.
const MARGIN: Duration = Duration::from_secs(60);

/// The URLs.
pub(super) struct Links {
    cells: Mutex<LruCache<EntityId, Cell>>,
}

type Asking = BoxFuture<'static, Result<Link, Error>>;

enum Cell {
    /// Alive as long as somebody waits for it: a request that all have left is not taken up again, since its time is
    /// long over when the next one comes.
    Asked {
        asking: WeakShared<Asking>,
        fresh: bool,
    },
    Known(Link),
    /// The last one did not work. The server would give it out again from its own cache, unless asked for a fresh one.
    Broken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    url: Secret,
    expires: Option<Expiry>,
    margin: Duration,
}

impl Link {
    fn new((url, expires): Signed, on_share: bool, server_now: SystemTime) -> Self {
        let life = expires.and_then(|expires| expires.duration_since(server_now).ok());
        let margin = match on_share {
            true => Duration::ZERO,
            false => MARGIN.min(life.unwrap_or_default() / 4),
        };
        Self {
            url,
            expires: expires.map(Expiry::at),
            margin,
        }
    }

    fn is_good(&self, server_now: SystemTime) -> bool {
        match self.expires {
            Some(expires) => !expires.is_near(server_now, self.margin),
            None => true,
        }
    }
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            cells: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// A URL of the source's entity that is good now, for all that is known.
    pub(super) async fn get(&self, origin: &Arc<Origin>, source: &Source) -> Result<Secret, Error> {
        let (asked, fresh) = match self.known_or_asked(origin, source) {
            Ok(url) => return Ok(url),
            Err(asked) => asked,
        };
        let answer = asked.clone().await;
        let mut cells = self.cells.lock().unwrap();
        if cells
            .peek(&source.entity)
            .is_some_and(|cell| cell.is(&asked))
        {
            match &answer {
                Ok(link) => drop(cells.put(source.entity.clone(), Cell::Known(link.clone()))),
                Err(_) if fresh => drop(cells.put(source.entity.clone(), Cell::Broken)),
                Err(_) => drop(cells.pop(&source.entity)),
            }
        }
        Ok(answer?.url)
    }

    /// `url` did not work: the next one is asked for afresh, unless another has taken its place already.
    pub(super) fn forget(&self, entity: &EntityId, url: &Secret) {
        let mut cells = self.cells.lock().unwrap();
        let is_it = |cell: &Cell| matches!(cell, Cell::Known(link) if link.url == *url);
        if cells.peek(entity).is_some_and(is_it) {
            cells.put(entity.clone(), Cell::Broken);
        }
    }

    fn known_or_asked(
        &self,
        origin: &Arc<Origin>,
        source: &Source,
    ) -> Result<Secret, (Shared<Asking>, bool)> {
        let server_now = (origin.server_now)();
        let mut cells = self.cells.lock().unwrap();
        let fresh = match cells.get(&source.entity) {
            Some(Cell::Known(link)) if link.is_good(server_now) => return Ok(link.url.clone()),
            Some(Cell::Asked { asking, fresh }) => match asking.upgrade() {
                Some(asking) => return Err((asking, *fresh)),
                None => *fresh,
            },
            Some(Cell::Broken) => true,
            Some(Cell::Known(_)) | None => false,
        };
        let asked = ask(Arc::clone(origin), source.clone(), fresh)
            .boxed()
            .shared();
        if let Some(weak) = asked.downgrade() {
            let cell = Cell::Asked {
                asking: weak,
                fresh,
            };
            cells.put(source.entity.clone(), cell);
        }
        Err((asked, fresh))
    }
}

impl Cell {
    fn is(&self, asked: &Shared<Asking>) -> bool {
        let Self::Asked { asking, .. } = self else {
            return false;
        };
        asking.upgrade().is_some_and(|other| other.ptr_eq(asked))
    }
}

async fn ask(origin: Arc<Origin>, source: Source, fresh: bool) -> Result<Link, Error> {
    let place = (source.locate)();
    let on_share = matches!(place.file_system(), FileSystem::Share { .. });
    let is_own = matches!(place.file_system(), FileSystem::My { .. });
    let signed = match (origin.sign)(place, source.entity.clone(), fresh).await {
        // Moved since we last heard of it; the server finds one's own files by identity.
        Err(Error::NotFound) if is_own => {
            let place = (origin.place_of)(source.file).await?;
            (origin.sign)(place, source.entity, fresh).await?
        }
        answer => answer?,
    };
    Ok(Link::new(signed, on_share, (origin.server_now)()))
}
