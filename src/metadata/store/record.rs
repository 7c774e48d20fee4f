//! Entries as bytes: each field after the other, lengths before what varies. What cannot be read is no entry.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::attributes::Attributes;
use crate::entry::{Entry, Shortcut};
use crate::model::{EntityId, FileId, FileKind};
use crate::names::ServerName;
use crate::uri::FileUri;

const FOLDER: u8 = 1 << 0;
const OWNED: u8 = 1 << 1;
const SHARED: u8 = 1 << 2;
const UNFINISHED: u8 = 1 << 3;
const THUMBLESS: u8 = 1 << 4;
const SEGMENT: u8 = 1 << 5;
const SHORTCUT: u8 = 1 << 6;
const ATTRIBUTES: u8 = 1 << 7;

/// Appends `entry` to `bytes`.
pub(super) fn write(entry: &Entry, bytes: &mut Vec<u8>) {
    let flags = [
        (entry.kind == FileKind::Folder, FOLDER),
        (entry.owned, OWNED),
        (entry.shared, SHARED),
        (entry.unfinished, UNFINISHED),
        (entry.thumbless, THUMBLESS),
        (entry.segment.is_some(), SEGMENT),
        (entry.shortcut.is_some(), SHORTCUT),
        (entry.attributes.is_some(), ATTRIBUTES),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
    bytes.push(flags.fold(0, |all, (_, flag)| all | flag));
    put(entry.id.0.as_bytes(), bytes);
    put(entry.name.as_bytes(), bytes);
    put(entry.entity.0.as_bytes(), bytes);
    bytes.extend(entry.size_bytes.to_le_bytes());
    put_time(entry.created, bytes);
    put_time(entry.updated, bytes);
    if let Some(segment) = &entry.segment {
        put(segment.as_bytes(), bytes);
    }
    if let Some(shortcut) = &entry.shortcut {
        let target = match &**shortcut {
            Shortcut::To(uri) => uri.to_wire(),
            Shortcut::Broken => String::new(),
        };
        put(target.as_bytes(), bytes);
    }
    if let Some(attributes) = &entry.attributes {
        put(attributes.text().as_bytes(), bytes);
    }
}

/// Takes an entry from the front of `bytes`.
pub(super) fn read(bytes: &mut &[u8]) -> Option<Entry> {
    let flags = *take(bytes, 1)?.first()?;
    let has = |flag| flags & flag != 0;
    Some(Entry {
        kind: match has(FOLDER) {
            true => FileKind::Folder,
            false => FileKind::File,
        },
        owned: has(OWNED),
        shared: has(SHARED),
        unfinished: has(UNFINISHED),
        thumbless: has(THUMBLESS),
        id: FileId(text(bytes)?.into()),
        name: OsStr::from_bytes(sized(bytes)?).into(),
        entity: EntityId(text(bytes)?.into()),
        size_bytes: number(bytes)?,
        created: time(bytes)?,
        updated: time(bytes)?,
        segment: match has(SEGMENT) {
            true => Some(ServerName::from_wire(sized(bytes)?)),
            false => None,
        },
        shortcut: match has(SHORTCUT) {
            true => Some(Box::new(shortcut(text(bytes)?))),
            false => None,
        },
        attributes: match has(ATTRIBUTES) {
            true => Attributes::parse(text(bytes)?).map(Arc::new),
            false => None,
        },
    })
}

fn shortcut(target: &str) -> Shortcut {
    FileUri::parse_wire(target).map_or(Shortcut::Broken, Shortcut::To)
}

fn put(field: &[u8], bytes: &mut Vec<u8>) {
    // No field is longer than what the server sends in one answer.
    let size = u32::try_from(field.len()).unwrap_or(u32::MAX);
    bytes.extend(size.to_le_bytes());
    bytes.extend(&field[..size as usize]);
}

/// Nanoseconds since 1970, either way.
fn put_time(time: SystemTime, bytes: &mut Vec<u8>) {
    let nanoseconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    bytes.extend(nanoseconds.to_le_bytes());
}

fn time(bytes: &mut &[u8]) -> Option<SystemTime> {
    let nanoseconds = i128::from_le_bytes(take(bytes, 16)?.try_into().ok()?);
    let distance = nanoseconds.unsigned_abs();
    let seconds = u64::try_from(distance / 1_000_000_000).ok()?;
    let distance = Duration::new(seconds, (distance % 1_000_000_000) as u32);
    match nanoseconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    }
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(sized(bytes)?).ok()
}

fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    take(bytes, usize::try_from(size).ok()?)
}

fn take<'a>(bytes: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(size)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Special;

    fn all_of_it() -> Entry {
        let attributes = Attributes {
            mode: Some(0o640),
            uid: Some(7),
            special: Some(Special::Symlink(b"to/\xff"[..].into())),
            ..Attributes::default()
        };
        Entry {
            kind: FileKind::File,
            name: OsStr::from_bytes(b"caf\xe9").into(),
            segment: Some(ServerName::from_wire("caf‛é".as_bytes())),
            size_bytes: u64::MAX,
            created: SystemTime::UNIX_EPOCH - Duration::new(7, 5),
            updated: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            shared: true,
            unfinished: true,
            thumbless: true,
            shortcut: Some(Box::new(Shortcut::To(
                FileUri::parse_wire("cloudreve://id@share/a%20b").unwrap(),
            ))),
            attributes: Some(Arc::new(attributes)),
            ..Entry::plain("id", "", FileKind::File)
        }
    }

    fn bytes_of(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(entry, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let broken = Entry {
            shortcut: Some(Box::new(Shortcut::Broken)),
            owned: false,
            ..Entry::plain("x", "folder", FileKind::Folder)
        };
        let plain = Entry::plain("y", "", FileKind::File);
        let entries = [all_of_it(), broken, plain];
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| write(entry, &mut bytes));
        let mut rest = &*bytes;
        for entry in entries {
            assert_eq!(read(&mut rest), Some(entry));
        }
        assert_eq!(read(&mut rest), None);
    }

    #[test]
    fn what_was_cut_anywhere_is_no_entry() {
        let bytes = bytes_of(&all_of_it());
        for end in 0..bytes.len() {
            assert_eq!(read(&mut &bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_not() {
        let bytes = bytes_of(&all_of_it());
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                if let Some(entry) = read(&mut &*bytes) {
                    // What is read can be written again.
                    assert!(!bytes_of(&entry).is_empty());
                }
            }
        }
    }
}
