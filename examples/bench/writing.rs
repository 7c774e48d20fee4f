//! Writing as programs do it: many small files by one or several threads, and cp(1).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloudreve_test_server::generated_bytes;

use crate::Outcome;
use crate::reading::at_once;

/// What a file of a save is: its begin is its number, so that no two are the same.
pub(crate) const SAVED_BYTES: u64 = 4096;

/// What a writer waits for before it closes a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Nothing more.
    Written,
    /// fsync(2).
    OnDisk,
}

/// The files of a set, in a folder.
pub(crate) fn set(folder: &Path, count: u64) -> Vec<PathBuf> {
    (0..count)
        .map(|number| folder.join(format!("{number:06}")))
        .collect()
}

/// Creates, fills and closes each of `paths` with `size` bytes, in so many threads that share them.
pub(crate) fn write_set(paths: &[PathBuf], size: u64, threads: u64, until: Until) -> Outcome<()> {
    let content = generated_bytes(1, 0..size);
    at_once(threads, |thread| {
        let mut content = content.clone();
        let own = paths.iter().enumerate().skip(thread as usize);
        for (number, path) in own.step_by(threads as usize) {
            content[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let mut file = File::create_new(path)?;
            file.write_all(&content)?;
            if until == Until::OnDisk {
                file.sync_all()?;
            }
        }
        Ok(())
    })
}

/// Opens a file, changes one byte of it, and closes it.
pub(crate) fn change_byte(path: &Path, offset: u64, byte: u8) -> Outcome<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(file.write_all_at(&[byte], offset)?)
}

/// A program of this machine with these arguments, which must succeed.
pub(crate) fn run(program: &str, arguments: &[&Path]) -> Outcome<()> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}", said.trim()).into())
        }
    }
}
