//! Those operations that move bytes, or ask where they are.

use std::fs::File;

use cloudreve_test_server::generated_bytes;
use rustix::fs::{self, FileType, SeekFrom};
use rustix::io::{self, Errno};

use super::{Done, Side, count, errno};
use crate::model::op::{Op, Whence};
use crate::model::seen::{Outcome, Seen};
use crate::support::map::MapMut;

impl Side {
    pub(super) fn bytes(&self, op: &Op) -> Done {
        match op {
            Op::Read { slot, len } => {
                let file = self.file(*slot)?;
                read(*len, |into, _| io::read(file, into))
            }
            Op::Pread { slot, at, len } => {
                let file = self.file(*slot)?;
                read(*len, |into, done| io::pread(file, into, at + done))
            }
            Op::Write { slot, len, fill } => {
                let file = self.file(*slot)?;
                count(io::write(file, &generated_bytes(*fill, 0..*len as u64)))
            }
            Op::Pwrite {
                slot,
                at,
                len,
                fill,
            } => {
                let file = self.file(*slot)?;
                count(io::pwrite(
                    file,
                    &generated_bytes(*fill, 0..*len as u64),
                    *at,
                ))
            }
            Op::Lseek { slot, at, whence } => seek(self.file(*slot)?, *at, *whence),
            Op::Map {
                slot,
                at,
                len,
                fill,
                sync,
            } => {
                let file = self.file(*slot)?;
                let stat = fs::fstat(file)?;
                let size = match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile if stat.st_size == 0 => return Ok(Outcome::Number(0)),
                    FileType::RegularFile => stat.st_size as u64,
                    // To be refused.
                    _ => 1,
                };
                let mut map = MapMut::open(file, size as usize).map_err(errno)?;
                let (from, to) = ((*at).min(size), (at + len).min(size));
                map.bytes()[from as usize..to as usize]
                    .copy_from_slice(&generated_bytes(*fill, 0..to - from));
                if *sync {
                    map.sync().map_err(errno)?;
                }
                Ok(Outcome::Number((to - from) as i64))
            }
            Op::Copy {
                slot,
                at,
                to,
                to_at,
                len,
            } => {
                let (from, to) = (self.file(*slot)?, self.file(*to)?);
                let (mut at, mut to_at, mut left) = (*at, *to_at, *len);
                // A call may copy less than it was asked for.
                while left > 0 {
                    match fs::copy_file_range(from, Some(&mut at), to, Some(&mut to_at), left)? {
                        0 => break,
                        copied => left -= copied,
                    }
                }
                Ok(Outcome::Number((len - left) as i64))
            }
            _ => unreachable!("{op} moves no bytes"),
        }
    }
}

/// Reads until there is nothing more, or `len` bytes.
pub(super) fn read(len: usize, mut some: impl FnMut(&mut [u8], u64) -> io::Result<usize>) -> Done {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match some(&mut bytes[done..], done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    bytes.truncate(done);
    Ok(Outcome::Bytes(Seen::of(bytes)))
}

fn seek(file: &File, at: i64, whence: Whence) -> Done {
    let from = u64::try_from(at).map_err(|_| Errno::INVAL);
    let found = match whence {
        Whence::Set => fs::seek(file, SeekFrom::Start(from?))?,
        Whence::Cur => fs::seek(file, SeekFrom::Current(at))?,
        Whence::End => fs::seek(file, SeekFrom::End(at))?,
        Whence::Data | Whence::Hole => return holes(file, from?, whence),
    };
    Ok(Outcome::Number(found as i64))
}

/// SEEK_DATA and SEEK_HOLE: where a file system sees holes is its own matter, but none of them may hold anything but zeros,
/// and beyond the end is ENXIO (→ lseek(2)).
fn holes(file: &File, at: u64, whence: Whence) -> Done {
    let size = fs::fstat(file)?.st_size as u64;
    let mut rest = vec![0; size.saturating_sub(at) as usize];
    let mut done = 0;
    while done < rest.len() {
        match io::pread(file, &mut rest[done..], at + done as u64)? {
            0 => {
                return Ok(Outcome::Broken(format!(
                    "{done} bytes behind {at} of {size}"
                )));
            }
            more => done += more,
        }
    }
    let zeros = |to: u64| rest[..(to - at) as usize].iter().all(|byte| *byte == 0);
    let found = match whence {
        Whence::Data => fs::seek(file, SeekFrom::Data(at)),
        _ => fs::seek(file, SeekFrom::Hole(at)),
    };
    let is_kept = match (whence, found) {
        (_, Err(Errno::NXIO)) if at >= size => return Err(Errno::NXIO),
        (Whence::Data, Err(Errno::NXIO)) => zeros(size),
        (_, Err(err)) => return Err(err),
        (Whence::Data, Ok(data)) => (at..size).contains(&data) && zeros(data),
        (_, Ok(hole)) => {
            (at..=size).contains(&hole) && (hole == size || rest[(hole - at) as usize] == 0)
        }
    };
    if !is_kept {
        return Ok(Outcome::Broken(format!(
            "SEEK_{whence:?} from {at} of {size} gave {found:?}"
        )));
    }
    // Where they stand now is the same for both sides again.
    fs::seek(file, SeekFrom::Start(at))?;
    Ok(Outcome::Done)
}
