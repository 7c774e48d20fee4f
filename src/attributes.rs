//! What POSIX wants to know of a file and Cloudreve has no place for: mode, owner, exact times, what kind of thing it is,
//! and the user's own extended attributes.
//!
//! It travels as the text of one key of the file's metadata, [`KEY`], which comes with each listing and survives renames,
//! moves, copies and versions (→ api part 1 §9.3). A file that has nothing to say has no such key. The text is JSON of a
//! format that says its version; one of another version, or that is broken, says nothing and harms nobody.
//!
//! Other clients know nothing of it and leave it where it is when they change the content. So times say of which content
//! they are: they count for that alone.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use crate::entity::Entity;
use crate::model::{EntityId, FileInfo};

/// The key in the file's metadata.
pub const KEY: &str = "customize:fuse";

/// Longest text that a server takes, in bytes (→ api part 1 §9.3).
pub const TEXT_MAX_BYTES: usize = 65_535;

/// The bits of a mode that are permissions: read, write, execute, set-id and sticky.
pub const MODE_BITS: u16 = 0o7777;

/// Longest target of a symbolic link, in bytes (PATH_MAX without its NUL).
pub const TARGET_MAX_BYTES: usize = 4095;

/// Version of the text's format.
const FORMAT: u32 = 1;

/// What stays readable in the text.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// What is told of a file beside what the server knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits; none where the mount's default shows.
    pub mode: Option<u16>,
    /// Owner; none where the mount's default shows.
    pub uid: Option<u32>,
    /// Group; none where the mount's default shows.
    pub gid: Option<u32>,
    /// What it is, where it is neither a regular file nor a folder.
    pub special: Option<Special>,
    /// Times that the server has no place for.
    pub times: Option<Times>,
    /// The user's extended attributes, by their whole names.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// A file of the server's, without content, that stands for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Special {
    /// A symbolic link, and what is written in it.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Times of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// For what they count.
    pub of: Of,
    /// Last change of content; none where the server's own is right.
    pub modified: Option<SystemTime>,
    /// Last access that somebody set; none where it is the last change.
    pub accessed: Option<SystemTime>,
    /// Last change of anything; none where it is the last change of content.
    pub changed: Option<SystemTime>,
}

/// For what content times count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// For a folder, whatever becomes of it.
    Folder,
    /// For the content that came with this time, which is of whole milliseconds, as long as the server shows it: of what
    /// is sent together with the times nobody knows yet which version it will be.
    Updated(SystemTime),
    /// For a file as long as nothing is in it: it is made with a time of the server's choice.
    Empty,
    /// For this version.
    Entity(EntityId),
}

/// The times that stat(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownTimes {
    /// Last change of content.
    pub modified: SystemTime,
    /// Last access.
    pub accessed: SystemTime,
    /// Last change of anything.
    pub changed: SystemTime,
}

/// The text's shape.
#[derive(Serialize, Deserialize)]
struct Text {
    v: u32,
    /// Octal, as people write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    g: Option<u32>,
    /// `link`, `fifo`, `sock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    /// What is written in a link, percent-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<TimesText>,
    /// Names percent-encoded, values in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    x: BTreeMap<String, String>,
}

/// Seconds, and nanoseconds behind a point.
#[derive(Serialize, Deserialize)]
struct TimesText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    /// The time that the content came with, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<i64>,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    /// As long as it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    z: bool,
}

impl Attributes {
    /// What is told of a file beside what the server knows; none where nothing is, or nothing that can be understood.
    pub fn of(info: &FileInfo) -> Option<Self> {
        Self::parse(info.metadata.as_ref()?.get(KEY)?)
    }

    /// Whether there is nothing to tell.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// As text, which [`Attributes::parse`] takes back.
    pub fn text(&self) -> String {
        let (kind, target) = match &self.special {
            None => (None, None),
            Some(Special::Symlink(target)) => (Some("link"), Some(escaped(target))),
            Some(Special::Fifo) => (Some("fifo"), None),
            Some(Special::Socket) => (Some("sock"), None),
        };
        let xattrs = self.xattrs.iter();
        let text = Text {
            v: FORMAT,
            m: self.mode.map(|mode| format!("{mode:o}")),
            u: self.uid,
            g: self.gid,
            k: kind.map(str::to_owned),
            l: target,
            t: self.times.as_ref().map(Times::text),
            x: xattrs
                .map(|(name, value)| (escaped(name), STANDARD_NO_PAD.encode(value)))
                .collect(),
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// What [`Attributes::text`] made; none of anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX_BYTES {
            return None;
        }
        let text: Text = serde_json::from_str(text).ok()?;
        if text.v != FORMAT {
            return None;
        }
        let special = match (text.k.as_deref(), text.l) {
            (None, None) => None,
            (Some("link"), Some(target)) => Some(Special::Symlink(target_of(&target)?)),
            (Some("fifo"), None) => Some(Special::Fifo),
            (Some("sock"), None) => Some(Special::Socket),
            _ => return None,
        };
        let mode = match text.m {
            Some(octal) => Some(u16::from_str_radix(&octal, 8).ok()?),
            None => None,
        };
        let xattrs = text.x.iter().map(|(name, value)| {
            let value = STANDARD_NO_PAD.decode(value).ok()?;
            Some((unescaped(name), value.into()))
        });
        Some(Self {
            mode: mode.map(|mode| mode & MODE_BITS),
            uid: text.u,
            gid: text.g,
            special,
            times: text
                .t
                .map_or(Some(None), |times| times.parsed().map(Some))?,
            xattrs: xattrs.collect::<Option<_>>()?,
        })
    }

    /// The times that show of a file whose content is `entity` and which the server says was `updated` last.
    pub fn shown_times(&self, updated: SystemTime, entity: &Entity) -> ShownTimes {
        let times = self
            .times
            .as_ref()
            .filter(|times| times.of.is(updated, entity));
        let modified = times.and_then(|times| times.modified).unwrap_or(updated);
        ShownTimes {
            modified,
            accessed: times.and_then(|times| times.accessed).unwrap_or(modified),
            changed: times.and_then(|times| times.changed).unwrap_or(modified),
        }
    }
}

impl ShownTimes {
    /// All the same, as of a file of which nothing else is known.
    pub fn all(time: SystemTime) -> Self {
        Self {
            modified: time,
            accessed: time,
            changed: time,
        }
    }
}

impl Of {
    fn is(&self, updated: SystemTime, entity: &Entity) -> bool {
        match self {
            Self::Folder => true,
            Self::Updated(time) => whole_milliseconds(updated) == *time,
            Self::Empty => entity.size_bytes == 0,
            Self::Entity(of) => *of == entity.id,
        }
    }
}

impl Times {
    /// What there is to say beside the content `entity`, so that `times` show.
    pub fn of_content(times: ShownTimes, entity: &Entity) -> Self {
        let of = match entity.size_bytes {
            0 => Of::Empty,
            _ => Of::Entity(entity.id.clone()),
        };
        Self {
            modified: Some(times.modified),
            ..Self::beside(of, times)
        }
    }

    /// What there is to say beside content that comes with the time `times.modified`, as far as the server keeps that.
    pub fn sent(times: ShownTimes) -> Self {
        let whole = whole_milliseconds(times.modified);
        Self {
            modified: (times.modified != whole).then_some(times.modified),
            ..Self::beside(Of::Updated(whole), times)
        }
    }

    /// Whether they say nothing.
    pub fn is_plain(&self) -> bool {
        (self.modified, self.accessed, self.changed) == (None, None, None)
    }

    /// All but the time of the last change.
    fn beside(of: Of, times: ShownTimes) -> Self {
        let differing = |time| (time != times.modified).then_some(time);
        Self {
            of,
            modified: None,
            accessed: differing(times.accessed),
            changed: differing(times.changed),
        }
    }

    fn text(&self) -> TimesText {
        let text = |time: Option<SystemTime>| time.map(time_text);
        TimesText {
            m: text(self.modified),
            a: text(self.accessed),
            c: text(self.changed),
            w: match &self.of {
                Of::Updated(time) => Some(milliseconds(*time)),
                Of::Folder | Of::Empty | Of::Entity(_) => None,
            },
            e: match &self.of {
                Of::Entity(entity) => Some(entity.0.to_string()),
                Of::Folder | Of::Empty | Of::Updated(_) => None,
            },
            z: self.of == Of::Empty,
        }
    }
}

impl TimesText {
    fn parsed(self) -> Option<Times> {
        let of = match (self.w, self.e, self.z) {
            (Some(at), None, false) => Of::Updated(at_milliseconds(at)?),
            (None, Some(entity), false) => Of::Entity(EntityId(entity.into())),
            (None, None, true) => Of::Empty,
            (None, None, false) => Of::Folder,
            _ => return None,
        };
        let time = |text: Option<String>| match text {
            Some(text) => parse_time(&text).map(Some),
            None => Some(None),
        };
        Some(Times {
            of,
            modified: time(self.m)?,
            accessed: time(self.a)?,
            changed: time(self.c)?,
        })
    }
}

/// `time` without what is below a millisecond, which is all that goes to the server beside content.
pub fn whole_milliseconds(time: SystemTime) -> SystemTime {
    at_milliseconds(milliseconds(time)).unwrap_or(UNIX_EPOCH)
}

/// Since 1970, rounded down.
fn milliseconds(time: SystemTime) -> i64 {
    let (seconds, nanoseconds) = split(time);
    seconds
        .saturating_mul(1000)
        .saturating_add(i64::from(nanoseconds / 1_000_000))
}

fn at_milliseconds(at: i64) -> Option<SystemTime> {
    let part = at.rem_euclid(1000) as u32;
    joined(at.div_euclid(1000), part * 1_000_000)
}

fn time_text(time: SystemTime) -> String {
    let (seconds, nanoseconds) = split(time);
    format!("{seconds}.{nanoseconds:09}")
}

fn parse_time(text: &str) -> Option<SystemTime> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    let is_whole = nanoseconds.len() == 9 && nanoseconds.bytes().all(|byte| byte.is_ascii_digit());
    joined(
        seconds.parse().ok()?,
        nanoseconds.parse().ok().filter(|_| is_whole)?,
    )
}

/// Whole seconds since 1970, rounded down, and the nanoseconds behind them.
fn split(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        ),
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                part => (seconds.saturating_sub(1), 1_000_000_000 - part),
            }
        }
    }
}

fn joined(seconds: i64, nanoseconds: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    start?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

fn unescaped(text: &str) -> Box<[u8]> {
    percent_decode_str(text).collect::<Vec<u8>>().into()
}

/// What is written in a link; none where no link can say that.
fn target_of(text: &str) -> Option<Box<[u8]>> {
    let target = unescaped(text);
    let fits = !target.is_empty() && target.len() <= TARGET_MAX_BYTES;
    (fits && !target.contains(&0)).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: u32) -> SystemTime {
        joined(seconds, nanoseconds).unwrap()
    }

    fn entity(id: &str) -> Entity {
        Entity {
            id: EntityId(id.into()),
            size_bytes: 7,
        }
    }

    #[track_caller]
    fn comes_back(attributes: Attributes) {
        let text = attributes.text();
        assert_eq!(Attributes::parse(&text), Some(attributes), "{text}");
    }

    #[test]
    fn all_that_can_be_told_comes_back_as_it_was() {
        comes_back(Attributes::default());
        for special in [
            Special::Symlink((*b"../a b/\xff%2F\n\"\\").into()),
            Special::Fifo,
            Special::Socket,
        ] {
            comes_back(Attributes {
                special: Some(special),
                ..Attributes::default()
            });
        }
        for of in [
            Of::Folder,
            Of::Empty,
            Of::Updated(at(-7, 123_000_000)),
            Of::Entity(entity("eN7\"").id),
        ] {
            comes_back(Attributes {
                mode: Some(0o7755),
                uid: Some(u32::MAX - 1),
                gid: Some(0),
                times: Some(Times {
                    of,
                    modified: Some(at(-1, 999_999_999)),
                    accessed: Some(at(1 << 40, 1)),
                    changed: None,
                }),
                xattrs: BTreeMap::from([
                    ((*b"user.\xfe%41").into(), (*b"\0\xff").into()),
                    ((*b"user.").into(), (*b"").into()),
                ]),
                special: None,
            });
        }
    }

    #[test]
    fn any_bytes_come_back_in_links_and_extended_attributes() {
        let all: Vec<u8> = (1..=255).collect();
        comes_back(Attributes {
            special: Some(Special::Symlink(all.clone().into())),
            xattrs: BTreeMap::from([(all.clone().into(), all.into())]),
            ..Attributes::default()
        });
    }

    #[test]
    fn what_is_foreign_newer_or_broken_says_nothing() {
        let long = format!(r#"{{"v":1,"l":"{}"}}"#, "a".repeat(TEXT_MAX_BYTES));
        for text in [
            "",
            "{}",
            "null",
            "[]",
            r#"{"v":2,"m":"644"}"#,
            r#"{"v":1,"m":"9"}"#,
            r#"{"v":1,"m":"777777777"}"#,
            r#"{"v":1,"u":-1}"#,
            r#"{"v":1,"k":"door"}"#,
            r#"{"v":1,"k":"link"}"#,
            r#"{"v":1,"k":"link","l":""}"#,
            r#"{"v":1,"k":"link","l":"a%00b"}"#,
            r#"{"v":1,"l":"a"}"#,
            r#"{"v":1,"t":{"m":"12"}}"#,
            r#"{"v":1,"t":{"m":"12.5"}}"#,
            r#"{"v":1,"t":{"m":"1.+00000000"}}"#,
            r#"{"v":1,"t":{"w":1,"e":"x"}}"#,
            r#"{"v":1,"t":{"w":1,"z":true}}"#,
            r#"{"v":1,"x":{"user.a":"!"}}"#,
            &long,
        ] {
            assert_eq!(Attributes::parse(text), None, "{text}");
        }
        let target = "a".repeat(TARGET_MAX_BYTES);
        let link = |target: &str| format!(r#"{{"v":1,"k":"link","l":"{target}"}}"#);
        assert!(Attributes::parse(&link(&target)).is_some());
        assert!(Attributes::parse(&link(&format!("{target}a"))).is_none());
    }

    #[test]
    fn what_is_of_no_use_in_a_mode_is_left_out() {
        let read = Attributes::parse(r#"{"v":1,"m":"100644","future":[]}"#).unwrap();
        assert_eq!(read.mode, Some(0o644));
    }

    #[test]
    fn times_count_for_the_content_that_they_are_of_and_no_other() {
        let exact = at(5, 123_456_789);
        let times = |of| Attributes {
            times: Some(Times {
                of,
                modified: Some(exact),
                accessed: None,
                changed: Some(at(9, 0)),
            }),
            ..Attributes::default()
        };
        let shown = ShownTimes {
            modified: exact,
            accessed: exact,
            changed: at(9, 0),
        };
        let (updated, later) = (at(5, 123_000_000), at(6, 0));
        let (ours, theirs) = (entity("a"), entity("b"));
        let sent = times(Of::Updated(updated));
        assert_eq!(sent.shown_times(updated, &theirs), shown);
        assert_eq!(sent.shown_times(later, &ours), ShownTimes::all(later));
        let known = times(Of::Entity(ours.id.clone()));
        assert_eq!(known.shown_times(later, &ours), shown);
        assert_eq!(known.shown_times(later, &theirs), ShownTimes::all(later));
        assert_eq!(times(Of::Folder).shown_times(later, &theirs), shown);
        let new = times(Of::Empty);
        assert_eq!(new.shown_times(later, &ours), ShownTimes::all(later));
        let empty = Entity {
            size_bytes: 0,
            ..ours
        };
        assert_eq!(new.shown_times(later, &empty), shown);
    }

    #[test]
    fn milliseconds_are_rounded_down_on_both_sides_of_1970() {
        assert_eq!(whole_milliseconds(at(7, 1_999_999)), at(7, 1_000_000));
        assert_eq!(whole_milliseconds(at(-1, 999_999_999)), at(-1, 999_000_000));
        assert_eq!(whole_milliseconds(at(0, 0)), UNIX_EPOCH);
    }
}
