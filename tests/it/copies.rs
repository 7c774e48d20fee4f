//! Copies within a mount, by copy_file_range(2) as cp(1) makes them: their bytes are those of the original at that moment,
//! and where the server can copy a large file, nothing is sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::{dice, seed};

const ROOT: &str = "cloudreve://my/";
const MIB: u64 = 1 << 20;
/// Large enough to be copied by the server, and no whole number of anything.
const SIZE: u64 = 16 * MIB + 4097;

/// A drive with a large file `a/f` and a folder `b`, whose mount delivers what somebody asks for.
fn drive(passthrough: &str) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("a/f", SIZE, 1);
    server.mkdir("b");
    let options = ["--upload-delay=1h", "--passthrough", passthrough];
    let mount = Mounted::new(&server, ROOT, &options);
    (server, mount)
}

fn copy(mount: &Mounted, how: &[&str], from: &str, to: &str) {
    let mut cp = Command::new("cp");
    shell::stdout(cp.args(how).arg(mount.path(from)).arg(mount.path(to)));
}

#[track_caller]
fn assert_has(server: &Server, path: &str, right: &[u8]) {
    let found = server.content(path);
    // Not assert_eq: megabytes of numbers help nobody.
    assert!(
        found.as_deref() == Some(right),
        "{path} has {:?} bytes, and others than it should",
        found.map(|found| found.len())
    );
}

/// Whether content was sent.
fn was_sent(server: &Server) -> bool {
    server.count(Route::UploadCreate) + server.count(Route::PutContent) > 0
}

#[test]
fn a_large_copy_is_made_by_the_server_and_nothing_is_sent() {
    for passthrough in ["off", "auto"] {
        let (server, mount) = drive(passthrough);
        copy(&mount, &[], "a/f", "b");
        let right = generated_bytes(1, 0..SIZE);
        let shown = std::fs::read(mount.path("b/f")).unwrap();
        assert!(shown == right, "before it is on the server");
        mount.sync();
        assert!(!was_sent(&server), "passthrough {passthrough}");
        assert_eq!(server.entity_id("a/f"), server.entity_id("b/f"));
        assert_ne!(server.file_id("a/f"), server.file_id("b/f"));
        assert!(std::fs::read(mount.path("b/f")).unwrap() == right, "after");
        // The copy is a file of its own.
        let file = File::options().write(true).open(mount.path("b/f")).unwrap();
        file.write_all_at(b"changed", 5).unwrap();
        drop(file);
        mount.sync();
        let mut changed = right.clone();
        changed[5..12].copy_from_slice(b"changed");
        assert_has(&server, "b/f", &changed);
        assert_has(&server, "a/f", &right);
    }
}

#[test]
fn a_copy_under_another_name_is_made_by_the_server_too_and_never_seen_elsewhere() {
    let (server, mount) = drive("auto");
    let copies = ["a/g", "b/g", "a/h.jpg", "c"];
    for path in copies {
        copy(&mount, &[], "a/f", path);
    }
    mount.sync();
    assert!(!was_sent(&server));
    for path in copies {
        assert_eq!(server.entity_id(path), server.entity_id("a/f"), "{path}");
    }
    assert_eq!(server.names("a").unwrap(), ["f", "g", "h.jpg"]);
    assert_eq!(server.names("b").unwrap(), ["g"]);
    assert_eq!(server.names("").unwrap(), ["a", "b", "c"]);
    assert_eq!(mount.status()["owed"], serde_json::json!([]));
}

#[test]
fn what_a_copy_went_through_is_removed_however_late_that_is_possible() {
    let (server, mut mount) = drive("off");
    copy(&mount, &[], "a/f", "a/g");
    server.fail(Fault::on(Route::Delete).status(502));
    mount.sync();
    let names = || server.names("a").unwrap();
    assert_eq!(names().len(), 3, "{:?}", names());
    assert!(mount.end().success());
    server.clear_faults();
    // Not before the next start, or for a long time.
    let mount = mount.again(&server, ROOT, &[]);
    wait_until("it is removed", || names() == ["f", "g"]);
    assert_eq!(mount.status()["owed"], serde_json::json!([]));
}

#[test]
fn a_copy_that_was_written_to_is_sent_as_it_is() {
    for passthrough in ["off", "auto"] {
        let (server, mount) = drive(passthrough);
        let right = generated_bytes(1, 0..SIZE);
        // By the handle that the copy was made by, with the time set back: neither size nor time tell that.
        let from = File::open(mount.path("a/f")).unwrap();
        let to = File::create(mount.path("b/f")).unwrap();
        let mut copied = 0;
        while copied < SIZE {
            copied += copy_range(&from, copied, &to, copied, SIZE).unwrap();
        }
        let modified = to.metadata().unwrap().modified().unwrap();
        to.write_all_at(b"!", SIZE - 1).unwrap();
        to.set_modified(modified).unwrap();
        drop(to);
        // By another one, later.
        copy(&mount, &[], "a/f", "b/g");
        let later = File::options().write(true).open(mount.path("b/g")).unwrap();
        later.write_all_at(b"!", 0).unwrap();
        drop(later);
        mount.sync();
        let with = |at: u64| {
            let mut bytes = right.clone();
            bytes[at as usize] = b'!';
            bytes
        };
        assert_has(&server, "b/f", &with(SIZE - 1));
        assert_has(&server, "b/g", &with(0));
        assert_has(&server, "a/f", &right);
    }
}

#[test]
fn a_copy_has_the_bytes_that_were_there_when_it_was_made() {
    let right = generated_bytes(1, 0..SIZE);
    // Changed here, before and after.
    let (server, mount) = drive("off");
    let original = File::options().write(true).open(mount.path("a/f"));
    let original = original.unwrap();
    copy(&mount, &[], "a/f", "b/f");
    original.write_all_at(b"here", 0).unwrap();
    copy(&mount, &[], "a/f", "b/g");
    mount.sync();
    assert_has(&server, "b/f", &right);
    let changed = [b"here", &right[4..]].concat();
    assert_has(&server, "b/g", &changed);
    // Changed or removed there, after.
    type Change = fn(&Server);
    let theirs: [Change; 2] = [
        |server| drop(server.put_generated("a/f", SIZE, 2)),
        |server| server.remove("a/f"),
    ];
    for change in theirs {
        let (server, mount) = drive("off");
        copy(&mount, &[], "a/f", "b/f");
        change(&server);
        mount.sync();
        assert_has(&server, "b/f", &right);
    }
}

/// Does `change` while the server is asked for a copy of `a/f` at `b/f`; gives what came of it.
fn meanwhile(change: impl FnOnce(&Server, &Mounted)) -> (Server, Mounted) {
    let (server, mount) = drive("off");
    copy(&mount, &[], "a/f", "b/f");
    let slowly = Duration::from_millis(700);
    server.fail(Fault::on(Route::Move).delay(slowly).times(1));
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| mount.sync());
        wait_until("a copy is asked for", || server.count(Route::Move) > 0);
        change(&server, &mount);
        syncing.join().unwrap();
    });
    mount.sync();
    (server, mount)
}

#[test]
fn what_becomes_of_original_or_copy_while_the_server_makes_it_is_kept() {
    let right = generated_bytes(1, 0..SIZE);
    let (server, _mount) = meanwhile(|server, _| drop(server.put_generated("a/f", SIZE, 2)));
    assert_has(&server, "b/f", &right);
    assert_eq!(server.names("b").unwrap(), ["f"]);
    let (server, _mount) = meanwhile(|server, _| server.remove("a/f"));
    assert_has(&server, "b/f", &right);
    assert_eq!(server.names("b").unwrap(), ["f"]);
    let rename = |to: &'static str| {
        move |_: &Server, mount: &Mounted| {
            std::fs::rename(mount.path("b/f"), mount.path(to)).unwrap();
        }
    };
    let (server, _mount) = meanwhile(rename("b/g"));
    assert_has(&server, "b/g", &right);
    assert_eq!(server.names("b").unwrap(), ["g"]);
    let (server, _mount) = meanwhile(rename("g"));
    assert_has(&server, "g", &right);
    assert_eq!(server.names("b").unwrap(), [""; 0]);
    let (server, _mount) = meanwhile(|_, mount| {
        std::fs::remove_file(mount.path("b/f")).unwrap();
    });
    wait_until("it is removed", || server.names("b").unwrap().is_empty());
    let (server, _mount) = meanwhile(|_, mount| {
        let file = File::options().write(true).open(mount.path("b/f"));
        file.unwrap().write_all_at(b"changed", 0).unwrap();
    });
    assert_has(&server, "b/f", &[b"changed", &right[7..]].concat());
    assert_eq!(server.names("b").unwrap(), ["f"]);
}

/// Does `change` while the server has put a copy of `a/f` to `b/f` and its answer was lost; gives what came of it.
fn unheard(change: impl FnOnce(&Mounted)) -> (Server, Mounted) {
    let (server, mount) = drive("off");
    copy(&mount, &[], "a/f", "b/f");
    // The first one copies, the second one moves.
    server.fail(
        Fault::on(Route::Move)
            .reset_before_headers()
            .after(1)
            .times(1),
    );
    std::thread::scope(|scope| {
        // What becomes of this one is not the point.
        let syncing = scope.spawn(|| {
            let mut sync = mount.home.program();
            shell::output(sync.arg("sync").arg(mount.path("")))
        });
        wait_until("the copy is there", || {
            server.names("b").unwrap().contains(&"f".to_owned())
        });
        server.fail(Fault::everywhere().status(502));
        change(&mount);
        server.clear_faults();
        syncing.join().unwrap();
    });
    server.reset_counters();
    mount.sync();
    assert_eq!(mount.status()["conflicts"], serde_json::json!([]));
    (server, mount)
}

#[test]
fn a_copy_of_which_nobody_heard_is_known_again() {
    let right = generated_bytes(1, 0..SIZE);
    let (server, _mount) = unheard(|_| ());
    assert_has(&server, "b/f", &right);
    assert_eq!(server.count(Route::Content), 0, "its version tells");
    let (server, _mount) = unheard(|mount| {
        std::fs::remove_file(mount.path("b/f")).unwrap();
    });
    // What the copy went through is removed within a minute, and not waited for.
    let has = |server: &Server, part: &str| {
        let names = server.names("b").unwrap();
        names
            .iter()
            .any(|name| name == part || name.contains("conflict"))
    };
    wait_until("it is removed", || !has(&server, "f"));
    let (server, _mount) = unheard(|mount| {
        let file = File::options().write(true).open(mount.path("b/f"));
        file.unwrap().write_all_at(b"changed", 0).unwrap();
    });
    assert_has(&server, "b/f", &[b"changed", &right[7..]].concat());
    assert!(!has(&server, "conflict"), "{:?}", server.names("b"));
}

#[test]
fn what_a_copy_goes_through_is_removed_wherever_it_is_moved() {
    let (server, mut mount) = drive("off");
    copy(&mount, &[], "a/f", "b/f");
    server.fail(Fault::on(Route::Delete).status(502));
    mount.sync();
    assert!(mount.end().success());
    assert_eq!(server.names("b").unwrap().len(), 2);
    server.rename("b", "c");
    server.clear_faults();
    let _mount = mount.again(&server, ROOT, &[]);
    wait_until("it is removed", || server.names("c").unwrap() == ["f"]);
}

#[test]
fn a_copy_with_the_time_of_its_original_keeps_it() {
    let (server, mount) = drive("auto");
    copy(&mount, &["--preserve=timestamps"], "a/f", "b/f");
    mount.sync();
    let modified = |path: &str| {
        let found = std::fs::metadata(mount.path(path)).unwrap();
        found.modified().unwrap()
    };
    assert_eq!(modified("a/f"), modified("b/f"));
    assert_has(&server, "b/f", &generated_bytes(1, 0..SIZE));
}

#[test]
fn other_versions_of_the_original_are_not_copied_with_it() {
    let (server, mount) = drive("off");
    server.set_retention(true, 0);
    server.put_generated("a/f", SIZE, 2);
    copy(&mount, &[], "a/f", "b/f");
    let used = server.used_bytes();
    mount.sync();
    assert_has(&server, "b/f", &generated_bytes(2, 0..SIZE));
    assert_eq!(server.used_bytes(), used + SIZE);
}

#[test]
fn a_copy_whose_name_was_taken_meanwhile_goes_beside_it() {
    let (server, mount) = drive("off");
    copy(&mount, &[], "a/f", "b/f");
    server.put("b/f", "theirs");
    mount.sync();
    assert_has(&server, "b/f", b"theirs");
    let names = server.names("b").unwrap();
    let beside: Vec<_> = names.iter().filter(|name| *name != "f").collect();
    assert_eq!(beside.len(), 1, "{names:?}");
    assert_has(
        &server,
        &format!("b/{}", beside[0]),
        &generated_bytes(1, 0..SIZE),
    );
}

#[test]
fn a_copy_whose_answer_is_lost_or_refused_is_there_once() {
    let right = generated_bytes(1, 0..SIZE);
    let faults = [
        (Fault::on(Route::Move).reset_before_headers(), "f"),
        (
            Fault::on(Route::Move).code(40051, "Insufficient capacity"),
            "f",
        ),
        (
            Fault::on(Route::Move).code(403, "Not supported action"),
            "f",
        ),
        (Fault::on(Route::Move).code(50001, "Database"), "f"),
        (Fault::on(Route::Info).status(502).after(1), "f"),
        (
            Fault::on(Route::Create).code(403, "Not supported action"),
            "g",
        ),
        (Fault::on(Route::Create).reset_before_headers(), "g"),
        (Fault::on(Route::Move).reset_before_headers(), "g"),
        (
            Fault::on(Route::Rename).code(403, "Not supported action"),
            "g",
        ),
        (Fault::on(Route::Rename).code(50001, "Database"), "g"),
        (Fault::on(Route::Move).reset_before_headers().after(1), "g"),
        (
            Fault::on(Route::Move).code(40073, "Lock conflict").after(1),
            "g",
        ),
    ];
    for (fault, to) in faults {
        let what = format!("{to} {fault:?}");
        let (server, mount) = drive("off");
        copy(&mount, &[], "a/f", &format!("b/{to}"));
        server.fail(fault.times(1));
        mount.sync();
        let asked = server.count(Route::Move) + server.count(Route::Create);
        assert!(asked > 0, "{what}");
        assert_has(&server, &format!("b/{to}"), &right);
        assert_eq!(server.names("b").unwrap(), [to], "{what}");
        assert_eq!(server.open_uploads(), 0, "{what}");
    }
}

/// copy_file_range(2).
fn copy_range(
    from: &File,
    from_at: u64,
    to: &File,
    to_at: u64,
    size: u64,
) -> Result<u64, rustix::io::Errno> {
    let (mut from_at, mut to_at) = (from_at, to_at);
    let size = usize::try_from(size).unwrap();
    let copied = rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), size)?;
    Ok(copied as u64)
}

/// Copies `size` bytes as programs do: until it is done or nothing comes.
fn copy_all(from: &File, from_at: u64, to: &File, to_at: u64, size: u64) -> Result<u64, i32> {
    let mut done = 0;
    while done < size {
        match copy_range(from, from_at + done, to, to_at + done, size - done) {
            Ok(0) => break,
            Ok(copied) => done += copied,
            Err(errno) => return Err(errno.raw_os_error()),
        }
    }
    Ok(done)
}

#[test]
fn ranges_are_copied_as_on_a_local_disk() {
    const TURNS: u32 = 300;
    const MOST: u64 = 300_000;
    for passthrough in ["off", "auto"] {
        let server = Server::start(Options::default()).unwrap();
        for (name, size) in [("0", 200_000), ("1", 5), ("2", 70_001)] {
            server.put_generated(name, size, size);
        }
        let mount = Mounted::new(&server, ROOT, &["--passthrough", passthrough]);
        let local = tempfile::tempdir().unwrap();
        for name in ["0", "1", "2"] {
            // Not copied: this is what copies are held against.
            let bytes = std::fs::read(mount.path(name)).unwrap();
            std::fs::write(local.path().join(name), bytes).unwrap();
        }
        let mut dice = dice(seed());
        for turn in 0..TURNS {
            let names = [dice(4), dice(4)].map(|number| number.to_string());
            let (from_at, to_at, size) = (dice(MOST), dice(MOST), dice(MOST / 2) + 1);
            let run = |root: &Path| -> Result<u64, i32> {
                let error = |error: std::io::Error| error.raw_os_error().unwrap();
                let from = File::open(root.join(&names[0])).map_err(error)?;
                let mut options = File::options();
                let to = options.write(true).create(true).truncate(false);
                let to = to.open(root.join(&names[1])).map_err(error)?;
                copy_all(&from, from_at, &to, to_at, size)
            };
            let (ours, theirs) = (run(&mount.path("")), run(local.path()));
            let what = format!("turn {turn}: {names:?} {from_at} {to_at} {size}");
            assert_eq!(ours, theirs, "{what}");
            for name in &names {
                let ours = std::fs::read(mount.path(name));
                let theirs = std::fs::read(local.path().join(name));
                assert!(ours.ok() == theirs.ok(), "{what}: {name} differs");
            }
        }
        mount.sync();
        for entry in std::fs::read_dir(local.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_has(&server, &name, &std::fs::read(entry.path()).unwrap());
        }
    }
}
