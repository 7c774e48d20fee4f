//! The journal of what we owe: rows in SQLite, written by one thread that commits all that waits at once.
//!
//! Promises: what [`Journal::commit`] returned survives a killed process, what [`Journal::flush`] returned a power cut;
//! changes come into force in the order in which they were handed in. What was only noted is tried until it is in. Never
//! looks at contents. A torn tail of the write-ahead log is SQLite's to recognise.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::model::FileId;
use crate::staging::Delivery;
use crate::staging::about::About;
use crate::staging::database::Database;

/// Changes that may wait; who notes more waits too. A batch of so many takes some 30 ms.
const MOST_WAITING: usize = 4096;

/// How long notes for which nobody waits are gathered, so that files that are made one after the other share a
/// transaction: one costs as much as some twenty rows.
const GATHER: Duration = Duration::from_millis(20);

/// So many notes are written without waiting for more: a transaction costs little beside them.
const MANY: usize = 256;

/// After what time notes that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the journal says of a local file.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) about: About,
    /// When it was staged last; none if it never was.
    pub(super) since: Option<SystemTime>,
    /// Of its content, when the row was made.
    pub(super) generation: u64,
    pub(super) kept: Kept,
    pub(super) delivery: Delivery,
}

/// What a power cut may have done to a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It may be in the kernel's cache alone: after a power cut nobody knows how much of it is left.
    InCache,
    /// It was on the disk as a whole; what was written over it since may be there or not, as on any disk.
    OnDisk,
    /// It was in the cache alone when the machine went down, or the disk did not take it.
    Doubtful,
}

/// One change of the journal.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// This is owed, and how.
    Put(Box<Row>),
    /// This is owed no more.
    Remove(u64),
    /// These steps are under way.
    Steps(i64, String),
    /// They are not any more.
    Done(i64),
    /// The server is to hear of a file what this text says, or nothing more.
    Tell(FileId, Option<String>),
    /// No file gets a number below this any more.
    Next(u64),
    /// This is the run of the kernel in which the rows are made.
    Boot(u64),
}

impl Change {
    /// The local file that it is about.
    fn file(&self) -> Option<u64> {
        match self {
            Self::Put(row) => Some(row.number),
            Self::Remove(number) => Some(*number),
            Self::Steps(..) | Self::Done(_) | Self::Tell(..) | Self::Next(_) | Self::Boot(_) => {
                None
            }
        }
    }
}

/// What is done around the writing of batches.
pub(super) trait Disk: Send + Sync + 'static {
    /// Comes before each batch that is to survive a power cut.
    fn before_flush(&self) -> io::Result<()>;
    /// The disk is full: makes room for the journal, if that is possible.
    fn make_room(&self);
}

/// A handle; the last one's drop writes what is noted and ends the thread.
#[derive(Debug)]
pub(super) struct Journal {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    more: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    /// Why the last batch was not written, and when it was tried.
    failed: Option<(Failed, Instant)>,
    closed: bool,
}

/// What is written at once.
#[derive(Debug, Default)]
struct Batch {
    changes: VecDeque<(Change, Waited)>,
    flush: bool,
    /// Somebody waits for it.
    waited: bool,
    /// When the first note came that is in it.
    since: Option<Instant>,
    outcome: Arc<Outcome>,
}

/// Whether somebody waits for a change, and gives it up with the error.
type Waited = bool;

#[derive(Debug, Default)]
struct Outcome {
    result: Mutex<Option<Result<(), Failed>>>,
    known: Condvar,
}

/// An error that several are told.
#[derive(Debug, Clone)]
struct Failed {
    errno: Option<i32>,
    text: String,
}

impl Journal {
    /// Writes to `database` from a thread of its own.
    pub(super) fn new(database: Database, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || theirs.write_all(database, &*disk))?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// Hands in `change` without waiting for it. Fails only where many wait already and none gets in.
    pub(super) fn note(&self, change: Change) -> io::Result<()> {
        let mut state = self.queue.state.lock().unwrap();
        while state.batch.changes.len() >= MOST_WAITING {
            if let Some((failed, _)) = &state.failed {
                return Err(failed.into());
            }
            state = self.queue.room.wait(state).unwrap();
        }
        let batch = &mut state.batch;
        batch.changes.push_back((change, false));
        // Whoever notes less wakes nobody: the thread looks by itself in a moment.
        if batch.since.is_none() || batch.changes.len() == MANY {
            batch.since.get_or_insert_with(Instant::now);
            self.queue.more.notify_one();
        }
        Ok(())
    }

    /// Hands in `change` and waits until it survives the end of the process; on an error it did not happen.
    pub(super) fn commit(&self, change: Change) -> io::Result<()> {
        self.hand_in(Some(change), false)
    }

    /// As [`Journal::commit`], and it survives a power cut.
    pub(super) fn commit_durably(&self, change: Change) -> io::Result<()> {
        self.hand_in(Some(change), true)
    }

    /// Waits until all that was handed in before survives a power cut.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.hand_in(None, true)
    }

    fn hand_in(&self, change: Option<Change>, flush: bool) -> io::Result<()> {
        let outcome = {
            let mut state = self.queue.state.lock().unwrap();
            state
                .batch
                .changes
                .extend(change.map(|change| (change, true)));
            state.batch.flush |= flush;
            state.batch.waited = true;
            self.queue.more.notify_one();
            Arc::clone(&state.batch.outcome)
        };
        outcome.wait().map_err(|failed| (&failed).into())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue.state.lock().unwrap().closed = true;
        self.queue.more.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the journal's thread ended by a panic");
        }
    }
}

impl State {
    /// How long what is noted may wait.
    fn pause(&self) -> Duration {
        let batch = &self.batch;
        let is_ripe = self.closed || batch.changes.len() >= MANY;
        match (&self.failed, batch.since) {
            _ if batch.waited => Duration::ZERO,
            (Some((_, tried)), _) => AGAIN.saturating_sub(tried.elapsed()),
            (None, Some(since)) if !is_ripe => GATHER.saturating_sub(since.elapsed()),
            (None, _) => Duration::ZERO,
        }
    }
}

impl Queue {
    /// The thread.
    fn write_all(&self, mut database: Database, disk: &dyn Disk) {
        while let Some(batch) = self.next() {
            let written = write(&mut database, disk, &batch);
            let failed = written.err().map(|error| Failed::from(&error));
            self.settle(&batch, failed.clone());
            batch.outcome.tell(failed.map_or(Ok(()), Err));
        }
    }

    /// Waits for something to write; none at the end.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state.lock().unwrap();
        loop {
            let is_idle = state.batch.changes.is_empty() && !state.batch.flush;
            let pause = state.pause();
            match (is_idle, pause.is_zero()) {
                // What cannot be written at the end lies described beside its content.
                (true, _) | (_, false) if state.closed => return None,
                (true, _) => state = self.more.wait(state).unwrap(),
                (false, false) => state = self.more.wait_timeout(state, pause).unwrap().0,
                (false, true) => return Some(std::mem::take(&mut state.batch)),
            }
        }
    }

    /// Puts back what is to be tried again.
    fn settle(&self, batch: &Batch, failed: Option<Failed>) {
        let mut state = self.state.lock().unwrap();
        if let Some(failed) = &failed {
            if state.failed.is_none() {
                log::error!("the journal cannot be written: {}", failed.text);
            }
            let noted = batch.changes.iter().rev().filter(|(_, waited)| !waited);
            noted.for_each(|noted| state.batch.changes.push_front(noted.clone()));
            let since = batch.since.filter(|_| !state.batch.changes.is_empty());
            state.batch.since = since.or(state.batch.since);
        }
        state.failed = failed.map(|failed| (failed, Instant::now()));
        self.room.notify_all();
    }
}

/// Writes a batch; makes room and tries once more where the disk is full.
fn write(database: &mut Database, disk: &dyn Disk, batch: &Batch) -> io::Result<()> {
    if batch.flush {
        disk.before_flush()?;
    }
    let changes = effective(&batch.changes);
    database.write(&changes, batch.flush).or_else(|error| {
        log::debug!("the journal was not written, and is tried again: {error}");
        disk.make_room();
        database.write(&changes, batch.flush)
    })
}

/// Those that no later one of the same file makes needless, in their order.
fn effective(changes: &VecDeque<(Change, Waited)>) -> Vec<&Change> {
    let mut files = HashSet::new();
    let newest_first = changes.iter().rev().map(|(change, _)| change);
    let mut effective: Vec<_> = newest_first
        .filter(|change| change.file().is_none_or(|number| files.insert(number)))
        .collect();
    effective.reverse();
    effective
}

impl Outcome {
    fn tell(&self, result: Result<(), Failed>) {
        *self.result.lock().unwrap() = Some(result);
        self.known.notify_all();
    }

    fn wait(&self) -> Result<(), Failed> {
        let mut result = self.result.lock().unwrap();
        loop {
            match &*result {
                Some(result) => return result.clone(),
                None => result = self.known.wait(result).unwrap(),
            }
        }
    }
}

impl From<&io::Error> for Failed {
    fn from(error: &io::Error) -> Self {
        Self {
            errno: error.raw_os_error(),
            text: error.to_string(),
        }
    }
}

impl From<&Failed> for io::Error {
    fn from(failed: &Failed) -> Self {
        match failed.errno {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::other(failed.text.clone()),
        }
    }
}

/// Opens the journal at `path`. One that is damaged is set aside.
pub(super) fn open(path: &Path) -> io::Result<Database> {
    match Database::open(path) {
        Err(error) if error.is_damage() => {
            set_aside(path)?;
            Ok(Database::open(path)?)
        }
        other => Ok(other?),
    }
}

/// Renames the journal's files, so that nothing is lost for who wants to look.
fn set_aside(path: &Path) -> io::Result<()> {
    let (seconds, _) = super::map::split(SystemTime::now());
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{seconds}"));
    for suffix in ["", "-wal", "-shm"] {
        let with = |name: &std::ffi::OsStr| {
            let mut name = name.to_owned();
            name.push(suffix);
            name
        };
        match std::fs::rename(with(path.as_os_str()), with(&aside)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    log::warn!(
        "the journal {} is damaged: it is set aside as {}, and what is owed is found by the contents themselves",
        path.display(),
        Path::new(&aside).display()
    );
    Ok(())
}
