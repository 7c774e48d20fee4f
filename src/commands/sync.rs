//! `sync`: waits until what is owed is on the server.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::SyncArgs;
use crate::commands::mounts::{place_of, points, with_sockets};
use crate::commands::progress::Shown;
use crate::commands::{print, say};
use crate::config;
use crate::config::environment::Environment;
use crate::control::{self, Answer, BelowPoint, OwedFile, Request};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// Longest wait for a word of the daemon, which tells how far it is twice a second.
const SILENCE: Duration = Duration::from_secs(60);

/// Names in the line that says what is missing; each stands in a line of its own before it.
const NAMES_IN_A_LINE: usize = 5;

/// What came of one mount, or of all.
#[derive(Debug, Default)]
struct Outcome {
    files: u64,
    left: Vec<OwedFile>,
    more_left: u64,
    /// Why a mount could not be asked.
    silent: Vec<String>,
}

pub(super) fn run(args: &SyncArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let control_dir = local.dirs.control.as_path();
    let places = match &args.path {
        Some(path) => vec![place_of(path, &points(control_dir)?)?],
        None => {
            let points = with_sockets(control_dir)?.into_iter();
            points.map(|point| (point, PathBuf::new())).collect()
        }
    };
    let mut outcome = Outcome::default();
    // One after the other: all deliver at the same time anyway.
    for (point, below) in &places {
        let named = args.path.is_some();
        wait(control_dir, point, below, named, environment, &mut outcome)?;
    }
    print(&text(&outcome))?;
    verdict(&outcome)
}

/// Waits for one mount. `named`: it was asked for, so that a dead one is no surprise to be passed over.
fn wait(
    control_dir: &Path,
    point: &Path,
    below: &Path,
    named: bool,
    environment: &Environment,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let socket = control::socket_path(control_dir, point);
    let request = Request::Sync {
        path: BelowPoint::from(below),
    };
    let mut shown = Shown::new(environment);
    let answer = control::follow(&socket, &request, SILENCE, |progress| {
        shown.show(&progress, Instant::now());
    });
    drop(shown);
    match answer {
        Ok(Answer::Synced {
            files,
            left,
            more_left,
            conflicts,
        }) => {
            outcome.files += files;
            outcome.more_left += more_left;
            outcome.left.extend(left);
            conflicts.iter().for_each(|line| say(line));
            Ok(())
        }
        Ok(Answer::Failed { why }) => Err(Failure::failed(format!("{}: {why}", point.display()))),
        Ok(_) => Err(Failure::failed(format!(
            "{}: its daemon answered another question",
            point.display()
        ))),
        Err(err) => {
            log::debug!("{}: {err}", socket.display());
            if named || is_something(point, &err) {
                outcome.silent.push(cannot_tell(point, &err));
            }
            Ok(())
        }
    }
}

/// False of a socket that a killed daemon left where nothing is mounted any more: there is nobody to wait for.
fn is_something(point: &Path, err: &io::Error) -> bool {
    let nobody = matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    );
    let is_mounted = || {
        matches!(
            mountpoint::condition(point),
            Ok(Condition::Ours(_) | Condition::Stale(_))
        )
    };
    !nobody || is_mounted()
}

/// Why a mount cannot be asked, and what to do.
fn cannot_tell(point: &Path, err: &io::Error) -> String {
    let shown = point.display();
    match err.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            format!("{shown}: another user mounted it, or with another --control; ask there")
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::UnexpectedEof => format!(
            "{shown}: its daemon died; what it owed is kept, and delivered when it is mounted again"
        ),
        _ => format!("{shown}: its daemon does not answer ({err}); see 'cloudreve-fuse status'"),
    }
}

/// Done only where all is there.
fn verdict(outcome: &Outcome) -> Result<(), Failure> {
    let (deleted, missing): (Vec<&OwedFile>, Vec<&OwedFile>) =
        outcome.left.iter().partition(|file| is_deleted(file));
    let mut said = Vec::new();
    if missing.len() as u64 + outcome.more_left > 0 {
        said.push(format!(
            "not on the server: {}; nothing of it is lost",
            names(&missing, outcome.more_left)
        ));
    }
    if !deleted.is_empty() {
        said.push(format!("deleted only here: {}", names(&deleted, 0)));
    }
    if !said.is_empty() {
        return Err(Failure::failed(format!(
            "{}, 'cloudreve-fuse status' says what comes next",
            said.join("; ")
        )));
    }
    match outcome.silent.as_slice() {
        [] => Ok(()),
        silent => Err(Failure::failed(silent.join("\n"))),
    }
}

/// Whether it is one that is gone here and that the server still has.
fn is_deleted(file: &OwedFile) -> bool {
    file.state == "deleted"
}

/// The first of `files`, and how many there are beside, `more` not among them counted.
fn names(files: &[&OwedFile], more: u64) -> String {
    let names = files.iter().take(NAMES_IN_A_LINE);
    let names: Vec<&str> = names.map(|file| file.path.as_str()).collect();
    match (files.len() - names.len()) as u64 + more {
        0 => names.join(", "),
        n => format!("{} and {n} more", names.join(", ")),
    }
}

/// The result: what is missing, file by file, or that nothing is.
fn text(outcome: &Outcome) -> String {
    let mut text: String = outcome.left.iter().map(left).collect();
    if outcome.more_left > 0 {
        text += &format!("… and {} more\n", outcome.more_left);
    }
    if text.is_empty() && outcome.silent.is_empty() {
        text = match outcome.files {
            0 => "Nothing is owed.\n".to_owned(),
            1 => "1 file was owed, and is on the server.\n".to_owned(),
            n => format!("{n} files were owed, and are on the server.\n"),
        };
    }
    text
}

fn left(file: &OwedFile) -> String {
    let reason = file.last_reason.as_deref();
    let otherwise = match file.state.as_str() {
        "deleted" => "deleted here, and the server could not be told",
        "made" => "made here, and the server could not be told",
        "renamed" => "renamed here, and the server could not be told",
        _ => "not delivered",
    };
    let mut line = format!("{}: {}", file.path, reason.unwrap_or(otherwise));
    // What blocks it may be the reason itself.
    if let Some(step) = file.next_step.as_ref().filter(|step| !line.contains(*step)) {
        line += &format!("; {step}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, reason: &str, step: Option<&str>) -> OwedFile {
        OwedFile {
            path: path.into(),
            last_reason: Some(reason.into()),
            next_step: step.map(str::to_owned),
            ..OwedFile::default()
        }
    }

    #[test]
    fn what_could_not_be_delivered_is_named_with_its_reason() {
        let outcome = Outcome {
            files: 9,
            left: vec![
                file("/m/a", "the storage is full", Some("free some space")),
                file("/m/b", "rename it", Some("rename it")),
            ],
            more_left: 3,
            silent: Vec::new(),
        };
        assert_eq!(
            text(&outcome),
            "/m/a: the storage is full; free some space\n/m/b: rename it\n… and 3 more\n"
        );
        let said = verdict(&outcome).unwrap_err().to_string();
        assert!(
            said.starts_with("not on the server: /m/a, /m/b and 3 more;"),
            "{said}"
        );
    }

    #[test]
    fn what_is_deleted_only_here_is_named_apart() {
        let deleted = OwedFile {
            path: "/m/d".into(),
            state: "deleted".into(),
            ..OwedFile::default()
        };
        let outcome = Outcome {
            left: vec![file("/m/a", "the storage is full", None), deleted],
            ..Outcome::default()
        };
        assert!(text(&outcome).ends_with("/m/d: deleted here, and the server could not be told\n"));
        let said = verdict(&outcome).unwrap_err().to_string();
        assert!(
            said.contains("not on the server: /m/a;") && said.contains("deleted only here: /m/d,"),
            "{said}"
        );
    }

    #[test]
    fn all_delivered_is_a_success_with_a_line() {
        let of = |files| {
            text(&Outcome {
                files,
                ..Outcome::default()
            })
        };
        assert_eq!(of(0), "Nothing is owed.\n");
        assert_eq!(of(2), "2 files were owed, and are on the server.\n");
    }

    #[test]
    fn a_mount_that_cannot_be_asked_is_no_success() {
        for kind in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
            io::ErrorKind::PermissionDenied,
        ] {
            assert!(is_something(Path::new("/m"), &kind.into()), "{kind}");
        }
        let nobody = io::Error::from(io::ErrorKind::ConnectionRefused);
        let nowhere = Path::new("/nothing/is/mounted/here");
        assert!(!is_something(nowhere, &nobody));
        let outcome = Outcome {
            silent: vec![cannot_tell(nowhere, &nobody)],
            ..Outcome::default()
        };
        assert_eq!(text(&outcome), "");
        let said = verdict(&outcome).unwrap_err().to_string();
        assert!(
            said.contains("died") && said.contains("mounted again"),
            "{said}"
        );
    }
}
