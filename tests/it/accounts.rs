//! Signing in, in every way a user can, and what is left on disk of it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

/// Runs `command` with `input` on its standard input.
fn with_input(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes())
        .expect("it reads what it asked for");
    shell::wait_with_output(child, "a command with input")
}

#[track_caller]
fn success(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned() + &said
}

fn login(server: &Server, home: &Home, options: &[&str]) -> Command {
    let mut command = home.program();
    command.args(["login", &server.address()]).args(options);
    command
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    server
}

#[test]
fn a_stored_account_mounts_without_being_named_and_outlives_its_tokens() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let command = login(
        &server,
        &home,
        &["--username", &user.email, "--password-stdin"],
    );
    success(with_input(command, &format!("{}\n", user.password)));

    let files: Vec<_> = std::fs::read_dir(home.path("config/accounts"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let stored: Vec<_> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    assert_eq!(stored.len(), 1, "{files:?}");
    assert_eq!(
        std::fs::metadata(stored[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        !std::fs::read_to_string(stored[0])
            .unwrap()
            .contains(&user.password),
        "the password is not kept"
    );

    let listed = shell::stdout(home.program().arg("profiles"));
    assert!(
        listed.contains(&user.email) && listed.contains(&server.address()),
        "{listed}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&shell::stdout(home.program().args(["profiles", "--json"]))).unwrap();
    assert_eq!(json[0]["user"], *user.email);

    // Nothing is believed, so that each look asks the server.
    let mut mount = Mounted::bare(home, "cloudreve://my/", &["--metadata-ttl", "0s"], |_| {});
    assert_eq!(std::fs::read(mount.path("file.txt")).unwrap(), b"content");
    let status: serde_json::Value =
        serde_json::from_str(&mount.command(&["status", "--json"])).unwrap();
    assert_eq!(status[0]["account"]["user"], *user.email);
    assert_eq!(
        status[0]["mount_point"],
        *mount.path("").to_str().unwrap().trim_end_matches('/')
    );
    // The access token expires while mounted; the pair that replaces it is on disk before it is used.
    let before = std::fs::read_to_string(stored[0]).unwrap();
    server.advance_clock(Duration::from_secs(2 * 3600));
    assert_eq!(std::fs::read_dir(mount.path("")).unwrap().count(), 1);
    std::fs::metadata(mount.path("absent")).unwrap_err();
    assert!(mount.end().success());
    assert_ne!(
        std::fs::read_to_string(stored[0]).unwrap(),
        before,
        "the new pair is stored"
    );
    let again = mount.again_stored("cloudreve://my/");
    assert_eq!(std::fs::read(again.path("file.txt")).unwrap(), b"content");
}

#[test]
fn two_factors_refresh_tokens_and_wrong_passwords() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let wrong = with_input(
        login(
            &server,
            &home,
            &["--username", &user.email, "--password-stdin"],
        ),
        "wrong-one\n",
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("password"),
        "{wrong:?}"
    );
    assert!(
        !home.path("config/accounts").exists()
            || std::fs::read_dir(home.path("config/accounts"))
                .unwrap()
                .count()
                == 0
    );

    server.enable_2fa(&user.email);
    let password = format!("{}\n", user.password);
    let code = server.otp(&user.email);
    let options = [
        "--username",
        &user.email,
        "--password-stdin",
        "--otp",
        &code,
        "--profile",
        "second",
    ];
    success(with_input(login(&server, &home, &options), &password));
    let refresh = server.issue_refresh_token(&user.email);
    let options = ["--refresh-token-stdin", "--profile", "third"];
    success(with_input(
        login(&server, &home, &options),
        &format!("{refresh}\n"),
    ));
    let listed = shell::stdout(home.program().arg("profiles"));
    assert!(
        listed.contains("second") && listed.contains("third"),
        "{listed}"
    );
}

#[test]
fn logging_out_kills_the_token_on_the_server_and_forgets_it_here() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let command = login(
        &server,
        &home,
        &[
            "--username",
            &user.email,
            "--password-stdin",
            "--profile",
            "mine",
        ],
    );
    success(with_input(command, &format!("{}\n", user.password)));
    let stored = std::fs::read_to_string(home.path("config/accounts/mine.json")).unwrap();
    shell::stdout(home.program().args(["logout", "--profile", "mine"]));
    assert!(!home.path("config/accounts/mine.json").exists());
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let refresh = find_refresh_token(&stored).expect("the account had a refresh token");
    let revived = with_input(
        login(&server, &home, &["--refresh-token-stdin"]),
        &format!("{refresh}\n"),
    );
    assert_eq!(
        revived.status.code(),
        Some(1),
        "the token still works: {revived:?}"
    );
}

fn find_refresh_token(value: &serde_json::Value) -> Option<&str> {
    match value {
        serde_json::Value::Object(fields) => {
            fields
                .iter()
                .find_map(|(key, value)| match key.contains("refresh") {
                    true => value.as_str().filter(|text| text.contains('.')),
                    false => find_refresh_token(value),
                })
        }
        _ => None,
    }
}

#[test]
fn a_credentials_file_as_mount_cifs_has_it() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let file = home.path("credentials");
    let text = format!(
        "username={}\npassword={}\naddress={}\n",
        user.email,
        user.password,
        server.address()
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let mount = Mounted::bare(
        home,
        "cloudreve://my/",
        &["--credentials", file.to_str().unwrap()],
        |_| {},
    );
    assert_eq!(std::fs::read(mount.path("file.txt")).unwrap(), b"content");
}

#[test]
fn a_mount_lends_its_account_to_another() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let command = login(
        &server,
        &home,
        &["--username", &user.email, "--password-stdin"],
    );
    success(with_input(command, &format!("{}\n", user.password)));
    std::fs::create_dir(home.path("second")).unwrap();
    let mount = Mounted::stored(home, "cloudreve://my/");
    let reference = format!(
        "ref:{}",
        mount.path("").to_str().unwrap().trim_end_matches('/')
    );
    let second = mount.home.path("second");
    let mut command = mount.home.program();
    command
        .args(["mount", "-d", "cloudreve://my/"])
        .arg(&second)
        .args(["--auth", &reference]);
    success(shell::output(&mut command));
    assert_eq!(std::fs::read(second.join("file.txt")).unwrap(), b"content");
    shell::stdout(mount.home.program().arg("umount").arg(&second));
    assert!(!second.join("file.txt").exists());
}

#[test]
fn doctor_tells_whether_what_others_change_comes_through_to_an_account() {
    let server = drive();
    let user = server.user();
    let home = Home::new();
    let options = ["--username", &user.email, "--password-stdin"];
    let command = login(&server, &home, &options);
    success(with_input(command, &format!("{}\n", user.password)));
    let doctor = || {
        let output = shell::output(home.program().args(["doctor", &server.address()]));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = said.lines().find(|line| line.contains("events for"));
        line.unwrap_or_else(|| panic!("a line is about it: {said}"))
            .to_owned()
    };
    assert!(doctor().starts_with("ok"));
    server.configure_events(|events| events.silence = true);
    let line = doctor();
    let is_told = line.starts_with("note") && line.contains("proxy_buffering off");
    assert!(is_told, "{line}");
    server.configure_events(|events| {
        events.silence = false;
        events.enabled = false;
    });
    let line = doctor();
    let is_told = line.starts_with("note") && line.contains("administrator");
    assert!(is_told, "{line}");
}
