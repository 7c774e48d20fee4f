//! What is owed to the server: shown, waited for, delivered before the end, kept for the next mount.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Options, Route, Server};
use serde_json::Value;

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

/// Long enough that nothing is uploaded by itself while a test looks.
const LATER: [&str; 2] = ["--upload-delay", "1h"];

/// As long, and then so slowly that a file of 8 MiB takes two minutes.
const SLOWLY: [&str; 4] = ["--upload-delay", "1h", "--limit-up", "64K"];

fn server() -> Server {
    Server::start(Options::default()).unwrap()
}

fn mounted(server: &Server, options: &[&str]) -> Mounted {
    Mounted::new(server, "cloudreve://my/", options)
}

/// How a command ended, and what it said on both ways.
fn run(mount: &Mounted, args: &[&str], path: Option<&Path>) -> (Option<i32>, String, String) {
    let mut command = mount.home.program();
    command.args(args).args(path);
    let output = shell::output(&mut command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// What `why --json` says of a path.
fn why(mount: &Mounted, path: &str) -> Value {
    let (code, out, err) = run(mount, &["why", "--json"], Some(&mount.path(path)));
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).expect("it is JSON")
}

#[test]
fn status_lists_each_owed_file_until_it_is_on_the_server() {
    let server = server();
    let mount = mounted(&server, &LATER);
    let idle = mount.status();
    assert_eq!(
        (&idle["read_only"], &idle["owed"]),
        (&false.into(), &Value::Array(vec![]))
    );
    std::fs::write(mount.path("a.txt"), b"four").unwrap();
    let status = mount.status();
    let file = &status["owed_files"][0];
    let path = mount.path("a.txt");
    assert_eq!(file["path"].as_str(), path.to_str());
    assert_eq!(status["owed"][0].as_str(), path.to_str());
    assert_eq!(
        (&file["state"], &file["size_bytes"], &file["tries"]),
        (&"waiting".into(), &4.into(), &0.into()),
        "{status}"
    );
    assert!(file["owed_since"].is_string() && file["next_try"].is_string());
    assert_eq!(
        (&status["owed_sum"]["files"], &status["owed_sum"]["bytes"]),
        (&1.into(), &4.into())
    );
    let text = mount.command(&["status"]);
    assert!(text.contains("1 file, 4 B"), "{text}");
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "1 file was owed, and is on the server.\n"),
        "{err}"
    );
    assert_eq!(server.content("a.txt").unwrap(), b"four");
    assert_eq!(mount.status()["owed_sum"]["files"], 0);
}

/// A program that has written `begun` to a file and holds it open until its standard input ends. A copy of a handle that
/// is closed counts as a close, so it is a program that makes none.
fn writer(path: &Path) -> Child {
    let mut command = Command::new("tee");
    command
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"begun").unwrap();
    wait_until("it is written", || {
        std::fs::metadata(path).is_ok_and(|file| file.len() == 5)
    });
    child
}

#[test]
fn a_file_that_is_still_open_is_shown_and_not_waited_for() {
    let server = server();
    let mount = mounted(&server, &LATER);
    let mut writer = writer(&mount.path("open.txt"));
    let status = mount.status();
    assert_eq!(status["owed_files"][0]["state"], "open", "{status}");
    assert_eq!(
        (&status["owed_sum"]["open"], &status["owed_sum"]["files"]),
        (&1.into(), &0.into())
    );
    assert_eq!(why(&mount, "open.txt")["state"], "open");
    let (code, out, _) = run(&mount, &["sync"], None);
    assert_eq!((code, out.as_str()), (Some(0), "Nothing is owed.\n"));
    drop(writer.stdin.take());
    shell::wait(writer, "the writer");
    let (code, ..) = run(&mount, &["sync"], Some(&mount.path("open.txt")));
    assert_eq!(code, Some(0));
    assert_eq!(server.content("open.txt").unwrap(), b"begun");
}

#[test]
fn sync_of_a_path_waits_for_what_lies_below_it_and_for_nothing_else() {
    let server = server();
    server.mkdir("a");
    server.mkdir("b");
    let mount = mounted(&server, &LATER);
    std::fs::write(mount.path("a/x"), b"x").unwrap();
    std::fs::write(mount.path("b/y"), b"y").unwrap();
    let (code, _, err) = run(&mount, &["sync"], Some(&mount.path("a")));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.content("a/x").unwrap(), b"x");
    assert_eq!(server.content("b/y"), None);
    let (code, _, err) = run(&mount, &["sync"], Some(Path::new("/")));
    assert_eq!(code, Some(1));
    assert!(err.contains("on no mount"), "{err}");
}

#[test]
fn sync_waits_no_longer_for_a_file_that_is_saved_again_meanwhile() {
    let server = server();
    let mount = mounted(&server, &["--upload-delay=1h"]);
    std::fs::write(mount.path("a"), "first").unwrap();
    server.fail(Fault::on(Route::UploadCreate).delay(Duration::from_millis(500)));
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| mount.sync());
        wait_until("it is on its way", || server.count(Route::UploadCreate) > 0);
        std::fs::write(mount.path("a"), "second").unwrap();
        syncing.join().unwrap();
    });
    assert_eq!(server.content("a").unwrap(), b"second");
    // Also where it is saved while it waits for another try.
    std::fs::write(mount.path("a"), "third").unwrap();
    server.clear_faults();
    server.reset_counters();
    server.fail(Fault::on(Route::UploadCreate).status(502));
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| mount.sync());
        wait_until("it was tried", || server.count(Route::UploadCreate) > 0);
        std::fs::write(mount.path("a"), "fourth").unwrap();
        server.clear_faults();
        syncing.join().unwrap();
    });
    assert_eq!(server.content("a").unwrap(), b"fourth");
}

#[test]
fn what_cannot_be_delivered_is_named_with_its_reason_and_does_not_stop_the_others() {
    let server = server();
    let mount = mounted(&server, &LATER);
    server.set_quota(server.used_bytes() + 1000);
    std::fs::write(mount.path("large"), vec![1; 100_000]).unwrap();
    std::fs::write(mount.path("small"), b"fits").unwrap();
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(1), "{out}{err}");
    let large = mount.path("large").display().to_string();
    assert!(
        out.starts_with(&format!("{large}: ")) && out.contains("full"),
        "{out}"
    );
    assert!(
        err.contains(&large) && err.trim_end().lines().count() == 1,
        "{err}"
    );
    assert_eq!(server.content("small").unwrap(), b"fits");
    let status = mount.status();
    let file = &status["owed_files"][0];
    assert_eq!(
        (&file["state"], &status["owed_sum"]["blocked"]),
        (&"blocked".into(), &1.into()),
        "{status}"
    );
    assert!(
        file["last_reason"].as_str().unwrap().contains("full"),
        "{file}"
    );
    let next = status["next_steps"][0].as_str().unwrap();
    assert!(next.starts_with(&large), "{next}");
    let told = why(&mount, "large");
    assert_eq!(told["state"], "owed", "{told}");
    assert!(
        told["next"].as_str().unwrap().contains("stays here"),
        "{told}"
    );
    server.set_quota(1 << 40);
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(server.content("large").unwrap().len(), 100_000);
}

#[test]
fn umount_delivers_what_is_owed() {
    let server = server();
    let mut mount = mounted(&server, &LATER);
    for n in 0..20 {
        std::fs::write(mount.path(format!("{n}")), n.to_string()).unwrap();
    }
    let (code, out, err) = run(&mount, &["umount"], Some(&mount.path("")));
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("Unmounted") && out.lines().count() == 1,
        "{out}"
    );
    assert!(mount.wait().success());
    for n in 0..20 {
        assert_eq!(
            server.content(&n.to_string()).unwrap(),
            n.to_string().as_bytes()
        );
    }
    assert_eq!(
        (server.hung_up_before_headers(), server.open_uploads()),
        (0, 0)
    );
}

#[test]
fn sigterm_delivers_what_is_owed() {
    let server = server();
    let mut mount = mounted(&server, &LATER);
    std::fs::write(mount.path("a"), b"a").unwrap();
    assert!(mount.end().success());
    assert_eq!(server.content("a").unwrap(), b"a");
}

#[test]
fn what_a_program_holds_open_at_the_end_is_delivered_as_it_is() {
    let server = server();
    let mut mount = mounted(&server, &LATER);
    let mut writer = writer(&mount.path("open.txt"));
    let (code, out, err) = run(
        &mount,
        &["umount", "--timeout", "3s"],
        Some(&mount.path("")),
    );
    assert_eq!(code, Some(0), "{err}");
    assert!(mount.wait().success());
    let delivered = server.content("open.txt");
    match out.contains("still owed") {
        // All of the time went by waiting for the program.
        true => assert_eq!(delivered, None, "{out}"),
        false => assert_eq!(delivered.unwrap(), b"begun"),
    }
    drop(writer.stdin.take());
    writer.wait().unwrap();
    let mount = mount.again(&server, "cloudreve://my/", &[]);
    let (code, _, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.content("open.txt").unwrap(), b"begun");
}

#[test]
fn what_stays_owed_is_named_and_delivered_by_the_next_mount() {
    let server = server();
    server.mkdir("folder");
    let mut mount = mounted(&server, &LATER);
    std::fs::write(mount.path("folder/a.txt"), b"kept").unwrap();
    let began = Instant::now();
    let (code, out, err) = run(&mount, &["umount", "--force"], Some(&mount.path("")));
    assert_eq!(code, Some(0), "{err}");
    assert!(began.elapsed() < Duration::from_secs(30));
    let file = mount.path("folder/a.txt").display().to_string();
    assert!(
        out.contains(&format!(
            "still owed to the server, delivered at the next mount: {file}"
        )),
        "{out}"
    );
    assert!(mount.wait().success());
    assert_eq!(server.content("folder/a.txt"), None);
    let mount = mount.again(&server, "cloudreve://my/", &LATER);
    assert_eq!(std::fs::read(mount.path("folder/a.txt")).unwrap(), b"kept");
    let (code, _, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.content("folder/a.txt").unwrap(), b"kept");
}

#[test]
fn umount_waits_no_longer_than_it_was_told_and_a_second_one_with_force_ends_the_wait() {
    let server = server();
    let mut mount = mounted(&server, &SLOWLY);
    std::fs::write(mount.path("large"), vec![7; 8 << 20]).unwrap();
    let umount = |args: &[&str]| {
        let mut command = mount.home.program();
        command.arg("umount").args(args).arg(mount.path(""));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let first = umount(&["--timeout", "10m"]);
    wait_until("the directory is free", || !mount.path("large").exists());
    wait_until("the status says that it ends", || {
        mount.status()["ending"] == true
    });
    assert_eq!(mount.status()["owed_sum"]["files"], 1);
    let began = Instant::now();
    let forced = umount(&["--force"]);
    for (umount, what) in [(forced, "forced"), (first, "first")] {
        let output = shell::wait_with_output(umount, what);
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && out.contains("still owed"),
            "{what}: {output:?}"
        );
    }
    assert!(mount.wait().success());
    assert!(began.elapsed() < Duration::from_secs(90));
    assert_eq!(server.hung_up_before_headers(), 0);
}

#[test]
fn a_new_mount_takes_over_from_one_that_still_delivers() {
    let server = server();
    let mut mount = mounted(&server, &SLOWLY);
    std::fs::write(mount.path("large"), vec![7; 8 << 20]).unwrap();
    shell::stdout(Command::new("umount").arg(mount.path("")));
    let user = server.user();
    let mut next = mount.home.program();
    next.args(["mount", "--background", "cloudreve://my/"])
        .arg(mount.path(""))
        .args(["--address", &server.address(), "--username", &user.email])
        .env("CLOUDREVE_PASSWORD", &user.password);
    shell::stdout(&mut next);
    assert!(mount.wait().success(), "{}", mount.log());
    assert_eq!(
        std::fs::read(mount.path("large")).unwrap(),
        vec![7; 8 << 20]
    );
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(server.content("large").unwrap(), vec![7; 8 << 20]);
    shell::stdout(mount.home.program().arg("umount").arg(mount.path("")));
}

#[test]
fn progress_is_told_in_lines_where_there_is_no_terminal() {
    let server = server();
    let options = [LATER.as_slice(), &["--limit-up", "512K"]].concat();
    let mount = mounted(&server, &options);
    std::fs::write(mount.path("a"), vec![1; 3 << 20]).unwrap();
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.starts_with("0 of 1 files, "), "{err}");
    assert!(!err.contains(['\r', '\x1b']), "{err}");
}

#[test]
fn why_tells_of_a_file_on_the_server_of_a_changed_one_and_of_none() {
    let server = server();
    server.put("old.txt", b"old".to_vec());
    server.mkdir("folder");
    let mount = mounted(&server, &LATER);
    let clean = why(&mount, "old.txt");
    assert_eq!(
        (&clean["state"], &clean["kind"], &clean["size_bytes"]),
        (&"on_server".into(), &"file".into(), &3.into()),
        "{clean}"
    );
    let entity = server.entity_id("old.txt");
    assert_eq!(
        (clean["file_id"].as_str(), clean["entity"].as_str()),
        (
            Some(server.file_id("old.txt").as_str()),
            Some(entity.as_str())
        )
    );
    std::fs::write(mount.path("old.txt"), b"newer").unwrap();
    let changed = why(&mount, "old.txt");
    assert_eq!(
        (&changed["state"], &changed["size_bytes"]),
        (&"owed".into(), &5.into()),
        "{changed}"
    );
    assert_eq!(
        changed["owed"]["base_entity"].as_str(),
        Some(entity.as_str())
    );
    let folder = why(&mount, "folder");
    assert_eq!(folder["kind"], "folder", "{folder}");
    let root = why(&mount, "");
    assert!(
        root["next"].as_str().unwrap().starts_with("1 file below"),
        "{root}"
    );
    let (code, _, err) = run(&mount, &["why"], Some(&mount.path("absent")));
    assert_eq!(code, Some(1));
    assert!(err.contains("no such file"), "{err}");
    let (_, text, _) = run(&mount, &["why"], Some(&mount.path("old.txt")));
    assert!(text.contains("here, owed to the server"), "{text}");
}

#[test]
fn who_waits_hears_of_the_end_and_what_is_missing_then() {
    let server = server();
    let mut mount = mounted(&server, &SLOWLY);
    std::fs::write(mount.path("large"), vec![7; 8 << 20]).unwrap();
    let mut sync = mount.home.program();
    sync.arg("sync")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let sync = sync.spawn().unwrap();
    wait_until("it is being sent", || {
        mount.status()["owed_files"][0]["state"] == "uploading"
    });
    let (code, _, err) = run(&mount, &["umount", "--force"], Some(&mount.path("")));
    assert_eq!(code, Some(0), "{err}");
    let output = shell::wait_with_output(sync, "sync");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("not on the server: ") && err.contains("/mnt/large"),
        "{err}"
    );
    assert!(mount.wait().success());
}

#[test]
fn a_killed_daemon_is_no_success_of_sync_and_the_next_mount_delivers() {
    let server = server();
    let mut mount = mounted(&server, &LATER);
    std::fs::write(mount.path("a"), b"kept").unwrap();
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("died") && err.contains("mounted again"),
        "{err}"
    );
    let mount = mount.again(&server, "cloudreve://my/", &LATER);
    let (code, _, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.content("a").unwrap(), b"kept");
}

#[test]
fn what_was_deleted_is_deleted_on_the_server_after_a_sync_and_after_an_end_in_a_hurry() {
    let server = server();
    for folder in ["a", "b"] {
        server.add_many(folder, 200);
    }
    let mut mount = mounted(&server, &LATER);
    let remove_all_in = |folder: &str| {
        for entry in std::fs::read_dir(mount.path(folder)).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    remove_all_in("a");
    let (code, _, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.names("a").unwrap(), [""; 0]);
    remove_all_in("b");
    let (code, _, err) = run(&mount, &["umount", "--force"], Some(&mount.path("")));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(server.names("b").unwrap(), [""; 0]);
    assert!(mount.wait().success());
}

#[test]
fn a_conflict_is_shown_by_status_and_by_sync() {
    let server = server();
    server.put("a.txt", b"base".to_vec());
    let mount = mounted(&server, &LATER);
    assert_eq!(std::fs::read(mount.path("a.txt")).unwrap(), b"base");
    std::fs::write(mount.path("a.txt"), b"ours").unwrap();
    server.put("a.txt", b"theirs".to_vec());
    let (code, _, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("kept beside it") && err.contains("(conflict "),
        "{err}"
    );
    let status = mount.status();
    let told = status["conflicts"][0].as_str().unwrap();
    assert!(told.contains("a (conflict "), "{told}");
    assert_eq!(server.content("a.txt").unwrap(), b"theirs");
    let names = server.names("").unwrap();
    let copy = names
        .iter()
        .find(|name| name.contains("(conflict "))
        .unwrap();
    assert_eq!(server.content(copy).unwrap(), b"ours");
}

#[test]
fn a_read_only_mount_says_why_and_owes_nothing() {
    let server = server();
    let mount = mounted(&server, &["--read-only"]);
    let status = mount.status();
    assert_eq!(status["read_only"], true);
    assert_eq!(status["read_only_reason"], "it was asked for");
    let (code, out, _) = run(&mount, &["sync"], None);
    assert_eq!((code, out.as_str()), (Some(0), "Nothing is owed.\n"));
    assert_eq!(why(&mount, "")["state"], "on_server");
}

#[test]
fn what_stays_here_by_its_name_is_kept_shown_and_never_sent() {
    let server = server();
    server.put("a/letter.odt", "theirs");
    let patterns = ["--local-only", "*.swp,.~lock.*#,*~", "--upload-delay", "0s"];
    let mut mount = mounted(&server, &patterns);
    std::fs::write(mount.path("a/.letter.swp"), b"mine").unwrap();
    std::fs::write(mount.path("a/letter.txt"), b"sent").unwrap();
    let (code, out, err) = run(&mount, &["sync"], None);
    assert_eq!(code, Some(0), "{out}{err}");
    let state = |mount: &Mounted, path: &str| why(mount, path)["state"].clone();
    assert_eq!(state(&mount, "a/.letter.swp"), "local_only");
    assert_eq!(state(&mount, "a/letter.txt"), "on_server");
    // What the server has is copied to such a name, and only then goes to the trash there.
    let moved = Command::new("mv")
        .args(["-T", "--"])
        .arg(mount.path("a/letter.odt"))
        .arg(mount.path("a/letter.odt~"))
        .status();
    assert!(moved.unwrap().success());
    shell::kill(mount.pid(), libc::SIGKILL);
    mount.wait();
    let mut mount = mount.again(&server, "cloudreve://my/", &patterns);
    let status = mount.status();
    assert_eq!(status["local_only"]["files"], 2, "{status}");
    assert_eq!(status["owed_sum"]["files"], 0, "{status}");
    let text = mount.command(&["status"]);
    assert!(
        text.contains("2 files, 10 B, on this machine alone"),
        "{text}"
    );
    let read = |path: &str| std::fs::read(mount.path(path)).unwrap();
    assert_eq!(read("a/.letter.swp"), b"mine");
    assert_eq!(read("a/letter.odt~"), b"theirs");
    assert_eq!(server.names("a").unwrap(), ["letter.txt"]);
    // With the folder all of it goes, without a word to the server of what was here.
    std::fs::remove_dir_all(mount.path("a")).unwrap();
    mount.sync();
    assert!(server.names("").unwrap().is_empty());
    assert_eq!(mount.status()["local_only"]["files"], 0);
    assert!(mount.end().success());
}

#[test]
fn a_pattern_that_is_a_path_is_refused_and_says_why() {
    let server = server();
    let home = crate::support::mounted::Home::new();
    let mut command = home.program();
    command
        .args(["mount", "cloudreve://my/"])
        .arg(home.path("mnt"))
        .args(["--address", &server.address(), "--local-only", "build/*"]);
    let output = shell::output(&mut command);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("a pattern is one name"), "{err}");
}
