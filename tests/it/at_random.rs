//! One file written at random through a mount, and the same on the local disk, which is right by definition.
//!
//! Several handles write, read, cut, punch and map it; in between the daemon is killed, files are delivered, and the file
//! is opened anew. After each round both files are the same, and in the end the server has it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::map::MapMut;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::{dice, seed};

const SIZE_MAX: u64 = 400_000;
const ROUNDS: usize = 40;
const STEPS: usize = 25;

/// The same call on both files.
struct Twins {
    /// Open to be read and written.
    here: Vec<File>,
    /// The one that the file was begun anew with, open to be written only.
    anew: Option<File>,
    plain: File,
}

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
        .open(path)
        .unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn read(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file
            .read_at(&mut bytes[done..], offset + done as u64)
            .unwrap()
        {
            0 => break,
            more => done += more,
        }
    }
    bytes.truncate(done);
    bytes
}

fn punch(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    #[expect(unsafe_code, reason = "std has no fallocate(2)")]
    // SAFETY: an open descriptor, and no memory of ours.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

impl Twins {
    fn step(&self, dice: &mut impl FnMut(u64) -> u64) -> String {
        let mut here = &self.here[dice(self.here.len() as u64) as usize];
        let (offset, len) = (dice(SIZE_MAX), 1 + dice(40_000));
        let what = dice(10);
        if let (0..=3 | 6..=7 | 9, Some(anew)) = (what, &self.anew)
            && dice(2) == 0
        {
            here = anew;
        }
        match what {
            0..=3 => {
                let bytes = generated_bytes(dice(1 << 30), 0..len);
                here.write_all_at(&bytes, offset).unwrap();
                self.plain.write_all_at(&bytes, offset).unwrap();
                format!("write {offset}+{len}")
            }
            4..=5 => {
                let (found, right) = (
                    read(here, offset, len as usize),
                    read(&self.plain, offset, len as usize),
                );
                assert!(
                    found == right,
                    "read {offset}+{len}: {} bytes, not {}",
                    found.len(),
                    right.len()
                );
                format!("read {offset}+{len}")
            }
            6 => {
                here.set_len(offset).unwrap();
                self.plain.set_len(offset).unwrap();
                format!("cut {offset}")
            }
            7 => {
                punch(here, offset, len);
                punch(&self.plain, offset, len);
                format!("punch {offset}+{len}")
            }
            8 => {
                let size = self.plain.metadata().unwrap().len() as usize;
                assert_eq!(here.metadata().unwrap().len() as usize, size, "stat");
                if size > 0 {
                    let at = dice(size as u64) as usize;
                    let to = size.min(at + len as usize);
                    for file in [here, &self.plain] {
                        MapMut::new(file, size).bytes()[at..to].fill(at as u8);
                    }
                    return format!("map {at}..{to} of {size}");
                }
                "nothing to map".to_owned()
            }
            _ => {
                here.sync_all().unwrap();
                "sync".to_owned()
            }
        }
    }
}

#[track_caller]
fn assert_same(found: &[u8], right: &[u8], what: &str, done: &[String]) {
    let differs = found.iter().zip(right).position(|(a, b)| a != b);
    assert!(
        found == right,
        "{what}: {} bytes, not {}, first difference at {differs:?}, after {done:#?}",
        found.len(),
        right.len()
    );
}

#[test]
fn a_file_written_at_random_is_what_it_is_on_a_local_disk_through_kills_and_deliveries() {
    written_at_random("auto");
}

#[test]
fn so_it_is_where_the_kernel_writes_nothing_by_itself() {
    written_at_random("off");
}

fn written_at_random(passthrough: &str) {
    let mut dice = dice(seed());
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file", 200_000, 1);
    let delays = ["0s", "20ms", "1h"];
    let options = |delay| ["--passthrough", passthrough, "--upload-delay", delay];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options(delays[0]));
    let kept = tempfile::tempdir().unwrap();
    let twin_path = kept.path().join("twin");
    std::fs::write(&twin_path, generated_bytes(1, 0..200_000)).unwrap();
    for round in 0..ROUNDS {
        let path = mount.path("file");
        // Before the others, so that they join a file that the kernel writes by itself; or behind one of them.
        let begins_anew = dice(2) == 0;
        let early = (dice(4) == 0).then(|| open(&path));
        let anew = begins_anew.then(|| {
            std::fs::write(&twin_path, b"").unwrap();
            File::create(&path).unwrap()
        });
        let here = (0..1 + dice(3)).map(|_| open(&path)).chain(early);
        let mut twins = Twins {
            here: here.collect(),
            anew,
            plain: open(&twin_path),
        };
        let mut done = vec![format!("begun anew: {begins_anew}")];
        let last_anew = dice(2 * STEPS as u64) as usize;
        for step in 0..STEPS {
            if step == last_anew {
                twins.anew = None;
            }
            done.push(twins.step(&mut dice));
        }
        let right = std::fs::read(&twin_path).unwrap();
        assert_same(&std::fs::read(&path).unwrap(), &right, "opened anew", &done);
        if dice(4) == 0 {
            // With the handles open: what was written is kept all the same.
            shell::kill(mount.pid(), libc::SIGKILL);
            mount.wait();
            drop(twins);
            let delay = delays[dice(3) as usize];
            mount = mount.again(&server, "cloudreve://my/", &options(delay));
            assert_same(
                &std::fs::read(mount.path("file")).unwrap(),
                &right,
                &format!("after a kill, with {:?} on the server", server.names("")),
                &done,
            );
        } else {
            drop(twins);
            assert_same(&std::fs::read(&path).unwrap(), &right, "closed", &done);
        }
        if dice(4) == 0 {
            shell::stdout(mount.home.program().arg("sync").arg(mount.path("")));
            let there = server.content("file").unwrap_or_default();
            assert_same(
                &there,
                &right,
                &format!(
                    "on the server in round {round}, which has {:?}",
                    server.names("")
                ),
                &done,
            );
        }
    }
    let right = std::fs::read(&twin_path).unwrap();
    shell::stdout(Command::new("sync").arg(mount.path("file")));
    shell::stdout(mount.home.program().arg("sync").arg(mount.path("")));
    wait_until("the server has it", || {
        server.content("file").as_deref() == Some(&right[..])
    });
    assert_eq!(
        server.names("").unwrap(),
        ["file"],
        "no conflict with ourselves"
    );
}
