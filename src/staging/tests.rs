use std::path::Path;
use std::time::Duration;

use super::*;
use crate::entry::Tree;
use crate::model::EntityId;

mod content;
mod crash;
mod damage;
mod full;
mod lent;
mod origin;
mod owed;
mod power;
mod slots;
mod spares;
mod speed;
mod untold;

/// A state directory, and one mount after the other that uses it.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn open(&self) -> (Arc<Staging>, Vec<Arc<Local>>) {
        open(self.dir())
    }

    /// The directory of the first slot.
    fn slot(&self) -> PathBuf {
        slot::path(self.dir(), "drive", 0)
    }

    /// Names of the files with content and what belongs to them; those left out that are kept for others.
    fn content(&self) -> Vec<String> {
        let is_spare = |name: &String| is_spare(&self.slot().join("content").join(name));
        let mut names = self.all_files();
        names.retain(|name| !is_spare(name));
        names
    }

    /// Names of all files where contents are.
    fn all_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.slot().join("content")).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Whether it is empty and described nowhere.
fn is_spare(path: &Path) -> bool {
    let length = rustix::fs::getxattr(path, "user.cloudreve-fuse.owed", &mut [0; 0][..]);
    path.metadata().unwrap().len() == 0 && length == Err(rustix::io::Errno::NODATA)
}

fn open(dir: &Path) -> (Arc<Staging>, Vec<Arc<Local>>) {
    Staging::open(options(dir)).unwrap()
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        drive: "drive".into(),
        local_only: Default::default(),
    }
}

fn place(name: &str) -> Place {
    Place {
        folder: FileKey {
            tree: Tree::MAIN,
            id: FileId("folder".into()),
        },
        folder_uri: FileUri::my().child(ServerName::from_wire(*b"d")),
        name: ServerName::from_wire(name.as_bytes()),
    }
}

fn base(entity: &str, size_bytes: u64) -> Base {
    Base {
        file: FileId("file".into()),
        entity: Entity {
            id: EntityId(entity.into()),
            size_bytes,
        },
        visible_bytes: size_bytes,
    }
}

/// A moment with all nine digits behind the second, `seconds` after another one.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + seconds, 123_456_789)
}

/// All of it, with `base` where it shows.
fn all(local: &Local, base: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in local.pieces(0..u64::MAX) {
        match piece {
            Piece::Here(range) => {
                let read = local.read(range.clone()).unwrap();
                assert_eq!(read.len() as u64, range.end - range.start);
                bytes.extend_from_slice(&read);
            }
            Piece::Base(range) => {
                bytes.extend_from_slice(&base[range.start as usize..range.end as usize]);
            }
        }
    }
    assert_eq!(bytes.len() as u64, local.size_bytes());
    bytes
}

/// Numbers that come again with the same seed, which a failed test prints.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("STAGING_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().as_nanos() as u64
        });
        println!("STAGING_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn range(&mut self, limit: u64) -> Range<u64> {
        let start = self.below(limit);
        start..start + self.below(limit - start + 1)
    }
}
