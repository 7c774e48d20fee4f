//! The journal's database: its tables, and what is written at once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use crate::staging::Delivery;
use crate::staging::about::About;
use crate::staging::journal::{Change, Kept, Row};
use crate::staging::map::{joined, split};

/// Version of the tables, and of all that lies beside them.
const FORMAT: i64 = 2;

/// The first one, in which an upload session stood in the column of its delivery.
const SESSIONS_INSIDE: i64 = 1;

/// Pages of the write-ahead log after which it is carried over: a few megabytes, so that this happens every few
/// thousand files, and takes no more room than what is held in reserve.
const LOG_PAGES: u32 = 1000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS local (
        number INTEGER PRIMARY KEY,
        about TEXT NOT NULL,
        since_ns INTEGER,
        generation INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        delivery TEXT
    );
    CREATE TABLE IF NOT EXISTS sessions (number INTEGER PRIMARY KEY, session TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, steps TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS untold (file TEXT PRIMARY KEY, about TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS numbers (what TEXT PRIMARY KEY, number INTEGER NOT NULL);
";

/// Upload sessions, by the numbers of their files.
type Sessions = HashMap<u64, Arc<str>>;

/// The journal's database, open.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    /// Whether anything was committed that a power cut may take back.
    unflushed: bool,
    /// What was written here, so that it is not written again with each change of its row.
    sessions: Sessions,
    /// Whether a commit waits for the disk.
    is_full: bool,
}

/// All that it says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) rows: Vec<Row>,
    /// Numbers of rows that cannot be understood.
    pub(super) damaged: Vec<u64>,
    pub(super) steps: Vec<(i64, String)>,
    /// Files of which the server is to hear.
    pub(super) untold: Vec<About>,
    pub(super) next: u64,
    /// The run of the kernel in which they were made.
    pub(super) boot: Option<u64>,
}

/// Why it does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("the journal {path} is damaged: {what}")]
    Damaged { path: String, what: String },
    #[error(
        "the journal {path} was written by a newer version of cloudreve-fuse (format {found}, this one knows {FORMAT}): use that one"
    )]
    Newer { path: String, found: i64 },
}

impl OpenError {
    /// Whether it is of no use any more.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                // The file itself was just opened to be written: it says of itself that it must not be.
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ReadOnly)
            ),
            Self::Disk(_) | Self::Newer { .. } => false,
        }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(error) => error,
            OpenError::Sqlite(error) => failed(&error),
            other => Self::other(other),
        }
    }
}

impl Database {
    /// Opens the database at `path`; makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        // SQLite gives its other files the mode of this one.
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > FORMAT {
            let path = path.display().to_string();
            return Err(OpenError::Newer { path, found });
        }
        check(&connection, path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.execute_batch(TABLES)?;
        if found == SESSIONS_INSIDE {
            connection.execute_batch(
                "INSERT OR IGNORE INTO sessions SELECT number, json_extract(delivery, '$.session') FROM local
                 WHERE json_extract(delivery, '$.session') IS NOT NULL",
            )?;
        }
        if found != FORMAT {
            connection.pragma_update(None, "user_version", FORMAT)?;
        }
        Ok(Self {
            connection,
            unflushed: true,
            sessions: Sessions::new(),
            is_full: false,
        })
    }

    /// Reads all of it.
    pub(super) fn content(&self) -> io::Result<Content> {
        let mut content = Content::default();
        self.read(&mut content).map_err(|error| failed(&error))?;
        Ok(content)
    }

    fn read(&self, content: &mut Content) -> rusqlite::Result<()> {
        let mut rows = self.connection.prepare(
            "SELECT number, about, since_ns, generation, kept, delivery, session
             FROM local LEFT JOIN sessions USING (number) ORDER BY number",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let number = row.get::<_, i64>(0)? as u64;
            match row_of(number, row) {
                Some(row) => content.rows.push(row),
                None => content.damaged.push(number),
            }
        }
        let mut steps = self
            .connection
            .prepare("SELECT id, steps FROM steps ORDER BY id")?;
        let steps = steps.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        content.steps = steps.collect::<rusqlite::Result<_>>()?;
        let mut untold = self.connection.prepare("SELECT about FROM untold")?;
        let untold = untold.query_map([], |row| row.get::<_, String>(0))?;
        let untold: Vec<_> = untold.collect::<rusqlite::Result<_>>()?;
        content.untold = untold
            .iter()
            .filter_map(|text| About::parse(text))
            .collect();
        content.next = self.number("next")?.unwrap_or(1);
        content.boot = self.number("boot")?;
        Ok(())
    }

    fn number(&self, what: &str) -> rusqlite::Result<Option<u64>> {
        let mut number = self
            .connection
            .prepare("SELECT number FROM numbers WHERE what = ?1")?;
        let mut number = number.query_map([what], |row| row.get::<_, i64>(0))?;
        Ok(number.next().transpose()?.map(|number| number as u64))
    }

    /// Writes `changes` at once or not at all; with `flush`, they and all before them are on the disk.
    pub(super) fn write(&mut self, changes: &[&Change], flush: bool) -> io::Result<()> {
        if changes.is_empty() && !self.unflushed {
            return Ok(());
        }
        self.try_write(changes, flush).map_err(|error| {
            self.sessions.clear();
            failed(&error)
        })?;
        self.unflushed = !flush;
        Ok(())
    }

    fn try_write(&mut self, changes: &[&Change], flush: bool) -> rusqlite::Result<()> {
        if self.is_full != flush {
            let how = if flush { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", how)?;
            self.is_full = flush;
        }
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        if changes.is_empty() {
            // Only a commit that writes something flushes what those before it wrote.
            let count = "INSERT INTO numbers VALUES ('flushes', 1) ON CONFLICT DO UPDATE SET number = number + 1";
            transaction.prepare_cached(count)?.execute([])?;
        }
        for change in changes {
            apply(&transaction, &mut self.sessions, change)?;
        }
        transaction.commit()
    }
}

fn apply(
    transaction: &Transaction<'_>,
    sessions: &mut Sessions,
    change: &Change,
) -> rusqlite::Result<()> {
    match change {
        Change::Put(row) => {
            let put = "INSERT OR REPLACE INTO local VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let delivery = (row.delivery != Delivery::default())
                .then(|| serde_json::to_string(&row.delivery).unwrap_or_default());
            transaction.prepare_cached(put)?.execute(params![
                row.number as i64,
                row.about.text(),
                row.since.map(nanoseconds),
                row.generation as i64,
                match row.kept {
                    Kept::InCache => 0,
                    Kept::OnDisk => 1,
                    Kept::Doubtful => 2,
                },
                delivery,
            ])?;
            match &row.delivery.session {
                None => {
                    sessions.remove(&row.number);
                    remove_session(transaction, row.number)?
                }
                Some(session) if sessions.get(&row.number) == Some(session) => 0,
                Some(session) => {
                    sessions.insert(row.number, Arc::clone(session));
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO sessions VALUES (?1, ?2)")?
                        .execute(params![row.number as i64, &**session])?
                }
            }
        }
        Change::Remove(number) => {
            sessions.remove(number);
            remove_session(transaction, *number)?;
            transaction
                .prepare_cached("DELETE FROM local WHERE number = ?1")?
                .execute([*number as i64])?
        }
        Change::Steps(id, steps) => transaction
            .prepare_cached("INSERT OR REPLACE INTO steps VALUES (?1, ?2)")?
            .execute(params![id, steps])?,
        Change::Done(id) => transaction
            .prepare_cached("DELETE FROM steps WHERE id = ?1")?
            .execute([id])?,
        Change::Tell(file, Some(about)) => transaction
            .prepare_cached("INSERT OR REPLACE INTO untold VALUES (?1, ?2)")?
            .execute(params![&*file.0, about])?,
        Change::Tell(file, None) => transaction
            .prepare_cached("DELETE FROM untold WHERE file = ?1")?
            .execute([&*file.0])?,
        Change::Next(next) => put_number(transaction, "next", *next)?,
        Change::Boot(boot) => put_number(transaction, "boot", *boot)?,
    };
    Ok(())
}

fn remove_session(transaction: &Transaction<'_>, number: u64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM sessions WHERE number = ?1")?
        .execute([number as i64])
}

fn put_number(transaction: &Transaction<'_>, what: &str, number: u64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO numbers VALUES (?1, ?2)")?
        .execute(params![what, number as i64])
}

/// Looks through the whole of it: what is owed is worth the moment.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(OpenError::Damaged {
            path: path.display().to_string(),
            what: said,
        }),
    }
}

fn row_of(number: u64, row: &rusqlite::Row<'_>) -> Option<Row> {
    let delivery: Option<String> = row.get(5).ok()?;
    let delivery = match delivery {
        Some(text) => serde_json::from_str(&text).ok()?,
        None => Delivery::default(),
    };
    let session: Option<String> = row.get(6).ok()?;
    Some(Row {
        number,
        about: About::parse(&row.get::<_, String>(1).ok()?)?,
        since: row.get::<_, Option<i64>>(2).ok()?.map(time),
        generation: row.get::<_, i64>(3).ok()? as u64,
        kept: match row.get(4).ok()? {
            0 => Kept::InCache,
            1 => Kept::OnDisk,
            _ => Kept::Doubtful,
        },
        delivery: Delivery {
            session: session.map(Into::into),
            ..delivery
        },
    })
}

/// Since 1970, within the 584 years that a row can say.
fn nanoseconds(time: std::time::SystemTime) -> i64 {
    let (seconds, nanoseconds) = split(time);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.into())
}

fn time(nanoseconds: i64) -> std::time::SystemTime {
    let part = nanoseconds.rem_euclid(1_000_000_000) as u32;
    joined(nanoseconds.div_euclid(1_000_000_000), part)
}

/// As the rest of the house knows errors of the disk.
fn failed(error: &rusqlite::Error) -> io::Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => io::Error::from_raw_os_error(libc::ENOSPC),
        Some(ErrorCode::ReadOnly) => io::Error::from_raw_os_error(libc::EROFS),
        _ => io::Error::other(format!("the journal: {error}")),
    }
}
