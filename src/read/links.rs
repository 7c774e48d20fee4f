//! Signed URLs by entity, until they expire.
//!
//! Promises: one request in flight for each entity, however many wait; a URL is used again until shortly before it
//! expires by the *server's* clock. On shares it is used to its very end, and never asked for ahead of need: each URL of
//! a share counts as one of its downloads (→ api part 2 §2.1). A file that is no longer where it was is looked for once by
//! its identity.
//!
//! Ahead of need URLs come in batches. A batch cannot name versions, so of its URLs those are kept that name the wanted
//! entity by themselves; what a batch does not bring is nobody's failure: who needs that file asks for it alone.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use lru::LruCache;
use tokio::sync::watch;

use super::Source;
use super::origin::{Origin, Signed};
use super::route::entity_of;
use crate::api::Error;
use crate::expiry::Expiry;
use crate::model::EntityId;
use crate::secret::Secret;
use crate::uri::{FileSystem, FileUri};

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
    /// Comes with a batch, which closes the channel when it ends, whatever came of it.
    Batched(watch::Receiver<()>),
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
        let (asked, fresh) = loop {
            match self.find(origin, source) {
                Found::Known(url) => return Ok(url),
                Found::Asked(asked, fresh) => break (asked, fresh),
                Found::Batched(mut batch) => while batch.changed().await.is_ok() {},
            }
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

    /// Asks in one request for the URLs of those of `sources` that are one's own files and have none yet.
    ///
    /// Whoever needs one of the files meanwhile waits for this request. Dropping it leaves them to ask by themselves.
    pub(super) async fn get_ahead(&self, origin: &Arc<Origin>, sources: &[Source]) -> Batch {
        let (end, ended) = watch::channel(());
        let wanted = self.reserve(origin, sources, &ended);
        if wanted.is_empty() {
            return Batch::default();
        }
        let places = wanted.iter().map(|(_, place)| place.clone()).collect();
        let answer = (origin.sign_many)(places).await;
        let server_now = (origin.server_now)();
        let mut batch = Batch::default();
        let (urls, expires) = answer.unwrap_or_else(|error| {
            log::debug!("no URLs ahead of need: {error}");
            batch.failed = true;
            Default::default()
        });
        let mut cells = self.cells.lock().unwrap();
        for (at, (entity, _)) in wanted.into_iter().enumerate() {
            // Somebody may have found the cell pushed out meanwhile, and asked: that answer is as good.
            let ours = matches!(cells.peek(&entity), Some(Cell::Batched(batch)) if batch.same_channel(&ended));
            let url = urls.get(at).cloned().flatten();
            let named = url.as_ref().map(|url| entity_of(url.expose()));
            let is_good = named == Some(Some(&entity.0));
            if named == Some(None) {
                batch.elsewhere.insert(entity.clone());
            }
            match url {
                Some(url) if is_good && ours => {
                    let link = Link::new((url, expires), false, server_now);
                    cells.put(entity, Cell::Known(link));
                }
                _ if ours => drop(cells.pop(&entity)),
                _ => {}
            }
        }
        drop(cells);
        // Who waits looks for what came.
        drop(end);
        batch
    }

    /// Whether a URL of the entity is known that is good now.
    pub(super) fn knows(&self, origin: &Origin, entity: &EntityId) -> bool {
        let server_now = (origin.server_now)();
        let cells = self.cells.lock().unwrap();
        matches!(cells.peek(entity), Some(Cell::Known(link)) if link.is_good(server_now))
    }

    /// Those of `sources` that a batch is to bring, with their places; their cells wait for it from now on.
    fn reserve(
        &self,
        origin: &Origin,
        sources: &[Source],
        batch: &watch::Receiver<()>,
    ) -> Vec<(EntityId, FileUri)> {
        let server_now = (origin.server_now)();
        // A place is computed from the names on the way to it: not under the lock.
        let placed: Vec<_> = sources
            .iter()
            .map(|source| (source.entity.clone(), (source.locate)()))
            .filter(|(_, place)| is_ones_own(place))
            .collect();
        let mut cells = self.cells.lock().unwrap();
        let mut wanted = Vec::with_capacity(placed.len());
        for (entity, place) in placed {
            let is_free = match cells.peek(&entity) {
                None => true,
                Some(Cell::Known(link)) => !link.is_good(server_now),
                Some(Cell::Asked { asking, fresh }) => asking.upgrade().is_none() && !fresh,
                Some(Cell::Batched(other)) => other.has_changed().is_err(),
                Some(Cell::Broken) => false,
            };
            if is_free {
                cells.put(entity.clone(), Cell::Batched(batch.clone()));
                wanted.push((entity, place));
            }
        }
        wanted
    }

    fn find(&self, origin: &Arc<Origin>, source: &Source) -> Found {
        let server_now = (origin.server_now)();
        let mut cells = self.cells.lock().unwrap();
        let fresh = match cells.get(&source.entity) {
            Some(Cell::Known(link)) if link.is_good(server_now) => {
                return Found::Known(link.url.clone());
            }
            Some(Cell::Asked { asking, fresh }) => match asking.upgrade() {
                Some(asking) => return Found::Asked(asking, *fresh),
                None => *fresh,
            },
            Some(Cell::Batched(batch)) if batch.has_changed().is_ok() => {
                return Found::Batched(batch.clone());
            }
            Some(Cell::Broken) => true,
            Some(Cell::Known(_) | Cell::Batched(_)) | None => false,
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
        Found::Asked(asked, fresh)
    }
}

/// What came of a batch, beside the URLs.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Those whose URL does not tell its entity, as it is with other storages: they are to be asked for alone.
    pub(super) elsewhere: HashSet<EntityId>,
    /// There was no answer.
    pub(super) failed: bool,
}

/// What there is to a URL of an entity.
enum Found {
    Known(Secret),
    /// A request for it alone, and whether for a fresh one.
    Asked(Shared<Asking>, bool),
    /// A request for many.
    Batched(watch::Receiver<()>),
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
    let is_own = is_ones_own(&place);
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

/// Whether `place` is in one's own files: not in a share, nor in the trash, of which the server gives no URLs.
pub(super) fn is_ones_own(place: &FileUri) -> bool {
    matches!(place.file_system(), FileSystem::My { .. })
}
