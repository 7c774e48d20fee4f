//! Parses, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use cloudreve_fuse::argv;
use cloudreve_fuse::cli::{self, Instead};
use cloudreve_fuse::commands::{self, exit_code};
use cloudreve_fuse::config::environment::Environment;

fn main() -> ExitCode {
    // First of all: secrets leave the environment before there is a thread or a child.
    let environment = Environment::take();
    let args: Vec<_> = std::env::args_os().collect();
    argv::hide_passwords();
    let form = cli::form(&args);
    let outcome = match cli::parse(&args) {
        Ok(invocation) => {
            commands::logging(invocation.verbosity, &environment);
            commands::run(invocation.command, &environment)
        }
        Err(Instead::Show(text)) => commands::print(&text),
        Err(Instead::Fail(failure)) => Err(failure),
    };
    if let Err(failure) = &outcome {
        eprintln!("cloudreve-fuse: {failure}");
    }
    ExitCode::from(exit_code(form, &outcome))
}
