//! `warm`, `pin`, `unpin`: content on this machine's disk, once or from now on.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cli::values::show_size;
use crate::cli::{PinArgs, UnpinArgs, WarmArgs};
use crate::commands::mounts::{place_of, points};
use crate::commands::print;
use crate::commands::progress::Shown;
use crate::config;
use crate::config::environment::Environment;
use crate::control::{self, Answer, BelowPoint, NotFetched, Request};
use crate::failure::Failure;

/// Longest wait for a word of the daemon, which tells how far it is twice a second.
const SILENCE: Duration = Duration::from_secs(60);

/// Names in the line that says what is missing; each stands in a line of its own before it.
const NAMES_IN_A_LINE: usize = 5;

pub(super) fn warm(args: &WarmArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let warm = |path| Request::Warm { path };
    match ask(&local.dirs.control, &args.path, warm, environment)? {
        Some(answer) => report(&args.path, answer),
        // The daemon notices that nobody waits any more, and fetches no further.
        None => Err(Failure::failed(
            "interrupted; what was fetched so far is kept",
        )),
    }
}

pub(super) fn pin(args: &PinArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let pin = |path| Request::Pin { path };
    match ask(&local.dirs.control, &args.path, pin, environment)? {
        Some(answer) => report(&args.path, answer),
        None => Err(Failure::failed(
            "interrupted; what is pinned is fetched in the background, and 'cloudreve-fuse status' shows how far it is",
        )),
    }
}

pub(super) fn unpin(args: &UnpinArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let unpin = |path| Request::Unpin { path };
    let shown = args.path.display();
    match ask(&local.dirs.control, &args.path, unpin, environment)? {
        Some(Answer::Unpinned { was_pinned: true }) => {
            print(&format!("{shown} is not pinned any more.\n"))
        }
        Some(Answer::Unpinned { was_pinned: false }) => {
            print(&format!("{shown} was not pinned.\n"))
        }
        Some(answer) => report(&args.path, answer),
        None => Err(Failure::failed("interrupted")),
    }
}

/// What the daemon answers, with progress on a terminal; none after Ctrl-C.
fn ask(
    control_dir: &Path,
    path: &Path,
    request: impl FnOnce(BelowPoint) -> Request,
    environment: &Environment,
) -> Result<Option<Answer>, Failure> {
    let (point, below) = place_of(path, &points(control_dir)?)?;
    let socket = control::socket_path(control_dir, &point);
    let request = request(BelowPoint(below));
    let shown = Arc::new(Mutex::new(Some(Shown::on_terminal(environment))));
    let shows = Arc::clone(&shown);
    let asking = move || {
        control::follow(&socket, &request, SILENCE, |progress| {
            if let Some(shown) = &mut *shows.lock().unwrap() {
                shown.show(&progress, Instant::now());
            }
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Failure::failed(format!("no threads: {err}")))?;
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = tokio::task::spawn_blocking(asking) => Some(answer),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // It takes the bar away, also where the thread that drew it still waits for the next word.
    drop(shown.lock().unwrap().take());
    runtime.shutdown_background();
    match answer {
        None => Ok(None),
        Some(Ok(Ok(answer))) => Ok(Some(answer)),
        Some(Ok(Err(err))) => Err(unanswered(&err)),
        Some(Err(err)) => Err(Failure::failed(format!("the daemon was not asked: {err}"))),
    }
}

fn unanswered(err: &io::Error) -> Failure {
    Failure::failed(format!(
        "the daemon of that mount does not answer ({err}); see 'cloudreve-fuse status'"
    ))
}

fn report(path: &Path, answer: Answer) -> Result<(), Failure> {
    let shown = path.display();
    match answer {
        Answer::Fetched {
            files,
            bytes,
            failed,
            more_failed,
        } => {
            print(&text(files, bytes, &failed, more_failed))?;
            verdict(&failed, more_failed)
        }
        Answer::Failed { why } => Err(Failure::failed(format!("{shown}: {why}"))),
        _ => Err(Failure::failed(format!(
            "{shown}: its daemon answered another question"
        ))),
    }
}

/// The result: what is missing, file by file, and what is here.
fn text(files: u64, bytes: u64, failed: &[NotFetched], more_failed: u64) -> String {
    let failed = failed.iter();
    let mut text: String = failed
        .map(|failed| format!("{}: {}\n", failed.path, failed.reason))
        .collect();
    if more_failed > 0 {
        text += &format!("… and {more_failed} more\n");
    }
    let files = match files {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    text + &format!("{files}, {}, on this machine's disk.\n", show_size(bytes))
}

/// Done only where all is here.
fn verdict(failed: &[NotFetched], more_failed: u64) -> Result<(), Failure> {
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.iter().take(NAMES_IN_A_LINE);
    let names: Vec<&str> = names.map(|failed| failed.path.as_str()).collect();
    let more = match failed.len() as u64 + more_failed - names.len() as u64 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Err(Failure::failed(format!(
        "not on this machine's disk: {}{more}; what is there stays, and the same command goes on from there",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(path: &str) -> NotFetched {
        NotFetched {
            path: path.into(),
            reason: "no answer in time".into(),
        }
    }

    #[test]
    fn what_could_not_be_fetched_is_named_with_its_reason() {
        let some = [failed("/m/a"), failed("/m/b")];
        assert_eq!(
            text(1, 1 << 20, &some, 3),
            "/m/a: no answer in time\n/m/b: no answer in time\n… and 3 more\n1 file, 1.00 MiB, on this machine's disk.\n"
        );
        let said = verdict(&some, 3).unwrap_err().to_string();
        assert!(
            said.starts_with("not on this machine's disk: /m/a, /m/b and 3 more;"),
            "{said}"
        );
        assert_eq!(verdict(&[], 0), Ok(()));
    }
}
