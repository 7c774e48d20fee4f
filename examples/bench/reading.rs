//! Reading as programs do it, and the names and files that cases read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloudreve_test_server::Server;

use crate::Outcome;
use crate::flow::Flow;
use crate::mounted::Mounted;
use crate::table::rounds;
use crate::world::{ROUND_TRIP, timed};

/// What cat(1) reads at once.
pub(crate) const READ_BYTES: usize = 128 << 10;

/// A page, and what programs read to see what a file is.
pub(crate) const PIECE_BYTES: u64 = 4096;

/// Reads a file to its end as cat(1) does; gives the number of bytes.
pub(crate) fn read(path: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    read_while(&mut File::open(path)?, |length| {
        bytes += length;
        true
    })?;
    Ok(bytes)
}

/// Opens a file and reads it until `most` is over; `flow` sees what comes.
pub(crate) fn read_flow(path: &Path, flow: &Flow, most: Duration) -> Outcome<()> {
    let most = most.as_secs_f64();
    read_while(&mut File::open(path)?, |length| {
        flow.note(length);
        flow.seconds() < most
    })
}

fn read_while(file: &mut File, mut go_on: impl FnMut(u64) -> bool) -> Outcome<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 || !go_on(length as u64) {
            return Ok(());
        }
    }
}

/// A figure is for all the bytes or for nothing.
pub(crate) fn complete(bytes: u64, wanted: u64) -> Outcome<()> {
    match bytes == wanted {
        true => Ok(()),
        false => Err(format!("{bytes} bytes came instead of {wanted}").into()),
    }
}

/// Reads a file to its end; gives MiB a second.
pub(crate) fn read_rate(path: &Path, size: u64) -> Outcome<f64> {
    let (seconds, bytes) = timed(|| read(path))?;
    complete(bytes, size)?;
    Ok(mib(bytes) / seconds)
}

/// Reads one piece.
pub(crate) fn piece(file: &File, offset: u64) -> Outcome<()> {
    Ok(file.read_exact_at(&mut [0; PIECE_BYTES as usize], offset)?)
}

/// How long `work` takes, in round trips.
pub(crate) fn round_trips(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let (seconds, ()) = timed(work)?;
    Ok(trips(seconds))
}

pub(crate) fn trips(seconds: f64) -> f64 {
    seconds / ROUND_TRIP.as_secs_f64()
}

/// Where a pass reads pieces of a file of `size` bytes: pages that look like chance, the same on both sides.
pub(crate) fn offsets(round: u64, count: u64, size: u64) -> impl Iterator<Item = u64> {
    let pages = size / PIECE_BYTES;
    (1..=count).map(move |number| {
        // Steps of the golden ratio: spread over the file, and no two near each other.
        let scattered = (round * count + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        scattered % pages * PIECE_BYTES
    })
}

/// The folder of a side and pass.
pub(crate) fn folder(side: &str, round: u64) -> String {
    format!("{side} {round}")
}

/// The files of a folder.
pub(crate) fn paths(folder: String, count: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{folder}/{number:03}"))
}

/// Fills a folder.
pub(crate) fn put_folder(server: &Server, folder: String, count: u64, size: u64) {
    for (seed, path) in paths(folder, count).enumerate() {
        server.put_generated(&path, size, seed as u64);
    }
}

/// A folder for each side and pass, so that no pass finds what another one brought.
pub(crate) fn put_folders(server: &Server, count: u64, size: u64) {
    for round in rounds() {
        for side in ["ours", "raw"] {
            put_folder(server, folder(side, round), count, size);
        }
    }
}

/// The files of a folder in the order of its listing, each looked at once, as a shell and `ls -l` do.
pub(crate) fn listed(mount: &Mounted, folder: &str) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(mount.path(folder))?
        .map(|entry| {
            let path = entry?.path();
            path.symlink_metadata()?;
            Ok(path)
        })
        .collect()
}

/// Runs `work` in so many threads, each told its number. The first error counts.
pub(crate) fn at_once(threads: u64, work: impl Fn(u64) -> Outcome<()> + Sync) -> Outcome<()> {
    // What an error holds may not leave its thread; its text may.
    let work = |number| work(number).map_err(|err| err.to_string());
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread died".into()))
        })
    })?;
    Ok(())
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(crate) fn per_gib(seconds: f64, bytes: u64) -> f64 {
    seconds * 1024.0 / mib(bytes)
}
