//! The commands: each turns what was typed into calls of the rooms below, and their outcome into lines for people
//! or JSON for programs.
//!
//! The only room that prints: results on standard output, everything else on standard error. Each command that
//! spoke to a server waits for its last request before it returns, also after Ctrl-C: nothing is hung up on.

mod at_hand;
mod browser;
mod cache;
mod captcha;
mod doctor;
mod journal;
mod login;
mod logout;
mod mounts;
mod profiles;
mod progress;
mod status;
mod sync;
mod terminal;
mod umount;
mod why;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use crate::address::Address;
use crate::api::{self, Api};
use crate::cli::{self, Command, CompletionsArgs, Form};
use crate::config::environment::Environment;
use crate::config::{self, MountRequest};
use crate::failure::{Failure, FailureKind};
use crate::mount;
pub use journal::logging;

/// How long the end of requests under way is waited for before a person is told what is going on.
const QUIET_WAIT: Duration = Duration::from_secs(2);

/// Longest wait for them: longer than `api` lets any of them live.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);

/// Does what was asked.
pub fn run(command: Command, environment: &Environment) -> Result<(), Failure> {
    match command {
        Command::Login(args) => login::run(&args, environment),
        Command::Logout(args) => logout::run(&args, environment),
        Command::Profiles(args) => profiles::run(&args, environment),
        Command::Mount(args) => {
            let (uri, dir, o, flags) = (args.uri, args.dir, args.o, args.options.0);
            mount_it(
                MountRequest {
                    uri,
                    dir,
                    o,
                    flags,
                    background: args.background,
                },
                false,
                environment,
            )
        }
        Command::Helper(args) => {
            let (uri, dir, o, flags) = (args.uri, args.dir, args.o, args.options.0);
            mount_it(
                MountRequest {
                    uri,
                    dir,
                    o,
                    flags,
                    background: true,
                },
                args.fake,
                environment,
            )
        }
        Command::Umount(args) => umount::run(&args, environment),
        Command::Status(args) => status::run(&args, environment),
        Command::Sync(args) => sync::run(&args, environment),
        Command::Warm(args) => at_hand::warm(&args, environment),
        Command::Pin(args) => at_hand::pin(&args, environment),
        Command::Unpin(args) => at_hand::unpin(&args, environment),
        Command::Why(args) => why::run(&args, environment),
        Command::Cache(args) => cache::run(&args, environment),
        Command::Doctor(args) => doctor::run(&args, environment),
        Command::Completions(args) => completions(&args),
        Command::Other(_) => Err(Failure::usage(
            "no such command; 'cloudreve-fuse --help' lists them",
        )),
    }
}

fn mount_it(request: MountRequest, fake: bool, environment: &Environment) -> Result<(), Failure> {
    let plan = config::plan(&request, environment)?;
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    match fake {
        true => Ok(()),
        false => mount::run(plan),
    }
}

fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut cli::definition(),
        "cloudreve-fuse",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}

/// The exit code of an outcome: 0 done, 1 failed, 2 usage; for mount(8) 1 usage or permission, 32 mount failed.
pub fn exit_code(form: Form, outcome: &Result<(), Failure>) -> u8 {
    match (form, outcome.as_ref().map_err(|failure| failure.kind)) {
        (_, Ok(())) => 0,
        (Form::Command, Err(FailureKind::Failed))
        | (Form::MountHelper, Err(FailureKind::Usage)) => 1,
        (Form::Command, Err(FailureKind::Usage)) => 2,
        (Form::MountHelper, Err(FailureKind::Failed)) => 32,
    }
}

/// Prints a result. Who reads it may stop early: that is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {err}")))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|err| Failure::failed(format!("JSON: {err}")))?;
    print(&(json + "\n"))
}

/// A word to the person on standard error. Where that is closed, nobody can be told.
fn say(text: &str) {
    // A closed standard error must not end the command.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Columns as wide as their widest cell, two spaces apart; the last one as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let (last, cells) = row
            .split_last()
            .map_or(("", &[][..]), |(last, cells)| (last.as_str(), cells));
        for (cell, width) in cells.iter().zip(&widths) {
            text += &format!("{cell:width$}  ");
        }
        text += last;
        text.push('\n');
    }
    text
}

/// Colours, where standard output is a terminal and nobody objects.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn for_stdout(environment: &Environment) -> Self {
        Self(io::stdout().is_terminal() && environment.get("NO_COLOR").is_none())
    }

    #[cfg(test)]
    fn never() -> Self {
        Self(false)
    }

    fn green(self, text: &str) -> String {
        self.colour("32", text)
    }

    fn yellow(self, text: &str) -> String {
        self.colour("33", text)
    }

    fn red(self, text: &str) -> String {
        self.colour("31", text)
    }

    fn colour(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// What a server or the way there said, in one line, with the server's name and what to do.
fn told(address: &Address, err: &api::Error) -> Failure {
    let hint = match err {
        api::Error::Transport { .. } | api::Error::Timeout(_) => {
            "; check address and network, or ask 'cloudreve-fuse doctor'"
        }
        api::Error::Trouble { .. } => "; try again later",
        _ => "",
    };
    Failure::failed(format!("{address}: {err}{hint}"))
}

/// Runs `work`, which speaks through `api`; see [`run_with_apis`].
fn run_with_api<T>(
    api: &Api,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    run_with_apis(&[Some(api.clone())], work)
}

/// Runs `work` until it is done or Ctrl-C, then waits for the requests that are under way through `apis`.
fn run_with_apis<T>(
    apis: &[Option<Api>],
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|err| Failure::failed(format!("no threads: {err}")))?;
    let outcome = runtime.block_on(async {
        let outcome = tokio::select! {
            outcome = work => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
        };
        drain(apis).await;
        outcome
    });
    // A thread that still reads from the terminal never ends, and is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn drain(apis: &[Option<Api>]) {
    let all = futures_util::future::join_all(apis.iter().flatten().map(Api::drain));
    tokio::pin!(all);
    if tokio::time::timeout(QUIET_WAIT, &mut all).await.is_ok() {
        return;
    }
    say("waiting for the server's last answer (to hang up on it could harm the server) …");
    if tokio::time::timeout(DRAIN_PATIENCE, &mut all)
        .await
        .is_err()
    {
        log::warn!("a request got no answer within {DRAIN_PATIENCE:?} and is hung up on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_ours_for_people_and_those_of_mount_8_for_mount_8() {
        let outcomes = [Ok(()), Err(Failure::failed("x")), Err(Failure::usage("x"))];
        let codes = |form| outcomes.each_ref().map(|outcome| exit_code(form, outcome));
        assert_eq!(codes(Form::Command), [0, 1, 2]);
        assert_eq!(codes(Form::MountHelper), [0, 32, 1]);
    }

    #[test]
    fn columns_are_aligned_by_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "b".to_owned()],
            vec!["ähm".to_owned(), "c d".to_owned()],
        ];
        assert_eq!(table(&rows), "a    b\nähm  c d\n");
        assert_eq!(table(&[]), "");
    }
}
