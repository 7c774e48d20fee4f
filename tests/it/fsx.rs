//! fsx: one file written, cut, punched, mapped, copied within and read at random, each byte that is read compared with what
//! was written.
//!
//! It runs beside itself, on several files of one mount, which are delivered meanwhile, or in the calls themselves; and it
//! runs until the daemon is killed under it, upon which the file holds what the same run leaves on the local disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::Mounted;
use crate::support::{dice, seed, shell, tools};

/// Operations on each file, where `CLOUDREVE_TEST_FSX_OPERATIONS` does not say it. By hand 2,000,000 are worth their time.
const OPERATIONS: u64 = 200_000;

/// The same where each fsync(2), msync(2) and close(2) waits until the server has the file.
const DELIVERED: u64 = 5_000;

/// Most of one run, upon which the next one follows on the same file: fsx never unmaps what it mapped to read, and each
/// truncation and each hole looks through all the maps of the file.
const LONGEST_RUN: u64 = 10_000;

/// Times that the daemon is killed, where `CLOUDREVE_TEST_FSX_KILLS` does not say it.
const KILLS: u64 = 20;

/// Most operations before a kill, where `CLOUDREVE_TEST_FSX_BETWEEN_KILLS` does not say it.
const BETWEEN_KILLS: u64 = 1_500;

/// More operations than there will be before a kill.
const UNTIL_KILLED: u64 = 1_000_000;

/// Longest that a run may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// How often each operation comes up among 63: all that fsx knows. No operation is of no bytes, for that is EINVAL for
/// posix_fallocate(3) everywhere.
const OPERATIONS_BY_WEIGHT: &str = "
    min = 1
    [weights]
    read = 10
    write = 10
    mapread = 10
    mapwrite = 10
    sendfile = 5
    punch_hole = 4
    copy_file_range = 4
    truncate = 2
    posix_fallocate = 2
    posix_fadvise = 2
    fsync = 1
    fdatasync = 1
    invalidate = 1
    close_open = 1
";

/// What is written through a map is synced at once, so that it outlives the daemon.
const LARGE_AND_SYNCED: &str = "[opsize]\nmax = 65536\n";

/// What is written through a map is there for who reads, also where nobody synced it: the kernel writes it when it likes to.
const SMALL_AND_UNSYNCED: &str = "nomsyncafterwrite = true\n[opsize]\nmax = 9000\n";

/// A run on a file; killed on drop.
struct Run {
    child: Child,
    file: PathBuf,
    seed: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            shell::wait_at_most(&mut self.child, Duration::ZERO);
        }
    }
}

/// Runs of fsx, with what they leave behind in a directory beside the mount.
struct Fsx<'a> {
    mount: &'a Mounted,
    program: PathBuf,
}

impl<'a> Fsx<'a> {
    fn new(mount: &'a Mounted) -> Self {
        let program = tools::installed("fsx", "0.3.2");
        Self { mount, program }
    }

    /// Begins a run on `file`; its log, which goes to [`Fsx::log`], has a line before each operation if it is to be `loud`.
    fn spawn(&self, file: &Path, settings: &str, seed: u64, operations: u64, loud: bool) -> Run {
        let (config, log) = (self.beside(file, "toml"), self.log(file));
        std::fs::write(&config, [settings, OPERATIONS_BY_WEIGHT].concat()).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg("-f")
            .arg(config)
            .args(["-S", &seed.to_string(), "-N", &operations.to_string()])
            .arg("-P")
            .arg(self.mount.home.path(""))
            .args(loud.then_some("-v"))
            .arg(file)
            .env("RUST_BACKTRACE", "0")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap());
        let (child, file) = (command.spawn().unwrap(), file.to_owned());
        Run { child, file, seed }
    }

    fn log(&self, file: &Path) -> PathBuf {
        self.beside(file, "log")
    }

    fn beside(&self, file: &Path, end: &str) -> PathBuf {
        let name = file.file_name().unwrap().to_str().unwrap();
        self.mount.home.path(format!("fsx-{name}.{end}"))
    }

    /// Waits for a run that must find nothing amiss.
    #[track_caller]
    fn passes(&self, mut run: Run) {
        let ended = shell::wait_at_most(&mut run.child, PATIENCE);
        let log = std::fs::read_to_string(self.log(&run.file)).unwrap();
        // What it found stands before its last thousand operations; what they were is of use, too.
        let lines: Vec<_> = log.lines().collect();
        let said = [
            &lines[..lines.len().min(12)],
            &["…"],
            &lines[lines.len().saturating_sub(60)..],
        ]
        .concat();
        let passed = ended.is_some_and(|status| status.success());
        assert!(
            passed,
            "{}, seed {}: {ended:?}\n{}\n{}",
            run.file.display(),
            run.seed,
            said.join("\n"),
            self.mount.log()
        );
    }

    /// What `operations` of that seed leave on the local disk.
    fn left(&self, settings: &str, seed: u64, operations: u64) -> Vec<u8> {
        let plain = self.mount.home.path("plain");
        let run = self.spawn(&plain, settings, seed, operations, false);
        self.passes(run);
        std::fs::read(plain).unwrap()
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    let number = given.parse().ok().filter(|number| *number > 0);
    Some(number.unwrap_or_else(|| panic!("{name}={given}: no number of them")))
}

/// Runs on four files of one mount with `options` beside each other, `operations` on each, and looks at what is left of them.
fn finds_nothing_amiss(options: &[&str], operations: u64) {
    let server = Server::start(Options::default()).unwrap();
    let options = [&["--upload-delay", "100ms"], options].concat();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    let fsx = Fsx::new(&mount);
    let files = ["file0", "file1", "file2", "file3"];
    let settings = [LARGE_AND_SYNCED, SMALL_AND_UNSYNCED];
    let settings = |nth: usize| settings[nth % 2];
    let mut seed = seed();
    let mut ahead = operations;
    let last_length = loop {
        let length = ahead.min(LONGEST_RUN);
        let start = |(nth, name)| {
            let seed = seed.wrapping_add(nth as u64);
            fsx.spawn(&mount.path(name), settings(nth), seed, length, false)
        };
        let runs: Vec<_> = files.into_iter().enumerate().map(start).collect();
        for run in runs {
            fsx.passes(run);
        }
        ahead -= length;
        if ahead == 0 {
            break length;
        }
        seed = seed.wrapping_add(files.len() as u64);
    };
    // The last runs read most of what they wrote. This is all of it.
    for (nth, name) in files.into_iter().enumerate() {
        let seed = seed.wrapping_add(nth as u64);
        let expected = fsx.left(settings(nth), seed, last_length);
        let shown = std::fs::read(mount.path(name)).unwrap();
        assert!(shown == expected, "{name}, seed {seed}");
        mount.sync();
        let there = server.content(name);
        assert!(there == Some(expected), "{name}, seed {seed}");
    }
    assert!(mount.end().success(), "{}", mount.log());
}

#[test]
#[ignore = "needs fsx, and takes minutes; .ci/run installs it and runs this"]
fn fsx_finds_nothing_amiss_in_four_files_at_a_time() {
    let operations = from_environment("CLOUDREVE_TEST_FSX_OPERATIONS").unwrap_or(OPERATIONS);
    finds_nothing_amiss(&[], operations);
}

#[test]
#[ignore = "needs fsx, and takes minutes; .ci/run installs it and runs this"]
fn fsx_finds_nothing_amiss_where_each_save_waits_for_the_server() {
    let operations = from_environment("CLOUDREVE_TEST_FSX_OPERATIONS").unwrap_or(DELIVERED);
    finds_nothing_amiss(&["--durability", "server"], operations);
}

/// The last operation that fsx began, by its number.
fn begun(log: &Path) -> u64 {
    let log = std::fs::read_to_string(log).unwrap();
    // `[INFO  fsx]  17 write …`; what it says when it dies looks otherwise.
    let number = |line: &str| {
        line.strip_prefix("[INFO  fsx]")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    log.lines().rev().find_map(number).unwrap_or(0)
}

/// That `found` is what was there `before` an operation or `after` it, or a mixture, where it was interrupted.
#[track_caller]
fn lies_between(found: &[u8], before: &[u8], after: &[u8], what: &str) {
    let lengths = before.len().min(after.len())..=before.len().max(after.len());
    assert!(
        lengths.contains(&found.len()),
        "{what}: {} bytes, not {lengths:?}",
        found.len()
    );
    let at = |bytes: &[u8], place: usize| bytes.get(place).copied().unwrap_or(0);
    let wrong = (0..found.len())
        .find(|place| found[*place] != at(before, *place) && found[*place] != at(after, *place));
    assert_eq!(wrong, None, "{what}: the first byte that is neither");
}

#[test]
#[ignore = "needs fsx, and takes a minute; .ci/run installs it and runs this"]
fn what_fsx_did_is_there_after_a_kill() {
    let kills = from_environment("CLOUDREVE_TEST_FSX_KILLS").unwrap_or(KILLS);
    let between = from_environment("CLOUDREVE_TEST_FSX_BETWEEN_KILLS").unwrap_or(BETWEEN_KILLS);
    let server = Server::start(Options::default()).unwrap();
    let options = ["--upload-delay", "100ms"];
    let mut mount = Mounted::new(&server, "cloudreve://my/", &options);
    let seed = seed();
    let mut dice = dice(seed);
    let (mut longest, mut all) = (0, 0);
    for kill in 0..kills {
        let seed = seed.wrapping_add(kill);
        let file = mount.path("file");
        let fsx = Fsx::new(&mount);
        let mut run = fsx.spawn(&file, LARGE_AND_SYNCED, seed, UNTIL_KILLED, true);
        let log = fsx.log(&file);
        let enough = 1 + dice(between);
        shell::wait_until("fsx works", || begun(&log) >= enough);
        shell::kill(mount.pid(), libc::SIGKILL);
        mount.wait();
        // It ends with its next call, save where that is a sendfile(2): then it waits for what never comes, and is killed.
        let ended = shell::wait_at_most(&mut run.child, Duration::from_secs(3));
        assert!(ended.is_none_or(|status| !status.success()));
        mount = mount.again(&server, "cloudreve://my/", &options);
        let fsx = Fsx::new(&mount);
        // All before it succeeded; of this one nobody knows.
        let last = begun(&log);
        let found = std::fs::read(&file).unwrap();
        let left = |operations| fsx.left(LARGE_AND_SYNCED, seed, operations);
        let what = format!("seed {seed}, operation {last}");
        lies_between(&found, &left(last - 1), &left(last), &what);
        longest = longest.max(last);
        all += last;
        // Every other time the next run begins while this one's file is still owed.
        if kill % 2 == 1 || kill + 1 == kills {
            mount.sync();
            assert!(server.content("file") == Some(found), "{what}");
        }
    }
    println!("{kills} kills in {all} operations, at most {longest} before one");
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
    assert!(mount.end().success(), "{}", mount.log());
}
