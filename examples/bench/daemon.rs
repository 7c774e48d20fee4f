//! This executable as the program itself: the daemon needs a process of its own, since one that calls its own mount
//! can deadlock, and building this example builds no other binary.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use cloudreve_fuse::cli::{self, Instead};
use cloudreve_fuse::commands;
use cloudreve_fuse::config::environment::Environment;

use crate::Outcome;

/// First argument that makes this executable the program; what follows is the program's command line.
pub(crate) const FLAG: &str = "--as-the-program";

/// What `main` of the program does.
pub(crate) fn be_the_program(arguments: &[OsString], environment: &Environment) -> ExitCode {
    let args = [&["cloudreve-fuse".into()], arguments].concat();
    let form = cli::form(&args);
    let outcome = match cli::parse(&args) {
        Ok(invocation) => {
            commands::logging(invocation.verbosity, environment);
            commands::run(invocation.command, environment)
        }
        Err(Instead::Show(text)) => commands::print(&text),
        Err(Instead::Fail(failure)) => Err(failure),
    };
    if let Err(failure) = &outcome {
        eprintln!("cloudreve-fuse: {failure}");
    }
    ExitCode::from(commands::exit_code(form, &outcome))
}

/// The program, with all it keeps in `home` and nothing of this process's environment that it listens to.
pub(crate) fn program(home: &Path) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("CLOUDREVE_") {
            command.env_remove(key);
        }
    }
    command
        .arg(FLAG)
        .env("CLOUDREVE_CONFIG_DIR", home.join("config"))
        .env("CLOUDREVE_STATE_DIR", home.join("state"))
        .env("CLOUDREVE_CACHE_DIR", home.join("cache"))
        .env("CLOUDREVE_CONTROL", home.join("run"))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("RUST_LOG");
    Ok(command)
}
