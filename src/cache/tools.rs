//! The cache from outside: what it holds, and emptying it, whether mounts use it or not.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, FlockOperation};

use crate::cache::names::{self, Kind};
use crate::cache::place::{Folder, How};
use crate::cache::scan::{self, charge};
use crate::cache::usage::Ledger;

/// Longest wait for those who write.
const TURN: Duration = Duration::from_secs(30);

/// What [`clear`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Entities removed.
    pub entities: u64,
    /// Bytes on disk that are free now.
    pub bytes: u64,
    /// Entities left, because the kernel reads their files by itself just now.
    pub in_use: u64,
}

/// What [`show`] saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Bytes on disk, of everything together, directories included.
    pub disk_bytes: u64,
    /// Each site that has a directory.
    pub sites: Vec<SiteShown>,
}

/// What is kept of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteShown {
    /// The site's instance id, or `=` and a hash where that is no name for a directory.
    pub site: String,
    /// Entities of which something is kept.
    pub entities: u64,
    /// Those that are kept as a whole.
    pub complete: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the entity that was not used for the longest time was used last.
    pub oldest_use: Option<SystemTime>,
    /// When any entity was used last.
    pub newest_use: Option<SystemTime>,
}

/// Removes all cached content below the cache directory `dir`, of all sites, while mounts may go on using it. Nothing
/// is removed that is not the cache's own.
///
/// # Errors
/// What the disk says; `Unsupported` where a newer version of this program made the cache; `WouldBlock` where somebody
/// kept it busy all the time. A directory without a cache is no error.
pub fn clear(dir: &Path) -> io::Result<Cleared> {
    let mut cleared = Cleared::default();
    let content = match Folder::content(dir, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(cleared),
        other => other?,
    };
    let ledger = match Ledger::open(dir, &content, How::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(cleared),
        other => other?,
    };
    let mut turn = ledger.turn(Instant::now() + TURN, || false)?;
    let before = turn.counts();
    for (name, folder) in content.sites()? {
        clear_site(&folder, &mut cleared)?;
        // It stays where something is left in it.
        match content.remove_folder(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(error),
        }
    }
    let left = scan::scan(content, u64::MAX, &|| false)?;
    turn.counted(before, left.bytes)?;
    Ok(cleared)
}

fn clear_site(folder: &Folder, cleared: &mut Cleared) -> io::Result<()> {
    let mut files = Vec::new();
    for name in folder.names(FileType::RegularFile)? {
        files.extend(names::parse(&name?));
    }
    // Data first: while it is in use, its index stays as well.
    files.sort_unstable_by_key(|(name, kind)| (*name, *kind != Kind::Data));
    let mut in_use = None;
    for (name, kind) in files {
        if in_use == Some(name) {
            continue;
        }
        let Ok(stat) = folder.stat(&name.file(kind)) else {
            continue;
        };
        if kind == Kind::Data {
            let data = folder.file(name, kind, How::Write)?;
            if rustix::fs::flock(&data, FlockOperation::NonBlockingLockExclusive).is_err() {
                in_use = Some(name);
                cleared.in_use += 1;
                continue;
            }
        }
        folder.remove(name, kind)?;
        cleared.bytes += stat.st_blocks as u64 * 512;
        cleared.entities += u64::from(kind != Kind::Index);
    }
    Ok(())
}

/// Looks at all cached content below the cache directory `dir`, and changes nothing.
///
/// # Errors
/// As those of [`clear`].
pub fn show(dir: &Path) -> io::Result<Shown> {
    let content = match Folder::content(dir, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shown::default()),
        other => other?,
    };
    match Ledger::open(dir, &content, How::Read) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut shown = Shown {
        disk_bytes: content.own_bytes(),
        sites: Vec::new(),
    };
    if let Ok(stat) = content.stat(names::USAGE) {
        shown.disk_bytes += stat.st_blocks as u64 * 512;
    }
    for (site, folder) in content.sites()? {
        let site = show_site(site, &folder)?;
        shown.disk_bytes += site.bytes;
        shown.sites.push(site);
    }
    shown.sites.sort_by(|a, b| a.site.cmp(&b.site));
    Ok(shown)
}

fn show_site(site: String, folder: &Folder) -> io::Result<SiteShown> {
    let mut shown = SiteShown {
        site,
        entities: 0,
        complete: 0,
        bytes: folder.own_bytes(),
        oldest_use: None,
        newest_use: None,
    };
    for name in folder.names(FileType::RegularFile)? {
        let Some((name, kind)) = names::parse(&name?) else {
            continue;
        };
        let Ok(stat) = folder.stat(&name.file(kind)) else {
            continue;
        };
        let held = stat.st_blocks as u64 * 512;
        shown.bytes += charge(Kind::Index, stat.st_blocks as u64);
        if kind != Kind::Data {
            let used = UNIX_EPOCH + Duration::from_secs(stat.st_mtime as u64);
            shown.oldest_use = Some(shown.oldest_use.map_or(used, |oldest| oldest.min(used)));
            shown.newest_use = Some(shown.newest_use.map_or(used, |newest| newest.max(used)));
        }
        if kind != Kind::Index {
            shown.entities += 1;
            shown.complete += u64::from(held >= stat.st_size as u64);
        }
    }
    Ok(shown)
}
