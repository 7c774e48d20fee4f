//! What lies at a place and below it: all files with the content that each has now.
//!
//! A walk over listings, which are believed as programs believe them. Shortcuts on the way are passed over: what they lead
//! to lies elsewhere.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::entry::{Entry, FileKey};
use crate::inodes::{Ino, Node};
use crate::metadata::Listing;
use crate::model::{FileId, FileKind};
use crate::read::Source;
use crate::staging::is_made;
use crate::uri::FileUri;

use super::namespace::{Folder, within};
use super::{Error, Fs, Lookup};

/// A place, and what lies there.
pub struct Below {
    /// The server's identity of the file or folder there.
    pub id: FileId,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// The file, or all below the folder.
    pub files: Vec<FileBelow>,
    /// Folders that could not be read, and why.
    pub unread: Vec<(PathBuf, Error)>,
}

/// A file there.
#[derive(Clone)]
pub struct FileBelow {
    /// Where it is, below the mount point.
    pub path: PathBuf,
    /// Its content, as it is now.
    pub source: Source,
    /// What was written to it is here, and the server does not have that yet.
    pub is_owed: bool,
}

/// An inode that was looked up, and those above it, given back when dropped.
pub struct Found<'a> {
    fs: &'a Fs,
    /// Which.
    pub ino: Ino,
    counted: Vec<Ino>,
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        for ino in self.counted.drain(..) {
            self.fs.forget(ino, 1);
        }
    }
}

/// A folder on the way.
struct Stop {
    path: PathBuf,
    folder: Folder,
}

impl Fs {
    /// What is at `path` below the mount point, which is a plain one.
    pub async fn find(&self, path: &Path) -> Result<Found<'_>, Error> {
        let mut found = Found {
            fs: self,
            ino: Ino::ROOT,
            counted: Vec::new(),
        };
        for part in path.components() {
            let Component::Normal(name) = part else {
                return Err(Error::NotFound);
            };
            match self.lookup(found.ino, name).await? {
                Lookup::Found(believed) => {
                    found.ino = believed.attr.ino;
                    found.counted.push(found.ino);
                }
                Lookup::Absent { .. } => return Err(Error::NotFound),
            }
        }
        Ok(found)
    }

    /// All files at `path` below the mount point and below it. An error where nothing can be told of the place itself.
    pub async fn files_below(&self, path: &Path) -> Result<Below, Error> {
        let space = &self.namespace;
        let found = self.find(path).await?;
        let node = space.inodes.node(found.ino).ok_or(Error::NotFound)?;
        let mut below = Below {
            id: node.entry.id.clone(),
            is_folder: node.entry.kind == FileKind::Folder,
            files: Vec::new(),
            unread: Vec::new(),
        };
        if !below.is_folder {
            let file = self.file(found.ino, &node, path.to_owned()).await?;
            below.files.extend(file);
            return Ok(below);
        }
        let mut stops = vec![Stop {
            path: path.to_owned(),
            folder: space.folder(found.ino)?,
        }];
        let mut is_first = true;
        while let Some(stop) = stops.pop() {
            match self.listing_of(&stop.folder).await {
                Ok(listing) => self.add(&stop, &listing, &mut below, &mut stops),
                Err(error) if is_first => return Err(error),
                Err(error) => below.unread.push((stop.path, error)),
            }
            is_first = false;
        }
        Ok(below)
    }

    /// Where the file or folder `id` is by now, below the mount point; none where it is not below that.
    pub async fn place_of(&self, id: &FileId) -> Result<Option<PathBuf>, Error> {
        let space = &self.namespace;
        let info = within(space.options.timeout, self.api.info_by_id(id)).await?;
        let root = &space.options.root;
        let uri = space.unheard.now_shown(id, &info.uri);
        let (there, above) = (uri.names(), root.names());
        if uri.file_system() != root.file_system() || !there.starts_with(above) {
            return Ok(None);
        }
        let below = there[above.len()..].iter();
        let names = below.map(|name| name.to_local(space.options.names));
        Ok(Some(names.collect()))
    }

    /// The file `ino`; none where it has no content that could be fetched.
    async fn file(&self, ino: Ino, node: &Node, path: PathBuf) -> Result<Option<FileBelow>, Error> {
        let space = &self.namespace;
        let (_, entry, local) = self.content_of(ino).await?;
        let folder = space.folder_key(node.parent)?;
        let target = space.target(&folder, &entry).await?;
        let (entry, uri) = match (&local, target) {
            (None, Some((entry, uri))) => (entry, uri),
            _ => {
                let uri = space.inodes.uri(ino).ok_or(Error::NotFound)?;
                (entry, uri)
            }
        };
        Ok(file_of(&entry, path, uri, local.is_some()))
    }

    /// All that is in a folder; where the server turned out not to be reached, what is known of it.
    async fn listing_of(&self, folder: &Folder) -> Result<Arc<Listing>, Error> {
        let space = &self.namespace;
        if is_made(&folder.key.id) {
            return Ok(Arc::new(Listing::new(Vec::new(), 0, false)));
        }
        let known = |now| {
            let (listing, _) = space.listings.believed(&folder.key, now)?;
            Some(listing)
        };
        if let Some(listing) = space.known_or_recalled(&folder.key, known).await {
            return Ok(listing);
        }
        let listing = space.listings.list(&folder.key, &folder.uri);
        let listed = listing.complete(space.patience()).await;
        let listed = listed.map(|(listing, _)| listing);
        let listed = listed.map_err(|error| space.error(folder, error));
        space.or_known(&folder.key, listed, known).await
    }

    /// Adds what is in the folder `stop` to `below`, and the folders in it to `stops`.
    fn add(&self, stop: &Stop, listing: &Listing, below: &mut Below, stops: &mut Vec<Stop>) {
        let space = &self.namespace;
        let key = &stop.folder.key;
        let uri = |entry: &Entry| stop.folder.uri.child(entry.segment());
        let is_there = |entry: &&Arc<Entry>| !space.leaving.has(key, &entry.name);
        let listed = listing.entries().iter().filter(is_there);
        let listed = listed.map(|entry| (Arc::clone(entry), uri(entry)));
        // Names that were given here, of which the server has not heard.
        let given = space.unheard.names_in(key).into_iter();
        let given = given.filter_map(|name| space.unheard.named(key, &name));
        let given = given.map(|entry| {
            let home = self.home_of(&entry.id).map(|home| home.uri());
            let uri = home.unwrap_or_else(|| uri(&entry));
            (entry, uri)
        });
        for (entry, uri) in listed.chain(given) {
            if entry.shortcut.is_some() {
                continue;
            }
            let path = stop.path.join(&*entry.name);
            match entry.kind {
                FileKind::Folder => stops.push(Stop {
                    path,
                    folder: Folder {
                        key: FileKey {
                            tree: key.tree,
                            id: entry.id.clone(),
                        },
                        uri,
                        flat: stop.folder.flat,
                    },
                }),
                FileKind::File => {
                    let is_owed = space.locals.named(key, &entry.name).is_some();
                    below.files.extend(file_of(&entry, path, uri, is_owed));
                }
            }
        }
    }
}

/// A file as it is to be fetched; none where there is nothing to fetch.
fn file_of(entry: &Entry, path: PathBuf, uri: FileUri, is_owed: bool) -> Option<FileBelow> {
    let source = Source {
        file: entry.id.clone(),
        entity: entry.entity.clone(),
        size_bytes: entry.size_bytes,
        locate: Arc::new(move || uri.clone()),
    };
    (entry.size_bytes > 0 && !entry.unfinished).then_some(FileBelow {
        path,
        source,
        is_owed,
    })
}
