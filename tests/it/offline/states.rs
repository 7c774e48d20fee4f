//! What may go wrong with server, account and share while a drive is mounted: `status` says each, and what to do.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, ShareOptions, Wedge};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

/// Longer than any access token lives.
const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 3600);

fn drive() -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    let mount = mounted(&server, "cloudreve://my/");
    (server, mount)
}

fn mounted(server: &Server, uri: &str) -> Mounted {
    let options = ["--metadata-ttl", "10ms", "--timeout", "1s"];
    Mounted::new(server, uri, &options)
}

/// Somebody looks at the drive, until the status has `field` as `word`; it says what to do, in a step with `step` in it.
#[track_caller]
fn tells(mount: &Mounted, field: &str, word: &str, step: &str) -> serde_json::Value {
    shell::wait_until(&format!("{field} is {word}"), || {
        // What comes of it is another matter.
        let _ = std::fs::read_dir(mount.path(""));
        mount.status().pointer(field).is_some_and(|is| is == word)
    });
    let status = mount.status();
    let steps = status["next_steps"].as_array().unwrap();
    let says = |is: &serde_json::Value| is.as_str().is_some_and(|is| is.contains(step));
    assert!(steps.iter().any(says), "{step}: {status}");
    let text = mount.command(&["status"]);
    assert!(text.contains(step), "{text}");
    status
}

#[track_caller]
fn is_well(mount: &Mounted, field: &str, word: &str) {
    shell::wait_until(&format!("{field} is {word} again"), || {
        let looked = std::fs::read_dir(mount.path(""));
        looked.is_ok() && mount.status().pointer(field).is_some_and(|is| is == word)
    });
}

#[test]
fn a_drive_in_good_order_is_online_and_has_nothing_to_say() {
    let (_server, mount) = drive();
    let status = mount.status();
    assert_eq!(status["server"]["state"], "online");
    assert_eq!(status["server"]["since"], serde_json::Value::Null);
    assert_eq!(status["account"]["state"], "signed_in");
    assert_eq!(status["next_steps"], serde_json::json!([]));
}

#[test]
fn a_server_that_is_gone_is_offline_since_a_moment() {
    let (server, mount) = drive();
    server.stop();
    let status = tells(&mount, "/server/state", "offline", "check the network");
    let since = status["server"]["since"].as_str().unwrap();
    let text = mount.command(&["status"]);
    assert!(text.contains(&format!("offline since {since}")), "{text}");
}

#[test]
fn a_server_in_trouble_is_degraded() {
    let (server, mount) = drive();
    server.set_wedge(Wedge::Reads);
    let status = tells(&mount, "/server/state", "degraded", "has to restart it");
    assert!(status["server"]["since"].is_string(), "{status}");
    assert_eq!(status["account"]["state"], "signed_in");
    server.set_wedge(Wedge::None);
    shell::wait_until("the trouble is over", || {
        let looked = std::fs::read_dir(mount.path(""));
        looked.is_ok() && mount.status()["server"]["since"].is_null()
    });
}

#[test]
fn a_slow_server_is_degraded() {
    let server = Server::start(Options::default()).unwrap();
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "10ms"]);
    server.set_latency(Duration::from_secs(5));
    tells(&mount, "/server/state", "degraded", "s for small answers");
}

#[test]
fn a_server_whose_events_do_not_come_through_is_degraded() {
    let (server, mount) = drive();
    server.fail(Fault::on(Route::Events).status(502));
    server.cut_events();
    tells(&mount, "/server/state", "degraded", "stream of events");
}

#[test]
fn who_signed_in_with_a_password_is_signed_out_when_it_was_changed() {
    let (server, mount) = drive();
    server.set_password(&server.user().email, "another-password-1");
    server.advance_clock(TOKEN_LIFETIME);
    let step = format!("cloudreve-fuse login {}", server.address());
    tells(&mount, "/account/state", "signed_out", &step);
}

#[test]
fn a_stored_account_is_signed_out_when_its_tokens_are_revoked_and_in_again_by_a_new_login() {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    let user = server.user();
    let login = |home: &Home, password: &str| {
        let mut command = home.program();
        command.args(["login", &server.address(), "--username", &user.email]);
        command.args(["--password-stdin", "--profile", "home"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{password}").unwrap();
        drop(input);
        let output = shell::wait_with_output(child, "login");
        assert!(output.status.success(), "{output:?}");
    };
    let home = Home::new();
    login(&home, &user.password);
    let mount = Mounted::stored(home, "cloudreve://my/");
    let new = "another-password-1";
    server.set_password(&user.email, new);
    server.advance_clock(TOKEN_LIFETIME);
    tells(&mount, "/account/state", "signed_out", "--profile home");
    login(&mount.home, new);
    is_well(&mount, "/account/state", "signed_in");
}

#[test]
fn a_banned_account_is_told_from_a_server_in_trouble() {
    let (server, mount) = drive();
    let email = server.user().email;
    server.ban_user(&email, true);
    tells(
        &mount,
        "/account/state",
        "refused",
        "ask the server's administrator",
    );
    server.ban_user(&email, false);
    is_well(&mount, "/account/state", "signed_in");
}

#[test]
fn a_share_that_was_revoked_is_told() {
    let server = Server::start(Options::default()).unwrap();
    server.put("docs/file.txt", b"content".to_vec());
    let id = server.share("docs", ShareOptions::default());
    let mount = mounted(&server, &format!("cloudreve://{id}@share/"));
    assert_eq!(
        std::fs::read(mount.path("file.txt")).unwrap(),
        b"content".to_vec()
    );
    assert_eq!(mount.status()["share"], "there");
    server.unshare(&id);
    tells(&mount, "/share", "gone", "new link");
}

#[test]
fn an_account_whose_storage_is_used_up_is_told_and_what_is_written_waits() {
    let (server, mount) = drive();
    server.set_quota(server.used_bytes());
    std::fs::write(mount.path("new"), b"more than there is room for").unwrap();
    shell::wait_until("it cannot be delivered", || {
        mount.status()["owed_files"][0]["state"] == "blocked"
    });
    let status = mount.status();
    let steps = status["next_steps"].as_array().unwrap();
    let says = |word: &str| {
        let mut steps = steps.iter().filter_map(serde_json::Value::as_str);
        steps.any(|step| step.contains(word))
    };
    assert!(says("storage is used up") && says("new waits"), "{status}");
    server.set_quota(1 << 30);
    mount.sync();
    assert!(server.content("new").is_some());
}
