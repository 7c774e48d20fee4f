//! Removals that wait for the server: it could not be reached, or does not do them for now.
//!
//! Their names are gone here. When their time has come each is looked for, and deleted if it is the file that was seen, in the
//! version that was seen; what somebody else changed meanwhile shows again. What the server refuses for good shows again, too,
//! and is told; what may go later is tried again, with longer and longer pauses. Until it is decided no new file gets to its
//! place on the server, so that the new one is never taken for it. They are noted, and wait on in the next process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;

use crate::api;
use crate::entry::FileKey;
use crate::listing::name_of;
use crate::model::{EntityId, FileId, FileInfo};
use crate::staging::{LocalId, Place, Staging, StepsId};
use crate::upload::very_folder_of;
use crate::uri::FileUri;

use super::super::Fs;
use super::super::changes::{has_trash, is_lost};
use super::super::steps::is_aside;
use super::{Gathered, Removal, Shared, for_each, is_of_few};
use crate::fs::Error;

/// Files that are looked for at once.
const LOOKS: usize = 16;
/// Pause before the second try of one that the server refused; each further one is twice as long, …
const PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Refused removals that are remembered by name.
const REFUSED_MAX: usize = 100;

/// All of a mount.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    removals: Vec<Postponed>,
    /// Files of those that may be elsewhere than where they showed.
    astray: HashSet<FileId>,
    /// Those that the server refused for good, the newest last; and how many there were.
    refused: VecDeque<Unremoved>,
    refused_count: u64,
}

struct Postponed {
    removal: Removal,
    tries: u32,
    why: Option<String>,
    due: Instant,
}

/// A file that is deleted here and not on the server.
#[derive(Debug, Clone)]
pub struct Unremoved {
    /// Where it is.
    pub place: Place,
    /// Why it is there; none where nobody tried.
    pub why: Option<String>,
    /// Tries that failed.
    pub tries: u32,
    /// When it is tried next; none where that is not to be said.
    pub next_try: Option<SystemTime>,
}

/// What became of one.
pub(super) enum Fate {
    /// It is not there any more.
    Gone,
    /// Somebody changed what is there, or nobody knows: it is looked at anew.
    Changed,
    /// It stays.
    Refused(api::Error),
}

/// No new file goes where what an earlier process deleted may be still.
pub(in crate::fs) fn clear_removed(staging: &Staging) {
    let clearing = staging.clearing();
    for (_, text) in staging.unfinished() {
        let Ok(gathered) = serde_json::from_str::<Gathered>(&text) else {
            continue;
        };
        // An older version noted no folder.
        FileUri::parse_wire(&gathered.at)
            .into_iter()
            .for_each(|uri| clearing.add(uri));
        for place in gathered.places() {
            clearing.add(place.uri());
            clearing.add_removal(gathered.file(), &place);
        }
    }
}

/// After so many tries that failed.
pub(in crate::fs) fn pause_after(tries: u32) -> Duration {
    PAUSE
        .saturating_mul(1 << tries.saturating_sub(1).min(16))
        .min(PAUSE_MAX)
}

/// Whether another try may end better.
pub(super) fn may_pass(error: &api::Error) -> bool {
    const CHANGED_ON_THE_WAY: i64 = 409;
    match error {
        api::Error::Denied { .. } | api::Error::Unsupported => false,
        api::Error::Refused { code, .. } => *code == CHANGED_ON_THE_WAY,
        _ => true,
    }
}

/// Where a file that is to be deleted is by now.
enum Still {
    At(FileUri),
    /// It is not the version that was seen.
    Changed,
    Nowhere,
}

impl Removal {
    /// All places where it may be.
    fn uris(&self) -> impl Iterator<Item = &FileUri> {
        let elsewhere = self.or_at.iter().map(|(_, uri)| uri);
        std::iter::once(&self.uri).chain(elsewhere)
    }

    fn file(&self) -> FileId {
        self.gathered.file()
    }

    /// Whether what it is of showed at `place`.
    fn had_name_of(&self, place: &Place) -> bool {
        self.gathered.folder().as_ref() == Some(&place.folder)
            && self.uri.name() == Some(&place.name)
    }

    fn place(&self, folder: &FileKey) -> Option<Place> {
        Some(Place {
            folder: folder.clone(),
            folder_uri: self.uri.parent()?,
            name: self.uri.name()?.clone(),
            full: self.gathered.full.as_deref().map(Into::into),
        })
    }

    /// The same, by their folders.
    fn places(&self) -> impl Iterator<Item = Place> {
        self.gathered.places()
    }

    fn unremoved(&self, tries: u32, why: Option<String>) -> Option<Unremoved> {
        let folder = self.gathered.folder()?;
        Some(Unremoved {
            place: self.place(&folder)?,
            why,
            tries,
            next_try: None,
        })
    }
}

impl Shared {
    /// Their names are gone here, and the server hears of it when it can be reached.
    pub(super) fn wait_for_server(
        &self,
        folder: &FileKey,
        removals: impl IntoIterator<Item = Removal>,
    ) {
        let now = Instant::now();
        for removal in removals {
            self.leaving.add(folder, &removal.name, removal.file());
            self.wait(removal, now);
        }
    }

    fn wait(&self, removal: Removal, due: Instant) {
        self.keep_clear(&removal, true);
        let mut state = self.waiting.0.lock().unwrap();
        if !removal.or_at.is_empty() {
            state.astray.insert(removal.file());
        }
        state.removals.push(Postponed {
            removal,
            tries: 0,
            why: None,
            due,
        });
    }

    /// It is decided what becomes of `removal`, which showed in `folder`.
    pub(super) fn is_decided(&self, folder: Option<&FileKey>, removal: &Removal, fate: &Fate) {
        if let Fate::Refused(error) = fate {
            log::warn!("{} could not be deleted: {error}", removal.uri);
            let mut state = self.waiting.0.lock().unwrap();
            state.refused_count += 1;
            let told = removal.unremoved(1, Some(error.to_string()));
            state.refused.extend(told);
            if state.refused.len() > REFUSED_MAX {
                state.refused.pop_front();
            }
        }
        let now = Instant::now();
        match folder {
            Some(folder) => {
                match fate {
                    // The server may be gone again by now, and then what was known last counts.
                    Fate::Gone if self.stands_for(folder, removal) => {
                        self.metadata.change_name(folder, &removal.name, None, now);
                    }
                    _ => self.metadata.doubt(folder, &removal.name),
                }
                self.leaving.take_of(folder, &removal.name, &removal.file());
            }
            None => self.metadata.others_changed_anything(now),
        }
        // Where it was instead nobody was to see it, and what was listed of that is of before.
        for place in removal.gathered.places_instead() {
            let file = removal.file();
            let name = name_of(&place.name, None, &file, self.names);
            self.metadata.others_changed(&place.folder, &name, now);
        }
        self.is_over(removal.noted);
    }

    /// Whether new files are kept from where `removal` is to be done.
    fn keep_clear(&self, removal: &Removal, so: bool) {
        let Some(staging) = &self.staging else { return };
        let clearing = staging.clearing();
        match so {
            true => {
                removal.uris().for_each(|uri| clearing.add(uri.clone()));
                let places = removal.places();
                places.for_each(|place| clearing.add_removal(removal.file(), &place));
            }
            false => {
                removal.uris().for_each(|uri| clearing.done(uri));
                clearing.removal_done(&removal.file());
            }
        }
    }

    /// The folder that was at `from` on the server is at `to`, with all in it that is to be removed.
    pub(super) fn went(&self, from: &FileUri, to: &FileUri) {
        let moved = |removal: &mut Removal| {
            let elsewhere = removal.or_at.iter_mut().map(|(_, uri)| uri);
            for uri in elsewhere.chain([&mut removal.uri]) {
                *uri = uri.moved(from, to).unwrap_or_else(|| uri.clone());
            }
        };
        let mut rows = self.rows.lock().unwrap();
        let gathered = rows.values_mut().flat_map(|row| &mut row.waiting);
        gathered.for_each(moved);
        drop(rows);
        let mut state = self.waiting.0.lock().unwrap();
        for Postponed { removal, .. } in &mut state.removals {
            self.keep_clear(removal, false);
            moved(removal);
            self.keep_clear(removal, true);
        }
    }

    /// Whether the name of `removal` stands for nothing else by now than what was removed.
    fn stands_for(&self, folder: &FileKey, removal: &Removal) -> bool {
        let last = self.metadata.last_name(folder, &removal.name);
        last.is_none_or(|entry| *entry.id.0 == *removal.gathered.removed)
    }

    /// Those whose time has come; all of them where `is_urgent`.
    fn due(&self, is_urgent: bool) -> Vec<Removal> {
        let now = Instant::now();
        let state = self.waiting.0.lock().unwrap();
        let due = state.removals.iter();
        let due = due.filter(|postponed| is_urgent || postponed.due <= now);
        due.map(|postponed| postponed.removal.clone()).collect()
    }

    /// The removal `noted` waits no more, and keeps nothing from its places.
    fn forget_waiting(&self, noted: StepsId) {
        let mut state = self.waiting.0.lock().unwrap();
        let is_it = |postponed: &mut Postponed| postponed.removal.noted == noted;
        let forgotten: Vec<_> = state.removals.extract_if(.., is_it).collect();
        for Postponed { removal, .. } in forgotten {
            state.astray.remove(&removal.file());
            // It may have got other ones since it was taken up.
            self.keep_clear(&removal, false);
        }
    }

    /// The try of `noted` failed. One that did not get through says nothing of the next.
    fn is_to_wait(&self, noted: StepsId, error: &api::Error) {
        let got_through = !(is_lost(error) && self.reach.is_down());
        let mut state = self.waiting.0.lock().unwrap();
        let mut removals = state.removals.iter_mut();
        let Some(postponed) = removals.find(|postponed| postponed.removal.noted == noted) else {
            return;
        };
        postponed.why = Some(error.to_string());
        if got_through {
            postponed.tries = postponed.tries.saturating_add(1);
            postponed.due = Instant::now() + pause_after(postponed.tries);
        }
    }

    /// Whether one of what had the name of `place` waits.
    pub(super) fn waits_at(&self, place: &Place) -> bool {
        let state = self.waiting.0.lock().unwrap();
        let mut waiting = state.removals.iter().map(|waiting| &waiting.removal);
        waiting.any(|removal| {
            let mut elsewhere = removal.or_at.iter();
            removal.had_name_of(place)
                || elsewhere.any(|(folder, uri)| {
                    *folder == place.folder.id && uri.name() == Some(&place.name)
                })
        })
    }

    /// Whether a folder waits that had the name of `place`.
    pub(super) fn folder_waits_at(&self, place: &Place) -> bool {
        let state = self.waiting.0.lock().unwrap();
        let mut waiting = state.removals.iter().map(|waiting| &waiting.removal);
        waiting.any(|removal| removal.gathered.is_folder && removal.had_name_of(place))
    }

    /// Whether `info` is of a file that is to be deleted, which a change of its name may have brought there unheard.
    pub(super) fn hides(&self, info: &FileInfo) -> bool {
        self.waiting.0.lock().unwrap().astray.contains(&info.id)
    }

    fn any_waits(&self) -> bool {
        !self.waiting.0.lock().unwrap().removals.is_empty()
    }
}

impl Fs {
    /// Takes up what was `gathered` when the process before this one ended: the names are gone here, too.
    pub(in crate::fs) fn take_up_removals(&self, gathered: Vec<(StepsId, Gathered)>) {
        let shared = &self.removals.shared;
        let names = self.namespace.options.names;
        for (noted, gathered) in gathered {
            let uri = FileUri::parse_wire(&gathered.at).ok();
            let named = uri.and_then(|uri| Some((uri.name()?.clone(), uri)));
            let Some((stored, uri)) = named else {
                shared.is_over(noted);
                continue;
            };
            if let Err(error) = self.drop_unlinked(&gathered) {
                log::error!("what was written over {uri} could not be dropped: {error}");
            }
            let (folder, id) = (gathered.folder(), gathered.file());
            let name = name_of(&stored, gathered.full.as_deref(), &id, names);
            let removal = Removal {
                noted,
                or_at: gathered.elsewhere(),
                gathered,
                name: name.into(),
                how: self.how_to_delete(&uri),
                uri,
                since: Instant::now(),
            };
            match folder {
                Some(folder) => shared.wait_for_server(&folder, [removal]),
                None => shared.wait(removal, Instant::now()),
            }
        }
    }

    /// What was written over a file that is to be removed goes with it.
    fn drop_unlinked(&self, gathered: &Gathered) -> Result<(), Error> {
        let number = gathered.unlinked.map(LocalId);
        let found = number.and_then(|number| self.namespace.locals.numbered(number));
        match found {
            Some((shown, _))
                if shown
                    .local
                    .base()
                    .is_some_and(|base| *base.file.0 == *gathered.removed) =>
            {
                self.retire(&self.key_of(&shown))
            }
            _ => Ok(()),
        }
    }

    /// Tells the server of those whose time has come, or of all where that `is_urgent`, if it can be reached.
    pub(in crate::fs) async fn finish_waiting(&self, is_urgent: bool) {
        let shared = &self.removals.shared;
        // What was interrupted has its files half way to where these look for them.
        let is_interrupted = !self.unfinished.lock().unwrap().is_empty();
        if shared.reach.is_down() || !shared.any_waits() || is_interrupted {
            return;
        }
        let Ok(_sending) = self.in_time_for(shared.sending.lock()).await else {
            return;
        };
        let due = shared.due(is_urgent).into_iter();
        let (mut emptied, due): (Vec<_>, Vec<_>) =
            due.partition(|removal| removal.gathered.is_folder);
        let mut is_any_decided = false;
        let mut decide = |removal: &Removal, fate: Fate| {
            is_any_decided = true;
            shared.forget_waiting(removal.noted);
            shared.is_decided(removal.gathered.folder().as_ref(), removal, &fate);
        };
        let mut folders: HashMap<Option<FileUri>, Vec<(Removal, FileUri)>> = HashMap::new();
        let looks = due.into_iter().map(|removal| async move {
            let there = self.is_still_there(&removal).await;
            (removal, there)
        });
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS);
        while let Some((removal, there)) = looks.next().await {
            match there {
                Ok(Still::At(uri)) => {
                    let batch = folders.entry(uri.parent()).or_default();
                    batch.push((removal, uri));
                }
                Ok(Still::Nowhere) => decide(&removal, Fate::Gone),
                Ok(Still::Changed) => decide(&removal, Fate::Changed),
                Err(error) => shared.is_to_wait(removal.noted, &error),
            }
        }
        let batch_max = shared.batch_max().await.max(1);
        for batch in folders.values().flat_map(|all| all.chunks(batch_max)) {
            let answers = self.delete_batch(batch).await;
            for ((removal, _), answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(()) | Err(api::Error::NotFound) => decide(removal, Fate::Gone),
                    Err(error) if may_pass(&error) => shared.is_to_wait(removal.noted, &error),
                    Err(error) => decide(removal, Fate::Refused(error)),
                }
            }
        }
        // After all that was in them, and the inner ones first.
        emptied.sort_by_key(|removal| std::cmp::Reverse(removal.uri.names().len()));
        for removal in &emptied {
            match self.remove_emptied(removal).await {
                Ok(fate) => decide(removal, fate),
                Err(error) => shared.is_to_wait(removal.noted, &error),
            }
        }
        if is_any_decided && let Some(owing) = &self.owing {
            // What waited for these places goes there now.
            owing.uploader.wake();
        }
    }

    /// The file that `removal` is of, and where it is, and whether anything else is where it was.
    pub(super) async fn where_is(
        &self,
        removal: &Removal,
    ) -> Result<(Option<(FileInfo, FileUri)>, bool), api::Error> {
        let id = removal.file();
        let mut is_any_there = false;
        for uri in removal.uris() {
            let there = self.whats_still_at(uri, &id).await?;
            is_any_there |= there.is_some();
            if let Some(info) = there.filter(|info| info.id == id) {
                let uri = match self.namespace.unheard.is_unsure(uri) {
                    // It was found where the folder is by now.
                    true => info.uri.clone(),
                    false => uri.clone(),
                };
                return Ok((Some((info, uri)), is_any_there));
            }
        }
        // Its folder may have been renamed or moved since.
        for place in removal.places() {
            let uri = match very_folder_of(&self.api, &place).await {
                Ok(folder) => folder.child(place.name),
                Err(api::Error::NotFound) => continue,
                Err(error) => return Err(error),
            };
            if removal.uris().any(|known| *known == uri) {
                continue;
            }
            if let Some(info) = self.whats_at(&uri).await?.filter(|info| info.id == id) {
                return Ok((Some((info, uri)), is_any_there));
            }
        }
        if !removal.or_at.is_empty() {
            // It may have been left half way.
            match self.api.info_by_id(&id).await {
                Ok(info) if has_trash(&info.uri) && info.uri.name().is_some_and(is_aside) => {
                    let uri = info.uri.clone();
                    return Ok((Some((info, uri)), is_any_there));
                }
                Ok(_) | Err(api::Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((None, is_any_there))
    }

    /// Where `removal` is to be done. What an upload of ours brought there that was not answered in time is as good as seen.
    async fn is_still_there(&self, removal: &Removal) -> Result<Still, api::Error> {
        let gathered = &removal.gathered;
        let (info, uri) = match self.where_is(removal).await? {
            (Some(found), _) => found,
            (None, true) => return Ok(Still::Changed),
            (None, false) => return Ok(Still::Nowhere),
        };
        if gathered.is(&info) {
            return Ok(Still::At(uri));
        }
        if info.size_bytes == 0 {
            // As good as seen: nothing is lost with it, and it may be what an upload of ours began with.
            return match info.upload_session() {
                Some(_) => Err(api::Error::Locked(Vec::new())),
                None => Ok(Still::At(uri)),
            };
        }
        let (Some(seen), Some(owing)) = (&gathered.seen, &self.owing) else {
            return Ok(Still::Changed);
        };
        let (seen, uploader) = (EntityId(seen.as_str().into()), &owing.uploader);
        match uploader.is_left(&info.id, &seen, &info.entity).await? {
            true => Ok(Still::At(uri)),
            false => Ok(Still::Changed),
        }
    }

    /// What the server says to each of `batch`.
    async fn delete_batch(&self, batch: &[(Removal, FileUri)]) -> Vec<Result<(), api::Error>> {
        let Some((first, _)) = batch.first() else {
            return Vec::new();
        };
        let uris: Vec<FileUri> = batch.iter().map(|(_, uri)| uri.clone()).collect();
        match self.api.delete(&uris, first.how).await {
            Ok(answers) => for_each(answers).take(batch.len()).collect(),
            // One that is locked makes the server do none of them.
            Err(error) if is_of_few(&error) => {
                let mut answers = Vec::new();
                for (removal, uri) in batch {
                    answers.push(self.api.delete_one(uri, removal.how).await);
                }
                answers
            }
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    /// All that is deleted here is so on the server, save what it does not do for now: an error where any of that lies at or
    /// below `place`. Waits no longer than any call.
    pub(in crate::fs) async fn all_removed(&self, place: &FileUri) -> Result<(), Error> {
        self.removals.send_gathered().await?;
        self.finish_waiting(true).await;
        let state = self.removals.shared.waiting.0.lock().unwrap();
        let waiting = state.removals.iter();
        let mut waiting = waiting.flat_map(|waiting| waiting.removal.uris());
        match waiting.any(|uri| uri.is_within(place)) {
            true => Err(self.removals.unsent()),
            false => Ok(()),
        }
    }

    /// What is deleted here and waits for the server; where that refuses only for now, with why.
    pub fn unremoved(&self) -> Vec<Unremoved> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let state = self.removals.shared.waiting.0.lock().unwrap();
        let removals = state.removals.iter().filter_map(|postponed| {
            let removal = &postponed.removal;
            let told = removal.unremoved(postponed.tries, postponed.why.clone())?;
            let next_try = clock + postponed.due.saturating_duration_since(now);
            Some(Unremoved {
                next_try: (postponed.tries > 0).then_some(next_try),
                ..told
            })
        });
        removals.collect()
    }

    /// What the server refused to delete since the mount began, so that it shows again: how many, and the last of them.
    pub fn refused_removals(&self) -> (u64, Vec<Unremoved>) {
        let state = self.removals.shared.waiting.0.lock().unwrap();
        (state.refused_count, state.refused.iter().cloned().collect())
    }
}

impl Gathered {
    /// Whether `info` is the file, in the version that was seen.
    fn is(&self, info: &FileInfo) -> bool {
        let seen = self.seen.as_deref();
        *info.id.0 == *self.removed && seen.is_none_or(|seen| *info.entity.0 == *seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pauses: Vec<_> = [1, 2, 3, 9, u32::MAX]
            .map(|tries| pause_after(tries).as_secs())
            .into();
        assert_eq!(pauses, [1, 2, 4, 256, 300]);
    }

    #[test]
    fn what_an_older_version_noted_is_understood() {
        let old = r#"{"removed":"f","at":"cloudreve://my/a","seen":"e"}"#;
        let gathered: Gathered = serde_json::from_str(old).unwrap();
        assert!(gathered.folder().is_none());
        assert_eq!(gathered.removed, "f");
    }
}
