//! Which entities stay by the word of pins, written down for all who use the directory, also while the mount that has the
//! pins does not run.
//!
//! A file for each owner in the directory `pins` of its site: a line with name and bytes for each entity. It is replaced in
//! one step, and who evicts looks whether the directory has changed. A line that cannot be read is no line.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use rustix::fs::FileType;

use crate::cache::disk::UNIT_BYTES;
use crate::cache::names::Name;
use crate::cache::place::{Folder, How};

const FOLDER: &str = "pins";

/// What an owner's file is called until it is whole. Names with a dot are passed over.
const NEW: &str = ".new";

/// What a site's lists say, and which state of them that was.
#[derive(Default)]
pub(super) struct Listed {
    seen: Option<(i64, u64)>,
    names: HashMap<Name, u64>,
}

impl Listed {
    /// Looks again, if anything changed since. Whether it did.
    pub(super) fn refresh(&mut self, site: &Folder) -> bool {
        let found = site.stat(FOLDER).ok();
        let found = found.map(|stat| (stat.st_mtime, stat.st_mtime_nsec));
        if found == self.seen {
            return false;
        }
        self.seen = found;
        self.names = read(site, None);
        true
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.names.contains_key(&name)
    }
}

/// All that is listed in `site`, but for what `without` lists.
pub(super) fn read(site: &Folder, without: Option<&str>) -> HashMap<Name, u64> {
    let mut all = HashMap::new();
    let Ok(folder) = site.folder(FOLDER, false) else {
        return all;
    };
    let owners = folder.names(FileType::RegularFile).into_iter().flatten();
    for owner in owners.flatten() {
        let mut text = String::new();
        if Some(owner.as_str()) != without
            && let Ok(mut file) = folder.open(&owner, How::Read)
            && file.read_to_string(&mut text).is_ok()
        {
            all.extend(text.lines().filter_map(parse));
        }
    }
    all
}

/// What `owner` lists from now on; no file where that is nothing.
pub(super) fn write(site: &Folder, owner: &str, names: &HashMap<Name, u64>) -> io::Result<()> {
    if names.is_empty() {
        return match site.folder(FOLDER, false) {
            Ok(folder) => folder.remove_named(owner),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
    }
    let folder = site.folder(FOLDER, true)?;
    let mut file = folder.open(NEW, How::Make)?;
    file.set_len(0)?;
    file.write_all(text(names).as_bytes())?;
    folder.rename(NEW, owner)
}

/// Bytes that [`write`] may need.
pub(super) fn need_bytes(names: &HashMap<Name, u64>) -> u64 {
    text(names).len() as u64 + 4 * UNIT_BYTES
}

/// Bytes that the lists of `site` take on disk.
pub(super) fn charge(site: &Folder) -> u64 {
    let Ok(folder) = site.folder(FOLDER, false) else {
        return 0;
    };
    let owners = folder.names(FileType::RegularFile).into_iter().flatten();
    let stats = owners.flatten().filter_map(|name| folder.stat(&name).ok());
    let files: u64 = stats.map(|stat| stat.st_blocks as u64 * 512).sum();
    files + folder.own_bytes()
}

fn text(names: &HashMap<Name, u64>) -> String {
    let line = |(name, bytes): (&Name, &u64)| format!("{:016x} {bytes}\n", name.0);
    names.iter().map(line).collect()
}

fn parse(line: &str) -> Option<(Name, u64)> {
    let (name, bytes) = line.split_once(' ')?;
    let name = u64::from_str_radix(name, 16).ok()?;
    Some((Name(name), bytes.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_owner_lists_others_see_until_it_lists_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let content = Folder::content(dir.path(), true).unwrap();
        let site = content.folder("site", true).unwrap();
        let mut listed = Listed::default();
        assert!(!listed.refresh(&site), "there is nothing");
        assert_eq!(charge(&site), 0);
        let (a, b) = (Name(1), Name(2));
        write(&site, "one", &HashMap::from([(a, 10)])).unwrap();
        write(&site, "other", &HashMap::from([(b, 20)])).unwrap();
        assert!(listed.refresh(&site) && !listed.refresh(&site));
        assert!(listed.has(a) && listed.has(b));
        assert_eq!(read(&site, Some("one")), HashMap::from([(b, 20)]));
        assert!(charge(&site) > 0);
        write(&site, "one", &HashMap::new()).unwrap();
        assert!(listed.refresh(&site));
        assert!(!listed.has(a) && listed.has(b));
        std::fs::write(dir.path().join("content/site/pins/one"), "x 1\n3\n4 y").unwrap();
        assert_eq!(read(&site, Some("other")), HashMap::new());
    }
}
