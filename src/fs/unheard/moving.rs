//! The server hears of a name that was given here: what it has goes from its home to where it shows, by its id.
//!
//! Each step may be the last one before the program is killed, or the one of which nobody hears: where something is on the way
//! is seen by its name, and what is where it belongs already is done with.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::MutexGuard;

use crate::api::{self, OnItsWay};
use crate::crash::{self, Point};
use crate::entry::Entry;
use crate::fs::changes::{disk, has_trash, is_lost};
use crate::fs::locals::{Locals, Shown, differing};
use crate::fs::rename::Stopped;
use crate::fs::steps::{aside, is_aside, way};
use crate::fs::{Error, Fs};
use crate::model::FileKind;
use crate::staging::{Place, is_made};
use crate::upload::{folder_of, very_folder_of};
use crate::uri::FileUri;

use super::hearing::{NAMES_BESIDE, Why};
use super::paths::Folder;
use super::{Change, shown_name};

impl Fs {
    /// What has its home at `home` was renamed here.
    pub(super) async fn hear_renamed(&self, change: &Change, home: &Place) -> Result<(), Why> {
        let Some(from) = self.is_still_ours(change, home).await? else {
            return Ok(());
        };
        let (space, key, place) = (&self.namespace, change.key(), &change.place);
        let folder = folder_of(&self.api, place).await?;
        let still = self.hold_still(change, home).await?;
        let (mut to, mut nth) = (folder.child(place.name.clone()), 0);
        let (mut at, mut is_cleared) = (from.clone(), false);
        let mut way = None;
        while at != to {
            match self.carry(change, home, &at, &to).await {
                Ok(gone) => {
                    way = gone;
                    break;
                }
                Err(api::Error::Exists) if nth < NAMES_BESIDE => {
                    at = self.api.info_by_id(&key.id).await?.uri;
                    if at == to {
                        // An answer was lost.
                        break;
                    }
                    if !std::mem::replace(&mut is_cleared, true) {
                        self.is_cleared_of_ours(place).await?;
                        continue;
                    }
                    nth += 1;
                    let beside = Place {
                        folder_uri: folder.clone(),
                        name: self.name_beside(place, nth)?,
                        ..place.clone()
                    };
                    to = beside.uri();
                    let around = self.around(&self.owing()?.staging);
                    space.unheard.may_be_at(&key, beside, &around);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if nth > 0 {
            let words = format!(
                "somebody else's file has the name '{}', so what was renamed to that here is kept beside it",
                place.name
            );
            space.unheard.is_astray(to.clone(), words);
        }
        self.has_moved(change, home, &from, &to).await?;
        drop((still, way));
        Ok(())
    }

    /// Nothing of ours is sent to what `change` is of, which has its home at `home`, or to anything below that, nor removed there,
    /// while this lives: it goes somewhere else.
    async fn hold_still(&self, change: &Change, home: &Place) -> Result<Still<'_>, Error> {
        if change.entry.kind == FileKind::File {
            let local = self.namespace.locals.keyed(&change.key());
            let local = local.map(|shown| shown.local);
            return Ok(Still {
                _uploads: self.stop_all(local.as_slice()).await?,
                _removals: None,
            });
        }
        let removals = self.removals.hold_still(self).await?;
        let below = self.all_below(Folder::OfServers(home.uri()));
        let uploads = below.stop(self).await?;
        uploads.is_all(self.removals.unsent())?;
        Ok(Still {
            _uploads: uploads,
            _removals: Some(removals),
        })
    }

    /// Brings what `change` is of, which has its home at `home`, from one place to the other. A folder is on its way until all
    /// know where it is, which is when what this gives is dropped.
    async fn carry(
        &self,
        change: &Change,
        home: &Place,
        from: &FileUri,
        to: &FileUri,
    ) -> Result<Option<OnItsWay<'_>>, api::Error> {
        if change.entry.kind == FileKind::File {
            self.go(change, from, to).await?;
            return Ok(None);
        }
        let way = self.api.on_its_way(from, to).await;
        if !way.is_alone() {
            // Who is at it has a name that it is to keep for so long.
            return way.ended(Err(api::Error::Locked(Vec::new())));
        }
        match self.go(change, from, to).await {
            Ok(()) => Ok(Some(way)),
            Err(error) => {
                let error = way.ended(Err::<(), _>(error)).unwrap_err();
                if !is_lost(&error)
                    && self.api.info_by_id(&change.entry.id).await?.uri == home.uri()
                {
                    // All below is where it was, and nobody has to look for it.
                    self.namespace.unheard.is_at_home(&change.key());
                }
                Err(error)
            }
        }
    }

    /// Where the server has what `change` is of, which has its home at `home`. None where somebody else deleted it, or gave it
    /// another place: that stays so, and is told.
    async fn is_still_ours(&self, change: &Change, home: &Place) -> Result<Option<FileUri>, Why> {
        let place = &change.place;
        let info = match self.api.info_by_id(&change.entry.id).await {
            Ok(info) if has_trash(&info.uri) => info,
            Ok(_) | Err(api::Error::NotFound) => {
                let words = format!(
                    "'{}' was renamed here, and somebody else deleted it",
                    home.name
                );
                self.is_given_up(change, home, place.uri(), words);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let uri = info.uri;
        // A crash may have left it on the way, or an answer was lost before it was to go on to its place.
        let is_on_its_way = uri.name().is_some_and(is_aside);
        if is_on_its_way
            || uri == home.uri()
            || uri == folder_of(&self.api, place).await?.child(place.name.clone())
            || uri == folder_of(&self.api, home).await?.child(home.name.clone())
            || self.is_at_one_of(&change.tried, &uri).await?
        {
            return Ok(Some(uri));
        }
        let words = format!(
            "'{}' was renamed here to '{}', and somebody else gave it another place, where it stays",
            home.name, place.name
        );
        self.is_given_up(change, home, uri, words);
        Ok(None)
    }

    /// Whether one of `places` is at `uri` by now.
    async fn is_at_one_of(&self, places: &[Place], uri: &FileUri) -> Result<bool, Why> {
        for place in places {
            let folder = match very_folder_of(&self.api, place).await {
                Ok(folder) => folder,
                Err(api::Error::NotFound) => continue,
                Err(error) => return Err(error.into()),
            };
            if folder.child(place.name.clone()) == *uri {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The calls that bring what is at `from` to `to`. Where one fails, or the process ends, it stays where it is by then, and is
    /// found there by its id.
    async fn go(&self, change: &Change, from: &FileUri, to: &FileUri) -> Result<(), api::Error> {
        let steps = way(&change.entry.id, from, to);
        self.namespace.unheard.is_tried(&change.key());
        let mut done = Ok(());
        for step in &steps {
            done = self.step(step).await.map(drop);
            if done.is_err() {
                break;
            }
            crash::pass(Point::StepDone);
        }
        if steps.len() > 1 {
            // A listing of that moment may show what it passed.
            let now = Instant::now();
            self.namespace.metadata.others_changed_anything(now);
        }
        done
    }

    /// The server has what `change` is of at `to`, and no more at `from`, its home.
    async fn has_moved(
        &self,
        change: &Change,
        home: &Place,
        from: &FileUri,
        to: &FileUri,
    ) -> Result<(), Error> {
        let (space, key, place) = (&self.namespace, change.key(), &change.place);
        let names = space.options.names;
        let name = to.name().cloned().unwrap_or(place.name.clone());
        let shown = match name == place.name {
            true => change.entry.name.to_os_string(),
            false => name.to_local(names),
        };
        // It is there all the same where the server does not tell how it looks now.
        let there = self.whats_at(to).await.unwrap_or_default();
        let told = there.map(|info| space.known_entry(info));
        let entry = Arc::new(Entry {
            segment: differing(&shown, name.clone()),
            name: shown.as_os_str().into(),
            ..told.unwrap_or_else(|| (*change.entry).clone())
        });
        let now = Instant::now();
        let home_name = shown_name(home, &key.id, names);
        let (metadata, known) = (&space.metadata, Some(Arc::clone(&entry)));
        metadata.change_name(&home.folder, &home_name, None, now);
        if let Some((folder, name)) = space.place_of(from) {
            // The answer that brought it there was lost.
            metadata.change_name(&folder, &name, None, now);
        }
        metadata.change_name(&place.folder, &shown, known, now);
        let folder = place.folder.clone();
        let place = Place {
            folder_uri: to.parent().unwrap_or_else(|| place.folder_uri.clone()),
            name,
            ..place.clone()
        };
        let is_over_it = |local: &Shown| {
            let base = local.local.base();
            base.is_some_and(|base| base.file == key.id)
        };
        let here = space.locals.named(&place.folder, &change.entry.name);
        let here = here.filter(is_over_it).or_else(|| space.locals.keyed(&key));
        let mut known_as = (key.clone(), Arc::clone(&entry));
        if let Some(here) = here {
            here.local.relocate(place.clone(), None).map_err(disk)?;
            if space.locals.shows(&here.key) {
                known_as = (here.key.clone(), Locals::entry(&here, &shown));
                space.locals.show(&place.folder, &shown, here);
            }
        }
        let (known, entry_now) = known_as;
        if let Some(node) = space
            .inodes
            .find(&known)
            .and_then(|ino| space.inodes.node(ino))
        {
            space.inodes.settle(&known, node.parent, &entry_now);
        }
        let is_known = || {
            // A listing of this moment may lack it, which showed by what waited of it.
            let now = Instant::now();
            if space.listings.under_way(&folder).is_some() {
                metadata.others_changed(&folder, &shown, now);
            }
            metadata.change_name(&folder, &shown, Some(entry.clone()), now);
        };
        self.is_over_with_all_below(change, home, to, is_known);
        self.news.notify_one();
        log::debug!("{from} is {to} by now");
        self.keep_told_at(&entry, place)
    }

    /// What `change` is of is at `to` and no more at `home`, and nothing is to be told of it any more. By then it is to be
    /// `known` as what it is.
    fn is_over_with_all_below(
        &self,
        change: &Change,
        home: &Place,
        to: &FileUri,
        known: impl FnOnce(),
    ) {
        let below = self.all_below_of(&change.entry, home.uri());
        self.is_over(change);
        known();
        if let Some(below) = below {
            self.went(below, &home.uri(), to);
        }
    }

    /// Somebody else was faster: what they made of what `change` is of stays so.
    fn is_given_up(&self, change: &Change, home: &Place, uri: FileUri, words: String) {
        let space = &self.namespace;
        // First: until then it shows by what waits of it, and not by what is listed.
        self.is_over_with_all_below(change, home, &uri, || {});
        let (metadata, names) = (&space.metadata, space.options.names);
        let name = shown_name(home, &change.entry.id, names);
        metadata.doubt(&home.folder, &name);
        metadata.doubt(&change.place.folder, &change.entry.name);
        if let Some((folder, name)) = space.place_of(&uri) {
            metadata.others_changed(&folder, &name, Instant::now());
        }
        space.unheard.is_astray(uri, words);
        self.news.notify_one();
    }

    /// Of names that go round in a circle, one goes aside, so that the next one is free. Whether there was such a circle.
    pub(super) async fn is_untied(&self) -> bool {
        let unheard = &self.namespace.unheard;
        let Ok(_turn) = self.turn_of_unheard().await else {
            return false;
        };
        let mut waiting = unheard.all().into_iter();
        let may_go = |change: &Change| {
            let home = change.home.as_ref();
            home.is_some_and(|home| !is_aside(&home.name))
        };
        let tied = waiting.find(|change| may_go(change) && unheard.is_tied(change));
        let Some(change) = tied else {
            return false;
        };
        match self.put_aside(&change).await {
            Ok(()) => true,
            Err(why) => {
                let why = match why {
                    Why::Later => return false,
                    Why::Api(error) => error.to_string(),
                    Why::Here(error) => error.to_string(),
                };
                unheard.is_to_wait(&change.key(), why, true);
                false
            }
        }
    }

    /// It gets a name that nobody gives to anything, where it is to be in the end if that can be, else where it is.
    async fn put_aside(&self, change: &Change) -> Result<(), Why> {
        let (owing, space) = (self.owing()?, &self.namespace);
        let Some(home) = &change.home else {
            return Ok(());
        };
        let Some(from) = self.is_still_ours(change, home).await? else {
            return Ok(());
        };
        let place = &change.place;
        let can_be_there = !is_made(&place.folder.id) && !place.folder_uri.is_within(&home.uri());
        let near = if can_be_there { place } else { home };
        let there = Place {
            folder_uri: folder_of(&self.api, near).await?,
            name: aside(&change.entry.id, &home.name),
            full: None,
            ..near.clone()
        };
        let still = self.hold_still(change, home).await?;
        // First: wherever a crash leaves it, it is at one of the two, and the name tells whose it is.
        let way = self.carry(change, home, &from, &there.uri()).await?;
        let name = shown_name(home, &change.entry.id, space.options.names);
        space
            .metadata
            .change_name(&home.folder, &name, None, Instant::now());
        let uri = there.uri();
        let moved = Change {
            home: Some(there),
            is_tried: false,
            tried: Vec::new(),
            ..change.clone()
        };
        let text = moved.text(None).map_err(disk)?;
        let noted = owing.staging.go_on(change.noted, text).await;
        noted.map_err(disk)?;
        let below = self.all_below_of(&change.entry, home.uri());
        space.unheard.rehome(moved, &self.around(&owing.staging));
        if let Some(below) = below {
            self.went(below, &home.uri(), &uri);
        }
        drop((still, way));
        Ok(())
    }
}

/// What goes somewhere else stays as it is meanwhile.
struct Still<'a> {
    _uploads: Stopped,
    _removals: Option<MutexGuard<'a, ()>>,
}
