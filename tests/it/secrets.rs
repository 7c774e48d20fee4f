//! Secrets stay where they belong: not in argv, children, logs, status, or error texts.
//!
//! Each secret of a run is known to the test: password, tokens the server issued, a share's password, signatures of
//! URLs. A long and talkative life of the program is recorded in full, and none of them may be in it.

use std::process::Command;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, ShareOptions};

use crate::support::mounted::Mounted;
use crate::support::{shell, xattr};

const SHARE_PASSWORD: &str = "sharesecret42";

/// A signature that the server's own words repeat, as those of Go's HTTP client do where a node cannot be reached.
const NODE_SIGNATURE: &str = "nodesignature43";

#[track_caller]
fn assert_hidden(text: &str, secrets: &[String], place: &str) {
    for secret in secrets {
        assert!(!secret.is_empty(), "an empty secret proves nothing");
        if let Some(at) = text.find(secret.as_str()) {
            let from = text[..at]
                .char_indices()
                .rev()
                .nth(60)
                .map_or(0, |(i, _)| i);
            panic!("a secret is in {place}, after: {}", &text[from..at]);
        }
    }
}

/// What the kernel shows of a process to others: its command line.
fn command_lines_of(pid: u32) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1))
            .map(str::to_owned);
        if process == pid || parent == Some(pid.to_string()) {
            text += &String::from_utf8_lossy(
                &std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default(),
            );
            if process != pid {
                let environment =
                    std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
                text += &String::from_utf8_lossy(&environment);
            }
        }
    }
    text
}

#[test]
fn no_secret_is_in_argv_children_logs_status_or_errors() {
    let server = Server::start(Options::default()).unwrap();
    server.put("docs/a.txt", b"some content".to_vec());
    server.put("docs/b.txt", b"more content".to_vec());
    let share = server.share(
        "docs",
        ShareOptions {
            password: Some(SHARE_PASSWORD.to_owned()),
            ..Default::default()
        },
    );
    let uri = format!("cloudreve://{share}:{SHARE_PASSWORD}@share/");
    let mut mount = Mounted::with(&server, &uri, &[], |command| {
        command.env("RUST_LOG", "trace");
    });

    // A life with reading, refreshing, redirects into errors, and a death.
    assert_eq!(std::fs::read(mount.path("a.txt")).unwrap(), b"some content");
    server.advance_clock(Duration::from_secs(2 * 3600));
    server.fail(Fault::on(Route::Content).status(500).times(2));
    let said = format!("Get \"http://node/f?sign={NODE_SIGNATURE}\": refused");
    server.fail(Fault::on(Route::Content).code(50001, &said).times(1));
    assert_eq!(std::fs::read(mount.path("b.txt")).unwrap(), b"more content");
    server.fail(Fault::on(Route::List).html_page().times(1000));
    server.fail(Fault::on(Route::Info).reset_before_headers().times(1000));
    let nothing = std::fs::metadata(mount.path("absent.txt"));
    assert!(nothing.is_err());
    let uri = xattr::get(&mount.path("a.txt"), "user.cloudreve.uri").unwrap();
    let uri = String::from_utf8(uri).unwrap();
    let shown = command_lines_of(mount.pid());
    let status = mount.command(&["status"]) + &mount.command(&["status", "--json"]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mount.end();

    let mut secrets = server.secrets_issued();
    secrets.push(server.user().password);
    secrets.push(SHARE_PASSWORD.to_owned());
    secrets.push(NODE_SIGNATURE.to_owned());
    assert!(
        secrets.len() >= 5,
        "the server issued tokens and signatures: {}",
        secrets.len()
    );
    let log = mount.log();
    assert!(
        log.contains("http://node/f"),
        "the server's words are told, but for their secrets"
    );
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is talkative: {log}"
    );
    assert_hidden(&log, &secrets, "the log");
    assert_hidden(&shown, &secrets, "a command line or a child's environment");
    assert_hidden(&status, &secrets, "status");
    assert_hidden(&uri, &secrets, "an attribute");
    assert_hidden(&mounts, &secrets, "mountinfo");
}

#[test]
fn no_signature_of_urls_asked_for_ahead_or_of_thumbnails_is_in_the_log_or_on_disk() {
    let server = Server::start(Options::default()).unwrap();
    let names: Vec<_> = (0..40).map(|number| format!("d/{number:02}.jpg")).collect();
    for name in &names {
        server.put_generated(name, 5000, 1);
        server.set_thumbnail(name, b"no picture".to_vec());
    }
    let options = ["--thumbnails", "--cache-size", "1G"];
    let mut mount = Mounted::with(&server, "cloudreve://my/", &options, |command| {
        command.env("RUST_LOG", "trace");
    });
    shell::stdout(Command::new("ls").arg(mount.path("d")));
    for name in &names {
        std::fs::read(mount.path(name)).unwrap();
    }
    shell::wait_until("thumbnails were asked for", || {
        server.count(Route::Thumb) == names.len() as u64
    });
    assert!(server.count(Route::Url) < 20, "URLs came many at a time");
    assert!(mount.end().success());
    let secrets = server.secrets_issued();
    assert!(secrets.len() > names.len(), "{}", secrets.len());
    assert_hidden(&mount.log(), &secrets, "the log");
    let mut folders = vec![mount.home.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.symlink_metadata().unwrap().file_type() {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => {
                    let text = std::fs::read(&path).unwrap();
                    let place = path.display().to_string();
                    assert_hidden(&String::from_utf8_lossy(&text), &secrets, &place);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_error_text_does_not_repeat_the_secret_it_is_about() {
    let server = Server::start(Options::default()).unwrap();
    server.mkdir("docs");
    let share = server.share(
        "docs",
        ShareOptions {
            password: Some(SHARE_PASSWORD.to_owned()),
            ..Default::default()
        },
    );
    let wrong = "wrongsecret17";
    for (uri, password) in [
        ("cloudreve://my/".to_owned(), wrong),
        (format!("cloudreve://{share}:{wrong}@share/"), ""),
        (format!("{}/s/{share}/{wrong}", server.address()), ""),
    ] {
        let home = crate::support::mounted::Home::new();
        let mut command: Command = home.program();
        command
            .args(["mount", &uri])
            .arg(home.path("mnt"))
            .args(["--address", &server.address()]);
        match password {
            "" => command.args(["--auth", "anonymous"]),
            password => command
                .args(["--username", &server.user().email])
                .env("CLOUDREVE_PASSWORD", password),
        };
        let output = shell::output(&mut command);
        assert!(!output.status.success(), "{uri} was mounted");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_hidden(&text, &[wrong.to_owned()], "an error text");
    }
}
