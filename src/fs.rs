//! The filesystem in POSIX verbs; knows no FUSE, no HTTP.
//!
//! Joins the rooms below: names and attributes (`namespace`), open folders (`folders`), open files (`files`), space and
//! extended attributes. Every verb is `async` and completes at its first poll where memory can answer, so that `fuse`
//! answers inline. Nothing here makes a file absent but the server's own word for it; an error is always an error.

mod access;
mod ahead;
mod below;
mod changes;
mod copy;
mod create;
mod error;
mod exchange;
mod files;
mod folders;
mod freshening;
mod handles;
mod late;
mod leaving;
mod locals;
mod namespace;
mod news;
mod others;
mod pinned;
mod probing;
mod questions;
mod recall;
mod removals;
mod remove;
mod rename;
mod root;
mod shortcuts;
mod sizes;
mod space;
mod steps;
mod sweep;
#[cfg(test)]
mod tests;
mod told;
mod touched;
mod turns;
mod unheard;
mod xattrs;

pub use crate::listing::{Order, OrderBy};
pub use below::{Below, FileBelow, Found};
pub use changes::{Owing, clear_first, drop_copies};
pub use copy::is_copy;
pub use error::Error;
pub use files::{At, Change, Reserve, SetTime, complete};
pub use freshening::freshen;
pub use others::Outdated;
pub use pinned::Pinned;
pub use recall::{Recall, Root, keep};
pub use removals::Unremoved;
pub use rename::RenameHow;
pub use told::Maker;
pub use unheard::{Astray, Pending};

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

use crate::api::{Api, Delete, Site};
use crate::asker;
use crate::attributes::ShownTimes;
use crate::cache::Whole;
use crate::entry::{Entry, Kind};
use crate::inodes::{Ino, Left, Node};
use crate::listing::Source;
use crate::model::{FileInfo, FileKind};
use crate::names::NamePolicy;
use crate::pins::Pins;
use crate::read::Reader;
use crate::staging::{Local, StepsId};
use crate::task::Task;
use crate::thumbnails::{self, Thumbnails};
use crate::uri::{FileSystem, FileUri};

use ahead::Foresight;
use files::{Files, Opening};
use folders::Folders;
use late::Late;
use locals::{Locals, is_here};
use namespace::Namespace;
use probing::probe;
use removals::Removals;
use sizes::FolderSizes;
use space::Quota;
use turns::{Line, Turns};

/// How the drive is shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is mounted.
    pub root: FileUri,
    /// Oldest that a name, an attribute or a listing in use may be.
    pub metadata_ttl: Duration,
    /// Files and folders remembered at most.
    pub metadata_entries: usize,
    /// How names are exchanged for those the server takes.
    pub names: NamePolicy,
    /// The order in which folders are read.
    pub order: Order,
    /// Other clients' unfinished uploads are not shown.
    pub hide_uploading: bool,
    /// Folders show the size of what lies below them, asked for lazily.
    pub folder_size: bool,
    /// Owner shown.
    pub uid: u32,
    /// Group shown.
    pub gid: u32,
    /// Permission bits of files, umask applied.
    pub file_mode: u16,
    /// Permission bits of folders, umask applied.
    pub dir_mode: u16,
    /// Where what is deleted goes.
    pub delete: Delete,
    /// Longest a call waits without bytes arriving.
    pub timeout: Duration,
    /// What close(2) and fsync(2) wait for.
    pub durability: Durability,
}

/// What close(2) and fsync(2) wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The local disk.
    #[default]
    Local,
    /// The server.
    Server,
}

/// What stat(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size_bytes: u64,
    /// Last change of content, last access that somebody set, last change of anything.
    pub times: ShownTimes,
    /// When the server made the record.
    pub created: SystemTime,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links. Of a folder 2 and the folders in it, or 1 where these are not known, which says that they are not counted (as
    /// btrfs says it). 0 of what lost its name while it was open.
    pub links: u32,
}

/// What the kernel may believe, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The attributes.
    pub attr: Attr,
    /// For how long.
    pub ttl: Duration,
}

/// Answer of a lookup. `Found` counts one lookup, paid back by [`Fs::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is there.
    Found(Believed),
    /// It is definitely not there.
    Absent {
        /// For how long that may be believed.
        ttl: Duration,
    },
}

/// One entry as readdir shows it; `.` and `..` included (their `believed` is not to be counted).
#[derive(Debug)]
pub struct FolderEntry<'a> {
    /// The name here.
    pub name: &'a OsStr,
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Where reading goes on behind it.
    pub next_offset: u64,
    /// Attributes.
    pub believed: Believed,
}

/// An open file or folder, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// What opening gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The handle.
    pub handle: HandleId,
    /// The kernel's cached pages (or directory entries) are still right.
    pub keep_cache: bool,
}

/// Space, for statfs(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
}

/// Counters for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Files and folders whose attributes are known.
    pub known_entries: u64,
    /// Inodes the kernel holds.
    pub inodes: u64,
    /// Open handles.
    pub handles: u64,
}

/// What a drive stands on.
pub struct Ground {
    /// The way to its server.
    pub api: Api,
    /// Who that is, and as whom it sees us.
    pub site: Site,
    /// Content is read by it.
    pub reader: Arc<Reader>,
    /// Those who are told of folders that were read.
    pub thumbnails: Option<Thumbnails>,
    /// What is kept at hand.
    pub pins: Arc<Pins>,
    /// What was known before; none where nothing is kept.
    pub recall: Option<Recall>,
}

/// A drive as a filesystem.
pub struct Fs {
    namespace: Namespace,
    folders: Folders,
    files: Files,
    foresight: Foresight,
    quota: Quota,
    thumbnails: Option<Thumbnails>,
    api: Api,
    user: crate::model::User,
    reader: Arc<Reader>,
    _probing: Task,
    /// None where nothing may be changed.
    owing: Option<Owing>,
    removals: Removals,
    late: Late,
    turns: Turns,
    renames: Line,
    /// Whether shares that the mount leads into may be written to, and when that was asked.
    shares: Mutex<HashMap<FileSystem, (bool, Instant)>>,
    /// Counts what lost its name while it was open.
    gone: AtomicU64,
    /// Who has it changes what is told of a file.
    telling: Mutex<()>,
    /// Changes that were under way when the process before this one ended.
    unfinished: Mutex<Vec<(StepsId, String)>>,
    pins: Arc<Pins>,
    /// Told when something may have changed.
    news: Notify,
}

impl Fs {
    /// Asks the server for the root of `options.root`: the drive is known to be there when this returns.
    /// A URI that names a file or nothing is an error.
    /// Without `owing` nothing may be changed. With it comes what was owed before anything of that could be delivered: it
    /// shows at once, whatever the server still says; and changes that were under way when the process before this one ended
    /// are finished.
    pub async fn new(
        options: Options,
        ground: Ground,
        owing: Option<(Owing, Vec<Arc<Local>>)>,
    ) -> Result<Arc<Self>, Error> {
        let Ground {
            api,
            site,
            reader,
            thumbnails,
            pins,
            recall,
        } = ground;
        let (owing, owed) = owing.unzip();
        let owed = owed.unwrap_or_default();
        let sizes = options
            .folder_size
            .then(|| FolderSizes::new(summaries(&api)));
        let staging = owing.as_ref().map(|owing| Arc::clone(&owing.staging));
        let unheard = Arc::default();
        let source = unheard::also_where_it_went(Source::of(&api), &api, &unheard);
        let reach = api.reach().clone();
        let begun = owing.as_ref().map(|owing| owing.staging.unfinished());
        let begun = begun.unwrap_or_default();
        let instance = &site.instance_id;
        let mut namespace =
            Namespace::new(options, instance, source, sizes, staging, reach, recall).await?;
        // That by which the source looks.
        namespace.unheard = unheard;
        let removals = Removals::new(&api, &namespace);
        if let Some(owing) = &owing {
            let uploader = Arc::downgrade(&owing.uploader);
            let is_left = move |info: &FileInfo| {
                let uploader = uploader.upgrade();
                uploader.is_some_and(|uploader| uploader.may_be_left(info))
            };
            let unheard = Arc::clone(&namespace.unheard);
            let is_removed = removals.hides();
            namespace.shown.hidden.also(move |info: &FileInfo| {
                is_left(info) || unheard.shows_elsewhere(info) || is_removed(info)
            });
        }
        let quota = Quota::of(&api, namespace.options.root.file_system());
        let foresight = Foresight::new(Arc::clone(&reader));
        let files = Files::new(Arc::clone(&reader), Arc::clone(&namespace.inodes));
        let fs = Self {
            removals,
            late: Late::default(),
            turns: Turns::default(),
            renames: Line::default(),
            namespace,
            folders: Folders::new(),
            files,
            foresight,
            quota,
            thumbnails,
            _probing: Task::spawn(probe(api.clone())),
            api,
            user: site.user,
            reader,
            owing: owing.clone(),
            shares: Mutex::default(),
            gone: AtomicU64::new(0),
            telling: Mutex::default(),
            unfinished: Mutex::new(begun),
            pins,
            news: Notify::new(),
        };
        owed.iter().for_each(|local| fs.watch(Arc::clone(local)));
        fs.show_unheard();
        fs.show_owed(owed);
        fs.finish_steps().await;
        Ok(Arc::new(fs))
    }

    /// Sends the removals that wait for others, and finishes what was interrupted; for an ordered end, and for whoever wants to
    /// be sure. Waits no longer than any call.
    pub async fn settle(&self) {
        if self.api.reach().is_down() {
            // It may be back since it was looked for last.
            self.in_time_for(self.api.ping()).await.ok();
        }
        if self.finish_late().await != late::Outcome::Done {
            log::warn!("a change that was interrupted could not be finished yet");
        }
        if self.all_removed(&self.root()).await.is_err() {
            log::warn!("the server did not confirm what was deleted last");
        }
        self.be_heard(true).await;
    }

    /// `change`, for which whoever asked waits no longer than for one call that is not answered, however many it takes: the
    /// kernel lets one at a time rename between folders, and the next one has waited for it, too. What had to stay half done by
    /// then is finished or taken back later.
    pub fn in_time<T>(&self, change: impl Future<Output = T>) -> impl Future<Output = T> {
        let latest = Instant::now() + self.namespace.options.timeout;
        asker::hurried(latest.into(), change)
    }

    fn next_gone(&self) -> u64 {
        self.gone.fetch_add(1, Relaxed)
    }

    /// Permission bits of files of which nothing else is told.
    pub fn file_mode(&self) -> u16 {
        self.namespace.options.file_mode
    }

    /// For `status`.
    pub fn counts(&self) -> Counts {
        Counts {
            known_entries: self.namespace.metadata.entries() as u64,
            inodes: self.namespace.inodes.len() as u64,
            handles: self.folders.count() + self.files.count(),
        }
    }

    /// A name in the folder `ino` came or went by us.
    fn touch(&self, ino: Ino) {
        if let Some(node) = self.namespace.inodes.node(ino) {
            let (folder, now) = (node.entry.id.clone(), SystemTime::now());
            self.namespace.touched.touch(folder, now);
        }
        self.news.notify_one();
    }

    /// lookup: counts one reference where found.
    pub async fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Lookup, Error> {
        self.namespace.lookup(parent, name).await
    }

    /// Gives back `lookups` references.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.namespace.inodes.forget(ino, lookups);
    }

    /// stat(2).
    pub async fn attr(&self, ino: Ino) -> Result<Believed, Error> {
        self.look_at_lent(ino);
        self.namespace.attr(ino).await
    }

    /// opendir(3).
    pub async fn open_folder(&self, ino: Ino) -> Result<Opened, Error> {
        self.folders.open(&self.namespace, ino).await
    }

    /// Waits until an entry at `offset` is there (or the end), then hands entries to `take` until it answers false (full:
    /// that entry is not taken) or no more are there yet. With `count`, each one taken except `.` and `..` counts one
    /// lookup. Nothing handed out: the end.
    pub async fn read_folder(
        &self,
        handle: HandleId,
        offset: u64,
        count: bool,
        take: &mut (dyn FnMut(FolderEntry<'_>) -> bool + Send),
    ) -> Result<(), Error> {
        self.folders
            .read(&self.namespace, handle, offset, count, take)
            .await
    }

    /// closedir(3).
    pub fn release_folder(&self, handle: HandleId) {
        let released = self.folders.release(handle);
        if let (Some(thumbnails), Some(ino)) = (&self.thumbnails, released)
            && let Some(folder) = self.as_read(ino)
        {
            thumbnails.folder_was_read(folder);
        }
    }

    /// The folder `ino` with what it showed last; none where nobody has read it to its end.
    fn as_read(&self, ino: Ino) -> Option<thumbnails::Folder> {
        let space = &self.namespace;
        let key = space.folder_key(ino).ok()?;
        Some(thumbnails::Folder {
            path: space.inodes.path(ino)?,
            uri: space.inodes.folder_uri(ino)?,
            listing: space.metadata.last_listing(&key)?,
        })
    }

    /// open(2) for reading: pins the entity that is current now; `Gone` where the kernel takes `ino` for another one.
    pub async fn open(&self, ino: Ino) -> Result<Opened, Error> {
        self.open_for(ino, false).await
    }

    /// Opens `ino`, to write to it if `writes`.
    async fn open_for(&self, ino: Ino, writes: bool) -> Result<Opened, Error> {
        let space = &self.namespace;
        let (node, entry, local) = self.content_of(ino).await?;
        if entry.name != node.entry.name {
            // Others renamed it, which is known from now on. Who comes by the name that it had is to find what has that, and
            // what is written there is not to go to the file that had it; who came by no name comes again.
            return Err(Error::Gone);
        }
        let target = match local {
            Some(_) => None,
            None => {
                space
                    .target(&space.folder_key(node.parent)?, &entry)
                    .await?
            }
        };
        let (entry, uri, moves) = match target {
            // What is behind a shortcut lies in somebody's share, where the mount has no folder for it.
            Some(_) if writes => return Err(Error::ReadOnly),
            Some((target, uri)) => (target, uri, false),
            None => (entry, space.inodes.uri(ino).ok_or(Error::NotFound)?, true),
        };
        let read_bytes = Arc::default();
        let is_read_ahead = moves && local.is_none() && !writes;
        let opening = Opening {
            entry: &entry,
            local,
            locate: self.locator(ino, uri, moves),
            read_bytes: Arc::clone(&read_bytes),
            writes,
        };
        let opened = self.files.open(ino, opening)?;
        if is_read_ahead {
            // With pages of its own the kernel may ask for nothing, which tells nothing of the program.
            let read_bytes = (!opened.keep_cache).then_some(read_bytes);
            self.foresight
                .opened(space, node.parent, &entry, read_bytes);
        }
        Ok(opened)
    }

    /// What `ino` is, what shows of it now, and that content where it is here.
    async fn content_of(&self, ino: Ino) -> Result<(Node, Arc<Entry>, Option<Arc<Local>>), Error> {
        let space = &self.namespace;
        loop {
            let (node, local) = space.node_and_local(ino).ok_or(Error::NotFound)?;
            if node.entry.kind == FileKind::Folder {
                return Err(Error::IsAFolder);
            }
            if let Some(shown) = local {
                let entry = Locals::entry(&shown, &node.entry.name);
                return Ok((node, entry, Some(shown.local)));
            }
            let entry = space.current(ino, &node).await?.what;
            if !is_here(&entry.entity) {
                return Ok((node, entry, None));
            }
            // It was written to in this moment, or delivered. What was neither nobody had open any more, and it has no name.
            match space.node_and_local(ino).ok_or(Error::NotFound)? {
                (now, None) if is_here(&now.entry.entity) => return Err(Error::Gone),
                _ => {}
            }
        }
    }

    /// Names under which the kernel would come to what was met under another one since, to be [`Fs::doubt_left`]. Theirs who
    /// asks first.
    pub fn left_names(&self) -> Option<Receiver<Left>> {
        self.namespace.inodes.left()
    }

    /// Two answers gave a file two names, and one of them is old: what was known of the name that was left is asked for again.
    pub fn doubt_left(&self, left: &Left) {
        if let Ok(folder) = self.namespace.folder_key(left.folder) {
            self.namespace.metadata.doubt(&folder, &left.name);
        }
    }

    /// Leaves `ino` to those who read it as it is: its name leads to another inode from now on.
    pub fn leave_to_readers(&self, ino: Ino) {
        self.namespace.inodes.part(ino);
    }

    /// pread(2) of the pinned entity.
    pub async fn read(
        &self,
        handle: HandleId,
        offset: u64,
        size_bytes: u32,
    ) -> Result<Bytes, Error> {
        self.files.read(handle, offset, size_bytes).await
    }

    /// Waits a moment for what the disk knows of an open file, so that [`Fs::whole`] can tell.
    pub async fn look(&self, handle: HandleId) {
        self.files.look(handle).await;
    }

    /// The content of an open file as a file on the disk, where all of it is there, known to be good, and worth it.
    /// Never waits.
    pub fn whole(&self, handle: HandleId) -> Option<Arc<Whole>> {
        self.files.whole(handle)
    }

    /// statfs(2), from the quota.
    pub async fn space(&self) -> Result<Space, Error> {
        Ok(self.quota.space().await)
    }

    /// Where the file of an open handle is by now: it follows renames, and targets of shortcuts stay where they are.
    fn locator(
        &self,
        ino: Ino,
        uri: FileUri,
        moves: bool,
    ) -> Arc<dyn Fn() -> FileUri + Send + Sync> {
        let inodes = Arc::clone(&self.namespace.inodes);
        Arc::new(move || {
            let now = moves.then(|| inodes.uri(ino)).flatten();
            now.unwrap_or_else(|| uri.clone())
        })
    }
}

fn summaries(api: &Api) -> sizes::AskSummary {
    let api = api.clone();
    Arc::new(move |uri| {
        let api = api.clone();
        Box::pin(async move { api.folder_summary(&uri).await })
    })
}
