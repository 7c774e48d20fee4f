//! Listings: a folder's entries, brought from the server once for all who wait.
//!
//! One listing of a folder is under way at most, in a task of its own that no waiter's end cancels. Entries can be had
//! as soon as their page is there. A listing that came to its end is complete: nothing is in it twice, and nothing
//! known is missing from it unless the server says so when asked for that very file. A listing that failed removes
//! nothing, and whoever reads it gets the error, never an end.
//!
//! Remembers nothing itself: complete listings go to `metadata`.

mod paging;
#[cfg(test)]
pub(crate) mod pretend;
mod progress;
mod shown;
#[cfg(test)]
mod tests;
mod vanished;

pub use progress::{Progress, Reached};
pub use shown::{Hidden, Options, Order, OrderBy, Sent, carries_id, is_flat, name_of};

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Instant, SystemTime};

use tokio::task::AbortHandle;

use crate::api::{self, Api, Page, PagePosition};
use crate::entry::{Entry, FileKey};
use crate::metadata::{Changes, Kept, Listing, Metadata};
use crate::model::{FileId, FileInfo};
use crate::uri::{FileSystem, FileUri};

/// A question under way.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T, api::Error>> + Send>>;

/// The two questions that a listing asks.
#[derive(Clone)]
pub struct Source {
    /// One page of a folder, of at most so many entries.
    pub page: Arc<dyn Fn(FileUri, PagePosition, u32) -> Asked<Page> + Send + Sync>,
    /// What is at a place.
    pub info: Arc<dyn Fn(FileUri) -> Asked<FileInfo> + Send + Sync>,
}

impl Source {
    /// Asks a server.
    pub fn of(api: &Api) -> Self {
        let (lists, tells) = (api.clone(), api.clone());
        Self {
            page: Arc::new(move |uri, position, size| {
                let api = lists.clone();
                Box::pin(async move { api.list_page(&uri, &position, size).await })
            }),
            info: Arc::new(move |uri| {
                let api = tells.clone();
                Box::pin(async move { api.info(&uri).await })
            }),
        }
    }
}

/// The listings under way. Dropping it ends their tasks.
pub struct Listings {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    options: Options,
    metadata: Arc<Metadata>,
    flights: Mutex<HashMap<FileKey, Flight>>,
    versions: AtomicU64,
}

struct Flight {
    began: Instant,
    progress: Arc<Progress>,
    task: AbortHandle,
}

impl Drop for Listings {
    fn drop(&mut self) {
        for (_, flight) in self.shared.flights.lock().unwrap().drain() {
            flight.task.abort();
        }
    }
}

impl Listings {
    /// Lists from `source`, shows as `options` say, keeps in `metadata`.
    pub fn new(source: Source, options: Options, metadata: Arc<Metadata>) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                options,
                metadata,
                flights: Mutex::default(),
                versions: AtomicU64::new(1),
            }),
        }
    }

    /// The listing of `folder` that is believed, with what we changed there since, and when it was asked for.
    pub fn believed(&self, folder: &FileKey, now: Instant) -> Option<(Arc<Listing>, Instant)> {
        let metadata = &self.shared.metadata;
        if let Some(changes) = metadata.changes(folder, now) {
            metadata.fold(folder, &changes, self.shared.with_changes(&changes));
        }
        metadata.listing(folder, now)
    }

    /// `kept` is what was known of `folder` when that was mounted last, at `asked` if it counts by its age.
    pub fn recall(&self, folder: &FileKey, kept: Kept, asked: Option<Instant>) {
        let hidden = &self.shared.options.hidden;
        let mut entries = kept.entries;
        entries.retain(|entry| !hidden.has_file(&entry.id));
        let version = self.shared.versions.fetch_add(1, Relaxed);
        let listing = Arc::new(Listing::new(entries, version, kept.is_flat));
        let metadata = &self.shared.metadata;
        metadata.recall(folder, listing, asked, Instant::now());
    }

    /// A folder of which something else is known than was kept of it, and what is known now. It counts as kept from now on.
    pub fn take_unkept(&self) -> Option<(FileKey, Kept)> {
        let (folder, changes, asked) = self.shared.metadata.take_unkept()?;
        let (now, at) = (Instant::now(), SystemTime::now());
        let kept = Kept {
            entries: self.shared.with_changes(&changes).entries().to_vec(),
            is_flat: changes.listing.is_flat(),
            asked: asked.and_then(|asked| at.checked_sub(now.saturating_duration_since(asked))),
        };
        Some((folder, kept))
    }

    /// `folder` was made at `at`, and there is nothing in it.
    pub fn made(&self, folder: &FileKey, at: Instant) {
        let version = self.shared.versions.fetch_add(1, Relaxed);
        let nothing = Arc::new(Listing::new(Vec::new(), version, false));
        self.shared.metadata.keep_listing(folder, nothing, at, at);
    }

    /// The listing of `folder` that is under way, if one is, and not from before what others are known to have changed.
    pub fn under_way(&self, folder: &FileKey) -> Option<Arc<Progress>> {
        let flights = self.shared.flights.lock().unwrap();
        let flight = flights.get(folder);
        let flight =
            flight.filter(|flight| self.shared.metadata.is_recent(folder, flight.began))?;
        Some(Arc::clone(&flight.progress))
    }

    /// The listing of `folder`, which is at `uri`: the one under way, or a new one. Must be called within a runtime.
    pub fn list(&self, folder: &FileKey, uri: &FileUri) -> Arc<Progress> {
        let mut flights = self.shared.flights.lock().unwrap();
        // A task that ended and is in the table all the same has panicked.
        // Nor may one be joined that began before what others are known to have changed.
        if let Some(flight) = flights.get(folder)
            && !flight.task.is_finished()
            && self.shared.metadata.is_recent(folder, flight.began)
        {
            return Arc::clone(&flight.progress);
        }
        let (began, progress) = (Instant::now(), Arc::new(Progress::new(is_flat(uri))));
        let job = Job {
            shared: Arc::downgrade(&self.shared),
            source: self.shared.source.clone(),
            options: self.shared.options.clone(),
            folder: folder.clone(),
            uri: uri.clone(),
            began,
            previous: self.shared.metadata.last_listing(folder),
            progress: Arc::clone(&progress),
        };
        // The table is locked until the flight is in it, so its task cannot look for it too soon.
        let task = tokio::spawn(job.run()).abort_handle();
        let flight = Flight {
            began,
            progress: Arc::clone(&progress),
            task,
        };
        flights.insert(folder.clone(), flight);
        progress
    }
}

impl Shared {
    fn with_changes(&self, changes: &Changes) -> Arc<Listing> {
        let names: HashMap<&OsStr, &Option<Arc<Entry>>> = changes
            .names
            .iter()
            .map(|(name, entry)| (&**name, entry))
            .collect();
        let ids: HashSet<&FileId> = names
            .values()
            .filter_map(|entry| Some(&entry.as_ref()?.id))
            .collect();
        let old = changes.listing.entries().iter();
        let mut entries: Vec<_> = old
            .filter(|entry| !names.contains_key(&*entry.name) && !ids.contains(&entry.id))
            .cloned()
            .collect();
        entries.extend(names.values().filter_map(|entry| (*entry).clone()));
        self.options.order.sort(&mut entries);
        let version = match changes.listing.shows(&entries) {
            true => changes.listing.version(),
            false => self.versions.fetch_add(1, Relaxed),
        };
        Arc::new(Listing::new(entries, version, changes.listing.is_flat()))
    }
}

/// What the task of one listing works on.
struct Job {
    shared: Weak<Shared>,
    source: Source,
    options: Options,
    folder: FileKey,
    uri: FileUri,
    began: Instant,
    previous: Option<Arc<Listing>>,
    progress: Arc<Progress>,
}

impl Job {
    async fn run(self) {
        let began = self.began;
        let outcome = self.list().await;
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let outcome = outcome.map(|(entries, asked)| {
            let version = match &self.previous {
                Some(previous) if previous.shows(&entries) => previous.version(),
                _ => shared.versions.fetch_add(1, Relaxed),
            };
            let listing = Arc::new(Listing::new(entries, version, self.progress.is_flat()));
            shared
                .metadata
                .keep_listing(&self.folder, Arc::clone(&listing), began, asked);
            (listing, asked)
        });
        if let Err(error) = &outcome {
            log::debug!("listing {} failed: {error}", self.uri);
        }
        let mut flights = shared.flights.lock().unwrap();
        let is_this = |flight: &Flight| Arc::ptr_eq(&flight.progress, &self.progress);
        if flights.get(&self.folder).is_some_and(is_this) {
            flights.remove(&self.folder);
        }
        drop(flights);
        self.progress.finish(outcome);
    }

    /// `page`, unless it is of another folder, which has come to where this one was last: then that is not there.
    fn is_of_it(&self, page: Page) -> Result<Page, api::Error> {
        // The root is whatever is there, and what is behind a shortcut has an id of its own.
        let is_own = matches!(self.uri.file_system(), FileSystem::My { .. });
        let (told, id) = (&page.folder.id, &self.folder.id);
        match is_own && !id.0.is_empty() && !told.0.is_empty() && told != id {
            true => Err(api::Error::NotFound),
            false => Ok(page),
        }
    }

    async fn list(&self) -> Result<(Vec<Arc<Entry>>, Instant), api::Error> {
        let mut entries = Vec::new();
        let early = self.options.order.is_the_servers() && !is_flat(&self.uri);
        let paged = paging::all_pages(
            paging::PAGE_SIZE,
            |position, size| {
                let page = (self.source.page)(self.uri.clone(), position, size);
                async { self.is_of_it(page.await?) }
            },
            |page, new, asked| {
                let empty = Some(&page.folder.entity);
                let new = new
                    .into_iter()
                    .filter_map(|info| self.options.entry(info, empty));
                match early {
                    true => self.progress.page(page, new.map(Arc::new).collect(), asked),
                    false => {
                        entries.extend(new);
                        self.progress.page(page, Vec::new(), asked);
                    }
                }
            },
        )
        .await?;
        let previous = self.previous.as_deref();
        let back = vanished::still_there(&self.source, &self.uri, previous, &paged, || {
            self.progress.answered();
        })
        .await?;
        let back = back
            .into_iter()
            .filter_map(|info| self.options.entry(info, None));
        if early {
            let mut all = self.progress.early();
            all.extend(back.map(Arc::new));
            shown::yield_names(&mut all);
            return Ok((all, paged.asked));
        }
        entries.extend(back);
        if is_flat(&self.uri) {
            shown::tell_apart(&mut entries);
        }
        let mut entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        if !is_flat(&self.uri) {
            shown::yield_names(&mut entries);
        }
        self.options.order.sort(&mut entries);
        Ok((entries, paged.asked))
    }
}
