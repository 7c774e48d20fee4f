//! Bad input gets one line that says what is wrong and what to do, the right exit code, and leaves nothing mounted.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cloudreve_test_server::{Options, Server};

use crate::support::mounted::{Home, Mounted};
use crate::support::shell;

/// A drive with a folder and a file, and a user's home to mount it from.
struct Case {
    server: Server,
    home: Home,
}

impl Case {
    fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        server.mkdir("folder");
        server.put("file.txt", b"content".to_vec());
        Self {
            server,
            home: Home::new(),
        }
    }

    /// `mount URI DIR` as the server's user, not yet run.
    fn mount(&self, uri: &str) -> Command {
        let mut command = self.anonymous(uri);
        let user = self.server.user();
        command
            .args(["--username", &user.email])
            .env("CLOUDREVE_PASSWORD", &user.password);
        command
    }

    /// `mount URI DIR` with an address and without an account, not yet run.
    fn anonymous(&self, uri: &str) -> Command {
        let mut command = self.home.program();
        command
            .args(["mount", uri])
            .arg(self.home.path("mnt"))
            .args(["--address", &self.server.address()]);
        command
    }

    /// `command` ends with `code` and one line that has all `words`; nothing is mounted, nobody hung up on.
    #[track_caller]
    fn check(&self, command: &mut Command, code: i32, words: &[&str]) {
        let output = shell::output(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?} said: {said}");
        assert!(output.stdout.is_empty(), "an error belongs on stderr");
        assert_eq!(said.trim_end().lines().count(), 1, "not one line: {said}");
        for word in words {
            assert!(said.contains(word), "'{word}' is not in: {said}");
        }
        assert!(
            !is_mounted(&self.home.path("mnt")),
            "it is mounted all the same"
        );
        assert_eq!(self.server.hung_up_before_headers(), 0);
    }
}

fn is_mounted(dir: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == dir.to_str())
}

#[test]
fn a_wrong_address() {
    let case = Case::new();
    let mut nobody_there = case.home.program();
    nobody_there
        .args(["mount", "cloudreve://my/"])
        .arg(case.home.path("mnt"));
    nobody_there.args([
        "--address",
        "http://127.0.0.1:9",
        "--username",
        "a@example.com",
        "--timeout",
        "2s",
    ]);
    nobody_there.env("CLOUDREVE_PASSWORD", "password");
    case.check(
        &mut nobody_there,
        1,
        &["http://127.0.0.1:9", "check the address"],
    );

    let mut not_an_address = case.home.program();
    not_an_address
        .args(["mount", "cloudreve://my/"])
        .arg(case.home.path("mnt"))
        .args(["--address", "drive"]);
    case.check(&mut not_an_address, 2, &["drive", "https://host"]);

    let mut no_tls = case.home.program();
    let address = case.server.address().replace("http://", "https://");
    no_tls.args(["login", &address, "--username", "a@example.com"]);
    no_tls.env("CLOUDREVE_PASSWORD", "password");
    case.check(&mut no_tls, 1, &[&address, "does not speak TLS", "http://"]);

    case.server
        .fail(cloudreve_test_server::Fault::everywhere().html_page());
    case.check(
        case.mount("cloudreve://my/").args(["--timeout", "2s"]),
        1,
        &[&case.server.address(), "Cloudreve"],
    );
}

#[test]
fn an_account_that_does_not_get_in() {
    let case = Case::new();
    case.check(
        case.mount("cloudreve://my/")
            .env("CLOUDREVE_PASSWORD", "wrong-one"),
        1,
        &["password"],
    );
    case.check(
        case.anonymous("cloudreve://my/")
            .env("CLOUDREVE_ACCESS_TOKEN", "dead.access.token"),
        1,
        &["access token", "login"],
    );
    case.check(
        case.anonymous("cloudreve://my/")
            .env("CLOUDREVE_REFRESH_TOKEN", "dead.refresh.token"),
        1,
        &["login"],
    );
    case.check(&mut case.anonymous("cloudreve://my/"), 1, &["login"]);
    case.check(
        case.anonymous("cloudreve://my/")
            .args(["--auth", "anonymous"]),
        1,
        &["login"],
    );
    case.check(
        case.anonymous("cloudreve://my/")
            .args(["--profile", "nobody"]),
        1,
        &["nobody", "login"],
    );

    case.server.set_captcha(true);
    case.check(&mut case.mount("cloudreve://my/"), 1, &["captcha", "login"]);
    case.server.set_captcha(false);
    case.server.enable_2fa(&case.server.user().email);
    case.check(&mut case.mount("cloudreve://my/"), 1, &["2FA", "login"]);
}

#[test]
fn a_uri_that_cannot_be_mounted() {
    let case = Case::new();
    case.check(
        &mut case.mount("cloudreve://my/absent"),
        1,
        &["cloudreve://my/absent"],
    );
    case.check(
        &mut case.mount("cloudreve://my/file.txt"),
        2,
        &["cloudreve://my/file.txt", "folder"],
    );
    case.check(
        &mut case.mount("cloudreve://mine/"),
        2,
        &["mine", "my, share, trash, shared_with_me"],
    );
    case.check(&mut case.mount("cloudreve://my/?name=x"), 2, &["search"]);
    case.check(
        &mut case.mount("drive.example.com"),
        2,
        &["drive.example.com", "https://"],
    );
    case.check(
        case.anonymous("cloudreve://zzzz@share/")
            .args(["--auth", "anonymous"]),
        1,
        &["share"],
    );
    let shared_file = case.server.share("file.txt", Default::default());
    case.check(
        case.anonymous(&format!("cloudreve://{shared_file}@share/file.txt"))
            .args(["--auth", "anonymous"]),
        2,
        &["file.txt", "folder"],
    );
    let options = cloudreve_test_server::ShareOptions {
        password: Some("sesame".to_owned()),
        ..Default::default()
    };
    let share = case.server.share("folder", options);
    let locked = format!("cloudreve://{share}@share/");
    case.check(
        case.anonymous(&locked).args(["--auth", "anonymous"]),
        2,
        &["password", "add it"],
    );
    case.check(
        case.anonymous(&format!("{}/s/{share}/open", case.server.address()))
            .args(["--auth", "anonymous"]),
        2,
        &["/***", "another password"],
    );
}

#[test]
fn options_that_do_not_exist_or_cannot_be_read() {
    let case = Case::new();
    let uri = "cloudreve://my/";
    case.check(
        case.mount(uri).args(["--ordr-by", "name"]),
        2,
        &["--ordr-by", "--order-by"],
    );
    case.check(
        case.mount(uri).args(["--order-by", "sise"]),
        2,
        &["sise", "size"],
    );
    case.check(
        case.mount(uri).args(["--memory", "lots"]),
        2,
        &["memory", "lots"],
    );
    case.check(
        case.mount(uri).args(["--timeout", "5 parsecs"]),
        2,
        &["timeout", "parsecs"],
    );
    case.check(
        case.mount(uri).args(["-o", "ordr_by=name"]),
        2,
        &["ordr_by", "order_by"],
    );
    case.check(
        case.mount(uri).args(["-o", "order_by=sise"]),
        2,
        &["sise", "size"],
    );
    case.check(
        case.mount(uri).env("CLOUDREVE_TIMEOUT", "soon"),
        2,
        &["CLOUDREVE_TIMEOUT", "soon"],
    );
    case.check(
        case.mount(uri).env("CLOUDREVE_ORDR_BY", "name"),
        2,
        &["CLOUDREVE_ORDR_BY", "CLOUDREVE_ORDER_BY"],
    );
    std::fs::write(
        case.home.path("config/config.toml"),
        "[defaults]\nordr-by = 'name'\n",
    )
    .unwrap();
    case.check(
        &mut case.mount(uri),
        2,
        &["ordr-by", "order-by", "config.toml"],
    );
}

#[test]
fn a_mount_point_that_cannot_be_used() {
    let case = Case::new();
    let user = case.server.user();
    let at = |dir: &Path| {
        let mut command = case.home.program();
        command
            .args(["mount", "cloudreve://my/"])
            .arg(dir)
            .args(["--address", &case.server.address()]);
        command
            .args(["--username", &user.email])
            .env("CLOUDREVE_PASSWORD", &user.password);
        command
    };
    case.check(
        &mut at(&case.home.path("nowhere")),
        1,
        &["nowhere", "mkdir"],
    );
    std::fs::write(case.home.path("a file"), "").unwrap();
    case.check(
        &mut at(&case.home.path("a file")),
        1,
        &["a file", "directory"],
    );

    let mounted = Mounted::new(&case.server, "cloudreve://my/", &[]);
    case.check(&mut at(&mounted.path("")), 1, &["already", "umount"]);
}

#[test]
fn a_mount_point_of_a_dead_daemon_is_cleaned_and_used() {
    let case = Case::new();
    let mut dead = Mounted::new(&case.server, "cloudreve://my/", &[]);
    shell::kill(dead.pid(), libc::SIGKILL);
    dead.wait();
    let said = dead.command(&["status"]);
    assert!(
        said.contains("dead") && said.contains("umount"),
        "status does not say it: {said}"
    );
    let dir = dead.path("");
    let said = dead.report(&["doctor".as_ref(), dir.as_os_str()]);
    assert!(
        said.contains("its daemon died") && said.contains("umount"),
        "doctor does not say it: {said}"
    );
    let again = dead.again(&case.server, "cloudreve://my/", &[]);
    assert_eq!(std::fs::read(again.path("file.txt")).unwrap(), b"content");
}

#[test]
fn a_machine_without_dev_fuse() {
    let case = Case::new();
    let mount = case.mount("cloudreve://my/");
    // A mount namespace of its own, in which /dev is empty.
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs none /dev && exec \"$@\"",
        "sh",
    ]);
    command.arg(mount.get_program()).args(mount.get_args());
    shell::take_environment(&mut command, &mount);
    case.check(&mut command, 1, &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn directories_that_cannot_be_written() {
    let case = Case::new();
    case.check(
        case.mount("cloudreve://my/")
            .args(["--state-dir", "/proc/state"]),
        1,
        &["/proc/state", "state-dir"],
    );
    case.check(
        case.mount("cloudreve://my/")
            .args(["--control", "/proc/run"]),
        1,
        &["/proc/run", "control"],
    );
}

#[test]
fn a_cache_directory_that_cannot_be_written_is_warned_of_and_the_drive_is_mounted_without() {
    let server = Server::start(Options::default()).unwrap();
    server.put("file.txt", b"content".to_vec());
    let options = ["--cache-dir", "/proc/cache", "--cache-size", "1G"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let log = mount.log();
    for word in ["/proc/cache", "--cache-dir", "no content is kept on disk"] {
        assert_eq!(log.matches(word).count(), 1, "'{word}' in: {log}");
    }
    assert_eq!(std::fs::read(mount.path("file.txt")).unwrap(), b"content");
    assert_eq!(mount.status()["cache"]["disk_limit_bytes"], 0);
}

#[test]
fn directories_that_the_mount_would_hide() {
    let case = Case::new();
    let within = case.home.path("mnt/within");
    let within = within.to_str().unwrap();
    for option in ["--control", "--state-dir"] {
        let mut mount = case.mount("cloudreve://my/");
        case.check(mount.args([option, within]), 1, &[within, option]);
    }
    // Without a cache a mount does.
    let options = ["--cache-size", "1G"];
    let mount = Mounted::with(&case.server, "cloudreve://my/", &options, |command| {
        let dir = command.get_args().nth(2).unwrap().to_owned();
        command
            .arg("--cache-dir")
            .arg(Path::new(&dir).join("cache"));
    });
    let log = mount.log();
    assert!(
        log.contains("mnt/cache") && log.contains("--cache-dir"),
        "{log}"
    );
    assert_eq!(std::fs::read(mount.path("file.txt")).unwrap(), b"content");
}

#[test]
fn a_credentials_file_that_others_can_read() {
    let case = Case::new();
    let user = case.server.user();
    let file = case.home.path("credentials");
    std::fs::write(
        &file,
        format!("username={}\npassword={}\n", user.email, user.password),
    )
    .unwrap();
    let mount = |file: &Path| {
        let mut command = case.anonymous("cloudreve://my/");
        command.arg("--credentials").arg(file);
        command
    };
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    case.check(&mut mount(&file), 1, &["credentials", "chmod 600"]);
    case.check(&mut mount(&case.home.path("absent")), 1, &["absent"]);
    std::fs::write(&file, "user=me\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    case.check(&mut mount(&file), 2, &["user", "username"]);
}

#[test]
fn allow_other_where_it_is_not_permitted() {
    let case = Case::new();
    if std::fs::read_to_string("/etc/fuse.conf")
        .unwrap_or_default()
        .lines()
        .any(|l| l.trim() == "user_allow_other")
    {
        panic!("this test needs an /etc/fuse.conf without user_allow_other");
    }
    let mount = case.mount("cloudreve://my/");
    // Somebody who is not root: the program and its directories are made reachable for them.
    let program = case.home.path("program");
    std::fs::copy(mount.get_program(), &program).unwrap();
    let mut chown = Command::new("chown");
    shell::stdout(chown.args(["-R", shell::NOBODY]).arg(case.home.path("")));
    let mut command = Command::new(&program);
    command.args(mount.get_args()).arg("--allow-other");
    shell::take_environment(&mut command, &mount);
    let mut command = shell::as_nobody(&command);
    case.check(&mut command, 2, &["user_allow_other", "/etc/fuse.conf"]);
}
