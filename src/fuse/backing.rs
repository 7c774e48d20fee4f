//! Which way the kernel takes to an open file: by pages that it asks us for, or by itself to a file on the disk.
//!
//! The kernel takes one way for an inode at a time, and answers EIO to who opens it the other way. So the way is chosen
//! at an inode's first open and kept until its last release, by one table, in which a handle is counted in the same
//! moment as its way is decided. The kernel gives a handle up before it sends the release, so it never holds one that
//! is not counted here.
//!
//! A complete file of the cache is a way for readers only. While one is, nobody may write to the inode. The content of a
//! new file, which lies in the state directory, is a way for all: whoever opens the inode while the kernel writes to it by
//! itself reads and writes that same file. It becomes the way when it is new and one alone has it open, and is no longer
//! once nobody has. What was written to here is read by pages from then on, so that who follows a growing file sees it
//! grow.
//!
//! What the kernel refuses once, it is not asked again on this mount. Never looks into a file.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use fuser::BackingId;
use rustix::process::{Resource, getrlimit};

use crate::cache::Whole;
use crate::inodes::Ino;
use crate::staging::can_lend;

/// Inodes that are remembered to have been written to.
const WRITTEN_MAX: usize = 4096;

/// Whether the kernel may read complete files, and write new ones, by itself, and why not. One for each mount; clones are
/// the same one.
#[derive(Debug, Clone, Default)]
pub struct Passthrough(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Why it reads none.
    off: OnceLock<String>,
    /// Why it writes none.
    no_writes: OnceLock<String>,
    files: AtomicU64,
}

impl Passthrough {
    /// Off from the beginning.
    pub fn off(why: &str) -> Self {
        let passthrough = Self::default();
        passthrough.turn_off(why);
        passthrough
    }

    /// For what is written alone.
    pub fn without_reading(why: &str) -> Self {
        let passthrough = Self::default();
        passthrough.read_none(why);
        passthrough
    }

    /// Why the kernel reads no file by itself; none where it may.
    pub fn off_because(&self) -> Option<&str> {
        self.0.off.get().map(String::as_str)
    }

    /// Files that the kernel reads or writes by itself now.
    pub fn files(&self) -> u64 {
        self.0.files.load(Relaxed)
    }

    fn is_on(&self) -> bool {
        self.0.off.get().is_none()
    }

    /// Whether the kernel may write by itself.
    pub(super) fn may_write(&self) -> bool {
        self.0.no_writes.get().is_none()
    }

    /// Whether there is anything that it is wanted for.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_on() || self.may_write()
    }

    /// Turns it off for good. The first reason stays.
    pub(super) fn turn_off(&self, why: &str) {
        self.read_none(why);
        self.write_none(why);
    }

    fn read_none(&self, why: &str) {
        if self.0.off.set(why.to_owned()).is_ok() {
            log::debug!("the kernel reads no file by itself: {why}");
        }
    }

    /// As [`Passthrough::turn_off`], for what is written.
    pub(super) fn write_none(&self, why: &str) {
        if self.0.no_writes.set(why.to_owned()).is_ok() {
            log::debug!("the kernel writes no file by itself: {why}");
        }
    }

    fn refused(&self, err: &io::Error) {
        self.read_none(&match err.raw_os_error() {
            Some(libc::EPERM) => "the kernel allows it to root alone".to_owned(),
            Some(libc::ELOOP) => {
                "the cache lies on a stacked file system (overlay); choose another --cache-dir"
                    .to_owned()
            }
            _ => format!("the kernel refused a file of the cache: {err}"),
        });
    }

    /// Finds out at once whether the kernel behind `device`, which agreed with us, lets a file in `dir` be read by itself,
    /// so that nobody has to open a file for it.
    pub(super) fn probe(&self, device: &OwnedFd, dir: &Path) {
        if !self.is_on() {
            return;
        }
        // Where the directory or its file system has no nameless files, the first file of the cache will tell.
        match nameless(dir).map(|file| BackingId::create_raw(device, file)) {
            // It stays registered until the mount ends, as an empty file that nobody opens.
            Ok(Ok(_)) => {}
            Ok(Err(err)) => self.refused(&err),
            Err(err) => log::debug!("{}: {err}", dir.display()),
        }
    }

    /// Finds out whether files in the state directory `dir` can be lent. Whether the kernel takes them, the first one
    /// tells: one that it has from a probe would keep the disk in use behind a daemon that was killed.
    pub(super) fn probe_writes(&self, dir: &Path) {
        if self.may_write()
            && let Err(err) = can_lend(dir)
        {
            self.write_none(&format!("{}: {err}", dir.display()));
        }
    }
}

/// A file without a name in `dir`.
fn nameless(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    options.custom_flags(libc::O_TMPFILE).open(dir)
}

/// A file that the kernel reads or writes by itself.
#[derive(Debug)]
pub(super) struct Backing {
    // Given back to the kernel before the file is let go: fields drop in this order.
    pub(super) id: BackingId,
    _kept: Kept,
}

/// What keeps a file for the kernel.
#[derive(Debug)]
pub(super) enum Kept {
    /// A complete one of the cache, which stays as it is for as long as this lives.
    Whole(Arc<Whole>),
    /// The content of a new file.
    Lent(File),
}

impl Backing {
    /// Hands `kept` to the kernel by `open`.
    pub(super) fn new(
        kept: Kept,
        open: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> io::Result<Self> {
        let id = match &kept {
            Kept::Whole(whole) => open(whole.as_fd())?,
            Kept::Lent(file) => open(file.as_fd())?,
        };
        Ok(Self { id, _kept: kept })
    }
}

/// The way the kernel takes to the content of an inode.
#[derive(Debug)]
pub(super) enum Way<B> {
    /// It asks for pages, and keeps them.
    Pages,
    /// It reads, and perhaps writes, this file.
    File(Arc<B>),
}

impl<B> Clone for Way<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Pages => Self::Pages,
            Self::File(file) => Self::File(Arc::clone(file)),
        }
    }
}

/// The ways of all inodes that are open.
#[derive(Debug)]
pub(super) struct Ways<B> {
    passthrough: Passthrough,
    /// Files that the kernel may read by itself at a time: each keeps one open here, too.
    files_max: u64,
    table: Mutex<Table<B>>,
}

#[derive(Debug)]
struct Table<B> {
    open: HashMap<Ino, Open<B>>,
    written: Written,
}

/// Inodes that were written to lately.
#[derive(Debug, Default)]
struct Written {
    all: HashSet<Ino>,
    /// Oldest first.
    order: VecDeque<Ino>,
}

impl Written {
    fn add(&mut self, ino: Ino) {
        if self.all.insert(ino) {
            self.order.push_back(ino);
        }
        if self.order.len() > WRITTEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

#[derive(Debug)]
struct Open<B> {
    way: Way<B>,
    /// It is for those who write, too.
    takes_writers: bool,
    /// Never 0.
    handles: u64,
}

impl<B> Ways<B> {
    pub(super) fn new(passthrough: Passthrough) -> Self {
        // A quarter of what this process may have open; the rest is for connections and for what is read here.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::of(files / 4, passthrough)
    }

    fn of(files_max: u64, passthrough: Passthrough) -> Self {
        Self {
            passthrough,
            files_max,
            table: Mutex::new(Table {
                open: HashMap::new(),
                written: Written::default(),
            }),
        }
    }

    pub(super) fn passthrough(&self) -> &Passthrough {
        &self.passthrough
    }

    /// Whether a file of the disk may be a way at all.
    pub(super) fn may_be_files(&self) -> bool {
        self.passthrough.is_on()
    }

    /// Counts one more handle of `ino` and gives the way it has to take: that of the handles which are open, or, for the
    /// first one, by `file`. That is asked for nothing else; none is a file that is not, or not all, on the disk, and an
    /// error is one that the kernel refused.
    pub(super) fn open(&self, ino: Ino, file: impl FnOnce() -> Option<io::Result<B>>) -> Way<B> {
        let mut table = self.table.lock().unwrap();
        let is_written = table.written.all.contains(&ino);
        match table.open.entry(ino) {
            Entry::Occupied(mut open) => {
                open.get_mut().handles += 1;
                open.get().way.clone()
            }
            Entry::Vacant(first) => {
                // Under the lock, so that nobody opens the inode in between: it is one call that does not wait.
                let way = if is_written {
                    Way::Pages
                } else {
                    self.choose(file)
                };
                let open = first.insert(Open {
                    takes_writers: matches!(way, Way::Pages),
                    way,
                    handles: 1,
                });
                open.way.clone()
            }
        }
    }

    /// Counts one more handle of `ino`, which may write, and gives the way it has to take. None, and nothing counted,
    /// where the kernel reads a file that nobody may write to.
    pub(super) fn open_to_write(&self, ino: Ino) -> Option<Way<B>> {
        let mut table = self.table.lock().unwrap();
        table.written.add(ino);
        let open = table.open.entry(ino).or_insert(Open {
            way: Way::Pages,
            takes_writers: true,
            handles: 0,
        });
        if !open.takes_writers {
            return None;
        }
        open.handles += 1;
        Some(open.way.clone())
    }

    /// The way of a handle of `ino` that is counted, and that the kernel does not have yet: the one that was given, or, if
    /// nobody else has `ino` open, `file`.
    pub(super) fn write_by(
        &self,
        ino: Ino,
        file: impl FnOnce() -> Option<io::Result<B>>,
    ) -> Way<B> {
        let mut table = self.table.lock().unwrap();
        let Some(open) = table.open.get_mut(&ino) else {
            return Way::Pages;
        };
        let is_first = open.handles == 1 && matches!(open.way, Way::Pages);
        let passthrough = &self.passthrough;
        if !is_first || !passthrough.may_write() || passthrough.files() >= self.files_max {
            return open.way.clone();
        }
        match file() {
            None => {}
            Some(Ok(file)) => open.way = self.counted(file),
            Some(Err(err)) => passthrough.write_none(&format!("the kernel refused a file: {err}")),
        }
        open.way.clone()
    }

    fn choose(&self, file: impl FnOnce() -> Option<io::Result<B>>) -> Way<B> {
        if !self.passthrough.is_on() || self.passthrough.files() >= self.files_max {
            return Way::Pages;
        }
        match file() {
            None => Way::Pages,
            Some(Ok(file)) => self.counted(file),
            Some(Err(err)) => {
                self.passthrough.refused(&err);
                Way::Pages
            }
        }
    }

    fn counted(&self, file: B) -> Way<B> {
        self.passthrough.0.files.fetch_add(1, Relaxed);
        Way::File(Arc::new(file))
    }

    /// A handle of `ino` is closed. To be told before the version that it pinned is given up, since until then the
    /// next to open the inode joins its way.
    pub(super) fn release(&self, ino: Ino) {
        let mut table = self.table.lock().unwrap();
        let Entry::Occupied(mut entry) = table.open.entry(ino) else {
            return;
        };
        entry.get_mut().handles -= 1;
        if entry.get().handles == 0 {
            let last = entry.remove();
            if let Way::File(_) = last.way {
                self.passthrough.0.files.fetch_sub(1, Relaxed);
            }
            // Closing it is a call of the kernel, too, and nobody has to wait for that.
            drop(table);
            drop(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

    const INO: Ino = Ino(7);

    fn ways() -> Ways<u32> {
        Ways::new(Passthrough::default())
    }

    fn is_file(way: &Way<u32>, number: u32) -> bool {
        matches!(way, Way::File(file) if **file == number)
    }

    #[test]
    fn all_who_have_a_file_open_read_it_in_the_way_of_the_first() {
        let ways = ways();
        assert!(is_file(&ways.open(INO, || Some(Ok(1))), 1));
        assert!(is_file(&ways.open(INO, || unreachable!()), 1));
        ways.release(INO);
        assert!(is_file(&ways.open(INO, || unreachable!()), 1));
        assert_eq!(ways.passthrough().files(), 1);
        assert!(matches!(ways.open(Ino(8), || None), Way::Pages));
        assert!(matches!(
            ways.open(Ino(8), || unreachable!("it became complete meanwhile")),
            Way::Pages
        ));
    }

    #[test]
    fn the_way_is_chosen_anew_after_the_last_release() {
        let ways = ways();
        assert!(matches!(ways.open(INO, || None), Way::Pages));
        ways.release(INO);
        let held = ways.open(INO, || Some(Ok(2)));
        assert!(is_file(&held, 2));
        ways.release(INO);
        let Way::File(file) = held else {
            unreachable!()
        };
        assert_eq!(Arc::strong_count(&file), 1, "the table let it go");
        assert!(matches!(ways.open(INO, || None), Way::Pages));
        // One too many changes nothing.
        ways.release(INO);
        ways.release(INO);
        assert!(ways.table.lock().unwrap().open.is_empty());
        assert_eq!(ways.passthrough().files(), 0);
    }

    #[test]
    fn what_the_kernel_refuses_once_it_is_not_asked_again_and_the_file_opens_all_the_same() {
        for (code, word) in [
            (libc::EPERM, "root"),
            (libc::ELOOP, "--cache-dir"),
            (libc::EINVAL, "refused"),
        ] {
            let ways = ways();
            let refused = || Some(Err(io::Error::from_raw_os_error(code)));
            assert!(matches!(ways.open(INO, refused), Way::Pages));
            assert!(matches!(
                ways.open(Ino(8), || unreachable!("asked again")),
                Way::Pages
            ));
            let why = ways.passthrough().off_because().unwrap();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn more_files_than_may_be_open_are_read_by_pages() {
        let ways = Ways::of(2, Passthrough::default());
        assert!(is_file(&ways.open(Ino(2), || Some(Ok(2))), 2));
        assert!(is_file(&ways.open(Ino(3), || Some(Ok(3))), 3));
        assert!(matches!(ways.open(Ino(4), || unreachable!()), Way::Pages));
        assert!(is_file(&ways.open(Ino(3), || unreachable!()), 3));
        ways.release(Ino(2));
        assert!(is_file(&ways.open(Ino(5), || Some(Ok(5))), 5));
        assert_eq!(ways.passthrough().off_because(), None, "it is not off");
    }

    #[test]
    fn nobody_writes_to_what_the_kernel_reads_by_itself_and_what_was_written_to_it_does_not() {
        let ways = ways();
        assert!(is_file(&ways.open(INO, || Some(Ok(1))), 1));
        assert!(ways.open_to_write(INO).is_none());
        ways.release(INO);
        assert!(
            ways.table.lock().unwrap().open.is_empty(),
            "the refused one is not counted"
        );
        assert!(writes_by_pages(&ways, INO));
        assert!(matches!(ways.open(INO, || unreachable!()), Way::Pages));
        ways.release(INO);
        assert!(writes_by_pages(&ways, INO), "a second one");
        for _ in 0..2 {
            ways.release(INO);
        }
        assert!(matches!(
            ways.open(INO, || unreachable!("it may grow")),
            Way::Pages
        ));
        ways.release(INO);
        for other in 100..100 + WRITTEN_MAX as u64 {
            assert!(writes_by_pages(&ways, Ino(other)));
            ways.release(Ino(other));
        }
        assert!(
            is_file(&ways.open(INO, || Some(Ok(2))), 2),
            "it was long ago"
        );
        assert_eq!(ways.table.lock().unwrap().written.all.len(), WRITTEN_MAX);
    }

    fn writes_by_pages(ways: &Ways<u32>, ino: Ino) -> bool {
        matches!(ways.open_to_write(ino), Some(Way::Pages))
    }

    #[test]
    fn who_is_the_first_to_write_may_do_it_by_a_file_and_all_others_go_with_him() {
        let ways = ways();
        assert!(writes_by_pages(&ways, INO));
        assert!(is_file(&ways.write_by(INO, || Some(Ok(1))), 1));
        assert!(is_file(&ways.open(INO, || unreachable!()), 1), "a reader");
        let second = ways.open_to_write(INO).expect("a writer");
        assert!(is_file(&second, 1));
        assert!(is_file(&ways.write_by(INO, || unreachable!()), 1));
        drop(second);
        assert_eq!(ways.passthrough().files(), 1);
        for _ in 0..3 {
            ways.release(INO);
        }
        assert_eq!(ways.passthrough().files(), 0);
        assert!(matches!(ways.open(INO, || unreachable!()), Way::Pages));
        assert!(writes_by_pages(&ways, INO));
        let way = ways.write_by(INO, || unreachable!("somebody reads it by pages"));
        assert!(matches!(way, Way::Pages));
    }

    #[test]
    fn where_the_kernel_may_only_write_by_itself_it_does_and_reads_nothing() {
        let ways: Ways<u32> = Ways::new(Passthrough::without_reading("because"));
        assert!(matches!(ways.open(Ino(8), || unreachable!()), Way::Pages));
        assert!(writes_by_pages(&ways, INO));
        assert!(is_file(&ways.write_by(INO, || Some(Ok(1))), 1));
        let refused = io::Error::from_raw_os_error(libc::ELOOP);
        assert!(writes_by_pages(&ways, Ino(9)));
        assert!(matches!(
            ways.write_by(Ino(9), || Some(Err(refused))),
            Way::Pages
        ));
        assert!(writes_by_pages(&ways, Ino(10)));
        let way = ways.write_by(Ino(10), || unreachable!("asked again"));
        assert!(matches!(way, Way::Pages));
    }

    #[test]
    fn where_it_is_off_from_the_beginning_nothing_is_asked_and_the_first_reason_stays() {
        let ways: Ways<u32> = Ways::new(Passthrough::off("because"));
        assert!(matches!(ways.open(INO, || unreachable!()), Way::Pages));
        ways.passthrough().turn_off("something else");
        assert_eq!(ways.passthrough().off_because(), Some("because"));
    }

    #[test]
    fn an_inode_never_has_two_ways_however_many_open_and_close_it_at_once() {
        let ways = ways();
        let (made, by_pages, by_file) = (AtomicU64::new(0), AtomicI64::new(0), AtomicI64::new(0));
        std::thread::scope(|scope| {
            for reader in 0..8 {
                let (ways, made, by_pages, by_file) = (&ways, &made, &by_pages, &by_file);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let is_whole = (reader + round) % 2 == 0;
                        let way = ways.open(INO, || {
                            made.fetch_add(1, SeqCst);
                            is_whole.then_some(Ok(3))
                        });
                        let (mine, other) = match way {
                            Way::Pages => (by_pages, by_file),
                            Way::File(_) => (by_file, by_pages),
                        };
                        mine.fetch_add(1, SeqCst);
                        assert_eq!(other.load(SeqCst), 0, "two ways at once");
                        mine.fetch_sub(1, SeqCst);
                        ways.release(INO);
                    }
                });
            }
        });
        assert!(made.into_inner() >= 1);
        assert!(ways.table.lock().unwrap().open.is_empty());
    }

    #[test]
    fn a_kernel_that_did_not_agree_to_it_is_found_out_by_the_probe_without_an_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let device: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let passthrough = Passthrough::default();
        passthrough.probe(&device, &dir.path().join("absent"));
        assert_eq!(passthrough.off_because(), None, "nothing was tried");
        passthrough.probe(&device, dir.path());
        let why = passthrough.off_because().unwrap();
        assert!(why.contains("refused"), "{why}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
