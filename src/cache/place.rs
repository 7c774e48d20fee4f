//! The directories and files of the cache, opened so that nothing else can be touched by mistake.
//!
//! Directories are 0700, files 0600; a symbolic link in the place of a file is refused.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;

use crate::cache::names::{self, Kind, Name};

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    Write,
    /// To write; made if it is not there.
    Make,
    /// To write; it must not be there.
    New,
}

/// An open directory of this room.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// `content` in the cache directory `dir`.
    pub(super) fn content(dir: &Path, make: bool) -> io::Result<Self> {
        let path = content_path(dir);
        if make {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(&path, flags, Mode::empty())?))
    }

    /// The directory `name` in this one.
    pub(super) fn folder(&self, name: &str, make: bool) -> io::Result<Self> {
        if make {
            match rustix::fs::mkdirat(&self.0, name, DIR_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self(rustix::fs::openat(
            &self.0,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// A file of an entity.
    pub(super) fn file(&self, name: Name, kind: Kind, how: How) -> io::Result<File> {
        self.open(&name.file(kind), how)
    }

    /// A file by its name. Reading it does not count as an access: our own times say when it was used.
    pub(super) fn open(&self, name: &str, how: How) -> io::Result<File> {
        let flags = OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | match how {
                How::Read => OFlags::RDONLY,
                How::Write => OFlags::RDWR,
                How::Make => OFlags::RDWR | OFlags::CREATE,
                How::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            };
        let open = |flags| rustix::fs::openat(&self.0, name, flags, FILE_MODE);
        let file = match open(flags | OFlags::NOATIME) {
            // Only the owner of a file may leave its access time alone.
            Err(Errno::PERM) => open(flags),
            other => other,
        };
        Ok(file?.into())
    }

    /// Whether there is a file of that kind. Waits for the disk only where the kernel does not know.
    pub(super) fn has(&self, name: Name, kind: Kind) -> bool {
        rustix::fs::statat(&self.0, name.file(kind), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// What is known of the file `name`.
    pub(super) fn stat(&self, name: &str) -> io::Result<rustix::fs::Stat> {
        Ok(rustix::fs::statat(
            &self.0,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Notes that a file was used just now; `atime_s` says more, in seconds since 1970.
    pub(super) fn touch(&self, name: &str, atime_s: Option<i64>) -> io::Result<()> {
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: atime_s.map_or(time(0, UTIME_OMIT), |seconds| time(seconds, 0)),
            last_modification: time(0, UTIME_NOW),
        };
        Ok(rustix::fs::utimensat(
            &self.0,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Removes a file of an entity. Whether it was there.
    pub(super) fn remove(&self, name: Name, kind: Kind) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.0, name.file(kind), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file `name`, if it is there.
    pub(super) fn remove_named(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file `from` the name `to`, in place of what has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes the directory `name` in this one, if it is empty.
    pub(super) fn remove_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Bytes that the directory itself takes on disk.
    pub(super) fn own_bytes(&self) -> u64 {
        rustix::fs::fstat(&self.0).map_or(0, |stat| stat.st_blocks as u64 * 512)
    }

    /// The names in it that are ours to look at: directories, or else files.
    pub(super) fn names(
        &self,
        of: FileType,
    ) -> io::Result<impl Iterator<Item = io::Result<String>>> {
        let entries = Dir::read_from(&self.0)?;
        Ok(entries.filter_map(move |entry| {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            // Some file systems do not tell the type; names and open flags keep us from what is not ours.
            let fits = entry.file_type() == of || entry.file_type() == FileType::Unknown;
            let name = entry.file_name().to_str().ok()?;
            (fits && !name.starts_with('.')).then(|| Ok(name.to_owned()))
        }))
    }

    /// Names and folders of the sites in `content`.
    pub(super) fn sites(&self) -> io::Result<Vec<(String, Self)>> {
        let mut sites = Vec::new();
        for name in self.names(FileType::Directory)? {
            let name = name?;
            if names::is_site(&name)
                && let Ok(folder) = self.folder(&name, false)
            {
                sites.push((name, folder));
            }
        }
        Ok(sites)
    }
}

/// Where [`Folder::content`] is.
pub(super) fn content_path(dir: &Path) -> PathBuf {
    dir.join(names::CONTENT)
}

/// Whether two looks saw the same file.
pub(super) fn is_same(file: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (file.dev(), file.ino()) == (other.dev(), other.ino())
}
