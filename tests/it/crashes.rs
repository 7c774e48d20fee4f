//! The daemon is killed again and again while programs write; what they were told to be saved is on the server in the end.
//!
//! Each writer knows what each of its files may hold: the content whose save was acknowledged last, and the one whose save
//! was under way when the daemon died. After each start the mount shows one of the two, and in the end the server has it,
//! whole and once. The seed is printed; `CLOUDREVE_TEST_SEED` repeats it, as far as kills can be repeated, and
//! `CLOUDREVE_TEST_CRASH_ROUNDS` says how often the daemon dies in the long run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell;
use crate::support::{dice, seed};

/// Kills in the run that everybody waits for, and in the one that has the time.
const FEW: u64 = 6;
const MANY: u64 = 100;

/// Longest that a daemon lives.
const LIFE_MILLIS: u64 = 600;

/// The kernel asks for no more than that at once, so it is written as a whole or not.
const RECORD_BYTES: usize = 512;

/// How somebody saves.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Files that were not there before.
    New,
    /// A temporary file, renamed over the one that is saved, as editors do.
    Renamed,
    /// A few bytes more at the end, as logs grow.
    Appended,
    /// A few bytes in the middle of a large file, made durable by fsync(2).
    Patched,
}

const WAYS: [Way; 4] = [Way::New, Way::Renamed, Way::Appended, Way::Patched];

/// What each file may hold by what its writer knows; none is its absence.
#[derive(Default)]
struct Known(BTreeMap<String, Vec<Option<Vec<u8>>>>);

impl Known {
    /// `path` is about to get `content`.
    fn begins(&mut self, path: &str, content: Option<Vec<u8>>) {
        let may_be = self.0.entry(path.to_owned()).or_insert_with(|| vec![None]);
        may_be.push(content);
    }

    /// What was begun last was acknowledged.
    fn ends(&mut self, path: &str) {
        let may_be = self.0.get_mut(path).unwrap();
        may_be.drain(..may_be.len() - 1);
    }

    fn now(&self, path: &str) -> Vec<u8> {
        let may_be = self.0.get(path).and_then(|may_be| may_be.last());
        may_be.cloned().flatten().unwrap_or_default()
    }

    /// `found` is what is there, which must be something that may.
    #[track_caller]
    fn is(&mut self, path: &str, found: Option<Vec<u8>>, whence: &str) {
        let may_be = self.0.get_mut(path).unwrap();
        let lengths = |content: &Option<Vec<u8>>| content.as_ref().map(Vec::len);
        // A write that never returned may be there in part: the kernel sends what lies on several pages in several requests.
        let in_part = may_be
            .windows(2)
            .any(|pair| match (&pair[0], &pair[1], &found) {
                (Some(before), Some(after), Some(found)) => {
                    found.len() > before.len()
                        && after.starts_with(found)
                        && found.starts_with(before)
                }
                _ => false,
            });
        assert!(
            in_part || may_be.contains(&found),
            "{whence}: {path} holds {:?} bytes, which is none of what was saved: {:?}",
            lengths(&found),
            may_be.iter().map(lengths).collect::<Vec<_>>()
        );
        *may_be = vec![found];
    }
}

/// One who saves in one way, in a folder of its own, until the daemon is gone.
struct Writer {
    way: Way,
    known: Known,
    dice: Box<dyn FnMut(u64) -> u64 + Send>,
    saves: u64,
}

impl Writer {
    fn new(way: Way, seed: u64) -> Self {
        Self {
            way,
            known: Known::default(),
            dice: Box::new(dice(seed)),
            saves: 0,
        }
    }

    fn folder(&self) -> String {
        format!("{:?}", self.way)
    }

    fn run(&mut self, root: &Path) {
        // Until a call fails, which is the daemon's end.
        while self.save(root).is_ok() {}
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    fn content(&mut self, longest: u64) -> Vec<u8> {
        let (seed, size) = ((self.dice)(1 << 40), (self.dice)(longest));
        generated_bytes(seed, 0..size)
    }

    fn save(&mut self, root: &Path) -> io::Result<()> {
        self.saves += 1;
        match self.way {
            Way::New => self.save_new(root),
            Way::Renamed => self.save_renamed(root),
            Way::Appended => self.append(root),
            Way::Patched => self.patch(root),
        }
    }

    fn save_new(&mut self, root: &Path) -> io::Result<()> {
        let path = self.path(&format!("{}.new", self.saves));
        let content = self.content(200_000);
        // A file that was not closed yet holds what was written so far.
        self.known.begins(&path, Some(Vec::new()));
        for end in (65_536..content.len()).step_by(65_536) {
            self.known.begins(&path, Some(content[..end].to_vec()));
        }
        self.known.begins(&path, Some(content.clone()));
        // Every second one is written by the kernel itself.
        let mut options = File::options();
        options.write(true).create_new(true);
        options.read(self.saves.is_multiple_of(2));
        let mut file = options.open(root.join(&path))?;
        for piece in content.chunks(65_536) {
            file.write_all(piece)?;
        }
        close(file)?;
        self.known.ends(&path);
        Ok(())
    }

    fn save_renamed(&mut self, root: &Path) -> io::Result<()> {
        let path = self.path(&format!("{}.txt", self.saves % 3));
        let aside = self.path(&format!("{}.tmp", self.saves % 3));
        let content = self.content(30_000);
        self.known.begins(&aside, Some(Vec::new()));
        self.known.begins(&aside, Some(content.clone()));
        let mut file = File::create(root.join(&aside))?;
        file.write_all(&content)?;
        close(file)?;
        self.known.ends(&aside);
        self.known.begins(&path, Some(content));
        self.known.begins(&aside, None);
        std::fs::rename(root.join(&aside), root.join(&path))?;
        self.known.ends(&path);
        self.known.ends(&aside);
        Ok(())
    }

    fn append(&mut self, root: &Path) -> io::Result<()> {
        let path = self.path("log");
        let record = vec![b'a' + (self.saves % 26) as u8; RECORD_BYTES];
        let mut content = self.known.now(&path);
        if content.is_empty() {
            self.known.begins(&path, Some(Vec::new()));
        }
        content.extend_from_slice(&record);
        self.known.begins(&path, Some(content));
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).open(root.join(&path))?;
        file.write_all(&record)?;
        close(file)?;
        self.known.ends(&path);
        Ok(())
    }

    fn patch(&mut self, root: &Path) -> io::Result<()> {
        let path = self.path("large");
        let mut content = self.known.now(&path);
        let at = (self.dice)((content.len() - RECORD_BYTES) as u64 / 4096) * 4096;
        let record = vec![self.saves as u8; RECORD_BYTES];
        content[at as usize..][..RECORD_BYTES].copy_from_slice(&record);
        self.known.begins(&path, Some(content));
        let file = OpenOptions::new().write(true).open(root.join(&path))?;
        file.write_all_at(&record, at)?;
        file.sync_all()?;
        close(file)?;
        self.known.ends(&path);
        Ok(())
    }

    /// What the mount shows is something that may be.
    fn look(&mut self, root: &Path) {
        for path in self.known.0.keys().cloned().collect::<Vec<_>>() {
            let found = match std::fs::read(root.join(&path)) {
                Ok(found) => Some(found),
                Err(err) if err.kind() == io::ErrorKind::NotFound => None,
                Err(err) => panic!("{path}: {err}"),
            };
            self.known.is(&path, found, "the mount");
        }
    }

    /// The server has it all, and nothing beside it.
    fn check(&mut self, server: &Server) {
        for path in self.known.0.keys().cloned().collect::<Vec<_>>() {
            self.known.is(&path, server.content(&path), "the server");
        }
        let names = server.names(&self.folder()).unwrap();
        let unknown = |name: &&String| !matches!(self.known.0.get(&self.path(name)), Some(is) if is[0].is_some());
        let more: Vec<_> = names.iter().filter(unknown).collect();
        assert!(more.is_empty(), "nobody saved these: {more:?}");
    }
}

/// close(2), whose error `drop` would not tell.
fn close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    #[expect(unsafe_code, reason = "std gives no error of close(2)")]
    // SAFETY: the descriptor is this file's alone, and used no more.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn faults(server: &Server, seed: u64) {
    let faults = [
        Fault::on(Route::UploadChunk).reset_before_headers(),
        Fault::on(Route::UploadChunk).status(502),
        Fault::on(Route::UploadChunk).code(50001, "database is locked"),
        Fault::on(Route::UploadCreate).code(50001, "failed to get login user"),
        Fault::on(Route::UploadCreate).reset_before_headers(),
        Fault::on(Route::Info).html_page(),
    ];
    for (fault, number) in faults.into_iter().zip(1..) {
        server.fail(fault.with_probability(0.05, seed + number));
    }
}

fn killed(rounds: u64) {
    let seed = seed();
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.chunk_size = 64 << 10);
    let large = generated_bytes(1, 0..1_000_000);
    server.put("Patched/large", large.clone());
    let mut writers: Vec<_> = WAYS
        .into_iter()
        .zip(0..)
        .map(|(way, number)| Writer::new(way, seed + number))
        .collect();
    for writer in &mut writers {
        server.mkdir(&writer.folder());
        if let Way::Patched = writer.way {
            let path = writer.path("large");
            writer.known.begins(&path, Some(large.clone()));
            writer.known.ends(&path);
        }
    }
    let mut dice = dice(seed + 99);
    let options = ["--upload-delay=50ms"];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    for round in 0..rounds {
        if round % 2 == 1 {
            faults(&server, seed + round * 100);
        }
        let root = mount.path("");
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.run(&root));
            }
            // Not a synchronisation: the moment is meant to be any.
            std::thread::sleep(Duration::from_millis(dice(LIFE_MILLIS)));
            shell::kill(mount.pid(), libc::SIGKILL);
        });
        mount.wait();
        server.clear_faults();
        mount = mount.again(&server, "cloudreve://my/", &options);
        let root = mount.path("");
        writers.iter_mut().for_each(|writer| writer.look(&root));
    }
    mount.sync();
    writers.iter_mut().for_each(|writer| writer.check(&server));
    let saves: u64 = writers.iter().map(|writer| writer.saves).sum();
    println!("{saves} saves, {rounds} kills");
    assert!(saves > rounds * 4, "hardly anything was saved: {saves}");
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
}

#[test]
fn what_was_acknowledged_is_on_the_server_however_often_the_daemon_is_killed() {
    killed(FEW);
}

#[test]
#[ignore = "a hundred kills take minutes"]
fn what_was_acknowledged_is_on_the_server_after_a_hundred_kills() {
    let given = std::env::var("CLOUDREVE_TEST_CRASH_ROUNDS").ok();
    killed(given.and_then(|rounds| rounds.parse().ok()).unwrap_or(MANY));
}

#[test]
fn what_was_deleted_while_it_is_open_stays_deleted_after_a_kill_whatever_is_done_to_it_still() {
    let server = Server::start(Options::default()).unwrap();
    let options = ["--upload-delay", "1h", "--passthrough", "off"];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    std::fs::create_dir(mount.path("folder")).unwrap();
    let file = File::create(mount.path("folder/file")).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    // On the disk, which the journal has to take back before all of it is thrown away.
    file.sync_all().unwrap();
    std::fs::remove_file(mount.path("folder/file")).unwrap();
    file.set_len(0).unwrap();
    std::fs::rename(mount.path("folder"), mount.path("moved")).unwrap();
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    drop(file);
    let mount = mount.again(&server, "cloudreve://my/", &options);
    let entries = std::fs::read_dir(mount.path("moved")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}
