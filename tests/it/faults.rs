//! A server and a network in trouble: no file vanishes, no folder empties, no error page becomes content.
//!
//! While a fault lasts each call may fail, with any errno but ENOENT; what succeeds must be right and complete. When
//! it is over all is as before.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use cloudreve_test_server::{Fault, Options, Route, Server, Wedge};

use crate::support::mounted::Mounted;

const FOLDERS: usize = 4;
const FILES_IN_EACH: usize = 10;

/// Longer than the server's access tokens live.
const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 3600);

fn content(folder: usize, file: usize) -> Vec<u8> {
    format!("content of {folder}/{file} ")
        .into_bytes()
        .repeat(50 + file)
}

fn drive() -> Server {
    let server = Server::start(Options::default()).unwrap();
    for folder in 0..FOLDERS {
        for file in 0..FILES_IN_EACH {
            server.put(
                &format!("folder {folder}/file {file}"),
                content(folder, file),
            );
        }
    }
    server
}

/// What one walk over the mount saw; a call that failed is counted, not taken for an answer.
#[derive(Debug, Default)]
struct Walk {
    errors: BTreeMap<String, usize>,
    right: usize,
}

impl Walk {
    fn of(root: &Path) -> Self {
        let mut walk = Self::default();
        walk.names(root, FOLDERS);
        for folder in 0..FOLDERS {
            let path = root.join(format!("folder {folder}"));
            walk.names(&path, FILES_IN_EACH);
            for file in 0..FILES_IN_EACH {
                walk.file(&path.join(format!("file {file}")), &content(folder, file));
            }
        }
        walk
    }

    fn names(&mut self, folder: &Path, expected: usize) {
        let entries: Result<Vec<_>, _> =
            std::fs::read_dir(folder).and_then(|entries| entries.collect());
        match entries {
            Ok(entries) => assert_eq!(entries.len(), expected, "{} lists wrong", folder.display()),
            Err(err) => self.error(folder, err),
        }
    }

    fn file(&mut self, path: &Path, expected: &[u8]) {
        match std::fs::metadata(path) {
            Ok(found) => assert_eq!(
                found.len(),
                expected.len() as u64,
                "{} has a wrong size",
                path.display()
            ),
            Err(err) => self.error(path, err),
        }
        match std::fs::read(path) {
            Ok(found) => {
                assert!(
                    found == expected,
                    "{} has wrong content: {:?}",
                    path.display(),
                    &found[..found.len().min(80)]
                );
                self.right += 1;
            }
            Err(err) => self.error(path, err),
        }
    }

    fn error(&mut self, path: &Path, err: std::io::Error) {
        assert_ne!(
            err.kind(),
            ErrorKind::NotFound,
            "{} vanished",
            path.display()
        );
        *self.errors.entry(err.to_string()).or_default() += 1;
    }
}

/// Mounts a drive, walks it while `trouble` lasts and again after `calm`.
#[track_caller]
fn check(trouble: impl FnOnce(&Server), calm: impl FnOnce(&Server)) -> Walk {
    let server = drive();
    // Nothing is believed for longer than a moment, so that each look meets the fault.
    let mount = Mounted::new(
        &server,
        "cloudreve://my/",
        &["--metadata-ttl", "10ms", "--timeout", "1s"],
    );
    let before = Walk::of(&mount.path(""));
    assert_eq!(
        before.right,
        FOLDERS * FILES_IN_EACH,
        "before the fault: {:?}",
        before.errors
    );
    trouble(&server);
    server.reset_counters();
    let during = Walk::of(&mount.path(""));
    assert!(server.count_all() > 0, "the trouble was never met");
    calm(&server);
    let after = Walk::of(&mount.path(""));
    assert_eq!(
        after.right,
        FOLDERS * FILES_IN_EACH,
        "after the fault: {:?}",
        after.errors
    );
    assert_eq!(server.hung_up_before_headers(), 0);
    during
}

fn clear(server: &Server) {
    server.clear_faults();
}

#[test]
fn an_expired_access_token_is_renewed_unseen() {
    let during = check(|server| server.advance_clock(TOKEN_LIFETIME), |_| {});
    assert!(during.errors.is_empty(), "{:?}", during.errors);
}

#[test]
fn behind_a_captive_portal_nothing_vanishes() {
    check(|server| server.fail(Fault::everywhere().html_page()), clear);
}

#[test]
fn in_a_storm_of_server_errors_nothing_vanishes() {
    check(
        |server| server.fail(Fault::everywhere().status(503).with_probability(0.5, 11)),
        clear,
    );
    check(|server| server.fail(Fault::everywhere().status(500)), clear);
}

#[test]
fn half_a_page_is_not_a_page() {
    check(
        |server| server.fail(Fault::on(Route::List).truncate_after(100)),
        clear,
    );
    check(
        |server| {
            server.fail(
                Fault::on(Route::List)
                    .reset_after(100)
                    .with_probability(0.5, 5),
            )
        },
        clear,
    );
}

#[test]
fn content_cut_reset_or_replaced_on_the_way_is_never_wrong() {
    check(
        |server| {
            server.fail(
                Fault::on(Route::Content)
                    .truncate_after(100)
                    .with_probability(0.4, 3),
            )
        },
        clear,
    );
    check(
        |server| {
            server.fail(
                Fault::on(Route::Content)
                    .html_page()
                    .with_probability(0.4, 3),
            )
        },
        clear,
    );
    check(
        |server| {
            server.fail(
                Fault::on(Route::Content)
                    .reset_before_headers()
                    .with_probability(0.4, 3),
            )
        },
        clear,
    );
}

#[test]
fn a_wedged_database_is_trouble_and_not_an_empty_drive() {
    check(
        |server| server.set_wedge(Wedge::Reads),
        |server| server.set_wedge(Wedge::None),
    );
}

#[test]
fn a_dead_account_is_refused_and_not_an_empty_drive() {
    let server = drive();
    let mount = Mounted::new(
        &server,
        "cloudreve://my/",
        &["--metadata-ttl", "10ms", "--timeout", "1s"],
    );
    server.set_password(&server.user().email, "another-password-1");
    server.advance_clock(TOKEN_LIFETIME);
    let during = Walk::of(&mount.path(""));
    assert_eq!(during.right, 0);
    let denied = std::io::Error::from_raw_os_error(libc::EACCES).to_string();
    assert_eq!(during.errors.keys().collect::<Vec<_>>(), [&denied]);
    let status = mount.command(&["status"]);
    assert!(
        status.contains("cloudreve-fuse login"),
        "status does not say what to do: {status}"
    );
}
