//! Programs that judge a file system and come from crates.io: `.ci/run` installs them once for each clone.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::mounted::BINARY;
use super::shell;

/// The program `name` of the crate of that name, in exactly this version; fails with the command that installs it.
pub(crate) fn installed(name: &str, version: &str) -> PathBuf {
    // The program under test lies in a folder of the target directory.
    let found = Path::new(BINARY)
        .ancestors()
        .map(|folder| folder.join("tools/bin").join(name))
        .find(|program| program.is_file());
    let install = format!("cargo install --locked --version {version} --root target/tools {name}");
    let program = found.unwrap_or_else(|| panic!("{name} is not installed: {install}"));
    let said = shell::stdout(Command::new(&program).arg("--version"));
    assert_eq!(said.trim(), format!("{name} {version}"), "{install}");
    program
}
