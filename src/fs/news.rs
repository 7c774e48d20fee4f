//! What became of local files: they show as what the server has now.
//!
//! News is as old as the last look at the server; what we did ourselves since then is newer.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use crate::entry::{Entry, FileKey};
use crate::model::FileInfo;
use crate::staging::{Local, LocalId, Place, State, Untold};
use crate::upload;
use crate::uri::FileUri;

use super::Fs;
use super::locals::{Shown, differing};

impl Fs {
    /// What became of a local file: it shows as what the server has now.
    pub fn apply(&self, news: upload::News) {
        match news {
            upload::News::Delivered {
                local,
                info,
                conflict,
                generation,
            } => self.delivered(local, *info, conflict, Some(generation)),
            upload::News::Told(untold) => self.heard(untold),
        }
        self.news.notify_one();
    }

    /// The server heard what was told of a file: that is what it says of it from now on, also where that was asked before.
    fn heard(&self, untold: Untold) {
        let space = &self.namespace;
        let Untold {
            file,
            place,
            attributes,
            number,
        } = untold;
        let key = FileKey {
            tree: place.folder.tree,
            id: file.clone(),
        };
        self.retell(&key, &attributes);
        let ino = space.inodes.find(&key);
        let node = ino.and_then(|ino| space.inodes.node(ino));
        let name = match &node {
            Some(node) => node.entry.name.clone(),
            None => place.local_name(space.options.names).into(),
        };
        let folder = match &node {
            Some(node) => space.folder_key(node.parent).unwrap_or(place.folder),
            None => place.folder,
        };
        let now = Instant::now();
        let believed = space.metadata.name(&folder, &name, now);
        let entry = believed.and_then(|belief| belief.what);
        if let Some(entry) = entry.filter(|entry| entry.id == file) {
            let entry = Arc::new(Entry {
                attributes: Some(Arc::clone(&attributes)),
                ..(*entry).clone()
            });
            space.metadata.change_name(&folder, &name, Some(entry), now);
        } else {
            space.metadata.doubt(&folder, &name);
        }
        if let (Some(ino), Some(node)) = (ino, node) {
            let entry = Entry {
                attributes: Some(Arc::clone(&attributes)),
                ..(*node.entry).clone()
            };
            space.inodes.renew(ino, &Arc::new(entry));
        }
        // What was asked before may be answered after this, and would be believed for as long.
        let ttl = space.metadata.ttl();
        let staging = space.staging.as_ref();
        if let Some(Err(err)) = staging.map(|staging| staging.told(&file, number, ttl)) {
            log::error!("the journal of what is owed cannot be written: {err}");
        }
    }

    /// `generation` is that of the content that was delivered; none where it is the newest.
    pub(super) fn delivered(
        &self,
        local: LocalId,
        info: FileInfo,
        conflict: bool,
        generation: Option<u64>,
    ) {
        let space = &self.namespace;
        let Some((shown, at)) = space.locals.numbered(local) else {
            return;
        };
        let mut above = info.uri.parent();
        let mut entry = Arc::new(space.known_entry(info));
        let (state, is_late) = (shown.local.state(), at.is_none());
        let is_known = is_late && shown.key.id == entry.id && state == State::Delivered;
        // Who unlinked it while the news was on its way saw to the server's file; who renamed it, to its name.
        if state == State::Unlinked || is_known {
            return;
        }
        if at.is_none() && self.is_anothers(&shown, &entry) {
            let place = shown.local.place();
            space.metadata.doubt(&place.folder, &entry.name);
            return;
        }
        if let Some(renamed) = self.renamed_here(&entry) {
            // The server has not heard of its new name: what is there is not what shows where that is.
            (entry, above) = (renamed, None);
        }
        // A newer content was delivered since, of which the news is on its way: it is not to show an older version meanwhile.
        let is_outrun = generation.is_some_and(|content| shown.local.is_outrun(content));
        match (state, at) {
            (_, None) if is_outrun => {}
            (_, Some(at)) if is_outrun => self.goes_on(shown, at, &entry, conflict),
            (State::Dirty | State::Staged(_), Some(at)) => {
                self.goes_on(shown, at, &entry, conflict);
            }
            (_, at) => self.is_clean(shown, at, entry, above, generation),
        }
    }

    /// Whether other content that is here is known as the file `entry`, which `shown` was delivered as.
    fn is_anothers(&self, shown: &Shown, entry: &Entry) -> bool {
        let key = FileKey {
            tree: shown.key.tree,
            id: entry.id.clone(),
        };
        let known = self.namespace.locals.keyed(&key);
        known.is_some_and(|known| known.local.id() != shown.local.id())
    }

    /// A file of which one content was delivered, as `entry` says, and another one is owed already. It keeps its name, which
    /// may be newer than the news, unless what is there belongs to somebody else.
    fn goes_on(&self, shown: Shown, at: (FileKey, OsString), entry: &Entry, conflict: bool) {
        let space = &self.namespace;
        let (folder, name) = at;
        let Shown { key, local } = shown;
        let before = local.place();
        let mut shows_as = name.clone();
        if conflict {
            shows_as = entry.name.to_os_string();
            let relocated = local.relocate_from(|place| {
                // Unless it was renamed meanwhile.
                let is_there = place.folder == before.folder && place.name == before.name;
                is_there.then(|| Place {
                    name: entry.segment(),
                    full: entry.full(),
                    ..place
                })
            });
            if let Err(error) = relocated {
                log::warn!("the new name of a file could not be noted: {error}");
            }
            space.metadata.doubt(&folder, &name);
        }
        let entry = Arc::new(Entry {
            segment: differing(&shows_as, local.place().name),
            name: shows_as.as_os_str().into(),
            ..entry.clone()
        });
        let new = self.settled(&key, &entry);
        let shown = Shown { key: new, local };
        space.locals.show(&folder, &shows_as, shown);
    }

    /// All of a file is on the server, as `entry` in the folder `above`; none where it shows by a name that was given here.
    /// `generation` as for [`Fs::delivered`]. It may have been written to since that was seen, and even delivered once more:
    /// then it shows on, until the news of that.
    pub(super) fn is_clean(
        &self,
        shown: Shown,
        at: Option<(FileKey, OsString)>,
        entry: Arc<Entry>,
        above: Option<FileUri>,
        generation: Option<u64>,
    ) {
        let space = &self.namespace;
        let Shown { key, local } = shown;
        let home = local.place();
        let key = self.settled(&key, &entry);
        if let Some(ino) = space.inodes.find(&key)
            && space.inodes.node(ino).is_some_and(|node| !node.is_parted)
        {
            // Who has an older version open keeps that.
            space.inodes.repin(ino, &entry);
        }
        // What is believed is right before it shows: a lookup in between must not find what was there before.
        if let Some((folder, name)) = &at
            && **name != *entry.name
        {
            space.metadata.doubt(folder, name);
        }
        let new_name = entry.name.clone();
        let metadata = &space.metadata;
        let is_home = |above: &FileUri| above.names() == home.folder_uri.names();
        match &above {
            // That it shows here is known of its new name, and is nothing that the server says.
            None => metadata.doubt(&home.folder, &new_name),
            Some(above) => {
                let now = Instant::now();
                metadata.change_name(&home.folder, &new_name, Some(entry), now);
                if !is_home(above) && !is_home(&self.api.moved_since(above)) {
                    // Somebody may have moved its folder: the next look at it tells, and without the server it is there.
                    log::debug!("{} was delivered to another place", home.uri());
                    metadata.others_changed(&home.folder, &new_name, now);
                }
            }
        }
        let is_newest = |local: &Local| generation.is_none_or(|known| local.generation() == known);
        let is_hidden = space.locals.hide_if(&key, is_newest);
        if let Some((folder, _)) = at
            && (!is_hidden || matches!(local.state(), State::Dirty | State::Staged(_)))
        {
            let shown = Shown { key, local };
            space.locals.show(&folder, &new_name, shown);
        }
    }
}
