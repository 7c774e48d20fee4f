//! What was known of a drive when it was mounted last: its folders as they were listed, on disk, for the next mount.
//!
//! A database in the cache directory, which anybody may delete at any time; what is damaged in it counts as not there, and a
//! database that is of no use is made anew. One mount of one drive has it at a time: a second one keeps nothing. What is here
//! was true once, and is no more than that: `metadata` decides what of it is still believed.
//!
//! Each call may wait for the disk.

mod record;

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use rustix::fs::FlockOperation;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{Entry, FileKey, stable_hash};

/// Version of the tables and of the bytes in them.
const FORMAT: i64 = 1;

/// Where the databases are, below the cache directory.
const DIRECTORY: &str = "metadata";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS mount (one INTEGER PRIMARY KEY CHECK (one = 1), about TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS folders (
        tree INTEGER NOT NULL,
        id TEXT NOT NULL,
        asked_ms INTEGER,
        saved_ms INTEGER NOT NULL,
        is_flat INTEGER NOT NULL,
        entries INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (tree, id)
    );
    CREATE TABLE IF NOT EXISTS ends (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        is_whole INTEGER NOT NULL,
        doubted_ms INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_age ON folders (saved_ms, entries, bytes);
";

/// What is kept of one drive.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    room: Room,
    /// What was asked for until then counts by its age no more.
    doubted_ms: i64,
    /// Locked while this lives.
    _lock: File,
}

/// What is kept of one drive at most.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Entries and folders.
    pub entries: usize,
    /// Bytes of what is said of them.
    pub bytes: u64,
}

impl Room {
    fn has_place_for(self, entries: u64, bytes: u64) -> bool {
        entries <= self.entries as u64 && bytes <= self.bytes
    }
}

/// A folder as it was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What lay in it, in the order in which it was shown.
    pub entries: Vec<Arc<Entry>>,
    /// The server answers for them only by listing them.
    pub is_flat: bool,
    /// When that was asked for; none where it was known to be out of date.
    pub asked: Option<SystemTime>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("another mount of the same drive has it")]
    InUse,
    #[error("a newer version of this program made it (format {0}, this one knows {FORMAT})")]
    Newer(i64),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
}

impl Store {
    /// What is kept below the cache directory `dir` of `drive`, which says in full what is mounted, by whom, and how names are
    /// shown; no more than there is `room` for. None where nothing can be kept, which the log says.
    pub fn open(dir: &Path, drive: &str, room: Room) -> Option<Self> {
        let dir = dir.join(DIRECTORY);
        let name = format!("{:016x}", stable_hash([drive.as_bytes()]));
        let path = dir.join(&name);
        match Self::open_at(&dir, &path, drive, room) {
            Ok(store) => Some(store),
            Err(error @ (Unusable::InUse | Unusable::Newer(_))) => {
                log::info!(
                    "folders are not kept for the next mount: {}: {error}",
                    path.display()
                );
                None
            }
            Err(error) => {
                log::warn!(
                    "folders are not kept for the next mount: {}: {error}",
                    path.display()
                );
                None
            }
        }
    }

    fn open_at(dir: &Path, path: &Path, drive: &str, room: Room) -> Result<Self, Unusable> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let lock = private(&path.with_extension("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Unusable::InUse)?;
        let path = path.with_extension("sqlite");
        let connection = match database(&path, drive) {
            Err(Unusable::Database(error)) => {
                log::warn!("{} is made anew: {error}", path.display());
                for path in files_of(&path) {
                    remove(&path)?;
                }
                database(&path, drive)?
            }
            opened => opened?,
        };
        let doubted_ms = doubted(&connection, SystemTime::now())?;
        Ok(Self {
            connection: Mutex::new(connection),
            room,
            doubted_ms,
            _lock: lock,
        })
    }

    /// What [`Store::keep_mount`] noted.
    pub fn mount(&self) -> Option<String> {
        let connection = self.connection.lock().unwrap();
        let about = connection.query_row("SELECT about FROM mount", [], |row| row.get(0));
        told(about.optional()).flatten()
    }

    /// Notes what a mount must know of the drive before anything of it can be shown.
    pub fn keep_mount(&self, about: &str) {
        let connection = self.connection.lock().unwrap();
        let put = "INSERT OR REPLACE INTO mount (one, about) VALUES (1, ?1)";
        told(connection.execute(put, [about]));
    }

    /// All that is known was kept, and nothing else is found out or changed any more. Where that is not said, what was kept counts
    /// by its age no more: what was done last in a folder may not be in it.
    pub fn is_whole(&self) {
        let connection = self.connection.lock().unwrap();
        told(connection.execute("UPDATE ends SET is_whole = 1", []));
    }

    /// What was known of `folder`.
    pub fn folder(&self, folder: &FileKey) -> Option<Kept> {
        let connection = self.connection.lock().unwrap();
        let get = "SELECT asked_ms, is_flat, entries, checksum, content FROM folders WHERE tree = ?1 AND id = ?2";
        let row = connection.query_row(get, params![tree(folder), &*folder.id.0], |row| {
            let content: Vec<u8> = row.get(4)?;
            let (asked, is_flat): (Option<i64>, bool) = (row.get(0)?, row.get(1)?);
            let (count, checksum): (i64, i64) = (row.get(2)?, row.get(3)?);
            Ok((asked, is_flat, count, checksum, content))
        });
        drop(connection);
        let (asked, is_flat, count, checksum, content) = told(row.optional()).flatten()?;
        let entries = match xxh3_64(&content) == checksum.cast_unsigned() {
            true => entries(&content, count),
            false => None,
        };
        if entries.is_none() {
            log::warn!("what was kept of a folder is damaged, and does not count");
        }
        Some(Kept {
            entries: entries?,
            is_flat,
            asked: asked
                .filter(|asked| *asked > self.doubted_ms)
                .and_then(moment),
        })
    }

    /// Keeps `kept` of `folder` in place of what was kept of it before, and as much of other folders as there is room for,
    /// of those that were kept last.
    pub fn keep(&self, folder: &FileKey, kept: &Kept, now: SystemTime) {
        let count = kept.entries.len();
        let mut content = Vec::with_capacity(count * 128);
        for entry in &kept.entries {
            record::write(entry, &mut content);
        }
        if !self
            .room
            .has_place_for(count as u64 + 1, content.len() as u64)
        {
            return self.forget(folder);
        }
        let row = params![
            tree(folder),
            &*folder.id.0,
            kept.asked.map(milliseconds),
            milliseconds(now),
            kept.is_flat,
            count as i64,
            content.len() as i64,
            xxh3_64(&content).cast_signed(),
            content,
        ];
        let mut connection = self.connection.lock().unwrap();
        told((|| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO folders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                row,
            )?;
            make_room(&transaction, self.room)?;
            transaction.commit()
        })());
    }

    /// Nothing is kept of the drive any more.
    pub fn clear(&self) {
        let connection = self.connection.lock().unwrap();
        told(connection.execute_batch("DELETE FROM mount; DELETE FROM folders"));
    }

    /// Nothing is kept of `folder` any more.
    pub fn forget(&self, folder: &FileKey) {
        let connection = self.connection.lock().unwrap();
        let delete = "DELETE FROM folders WHERE tree = ?1 AND id = ?2";
        told(connection.execute(delete, params![tree(folder), &*folder.id.0]));
    }
}

/// Removes what is kept below the cache directory `dir` of all drives that nobody has mounted; how many bytes that were.
pub fn clear(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let names = match std::fs::read_dir(dir.join(DIRECTORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        names => names?,
    };
    for name in names {
        let lock = name?.path();
        if lock.extension().is_none_or(|kind| kind != "lock") {
            continue;
        }
        let locked = private(&lock)?;
        if rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        for path in files_of(&lock.with_extension("sqlite")) {
            bytes += std::fs::metadata(&path).map_or(0, |stat| stat.len());
            remove(&path)?;
        }
    }
    Ok(bytes)
}

/// The database at `path`, empty where it was of another drive.
fn database(path: &Path, drive: &str) -> Result<Connection, Unusable> {
    // SQLite gives its other files the mode of this one.
    private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > FORMAT {
        return Err(Unusable::Newer(found));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS drive (about TEXT NOT NULL)")?;
    let of = connection.query_row("SELECT about FROM drive", [], |row| row.get::<_, String>(0));
    if of.optional()?.as_deref() != Some(drive) {
        connection.execute_batch("DELETE FROM drive; DELETE FROM mount; DELETE FROM folders")?;
        connection.execute("INSERT INTO drive VALUES (?1)", [drive])?;
    }
    connection.pragma_update(None, "user_version", FORMAT)?;
    Ok(connection)
}

/// Until when what was asked for counts by its age no more, now that it is to be added to at `now`.
fn doubted(connection: &Connection, now: SystemTime) -> rusqlite::Result<i64> {
    let get = "SELECT is_whole, doubted_ms FROM ends";
    let last = connection.query_row(get, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let doubted = match last.optional()? {
        Some((true, doubted)) => doubted,
        Some((false, _)) => milliseconds(now),
        None => 0,
    };
    let put = "INSERT OR REPLACE INTO ends VALUES (1, 0, ?1)";
    connection.execute(put, [doubted])?;
    Ok(doubted)
}

/// Removes those that were kept first, where there is no room for all.
fn make_room(connection: &Connection, room: Room) -> rusqlite::Result<()> {
    let all = "SELECT coalesce(sum(entries + 1), 0), coalesce(sum(bytes), 0) FROM folders";
    let (entries, bytes): (i64, i64) =
        connection.query_row(all, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if room.has_place_for(entries.unsigned_abs(), bytes.unsigned_abs()) {
        return Ok(());
    }
    let oldest = "
        DELETE FROM folders WHERE rowid IN (
            SELECT rowid FROM (
                SELECT rowid, sum(entries + 1) OVER newer AS entries, sum(bytes) OVER newer AS bytes FROM folders
                WINDOW newer AS (ORDER BY saved_ms DESC, rowid DESC)
            ) WHERE entries > ?1 OR bytes > ?2
        )";
    let limit = |most: u64| i64::try_from(most).unwrap_or(i64::MAX);
    let limits = [limit(room.entries as u64), limit(room.bytes)];
    connection.execute(oldest, limits)?;
    Ok(())
}

fn entries(mut bytes: &[u8], count: i64) -> Option<Vec<Arc<Entry>>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(Arc::new(record::read(&mut bytes)?));
    }
    bytes.is_empty().then_some(entries)
}

/// What the database said; where it failed, which nobody but the log need know, nothing.
fn told<T>(answer: rusqlite::Result<T>) -> Option<T> {
    answer
        .inspect_err(|error| log::warn!("folders kept for the next mount: {error}"))
        .ok()
}

fn tree(folder: &FileKey) -> i64 {
    folder.tree.number().cast_signed()
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn moment(milliseconds: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(u64::try_from(milliseconds).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// The file at `path`, made if it is not there; for its owner alone.
fn private(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The database at `path` and what SQLite has beside it.
fn files_of(path: &Path) -> [PathBuf; 3] {
    ["sqlite", "sqlite-wal", "sqlite-shm"].map(|kind| path.with_extension(kind))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Tree;
    use crate::model::{FileId, FileKind};

    const ROOM: Room = Room {
        entries: 10,
        bytes: 10_000,
    };

    fn key(id: &str) -> FileKey {
        FileKey {
            tree: Tree::of_number(u64::MAX),
            id: FileId(id.into()),
        }
    }

    fn kept(names: &[&str]) -> Kept {
        let entry = |name: &&str| Arc::new(Entry::plain(name, name, FileKind::File));
        Kept {
            entries: names.iter().map(entry).collect(),
            is_flat: false,
            asked: Some(at(12)),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), "drive", ROOM).unwrap()
    }

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        let names = std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap();
        let mut paths = names.map(|name| name.unwrap().path());
        paths
            .find(|path| path.extension().unwrap() == "sqlite")
            .unwrap()
    }

    #[test]
    fn what_was_kept_is_there_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        assert_eq!((store.folder(&key("a")), store.mount()), (None, None));
        store.keep(&key("a"), &kept(&["x", "y"]), at(20));
        store.keep_mount("about");
        store.is_whole();
        drop(store);
        let store = open(&dir);
        assert_eq!(store.folder(&key("a")), Some(kept(&["x", "y"])));
        assert_eq!(store.mount().as_deref(), Some("about"));
        store.keep(
            &key("a"),
            &Kept {
                asked: None,
                ..kept(&[])
            },
            at(21),
        );
        assert_eq!(
            store.folder(&key("a")),
            Some(Kept {
                asked: None,
                ..kept(&[])
            })
        );
        store.forget(&key("a"));
        assert_eq!(store.folder(&key("a")), None);
    }

    #[test]
    fn what_was_kept_counts_by_its_age_only_where_all_of_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let asked = |store: &Store, folder: &str| store.folder(&key(folder)).unwrap().asked;
        let store = open(&dir);
        store.keep(&key("a"), &kept(&["x"]), at(20));
        drop(store);
        let store = open(&dir);
        assert_eq!(asked(&store, "a"), None);
        store.is_whole();
        drop(store);
        let store = open(&dir);
        assert_eq!(asked(&store, "a"), None, "it was no part of that");
        let later = SystemTime::now() + Duration::from_secs(1);
        let kept = Kept {
            asked: moment(milliseconds(later)),
            ..kept(&["y"])
        };
        store.keep(&key("b"), &kept, later);
        store.is_whole();
        drop(store);
        assert_eq!(asked(&open(&dir), "b"), kept.asked);
    }

    #[test]
    fn no_drive_sees_what_another_one_had() {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).keep(&key("a"), &kept(&["x"]), at(20));
        let other = Store::open(dir.path(), "other", ROOM).unwrap();
        assert_eq!(other.folder(&key("a")), None);
        // Where two had one file by the same hash, the second takes it over.
        database(&path(&dir), "third").unwrap();
        assert_eq!(
            database(&path(&dir), "third").unwrap().query_row(
                "SELECT count(*) FROM folders",
                [],
                |row| row.get::<_, u32>(0)
            ),
            Ok(0)
        );
    }

    #[test]
    fn one_mount_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(&dir);
        assert!(Store::open(dir.path(), "drive", ROOM).is_none());
        assert_eq!(clear(dir.path()).unwrap(), 0);
        first.keep(&key("a"), &kept(&["x"]), at(20));
        drop(first);
        assert!(clear(dir.path()).unwrap() > 0);
        assert_eq!(open(&dir).folder(&key("a")), None);
    }

    #[test]
    fn those_kept_last_stay_where_there_is_no_room_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let names = ["1", "2", "3"];
        for (number, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            store.keep(&key(id), &kept(&names), at(20 + number as u64));
        }
        let is_there = ["a", "b", "c", "d"].map(|id| store.folder(&key(id)).is_some());
        assert_eq!(is_there, [false, false, true, true]);
        let (many, long) = (["1"; 10], "1".repeat(10_000));
        for too_much in [&many[..], &[&long]] {
            store.keep(&key("d"), &kept(&names), at(30));
            assert_eq!(store.folder(&key("d")), Some(kept(&names)));
            store.keep(&key("d"), &kept(too_much), at(30));
            assert_eq!(store.folder(&key("d")), None);
        }
    }

    #[test]
    fn what_is_damaged_counts_as_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        store.keep(&key("a"), &kept(&["x"]), at(20));
        store.keep(&key("b"), &kept(&["y"]), at(20));
        let flip = "UPDATE folders SET content = substr(content, 1, 20) || x'00' || substr(content, 22) WHERE id = 'a'";
        assert_eq!(store.connection.lock().unwrap().execute(flip, []), Ok(1));
        assert_eq!(store.folder(&key("a")), None);
        assert_eq!(store.folder(&key("b")), Some(kept(&["y"])));
    }

    #[test]
    fn a_file_that_is_no_database_is_made_anew_and_a_newer_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir));
        std::fs::write(path(&dir), "no database at all".repeat(100)).unwrap();
        let store = open(&dir);
        store.keep(&key("a"), &kept(&["x"]), at(20));
        assert_eq!(store.folder(&key("a")), Some(kept(&["x"])));
        let newer =
            store
                .connection
                .lock()
                .unwrap()
                .pragma_update(None, "user_version", FORMAT + 1);
        newer.unwrap();
        drop(store);
        assert!(Store::open(dir.path(), "drive", ROOM).is_none());
        assert!(path(&dir).exists());
    }
}
