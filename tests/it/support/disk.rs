//! A file system of its own, in a file: what it does is right by definition, and what reaches its file is on a disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::shell;

/// An ext4 in a file, mounted on a directory; unmounted on drop. Needs root, mkfs.ext4 and a loop device.
pub(crate) struct Disk {
    image: PathBuf,
    dir: PathBuf,
    options: String,
}

impl Disk {
    /// Makes it in `image`, empty, and mounts it on `dir` with `options` as mount(8) takes them.
    pub(crate) fn make(image: &Path, size_bytes: u64, dir: &Path, options: &str) -> Self {
        let disk = Self {
            image: image.to_owned(),
            dir: dir.to_owned(),
            options: format!("loop,{options}"),
        };
        let file = File::create(&disk.image).expect("a file can be made");
        file.set_len(size_bytes).expect("a file can have holes");
        shell::stdout(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
        disk.mount();
        disk
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        mount.arg("-o").arg(&self.options);
        shell::stdout(mount.arg(&self.image).arg(&self.dir));
    }

    fn unmount(&self) {
        shell::stdout(Command::new("umount").arg(&self.dir));
    }

    /// What the disk holds now.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        std::fs::read(&self.image).expect("the file is there")
    }

    /// The power comes back, with what the disk held.
    pub(crate) fn restore(&self, held: &[u8]) {
        self.unmount();
        std::fs::write(&self.image, held).expect("the file can be written");
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Without a word: a test that failed may have left it unmounted.
        let unmounted = Command::new("umount").arg(&self.dir).output();
        drop(unmounted);
    }
}
