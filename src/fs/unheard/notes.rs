//! What the journal has of folders made here and names given here, and how the next process takes it up.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::entry::{Entry, FileKey};
use crate::fs::Fs;
use crate::fs::locals::differing;
use crate::fs::removals::removed_by;
use crate::model::{EntityId, FileId, FileKind};
use crate::names::NamePolicy;
use crate::staging::{Place, Staging, StepsId, is_made};
use crate::uri::FileUri;

use super::{Change, key_of, shown_name};

/// A change as it is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The id of what it is about.
    unheard: String,
    place: Spot,
    /// None of a folder that was made here.
    #[serde(default)]
    home: Option<Spot>,
    /// Earlier places to which the server may have brought it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tried: Vec<Spot>,
    /// Whether the server was asked for a folder that was made here, and did not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
    shows: Shows,
    /// The id that the server gave it meanwhile.
    #[serde(default)]
    became: Option<String>,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Spot {
    folder: String,
    at: String,
    #[serde(default)]
    full: Option<String>,
}

/// What shows of it, where nobody else may know that by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shows {
    is_folder: bool,
    size_bytes: u64,
    created: SystemTime,
    updated: SystemTime,
    entity: String,
    owned: bool,
    shared: bool,
    #[serde(default)]
    thumbless: bool,
    #[serde(default)]
    attributes: Option<String>,
}

impl Spot {
    fn of(place: &Place) -> Self {
        Self {
            folder: place.folder.id.to_string(),
            at: place.uri().to_wire(),
            full: place.full.as_deref().map(str::to_owned),
        }
    }

    fn place(&self) -> Option<Place> {
        let uri = FileUri::parse_wire(&self.at).ok()?;
        Some(Place {
            folder: key_of(&FileId(self.folder.as_str().into())),
            folder_uri: uri.parent()?,
            name: uri.name()?.clone(),
            full: self.full.as_deref().map(Into::into),
        })
    }
}

impl Shows {
    fn of(entry: &Entry) -> Self {
        Self {
            is_folder: entry.kind == FileKind::Folder,
            size_bytes: entry.size_bytes,
            created: entry.created,
            updated: entry.updated,
            entity: entry.entity.0.to_string(),
            owned: entry.owned,
            shared: entry.shared,
            thumbless: entry.thumbless,
            attributes: entry.attributes.as_ref().map(|told| told.text()),
        }
    }

    fn entry(&self, id: FileId, place: &Place, names: NamePolicy) -> Entry {
        let name = shown_name(place, &id, names);
        let told = self.attributes.as_deref().and_then(Attributes::parse);
        Entry {
            id,
            kind: match self.is_folder {
                true => FileKind::Folder,
                false => FileKind::File,
            },
            segment: differing(&name, place.name.clone()),
            name: name.into(),
            size_bytes: self.size_bytes,
            created: self.created,
            updated: self.updated,
            entity: EntityId(self.entity.as_str().into()),
            owned: self.owned,
            shared: self.shared,
            unfinished: false,
            thumbless: self.thumbless,
            shortcut: None,
            attributes: told.map(Arc::new),
        }
    }
}

impl Change {
    /// As the journal has it; with `became`, the server has it under that id.
    pub(super) fn text(&self, became: Option<&FileId>) -> io::Result<String> {
        let note = Note {
            unheard: self.entry.id.to_string(),
            place: Spot::of(&self.place),
            home: self.home.as_ref().map(Spot::of),
            tried: self.tried.iter().map(Spot::of).collect(),
            asked: self.home.is_none() && self.is_tried,
            shows: Shows::of(&self.entry),
            became: became.map(FileId::to_string),
        };
        Ok(serde_json::to_string(&note)?)
    }
}

/// Whether this is a note of a change that the server has not heard of.
pub(in crate::fs) fn is_note(text: &str) -> bool {
    serde_json::from_str::<Note>(text).is_ok()
}

fn all(staging: &Staging) -> Vec<(StepsId, Note)> {
    let noted = staging.unfinished().into_iter();
    let read = noted.filter_map(|(id, text)| Some((id, serde_json::from_str(&text).ok()?)));
    read.collect()
}

/// What an earlier process had not told the server holds back what depends on it, and what lies in a folder that the server
/// has by now goes there. Before anything is delivered.
pub(in crate::fs) fn take_in(staging: &Staging) {
    let mut became = HashMap::new();
    for (_, note) in all(staging) {
        let (id, clearing) = (FileId(note.unheard.as_str().into()), staging.clearing());
        match (&note.became, note.home.as_ref().and_then(Spot::place)) {
            (Some(there), _) => drop(became.insert(id, FileId(there.as_str().into()))),
            (None, Some(home)) => {
                let tried = note.tried.iter().filter_map(Spot::place);
                for place in tried.chain([home]) {
                    clearing.add_move(id.clone(), &place);
                }
            }
            (None, None) => clearing.add_folder(id),
        }
    }
    for local in staging.owed() {
        let place = local.place();
        let Some(there) = became.get(&place.folder.id) else {
            continue;
        };
        let folder = FileKey {
            id: there.clone(),
            ..place.folder.clone()
        };
        if let Err(error) = local.relocate(Place { folder, ..place }, None) {
            log::warn!("the place of a file could not be noted: {error}");
        }
    }
}

impl Fs {
    /// Shows what an earlier process had not told the server.
    pub(in crate::fs) fn show_unheard(&self) {
        let Ok(owing) = self.owing() else {
            return;
        };
        let (space, names) = (&self.namespace, self.namespace.options.names);
        let notes = all(&owing.staging);
        let became: HashMap<_, _> = notes
            .iter()
            .filter_map(|(_, note)| Some((note.unheard.clone(), note.became.clone()?)))
            .collect();
        let removed = owing.staging.unfinished().into_iter();
        let removed: HashSet<_> = removed.filter_map(|(_, text)| removed_by(&text)).collect();
        for (noted, note) in notes {
            let id = FileId(note.unheard.as_str().into());
            if note.became.is_some() {
                // What lay in it was told before anything was delivered.
                space.unheard.state.lock().unwrap().mapped.push(noted);
                continue;
            }
            if removed.contains(&id) {
                // The process ended between the two.
                if let Err(error) = owing.staging.done_soon(noted) {
                    log::error!("a change could not be noted as done: {error}");
                }
                continue;
            }
            let Some(mut place) = note.place.place() else {
                log::error!("a note of a new name cannot be read, and stays");
                continue;
            };
            let there = became.get(&*place.folder.id.0);
            if let Some(there) = there {
                place.folder.id = FileId(there.as_str().into());
            }
            let home = note.home.as_ref().and_then(Spot::place);
            if home.is_none() && !is_made(&id) {
                continue;
            }
            let entry = Arc::new(note.shows.entry(id, &place, names));
            let change = Change {
                // The process before this one may have ended in the middle of it.
                is_tried: home.is_some() || note.asked,
                tried: note.tried.iter().filter_map(Spot::place).collect(),
                ..Change::new(noted, space.unheard.next(), entry, place, home)
            };
            space
                .unheard
                .put(change.clone(), &self.around(&owing.staging));
            if there.is_some() {
                // What tells where its folder is does not last.
                let Change {
                    entry, place, home, ..
                } = change;
                if let Err(error) = self.note(&owing.staging, entry, place, home) {
                    log::error!("where a change belongs could not be noted: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(folder: &str, at: &str) -> Place {
        let spot = Spot {
            folder: folder.to_owned(),
            at: at.to_owned(),
            full: None,
        };
        spot.place().unwrap()
    }

    #[test]
    fn what_is_noted_of_a_change_shows_again_as_it_was() {
        let place = spot("d", "cloudreve://my/a%20b/x%EF%BC%9Ay");
        let entry = Entry {
            segment: Some(place.name.clone()),
            size_bytes: 7,
            shared: true,
            ..Entry::plain("f", "x:y", FileKind::File)
        };
        let home = Some(spot("", "cloudreve://my/old"));
        let shows = Arc::new(entry.clone());
        let change = Change::new(StepsId(1), 1, shows, place.clone(), home);
        let text = change.text(None).unwrap();
        assert!(is_note(&text));
        let note: Note = serde_json::from_str(&text).unwrap();
        assert_eq!(note.place.place(), Some(place.clone()));
        assert_eq!(note.home.unwrap().place(), change.home);
        let again = note
            .shows
            .entry(entry.id.clone(), &place, NamePolicy::Encode);
        assert_eq!(again, entry);
        assert!(!is_note(r#"{"removed":"f","at":"cloudreve://my/a"}"#));
    }
}
