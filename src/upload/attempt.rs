//! One try at a delivery, as it is noted in the journal: what is asked for before it is asked, and how far it came.
//!
//! A session that nobody remembers locks its file and all folders above it for a day, so the intent to open one is noted
//! before the request. Its answer is handed in before the first byte: what a crash takes of it in these moments, a look at
//! the server tells as well. How far it came is noted apart: it changes with each chunk, and a session has a signed URL for
//! each part.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::body::Prints;
use super::place::has_ids;
use super::policy::Done;
use crate::api::Session;
use crate::entry::FileKey;
use crate::model::{EntityId, FileId, FileInfo};
use crate::staging::{Base, Delivery, Place, is_made};
use crate::uri::FileUri;

/// Latest moment that the server stores: it takes later ones and fails with them at the end (→ api part 2 §5.1).
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// How long after a request for a session was lost one may still come of it: a gateway that gave up does not stop the server
/// behind it, which some stores keep waiting.
pub(super) const LATE: Duration = Duration::from_secs(900);

/// One try. Holds secrets; only the journal sees it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// Where it goes.
    uri: String,
    /// Of which file it is a new version; none where it is a new file.
    pub(super) over: Option<Over>,
    /// The version that its writer had before him; none where it is the one that this goes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// Where the local file belonged, and what it was written over, when this began.
    meant: String,
    /// Bytes in all.
    pub(super) size_bytes: u64,
    /// mtime, in milliseconds since 1970.
    modified_millis: u64,
    /// A few bytes from all over the content, hashed.
    pub(super) sample: u64,
    /// Which generation of the local file, also after a restart.
    pub(super) generation: u64,
    /// The version that the server was asked to copy; none where bytes are sent.
    #[serde(default)]
    pub(super) copied: Option<Over>,
    /// When it began, in seconds since 1970 by the server's clock.
    began: u64,
    /// The server's answer; none while that is awaited.
    pub(super) session: Option<Session>,
    /// What the storage has.
    #[serde(default, skip_serializing)]
    pub(super) done: Done,
    /// What tells the bytes that were sent, also when the local file has others.
    #[serde(default, skip_serializing)]
    pub(super) prints: Prints,
    /// Failures since the last chunk that got there.
    #[serde(default, skip_serializing)]
    pub(super) strikes: u32,
}

/// How far a try is: what changes with each chunk, apart from the session, whose signed URLs may be megabytes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// Of which session.
    session: String,
    done: Done,
    prints: Prints,
    strikes: u32,
}

/// A version of a file, as it is to be replaced or copied.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Over {
    file: String,
    entity: String,
}

impl Over {
    /// Version `entity` of `file`.
    pub(super) fn new(file: &FileId, entity: &EntityId) -> Self {
        Self {
            file: file.to_string(),
            entity: entity.to_string(),
        }
    }

    /// Of which file.
    pub(super) fn file(&self) -> FileId {
        FileId(self.file.as_str().into())
    }

    /// Which version.
    pub(super) fn entity(&self) -> EntityId {
        EntityId(self.entity.as_str().into())
    }
}

/// What is to be sent, apart from the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// In which state of the local file.
    pub(super) generation: u64,
    /// Bytes.
    pub(super) size_bytes: u64,
    /// mtime.
    pub(super) modified: SystemTime,
    /// A few bytes from all over it, hashed.
    pub(super) sample: u64,
}

impl Attempt {
    /// Begins.
    pub(super) fn new(
        uri: &FileUri,
        over: Option<Over>,
        meant: String,
        content: &Content,
        server_now: SystemTime,
    ) -> Self {
        let began = server_now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            uri: uri.to_wire(),
            over,
            seen: None,
            meant,
            size_bytes: content.size_bytes,
            modified_millis: millis(content.modified),
            sample: content.sample,
            generation: content.generation,
            copied: None,
            began: began.as_secs(),
            session: None,
            done: Done::default(),
            prints: Prints::default(),
            strikes: 0,
        }
    }

    /// Its writer had the version `seen` before him, which is replaced by way of one without content.
    pub(super) fn with_seen(&mut self, seen: Option<&EntityId>) {
        let over = self.over.as_ref().map(Over::entity);
        let seen = seen.filter(|seen| over.as_ref() != Some(seen));
        self.seen = seen.map(EntityId::to_string);
    }

    /// Whether it is of content that was written over version `seen` of `file`.
    pub(super) fn is_over(&self, file: &FileId, seen: &EntityId) -> bool {
        let is_seen =
            |over: &Over| over.entity() == *seen || self.seen.as_deref() == Some(&*seen.0);
        let over = self.over.as_ref();
        over.is_some_and(|over| over.file() == *file && is_seen(over))
    }

    /// The one that is noted, if one is. What cannot be read is none: another version of the program wrote it, and the
    /// server forgets its session after a day.
    pub(super) fn noted(delivery: &Delivery) -> Option<Self> {
        let text = delivery.session.as_deref()?;
        match serde_json::from_str::<Self>(text) {
            Ok(mut attempt) => {
                let reached = delivery.progress.as_deref();
                if let Some(Ok(reached)) = reached.map(serde_json::from_str) {
                    attempt.reaches(reached);
                }
                Some(attempt)
            }
            Err(err) => {
                log::warn!(
                    "the journal has an upload session that cannot be read: {:?} error at byte {}",
                    err.classify(),
                    err.column()
                );
                None
            }
        }
    }

    /// Notes it, all of it.
    pub(super) fn note_in(&self, delivery: &mut Delivery) {
        delivery.session = serde_json::to_string(self).ok().map(Into::into);
        self.note_progress_in(delivery);
    }

    /// Notes how far it is.
    pub(super) fn note_progress_in(&self, delivery: &mut Delivery) {
        let reached = self.reached();
        delivery.progress = reached.and_then(|reached| serde_json::to_string(&reached).ok());
    }

    /// Nothing is noted of any try.
    pub(super) fn forget_in(delivery: &mut Delivery) {
        delivery.session = None;
        delivery.progress = None;
    }

    /// How far it is; none while no session is open.
    pub(super) fn reached(&self) -> Option<Reached> {
        Some(Reached {
            session: self.session_id()?.to_owned(),
            done: self.done.clone(),
            prints: self.prints.clone(),
            strikes: self.strikes,
        })
    }

    /// It is as far as `reached`, if that is of its session.
    pub(super) fn reaches(&mut self, reached: Reached) {
        if self.session_id() == Some(&reached.session) {
            self.done = reached.done;
            self.prints = reached.prints;
            self.strikes = reached.strikes;
        }
    }

    /// Where it goes; none of a text that is no URI.
    pub(super) fn uri(&self) -> Option<FileUri> {
        FileUri::parse_wire(&self.uri).ok()
    }

    /// Whether it goes to `place`, wherever the folder of that was then.
    pub(super) fn is_to(&self, place: &Place) -> bool {
        // Where ids tell folders apart, another one may have the path of this one by now.
        let is_known = |id: &FileId| !id.0.is_empty() && !is_made(id) && has_ids(place);
        let folder = FileId(self.meant.split(' ').next().unwrap_or_default().into());
        let is_told_apart = is_known(&folder) && is_known(&place.folder.id);
        let is_into = |uri: &FileUri| {
            self.is_into_folder_of(place)
                || (!is_told_apart && uri.parent().as_ref() == Some(&place.folder_uri))
        };
        self.uri()
            .is_some_and(|uri| uri.name() == Some(&place.name) && is_into(&uri))
    }

    /// mtime, as the server was told.
    pub(super) fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.modified_millis)
    }

    /// Whether it was of this very content. The generation says it; the others keep a journal that lost what it had to
    /// a power cut from saying so of a content that did not.
    pub(super) fn is_of(&self, content: &Content) -> bool {
        self.generation == content.generation
            && self.size_bytes == content.size_bytes
            && self.modified_millis == millis(content.modified)
            && self.sample == content.sample
    }

    /// When it began, by the server's clock.
    pub(super) fn began(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.began)
    }

    /// Whether a session may yet come of it that is not there now: its answer was lost, and not long ago.
    pub(super) fn may_come_late(&self, server_now: SystemTime) -> bool {
        self.session.is_none() && server_now < self.began() + LATE
    }

    /// What `lost` asked for may still come, and is as good as the answer to this one where it asked for the same.
    pub(super) fn comes_after(&mut self, lost: &Self) {
        let is_same = (&lost.uri, &lost.over, lost.size_bytes);
        if is_same == (&self.uri, &self.over, self.size_bytes) {
            self.began = self.began.min(lost.began);
            self.copied = self.copied.take().or_else(|| lost.copied.clone());
        }
    }

    /// Whether `entity` of `info` is the copy that the server was asked for: a version has the same bytes wherever it is, and
    /// the original itself may have been moved there.
    pub(super) fn is_copy(&self, info: &FileInfo, entity: &EntityId) -> bool {
        let copied = self.copied.as_ref();
        copied.is_some_and(|copied| copied.entity() == *entity && copied.file() != info.id)
    }

    /// The session's id; none where the answer is awaited.
    pub(super) fn session_id(&self) -> Option<&str> {
        Some(self.session.as_ref()?.session_id.as_str())
    }

    /// Whether it goes into the folder of `place`, wherever that was then.
    pub(super) fn is_into_folder_of(&self, place: &Place) -> bool {
        let folder = self.meant.split(' ').next();
        folder == Some(&*place.folder.id.0)
    }

    /// Where it goes, of a file that belongs in the same tree as `place`; none where that cannot be read.
    pub(super) fn place(&self, place: &Place) -> Option<Place> {
        let (uri, folder) = (self.uri()?, self.meant.split(' ').next()?);
        Some(Place {
            folder: FileKey {
                tree: place.folder.tree,
                id: FileId(folder.into()),
            },
            folder_uri: uri.parent()?,
            name: uri.name()?.clone(),
            full: None,
        })
    }

    /// Whether the local file still belongs where it did when this began.
    pub(super) fn is_meant(&self, place: &Place, base: Option<&Base>) -> bool {
        self.meant == meant(place, base)
    }
}

/// A text that is another one once the file belongs elsewhere, or over something else.
pub(super) fn meant(place: &Place, base: Option<&Base>) -> String {
    let over = base.map(|base| format!("{} {}", base.file, base.entity.id));
    format!(
        "{} {} {}",
        place.folder.id,
        place.uri().to_wire(),
        over.unwrap_or_default()
    )
}

/// As the server takes a time: milliseconds, neither before 1970 nor so late that it fails with it.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.min(LATEST).as_millis().max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_the_server_cannot_store_become_ones_that_it_can() {
        assert_eq!(millis(UNIX_EPOCH - Duration::from_secs(9)), 1);
        assert_eq!(millis(UNIX_EPOCH), 1);
        assert_eq!(millis(UNIX_EPOCH + Duration::from_micros(1_234_567)), 1234);
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(millis(far), 253_402_300_799_000);
    }

    #[test]
    fn how_far_a_session_is_is_noted_apart_from_it_and_of_no_other() {
        let content = Content {
            generation: 1,
            size_bytes: 5,
            modified: UNIX_EPOCH,
            sample: 0,
        };
        let uri = FileUri::parse("cloudreve://my/a").unwrap();
        let mut attempt = Attempt::new(&uri, None, "m".into(), &content, UNIX_EPOCH);
        let opened = |id: &str| {
            let text = format!(r#"{{"session_id":"{id}","expires":0,"policy":"s3"}}"#);
            serde_json::from_str::<Session>(&text).unwrap()
        };
        attempt.session = Some(opened("one"));
        let mut delivery = Delivery::default();
        attempt.note_in(&mut delivery);
        let before = delivery.session.clone();
        attempt.done.chunks.insert(3, "etag".into());
        attempt.strikes = 2;
        attempt.note_progress_in(&mut delivery);
        assert_eq!(delivery.session, before);
        assert!(Attempt::noted(&delivery).expect("noted") == attempt);
        let mut other = attempt.clone();
        other.session = Some(opened("other"));
        let mut newer = Delivery::default();
        other.note_in(&mut newer);
        newer.progress = delivery.progress;
        let noted = Attempt::noted(&newer).expect("noted");
        assert!(noted.done.chunks.is_empty() && noted.strikes == 0);
    }

    #[test]
    fn what_is_noted_is_found_again() {
        let content = Content {
            generation: 3,
            size_bytes: 5,
            modified: UNIX_EPOCH + Duration::from_secs(7),
            sample: u64::MAX,
        };
        let uri = FileUri::parse("cloudreve://my/a%20b").unwrap();
        let over = Over::new(&FileId("f".into()), &EntityId("e".into()));
        let attempt = Attempt::new(&uri, Some(over), "m".into(), &content, UNIX_EPOCH);
        let mut delivery = Delivery::default();
        attempt.note_in(&mut delivery);
        let noted = Attempt::noted(&delivery).expect("noted");
        assert!(noted == attempt);
        assert_eq!(noted.uri(), Some(uri));
        let garbage = Delivery {
            session: Some("{".into()),
            ..Delivery::default()
        };
        assert!(Attempt::noted(&garbage).is_none());
        assert!(Attempt::noted(&Delivery::default()).is_none());
    }
}
