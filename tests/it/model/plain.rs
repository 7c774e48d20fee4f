//! A directory on a local ext4, which is right by definition.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::shell;

/// As statfs(2) tells it.
const EXT4: u64 = 0xef53;

/// Room in a disk image; sparse, so that only what is written takes any.
const IMAGE_BYTES: u64 = 2 << 30;

/// Gone on drop.
pub(crate) struct Plain {
    dir: TempDir,
    is_image: bool,
}

impl Plain {
    /// A temporary directory, or, where that is no ext4, a disk image mounted in one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let is_image = kind(dir.path()) != EXT4;
        let plain = Self { dir, is_image };
        let root = plain.root();
        std::fs::create_dir(&root).expect("a directory can be made in it");
        if is_image {
            let image = plain.dir.path().join("image");
            let file = std::fs::File::create(&image).expect("an image can be made");
            file.set_len(IMAGE_BYTES).expect("a file can be sparse");
            shell::stdout(
                Command::new("mkfs.ext4")
                    .args(["-q", "-I", "256"])
                    .arg(&image),
            );
            shell::stdout(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(&root),
            );
            assert_eq!(kind(&root), EXT4, "the image is one");
            std::fs::remove_dir(root.join("lost+found")).expect("it is empty");
        }
        plain
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("plain")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if self.is_image {
            shell::stdout(Command::new("umount").arg(self.root()));
        }
    }
}

fn kind(path: &Path) -> u64 {
    rustix::fs::statfs(path)
        .expect("a directory is on some disk")
        .f_type as u64
}
