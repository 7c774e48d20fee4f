//! sqlite: its locks, journals and shared memory; also when a writer is killed, or the daemon.
//!
//! What was committed is there afterwards, and the database is whole, whoever was killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::*;
use crate::support::{dice, seed};

/// Journals of sqlite, as it keeps its promises by them.
const MODES: [&str; 4] = ["delete", "truncate", "persist", "wal"];

/// How often a writer is killed in each mode, and the daemon.
const KILLS: u64 = 4;

fn database(mount: &Mounted, mode: &str) {
    sh(
        mount,
        &format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t(who, n, b);' >/dev/null"
        ),
    );
}

/// Writes for ever as `who`, a transaction after the other, and prints the number of each that is committed.
struct Writer {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Writer {
    fn start(mount: &Mounted, mode: &str, who: &str, first: u64) -> Self {
        const PROGRAM: &str = "
import itertools, os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute('pragma synchronous=full')
for n in itertools.count(int(sys.argv[3])):
    db.execute('begin immediate')
    db.execute('insert into t values(?, ?, ?)', (sys.argv[2], n, os.urandom(3000)))
    db.execute('update t set b = ? where n % 7 = ?', (os.urandom(2000), n % 7))
    db.execute('commit')
    print(n, flush=True)
";
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", PROGRAM, &format!("{mode}.db"), who])
            .arg(first.to_string())
            .current_dir(mount.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Waits for the next commit; none where it ended.
    fn next(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().ok()
    }

    /// Waits for its end. The last commit that it spoke of.
    fn rest(mut self, mut last: u64) -> u64 {
        while let Some(next) = self.next() {
            last = next;
        }
        shell::wait(self.child, "the writer");
        last
    }
}

/// The database is whole, and has all that `who` committed up to `last`. How far it goes.
#[track_caller]
fn check(mount: &Mounted, mode: &str, who: &str, last: u64) -> u64 {
    let script = format!(
        "sqlite3 -cmd '.timeout 60000' {mode}.db \"pragma integrity_check; select count(*), max(n) from t where who = '{who}'\""
    );
    let said = sh(mount, &script);
    let (is_whole, rest) = said.split_once('\n').unwrap();
    assert_eq!(is_whole, "ok", "{mode}");
    let (count, most) = rest.trim().split_once('|').unwrap();
    let count: u64 = count.parse().unwrap();
    assert_eq!(most.parse(), Ok(count), "{mode}: {who} has no gaps");
    // One more may be committed and not yet spoken of.
    assert!(
        (last..=last + 1).contains(&count),
        "{mode}: {count} of {last}"
    );
    count
}

#[test]
#[ignore = "needs sqlite3 and python3, which .ci/run installs; it runs this"]
fn sqlite_keeps_its_database_with_each_journal() {
    let (server, mount) = world(None);
    for mode in MODES {
        let script = format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t(a,b);' >/dev/null
             for n in 1 2 3 4 5 6 7 8; do sqlite3 {mode}.db \"insert into t values($n, randomblob(3000)); update t set b=randomblob(5000) where a=$n/2;\"; done
             sqlite3 {mode}.db 'pragma integrity_check; select count(*) from t; vacuum;'
             sqlite3 {mode}.db '.backup {mode}.backup'; sqlite3 {mode}.backup 'pragma integrity_check'"
        );
        assert_eq!(sh(&mount, &script), "ok\n8\nok\n");
    }
    arrives(&server, &mount);
}

#[test]
#[ignore = "needs sqlite3 and python3, which .ci/run installs; it runs this"]
fn two_who_write_to_a_database_wait_for_each_other_and_lose_nothing() {
    let (server, mount) = world(None);
    for mode in MODES {
        database(&mount, mode);
        let mut last = [0; 2];
        let mut writers = ["one", "other"].map(|who| Writer::start(&mount, mode, who, 1));
        while last.iter().any(|last| *last < 40) {
            for (writer, last) in writers.iter_mut().zip(&mut last) {
                if *last < 40 {
                    *last = writer.next().expect("it writes on");
                }
            }
        }
        let last = writers.map(|writer| {
            shell::kill(writer.child.id(), libc::SIGKILL);
            writer.rest(40)
        });
        for (who, last) in ["one", "other"].into_iter().zip(last) {
            check(&mount, mode, who, last);
        }
    }
    arrives(&server, &mount);
}

#[test]
#[ignore = "needs sqlite3 and python3, which .ci/run installs; it runs this"]
fn a_database_is_whole_and_has_all_that_was_committed_when_its_writer_is_killed() {
    let (server, mount) = world(None);
    let mut dice = dice(seed());
    for mode in MODES {
        database(&mount, mode);
        let mut last = 0;
        for _ in 0..KILLS {
            let mut writer = Writer::start(&mount, mode, "one", last + 1);
            for _ in 0..=dice(20) {
                last = writer.next().expect("it writes on");
            }
            // Not a synchronisation: the moment within a transaction is meant to be any.
            std::thread::sleep(std::time::Duration::from_micros(dice(5000)));
            shell::kill(writer.child.id(), libc::SIGKILL);
            last = writer.rest(last);
            last = check(&mount, mode, "one", last);
        }
    }
    arrives(&server, &mount);
}

/// Kills the daemon under a writer of each of `modes`.
fn daemon_is_killed(delay: &str, modes: &[&str]) {
    let server = Server::start(Options::default()).unwrap();
    let mut dice = dice(seed());
    let options = ["--upload-delay", delay];
    let mut mount = Mounted::new(&server, ROOT, &options);
    for mode in modes {
        database(&mount, mode);
        let mut last = 0;
        for _ in 0..KILLS {
            let mut writer = Writer::start(&mount, mode, "one", last + 1);
            for _ in 0..=dice(30) {
                last = writer.next().expect("it writes on");
            }
            // Not a synchronisation: the moment within a transaction is meant to be any.
            std::thread::sleep(std::time::Duration::from_micros(dice(5000)));
            shell::kill(mount.pid(), libc::SIGKILL);
            mount.wait();
            last = writer.rest(last);
            mount = mount.again(&server, ROOT, &options);
            last = check(&mount, mode, "one", last);
        }
    }
    arrives(&server, &mount);
    assert!(mount.end().success(), "{}", mount.log());
}

#[test]
#[ignore = "needs sqlite3 and python3, which .ci/run installs; it runs this"]
fn a_database_is_whole_and_has_all_that_was_committed_when_the_daemon_is_killed() {
    // Its journals are on the server, more often than not.
    daemon_is_killed("0s", &MODES);
    // None of them ever is.
    daemon_is_killed("1h", &["delete", "wal"]);
}
