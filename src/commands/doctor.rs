//! `doctor`: what is in order on this machine, at a server and with an account; a line each, with the fix.

mod machine;
mod server;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::address::Address;
use crate::cli::{self, DoctorArgs};
use crate::commands::{Paint, print};
use crate::config::environment::Environment;
use crate::config::{self, Local, mount_point};
use crate::control::{self, Answer, Request};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    /// What was looked at.
    what: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What mends it; empty where nothing has to be.
    fix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// In order.
    Fine,
    /// Works, and could be better; or nobody looked.
    Note,
    /// Has to be mended before mounts work.
    Broken,
}

impl Check {
    fn fine(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Fine,
            found: found.into(),
            fix: String::new(),
        }
    }

    fn note(what: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Note,
            found: found.into(),
            fix: fix.into(),
        }
    }

    fn broken(what: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Broken,
            found: found.into(),
            fix: fix.into(),
        }
    }
}

pub(super) fn run(args: &DoctorArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let mut checks = machine::check(&local, environment);
    for address in addresses(args.what.as_deref(), &local, &mut checks)? {
        checks.extend(server::check(&address, &local, environment)?);
    }
    print(&text(&checks, Paint::for_stdout(environment)))?;
    let broken = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Broken)
        .count();
    match broken {
        0 => Ok(()),
        1 => Err(Failure::failed(
            "1 thing is broken; its line says what mends it",
        )),
        n => Err(Failure::failed(format!(
            "{n} things are broken; their lines say what mends them"
        ))),
    }
}

/// The servers to look at: the one named, that of the mount named, or those of all stored accounts.
fn addresses(
    what: Option<&OsStr>,
    local: &Local,
    checks: &mut Vec<Check>,
) -> Result<Vec<Address>, Failure> {
    match what {
        None => Ok(of_accounts(local, checks)),
        Some(text) if text.to_string_lossy().contains("://") => {
            Ok(vec![cli::server_address(text).map_err(Failure::usage)?])
        }
        Some(dir) if is_place(Path::new(dir)) => of_mount(Path::new(dir), local, checks),
        Some(text) => Err(Failure::usage(
            cli::server_address(text).err().unwrap_or_default(),
        )),
    }
}

/// Whether a path is meant, and not a host's name without `https://`. What cannot be looked at is there: the mount of a
/// daemon that died, or of another user.
fn is_place(path: &Path) -> bool {
    let is_absent = path
        .symlink_metadata()
        .is_err_and(|err| err.kind() == io::ErrorKind::NotFound);
    !is_absent || path.as_os_str().as_encoded_bytes().contains(&b'/')
}

fn of_accounts(local: &Local, checks: &mut Vec<Check>) -> Vec<Address> {
    let accounts = local.accounts();
    let names = match accounts.names() {
        Ok(names) => names,
        Err(err) => {
            checks.push(Check::broken(
                "accounts",
                err.to_string(),
                "make the directory readable for you",
            ));
            return Vec::new();
        }
    };
    if names.is_empty() {
        checks.push(Check::note(
            "accounts",
            "none are stored",
            "cloudreve-fuse login ADDRESS; or doctor ADDRESS to check a server",
        ));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for name in names {
        match accounts.load(&name) {
            Ok(Some(account)) if !addresses.contains(&account.address) => {
                addresses.push(account.address)
            }
            Ok(_) => {}
            Err(err) => checks.push(Check::broken(
                format!("account {name}"),
                err.to_string(),
                format!("cloudreve-fuse login ADDRESS --profile {name}"),
            )),
        }
    }
    addresses
}

fn of_mount(dir: &Path, local: &Local, checks: &mut Vec<Check>) -> Result<Vec<Address>, Failure> {
    let point = mount_point(dir);
    let socket = control::socket_path(&local.dirs.control, &point);
    let what = format!("mount {}", point.display());
    match control::ask(&socket, &Request::Status, Duration::from_secs(5)) {
        Ok(Answer::Status(status)) => {
            checks.push(Check::fine(
                &what,
                format!("pid {} serves {}", status.pid, status.uri),
            ));
            checks.extend(
                status
                    .next_steps
                    .iter()
                    .map(|step| Check::note(&what, "it asks for something", step)),
            );
            Ok(status.address.parse().into_iter().collect())
        }
        Ok(_) | Err(_) => {
            let (found, fix) = unanswered(&point);
            checks.push(Check::broken(what, found, fix));
            Ok(Vec::new())
        }
    }
}

/// What is the matter with a place for which no daemon of ours answers, and what mends it.
fn unanswered(point: &Path) -> (String, String) {
    let dir = point.display();
    match mountpoint::condition(point) {
        Ok(Condition::Stale(_)) => (
            "its daemon died".into(),
            format!(
                "'cloudreve-fuse umount {dir}' frees the directory, and so does mounting there again"
            ),
        ),
        Ok(Condition::Unmounted) => (
            "nothing is mounted there".into(),
            "'cloudreve-fuse status' lists the mounts".into(),
        ),
        Ok(Condition::Other(entry) | Condition::StaleOther(entry)) => (
            format!("is a mount of another kind ({})", entry.fs_type),
            "'cloudreve-fuse status' lists the mounts".into(),
        ),
        Ok(Condition::Ours(_)) | Err(_) => (
            "no daemon of yours answers for it".into(),
            "another user mounted it, or with another --control; ask there".into(),
        ),
    }
}

fn text(checks: &[Check], paint: Paint) -> String {
    let width = checks
        .iter()
        .map(|check| check.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Fine => paint.green("ok    "),
            Verdict::Note => paint.yellow("note  "),
            Verdict::Broken => paint.red("BROKEN"),
        };
        text += &format!("{verdict}  {:width$}  {}", check.what, check.found);
        match check.fix.as_str() {
            "" => text.push('\n'),
            fix => text += &format!("; {fix}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_what_was_found_and_the_fix() {
        let checks = [
            Check::fine("/dev/fuse", "opens"),
            Check::broken("DNS", "no such host", "check the address"),
            Check::note("events", "not looked at", ""),
        ];
        assert_eq!(
            text(&checks, Paint::never()),
            "ok      /dev/fuse  opens\nBROKEN  DNS        no such host; check the address\nnote    events     not looked at\n"
        );
    }
}
