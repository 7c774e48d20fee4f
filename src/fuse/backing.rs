//! Which way the kernel reads an open file: by pages that it asks us for, or by itself from a file on the disk.
//!
//! The kernel takes one way for an inode at a time, and answers EIO to who opens it the other way. So the way is chosen
//! at an inode's first open and kept until its last release, by one table, in which a handle is counted in the same
//! moment as its way is decided. The kernel gives a handle up before it sends the release, so it never holds one that
//! is not counted here.
//!
//! A file on the disk is a way for readers only. While one is, nobody may write to the inode, and what was written to
//! here is read by pages from then on, so that who follows a growing file sees it grow.
//!
//! What the kernel refuses once, it is not asked again on this mount. Never looks into a file.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use fuser::BackingId;
use rustix::process::{Resource, getrlimit};

use crate::cache::Whole;
use crate::inodes::Ino;

/// Inodes that are remembered to have been written to.
const WRITTEN_MAX: usize = 4096;

/// Whether the kernel may read complete files by itself, and why not. One for each mount; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Passthrough(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Why it is off.
    off: OnceLock<String>,
    files: AtomicU64,
}

impl Passthrough {
    /// Off from the beginning.
    pub fn off(why: &str) -> Self {
        let passthrough = Self::default();
        passthrough.turn_off(why);
        passthrough
    }

    /// Why it is off; none where it is on.
    pub fn off_because(&self) -> Option<&str> {
        self.0.off.get().map(String::as_str)
    }

    /// Files that the kernel reads by itself now.
    pub fn files(&self) -> u64 {
        self.0.files.load(Relaxed)
    }

    fn is_on(&self) -> bool {
        self.0.off.get().is_none()
    }

    /// Turns it off for good. The first reason stays.
    pub(super) fn turn_off(&self, why: &str) {
        if self.0.off.set(why.to_owned()).is_ok() {
            log::debug!("the kernel reads no file by itself: {why}");
        }
    }

    fn refused(&self, err: &io::Error) {
        self.turn_off(&match err.raw_os_error() {
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
        // A file without a name. Where the directory or its file system has none, the first file of the cache will tell.
        let nameless = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(dir);
        match nameless.map(|file| BackingId::create_raw(device, file)) {
            // It stays registered until the mount ends, as an empty file that nobody opens.
            Ok(Ok(_)) => {}
            Ok(Err(err)) => self.refused(&err),
            Err(err) => log::debug!("{}: {err}", dir.display()),
        }
    }
}

/// A file that the kernel reads by itself. It stays as it is for as long as this lives.
#[derive(Debug)]
pub(super) struct Backing {
    // Given back to the kernel before the file is let go: fields drop in this order.
    pub(super) id: BackingId,
    _whole: Arc<Whole>,
}

impl Backing {
    /// Hands `whole` to the kernel by `open`.
    pub(super) fn new(
        whole: Arc<Whole>,
        open: impl FnOnce(&Whole) -> io::Result<BackingId>,
    ) -> io::Result<Self> {
        Ok(Self {
            id: open(&whole)?,
            _whole: whole,
        })
    }
}

/// The way the kernel takes to the content of an inode.
#[derive(Debug)]
pub(super) enum Way<B> {
    /// It asks for pages, and keeps them.
    Pages,
    /// It reads this file.
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
                let open = first.insert(Open { way, handles: 1 });
                open.way.clone()
            }
        }
    }

    /// Counts one more handle of `ino`, which may write, and so asks for pages. False, and nothing counted, where the
    /// kernel reads a file.
    pub(super) fn open_to_write(&self, ino: Ino) -> bool {
        let mut table = self.table.lock().unwrap();
        table.written.add(ino);
        let open = table.open.entry(ino).or_insert(Open {
            way: Way::Pages,
            handles: 0,
        });
        let is_pages = matches!(open.way, Way::Pages);
        open.handles += u64::from(is_pages);
        is_pages
    }

    fn choose(&self, file: impl FnOnce() -> Option<io::Result<B>>) -> Way<B> {
        if !self.passthrough.is_on() || self.passthrough.files() >= self.files_max {
            return Way::Pages;
        }
        match file() {
            None => Way::Pages,
            Some(Ok(file)) => {
                self.passthrough.0.files.fetch_add(1, Relaxed);
                Way::File(Arc::new(file))
            }
            Some(Err(err)) => {
                self.passthrough.refused(&err);
                Way::Pages
            }
        }
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
        assert!(!ways.open_to_write(INO));
        ways.release(INO);
        assert!(
            ways.table.lock().unwrap().open.is_empty(),
            "the refused one is not counted"
        );
        assert!(ways.open_to_write(INO));
        assert!(matches!(ways.open(INO, || unreachable!()), Way::Pages));
        ways.release(INO);
        assert!(ways.open_to_write(INO), "a second one");
        for _ in 0..2 {
            ways.release(INO);
        }
        assert!(matches!(
            ways.open(INO, || unreachable!("it may grow")),
            Way::Pages
        ));
        ways.release(INO);
        for other in 100..100 + WRITTEN_MAX as u64 {
            assert!(ways.open_to_write(Ino(other)));
            ways.release(Ino(other));
        }
        assert!(
            is_file(&ways.open(INO, || Some(Ok(2))), 2),
            "it was long ago"
        );
        assert_eq!(ways.table.lock().unwrap().written.all.len(), WRITTEN_MAX);
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
