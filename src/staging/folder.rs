//! The files of a slot: contents by number, each with what it takes to deliver it written beside it.
//!
//! Directories are 0700, files 0600; a symbolic link in the place of a file is refused. What a content is (its
//! [`About`]) lies in an extended attribute, or in a file beside it where the file system has none or it does not fit.
//! A content that has one is owed, whatever the journal says of it or has lost.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;

use crate::staging::about::About;

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Where the About lies.
const ATTRIBUTE: &str = "user.cloudreve-fuse.owed";

/// Longest attribute that Linux allows, in bytes (XATTR_SIZE_MAX).
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// File systems whose log has the name of a new file in one piece with the file itself (ext4, XFS, btrfs, f2fs): a wait
/// for the disk less, of three.
const NAMES_IN_FILES: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// The files of one local file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its bytes.
    Content,
    /// Which of them are here.
    Map,
    /// Its [`About`], where no attribute holds it.
    About,
    /// One that is being written, to replace the last.
    NewAbout,
}

impl Kind {
    /// All of them, the content first: what is left of the others without it means nothing.
    const ALL: [Self; 4] = [Self::Content, Self::Map, Self::About, Self::NewAbout];

    fn suffix(self) -> &'static str {
        match self {
            Self::Content => "",
            Self::Map => ".map",
            Self::About => ".about",
            Self::NewAbout => ".about.new",
        }
    }
}

/// An open directory with contents.
#[derive(Debug)]
pub(super) struct Folder {
    dir: OwnedFd,
    /// Files were made since its names were on the disk.
    is_changed: AtomicBool,
    /// fsync(2) of a new file brings its name to the disk too.
    has_names_in_files: bool,
}

impl Folder {
    /// The directory `path`, made where it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make_dir(path)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        let kind = rustix::fs::fstatfs(&dir)?.f_type as u32;
        Ok(Self {
            dir,
            is_changed: AtomicBool::new(true),
            has_names_in_files: NAMES_IN_FILES.contains(&kind),
        })
    }

    /// A new file, which must not be there.
    pub(super) fn make(&self, number: u64, kind: Kind) -> io::Result<File> {
        self.file(number, kind, OFlags::CREATE | OFlags::EXCL)
    }

    /// A new file, in the place of one that may be left there.
    pub(super) fn make_anew(&self, number: u64, kind: Kind) -> io::Result<File> {
        self.file(number, kind, OFlags::CREATE | OFlags::TRUNC)
    }

    /// A file that is there.
    pub(super) fn get(&self, number: u64, kind: Kind) -> io::Result<File> {
        self.file(number, kind, OFlags::empty())
    }

    fn file(&self, number: u64, kind: Kind, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let is_made = flags.contains(OFlags::CREATE);
        let file = rustix::fs::openat(&self.dir, name(number, kind), flags, FILE_MODE)?;
        if is_made {
            self.is_changed.store(true, Ordering::Release);
        }
        Ok(file.into())
    }

    /// A content that is there, to be looked at only.
    pub(super) fn look(&self, number: u64) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = name(number, Kind::Content);
        Ok(rustix::fs::openat(&self.dir, name, flags, Mode::empty())?.into())
    }

    /// Gives a content another number, which is new.
    pub(super) fn renumber(&self, from: u64, to: u64) -> io::Result<()> {
        let (old, new) = (name(from, Kind::Content), name(to, Kind::Content));
        rustix::fs::renameat_with(&self.dir, old, &self.dir, new, RenameFlags::NOREPLACE)?;
        self.is_changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, number: u64, kind: Kind) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name(number, kind), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all files of a local file.
    pub(super) fn remove_all(&self, number: u64) -> io::Result<()> {
        Kind::ALL
            .into_iter()
            .try_for_each(|kind| self.remove(number, kind))
    }

    /// Removes all that lies beside a content.
    pub(super) fn remove_beside(&self, number: u64) -> io::Result<()> {
        Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Content)
            .try_for_each(|kind| self.remove(number, kind))
    }

    /// Writes beside a content what it is, at once or not at all.
    pub(super) fn describe(&self, number: u64, content: &File, about: &About) -> io::Result<()> {
        let text = about.text();
        match rustix::fs::fsetxattr(content, ATTRIBUTE, text.as_bytes(), XattrFlags::empty()) {
            Ok(()) => return Ok(()),
            // What full disks and attributes that are too large get is the same on some file systems.
            Err(
                Errno::OPNOTSUPP
                | Errno::NOSPC
                | Errno::TOOBIG
                | Errno::RANGE
                | Errno::DQUOT
                | Errno::PERM
                | Errno::NOSYS,
            ) => {}
            Err(error) => return Err(error.into()),
        }
        let written = self.write_about(number, &text);
        match written {
            // An older one would be believed first.
            Ok(()) => remove_attribute(content),
            Err(error) => {
                self.remove(number, Kind::NewAbout)?;
                Err(error)
            }
        }
    }

    fn write_about(&self, number: u64, text: &str) -> io::Result<()> {
        use std::io::Write;
        let mut file = self.make_anew(number, Kind::NewAbout)?;
        file.write_all(text.as_bytes())?;
        rustix::fs::renameat(
            &self.dir,
            name(number, Kind::NewAbout),
            &self.dir,
            name(number, Kind::About),
        )?;
        self.is_changed.store(true, Ordering::Release);
        Ok(())
    }

    /// It is owed no more.
    pub(super) fn undescribe(&self, number: u64, content: &File) -> io::Result<()> {
        // The file first: it is what the attribute replaced, if there are both.
        self.remove(number, Kind::About)?;
        remove_attribute(content)
    }

    /// What is written beside a content; `Some(None)` where that cannot be understood.
    pub(super) fn description(
        &self,
        number: u64,
        content: &File,
    ) -> io::Result<Option<Option<About>>> {
        let mut text = Vec::with_capacity(ATTRIBUTE_BYTES);
        let buffer = rustix::buffer::spare_capacity(&mut text);
        match rustix::fs::fgetxattr(content, ATTRIBUTE, buffer) {
            Ok(_) => return Ok(Some(understood(&text))),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        match self.get(number, Kind::About) {
            Ok(file) => {
                let text = read_all(file)?;
                Ok(Some(understood(&text)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The numbers of all local files of which anything is there, in order.
    pub(super) fn numbers(&self) -> io::Result<std::collections::BTreeSet<u64>> {
        let mut numbers = std::collections::BTreeSet::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            let number: Option<u64> = name.split('.').next().and_then(|name| name.parse().ok());
            numbers.extend(number);
        }
        Ok(numbers)
    }

    /// Bytes that all files take on disk.
    pub(super) fn disk_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            // It may be gone meanwhile.
            if let Ok(stat) = rustix::fs::statat(&self.dir, entry.file_name(), flags)
                && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
            {
                bytes += stat.st_blocks as u64 * 512;
            }
        }
        Ok(bytes)
    }

    /// All files that were written until now are on the disk, with all else of their file system.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.dir)?)
    }

    /// The names of the files that were made until now, and are on the disk themselves, are so too.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        if !self.has_names_in_files
            && self.is_changed.swap(false, Ordering::AcqRel)
            && let Err(error) = rustix::fs::fsync(&self.dir)
        {
            self.is_changed.store(true, Ordering::Release);
            return Err(error.into());
        }
        Ok(())
    }
}

/// Makes a directory that only its owner enters, and those above it.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Where the contents of a slot are.
pub(super) fn content_path(slot: &Path) -> PathBuf {
    slot.join("content")
}

fn name(number: u64, kind: Kind) -> String {
    format!("{number}{}", kind.suffix())
}

fn understood(text: &[u8]) -> Option<About> {
    About::parse(std::str::from_utf8(text).ok()?)
}

fn read_all(mut file: File) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove_attribute(content: &File) -> io::Result<()> {
    match rustix::fs::fremovexattr(content, ATTRIBUTE) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
