//! What a look at the server tells of a try: an answer of code 0 proves nothing, and a lost answer nothing either.
//!
//! Decisions only (→ api part 2 §15e). What looks like ours by size and time is proven by its bytes elsewhere.

use std::time::{Duration, SystemTime};

use super::attempt::Attempt;
use crate::api::Version;
use crate::entity::Entity;
use crate::model::{EntityId, FileInfo};

/// How far apart two times may be that are the same: some databases keep whole seconds.
const SAME_TIME: Duration = Duration::from_secs(1);
/// How much older than the intent a placeholder may be that came of it: the two are by the same clock, which we know to
/// a second.
const SLACK: Duration = Duration::from_secs(5);

/// What a look at the place of a try shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session is open: nothing is there yet.
    Open,
    /// A session of this id is open, which most likely is the one whose answer was lost.
    Lost(String),
    /// By size and time it is there.
    There {
        /// As this version.
        entity: Entity,
        /// The version below it, if the server keeps one.
        beneath: Option<Entity>,
        /// It is the current one.
        current: bool,
    },
    /// Nothing came of it.
    Nothing,
}

/// Holds what the server shows against the try. `versions` are those of the file, newest first, unfinished ones among
/// them; `look` is none where nothing is at its place.
pub(super) fn judge(attempt: &Attempt, look: Option<(&FileInfo, &[Version])>) -> Verdict {
    let Some((info, versions)) = look else {
        return Verdict::Nothing;
    };
    match (info.upload_session(), attempt.session_id()) {
        (Some(mark), Some(ours)) if mark == ours => return Verdict::Open,
        (Some(mark), None) if may_be_ours(attempt, info, versions) => {
            return Verdict::Lost(mark.to_owned());
        }
        _ => {}
    }
    // What somebody else is uploading is no version yet.
    let unfinished = info.upload_session().is_some()
        && versions
            .first()
            .is_some_and(|newest| newest.entity.id != info.entity);
    let versions = &versions[usize::from(unfinished)..];
    let over = attempt.over.as_ref().map(|over| over.entity());
    if over.as_ref() == Some(&info.entity) {
        return Verdict::Nothing;
    }
    let current = Entity {
        id: info.entity.clone(),
        size_bytes: info.size_bytes,
    };
    let has_its_time = is_near(info.updated, attempt.modified()) || is_made_empty(attempt, info);
    if info.size_bytes == attempt.size_bytes && has_its_time {
        return Verdict::There {
            beneath: below(versions, &current.id),
            entity: current,
            current: true,
        };
    }
    match first_after(versions, over.as_ref()) {
        // Somebody has written over it since, or touched it.
        Some(entity) if entity.size_bytes == attempt.size_bytes => Verdict::There {
            entity: entity.clone(),
            beneath: below(versions, &entity.id),
            current: entity.id == info.entity,
        },
        _ => Verdict::Nothing,
    }
}

/// Whether another version got between the one that was to be replaced and ours: the server's check of `previous` and
/// its lock leave a gap (→ api part 2 §5.6). An empty one is no loss.
pub(super) fn came_between<'a>(
    over: Option<&EntityId>,
    beneath: Option<&'a Entity>,
) -> Option<&'a Entity> {
    let over = over?;
    beneath.filter(|beneath| beneath.id != *over && beneath.size_bytes > 0)
}

/// Whether two times are the same, as far as a server keeps them.
pub(super) fn is_near(one: SystemTime, other: SystemTime) -> bool {
    let apart = match one.duration_since(other) {
        Ok(later) => later,
        Err(earlier) => earlier.duration(),
    };
    apart <= SAME_TIME
}

/// A new file of no bytes, made after the intent was noted: it has the server's time.
fn is_made_empty(attempt: &Attempt, info: &FileInfo) -> bool {
    attempt.size_bytes == 0 && may_be_of(attempt, info)
}

/// Whether a file may be the new one that the try made, by its looks: its content may still be on its way.
pub(super) fn may_be_of(attempt: &Attempt, info: &FileInfo) -> bool {
    attempt.over.is_none()
        && (info.size_bytes == 0 || info.size_bytes == attempt.size_bytes)
        && info.created + SLACK >= attempt.began()
}

/// An unfinished version of our size, made after the intent was noted. Those of others are older, or refused ours.
fn may_be_ours(attempt: &Attempt, info: &FileInfo, versions: &[Version]) -> bool {
    let Some(newest) = versions.first() else {
        return false;
    };
    let began = attempt.began();
    let is_new = attempt.over.is_none();
    newest.entity.size_bytes == attempt.size_bytes
        && newest.entity.id != info.entity
        && newest.created + SLACK >= began
        && (!is_new || (info.size_bytes == 0 && info.created + SLACK >= began))
}

/// The version below `entity`, if the server keeps one.
pub(super) fn below(versions: &[Version], entity: &EntityId) -> Option<Entity> {
    let at = position(versions, entity)?;
    Some(versions.get(at + 1)?.entity.clone())
}

/// The version that came right after `over`; of a new file the first one.
fn first_after<'a>(versions: &'a [Version], over: Option<&EntityId>) -> Option<&'a Entity> {
    let first = match over {
        None => versions.last(),
        Some(over) => versions.get(position(versions, over)?.checked_sub(1)?),
    };
    first.map(|version| &version.entity)
}

fn position(versions: &[Version], entity: &EntityId) -> Option<usize> {
    versions
        .iter()
        .position(|version| version.entity.id == *entity)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::api::Session;
    use crate::model::{Capabilities, FileId, FileKind};
    use crate::names::ServerName;
    use crate::upload::attempt::{Content, Over};
    use crate::uri::FileUri;

    const WHEN: Duration = Duration::from_secs(1_700_000_000);

    fn entity(id: &str, size_bytes: u64) -> Entity {
        Entity {
            id: EntityId(id.into()),
            size_bytes,
        }
    }

    fn info(id: &str, size_bytes: u64, updated: SystemTime, mark: Option<&str>) -> FileInfo {
        let uri = FileUri::my().child(ServerName::from_wire(*b"a"));
        let mark = mark.map(|mark| ("sys:upload_session_id".to_owned(), mark.to_owned()));
        FileInfo {
            id: FileId("file".into()),
            kind: FileKind::File,
            name: ServerName::from_wire(*b"a"),
            uri,
            size_bytes,
            created: UNIX_EPOCH + WHEN,
            updated,
            entity: EntityId(id.into()),
            owned: true,
            shared: false,
            capabilities: Capabilities::default(),
            metadata: Some(mark.into_iter().collect::<BTreeMap<_, _>>()),
        }
    }

    /// A try of 100 bytes over version `base` (a new file where none), of which session `sid` answered.
    fn attempt(over: Option<&str>, session: Option<&str>) -> Attempt {
        let content = Content {
            generation: 1,
            size_bytes: 100,
            modified: UNIX_EPOCH + WHEN,
            sample: 0,
        };
        let over = over.map(|id| Over::new(&FileId("file".into()), &EntityId(id.into())));
        let now = UNIX_EPOCH + WHEN;
        let mut made = Attempt::new(&FileUri::my(), over, String::new(), &content, now);
        made.session = session.map(|id| {
            let text = format!(r#"{{"session_id":"{id}","expires":0,"policy":"local"}}"#);
            serde_json::from_str::<Session>(&text).expect("a session")
        });
        made
    }

    #[track_caller]
    fn check(
        over: Option<&str>,
        session: Option<&str>,
        info: &FileInfo,
        versions: &[Entity],
        expected: Verdict,
    ) {
        check_made_at(UNIX_EPOCH + WHEN, over, session, info, versions, expected);
    }

    /// As [`check`], with versions that were made at `created`.
    #[track_caller]
    fn check_made_at(
        created: SystemTime,
        over: Option<&str>,
        session: Option<&str>,
        info: &FileInfo,
        versions: &[Entity],
        expected: Verdict,
    ) {
        let versions: Vec<Version> = versions
            .iter()
            .map(|entity| Version {
                entity: entity.clone(),
                created,
            })
            .collect();
        let verdict = judge(&attempt(over, session), Some((info, &versions)));
        assert_eq!(verdict, expected);
    }

    fn there(id: &str, beneath: Option<Entity>, current: bool) -> Verdict {
        Verdict::There {
            entity: entity(id, 100),
            beneath,
            current,
        }
    }

    #[test]
    fn a_file_with_our_mark_is_not_finished_whatever_else_it_shows() {
        let placeholder = info("none", 0, UNIX_EPOCH + WHEN, Some("sid"));
        let unfinished = [entity("new", 100)];
        check(None, Some("sid"), &placeholder, &unfinished, Verdict::Open);
    }

    #[test]
    fn a_new_version_of_our_size_and_time_is_ours() {
        let now = info("new", 100, UNIX_EPOCH + WHEN + SAME_TIME, None);
        let versions = [entity("new", 100), entity("base", 7)];
        let expected = there("new", Some(entity("base", 7)), true);
        check(Some("base"), Some("sid"), &now, &versions, expected);
        let alone = there("new", None, true);
        check(
            Some("base"),
            Some("sid"),
            &now,
            &versions[..1],
            alone.clone(),
        );
        check(None, Some("sid"), &now, &versions[..1], alone);
    }

    #[test]
    fn what_may_have_been_sent_by_a_session_that_is_not_noted_is_there_by_its_looks() {
        let now = info("new", 100, UNIX_EPOCH + WHEN, None);
        let versions = [entity("new", 100), entity("base", 7)];
        let there = |beneath| Verdict::There {
            entity: entity("new", 100),
            beneath,
            current: true,
        };
        let base = Some(entity("base", 7));
        check(Some("base"), None, &now, &versions, there(base));
        check(None, None, &now, &versions[..1], there(None));
    }

    #[test]
    fn the_old_version_says_that_nothing_came_of_it() {
        let old = info("base", 100, UNIX_EPOCH + WHEN, None);
        let versions = [entity("base", 100)];
        check(Some("base"), Some("sid"), &old, &versions, Verdict::Nothing);
        assert_eq!(judge(&attempt(None, Some("sid")), None), Verdict::Nothing);
    }

    #[test]
    fn what_somebody_else_wrote_is_not_ours() {
        let later = UNIX_EPOCH + WHEN + Duration::from_secs(60);
        let theirs = info("new", 9, later, None);
        let versions = [entity("new", 9), entity("base", 7)];
        check(
            Some("base"),
            Some("sid"),
            &theirs,
            &versions,
            Verdict::Nothing,
        );
    }

    #[test]
    fn a_version_that_is_written_over_already_is_found_below() {
        let later = UNIX_EPOCH + WHEN + Duration::from_secs(60);
        let theirs = info("newer", 9, later, None);
        let versions = [entity("newer", 9), entity("new", 100), entity("base", 7)];
        let expected = there("new", Some(entity("base", 7)), false);
        check(Some("base"), Some("sid"), &theirs, &versions, expected);
        let first = there("new", None, false);
        check(None, Some("sid"), &theirs, &versions[..2], first);
    }

    #[test]
    fn a_session_whose_answer_was_lost_is_known_by_its_size_and_moment() {
        let lost = Verdict::Lost("x".into());
        let fresh = info("none", 0, UNIX_EPOCH + WHEN, Some("x"));
        check(None, None, &fresh, &[entity("u", 100)], lost.clone());
        check(None, None, &fresh, &[entity("u", 99)], Verdict::Nothing);
        let mut old = fresh;
        old.created = UNIX_EPOCH;
        check(None, None, &old, &[entity("u", 100)], Verdict::Nothing);
        let over = info("base", 7, UNIX_EPOCH, Some("x"));
        let versions = [entity("u", 100), entity("base", 7)];
        check(Some("base"), None, &over, &versions, lost);
    }

    #[test]
    fn an_older_session_of_the_same_size_is_somebody_elses() {
        let over = info("base", 7, UNIX_EPOCH, Some("x"));
        let versions = [entity("u", 100), entity("base", 7)];
        let at = |age| UNIX_EPOCH + WHEN - age;
        let older = at(SLACK + Duration::from_secs(1));
        check_made_at(
            older,
            Some("base"),
            None,
            &over,
            &versions,
            Verdict::Nothing,
        );
        let lost = Verdict::Lost("x".into());
        check_made_at(at(SLACK), Some("base"), None, &over, &versions, lost);
    }

    #[test]
    fn a_version_between_base_and_ours_is_a_conflict_found_late() {
        let base = EntityId("base".into());
        let between = entity("x", 3);
        assert_eq!(came_between(Some(&base), Some(&between)), Some(&between));
        assert_eq!(came_between(Some(&base), Some(&entity("base", 7))), None);
        assert_eq!(came_between(Some(&base), Some(&entity("x", 0))), None);
        assert_eq!(came_between(Some(&base), None), None);
        assert_eq!(came_between(None, Some(&between)), None);
    }
}
