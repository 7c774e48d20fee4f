//! What a user may type: the commands and their arguments.
//!
//! Checks the form of it and does nothing. Values of a mount's options stay text here: `config` reads them in the
//! same way from all four sources, by the table in [`options`]. Never prints and never exits.

pub mod nearest;
pub mod options;
pub mod values;

mod args;
mod typed;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::address::Address;
use crate::failure::Failure;
use args::Cli;
pub use args::{
    CacheArgs, CacheClearArgs, CacheCommand, CacheShowArgs, Command, CompletionsArgs, DoctorArgs,
    HelperArgs, LoginArgs, LogoutArgs, MountArgs, PinArgs, ProfilesArgs, StatusArgs, SyncArgs,
    UmountArgs, UnpinArgs, WarmArgs, WhyArgs,
};
use nearest::did_you_mean;
pub use typed::{LOCAL, MOUNT, SERVER, Typed};

/// Commands that the interface names and that are not there yet.
pub const LATER: &[&str] = &["versions", "restore", "trash", "share", "link"];

/// What the program is called for; decides its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By a person or a script: `cloudreve-fuse COMMAND …`.
    Command,
    /// By mount(8): `mount.cloudreve URI DIR -o …`, `cloudreve-fuse URI DIR -o …`.
    MountHelper,
}

/// A command line, understood.
#[derive(Debug)]
pub struct Invocation {
    /// How often `-v` was given.
    pub verbosity: u8,
    /// What to do.
    pub command: Command,
}

/// What to do instead of a command.
#[derive(Debug)]
pub enum Instead {
    /// Print this, the help or the version, and end well.
    Show(String),
    /// It was not understood.
    Fail(Failure),
}

/// For what a command line calls the program: by its own name, or by a first argument that is a URI.
pub fn form(args: &[OsString]) -> Form {
    let name = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .unwrap_or_default();
    let is_uri = |arg: &OsString| {
        let arg = arg.to_string_lossy().to_ascii_lowercase();
        ["cloudreve://", "https://", "http://"]
            .iter()
            .any(|scheme| arg.starts_with(scheme))
    };
    match name.to_string_lossy().starts_with("mount.") || args.get(1).is_some_and(is_uri) {
        true => Form::MountHelper,
        false => Form::Command,
    }
}

/// Understands a command line, the program's name included.
pub fn parse(args: &[OsString]) -> Result<Invocation, Instead> {
    if form(args) == Form::MountHelper {
        let helper = HelperArgs::try_parse_from(args).map_err(|err| instead(err, args))?;
        let command = Command::Helper(helper);
        return Ok(Invocation {
            verbosity: 0,
            command,
        });
    }
    let matches = definition().try_get_matches_from(args);
    let matches = matches.map_err(|err| instead(err, args))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|err| instead(err, args))?;
    if let Command::Other(words) = &cli.command {
        return Err(Instead::Fail(no_such_command(
            words.first().map_or(OsStr::new(""), OsString::as_os_str),
        )));
    }
    Ok(Invocation {
        verbosity: cli.verbose,
        command: cli.command,
    })
}

/// The whole command line as clap knows it, for help and completions.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// The address of a server as `login` and `doctor` take it: also that of any of its pages.
pub fn server_address(typed: &OsStr) -> Result<Address, String> {
    let text = typed.to_str().ok_or("the address is not UTF-8")?;
    let target = text.parse::<crate::address::Target>();
    match target {
        Ok(crate::address::Target {
            address: Some(address),
            ..
        }) => Ok(address),
        Ok(_) | Err(crate::address::TargetError::Neither) => {
            let hint = if text.is_empty() || text.contains("://") {
                String::new()
            } else {
                format!("; did you mean https://{text}?")
            };
            Err(format!(
                "'{text}': {}{hint}",
                crate::address::AddressError::NotWeb
            ))
        }
        // Not repeated: a password may stand in it.
        Err(err) => Err(err.to_string()),
    }
}

fn no_such_command(word: &OsStr) -> Failure {
    let word = word.to_string_lossy();
    if LATER.contains(&word.as_ref()) {
        return Failure::failed(format!(
            "'{word}' is not there yet: this version mounts, reads and writes; 'cloudreve-fuse --help' lists what it can do"
        ));
    }
    let definition = definition();
    let meant = did_you_mean(
        &word,
        definition.get_subcommands().map(clap::Command::get_name),
        str::to_owned,
    );
    Failure::usage(format!(
        "'{word}' is no command{meant} ('cloudreve-fuse --help' lists them)"
    ))
}

/// The command that was typed, as deep as it is known, and the words that lead to it.
fn typed_command<'a>(
    definition: &'a clap::Command,
    args: &[OsString],
) -> (&'a clap::Command, Vec<&'a str>) {
    let (mut command, mut words) = (definition, Vec::new());
    for word in args.iter().skip(1) {
        if let Some(inner) = command.find_subcommand(word) {
            command = inner;
            words.push(inner.get_name());
        }
    }
    (command, words)
}

fn names_of(command: &clap::Command) -> Vec<&str> {
    command
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect()
}

fn no_command(args: &[OsString]) -> String {
    let definition = definition();
    match typed_command(&definition, args) {
        (_, words) if words.is_empty() => {
            "a command is missing; 'cloudreve-fuse --help' lists them".to_owned()
        }
        (command, words) => {
            let words = words.join(" ");
            format!(
                "'{words}' is not all: {}; see 'cloudreve-fuse {words} --help'",
                names_of(command)
                    .iter()
                    .map(|name| format!("{words} {name}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    }
}

fn no_such_subcommand(typed: &str, args: &[OsString]) -> String {
    let definition = definition();
    let (command, words) = typed_command(&definition, args);
    let words = words.join(" ");
    let known = names_of(command);
    let meant = did_you_mean(typed, known.iter().copied(), |name| {
        format!("{words} {name}")
    });
    format!("'{words} {typed}' is no command{meant} ('cloudreve-fuse {words} --help' lists them)")
}

/// Clap's several lines for a person become our one; help and version are no failure.
fn instead(err: clap::Error, args: &[OsString]) -> Instead {
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Instead::Show(err.render().to_string());
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            return Instead::Fail(Failure::usage(no_command(args)));
        }
        ErrorKind::InvalidSubcommand => {
            if let Some(ContextValue::String(typed)) = err.get(ContextKind::InvalidSubcommand) {
                return Instead::Fail(Failure::usage(no_such_subcommand(typed, args)));
            }
        }
        ErrorKind::UnknownArgument => {
            if let Some(ContextValue::String(typed)) = err.get(ContextKind::InvalidArg) {
                return Instead::Fail(Failure::usage(no_such_option(typed, args)));
            }
        }
        _ => {}
    }
    Instead::Fail(Failure::usage(one_line(&err)))
}

/// What clap says, without the usage and the hints that follow it on lines of their own.
fn one_line(err: &clap::Error) -> String {
    if let (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) =
        (err.kind(), err.get(ContextKind::InvalidArg))
    {
        return format!("missing: {}; see --help", missing.join(" "));
    }
    let text = err.render().to_string();
    let is_hint = |part: &&str| !part.starts_with("Usage:") && !part.starts_with("For more");
    let told: Vec<&str> = text.split("\n\n").filter(is_hint).collect();
    let told = told.join("\n");
    told.strip_prefix("error: ").unwrap_or(&told).to_owned()
}

fn no_such_option(typed: &str, args: &[OsString]) -> String {
    let Some(name) = typed.strip_prefix("--") else {
        return format!("'{typed}' was not expected; see --help");
    };
    if options::is_secret(name) {
        return format!("--{name}: {}", options::SECRETS_HINT);
    }
    // What another command takes is no help here.
    let mut definition = definition();
    // Only then do the commands know the options that all have.
    definition.build();
    let (command, words) = typed_command(&definition, args);
    let options: Vec<&str> = command
        .get_arguments()
        .flat_map(|option| option.get_long_and_visible_aliases().unwrap_or_default())
        .collect();
    let meant = did_you_mean(name, options, |name| format!("--{name}"));
    let is_of_another = options::names().any(|other| other == name);
    match (words.join(" "), is_of_another) {
        (words, true) if !words.is_empty() => {
            format!("--{name}: '{words}' has no such option{meant}")
        }
        _ => format!("--{name}: no such option{meant}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    fn parsed(line: &[&str]) -> Command {
        match parse(&args(line)) {
            Ok(invocation) => invocation.command,
            Err(instead) => panic!("{line:?}: {instead:?}"),
        }
    }

    fn refused(line: &[&str]) -> Failure {
        match parse(&args(line)) {
            Err(Instead::Fail(failure)) => failure,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_contradiction_in_the_definition() {
        definition().debug_assert();
        HelperArgs::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let definition = definition();
        let commands = definition.get_subcommands();
        for command in commands.flat_map(|command| command.get_subcommands().chain([command])) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            assert!(help.contains("cloudreve-fuse"), "{}", command.get_name());
        }
    }

    #[test]
    fn mount_8_is_known_by_the_programs_name_or_by_a_uri_in_the_first_place() {
        for (line, expected) in [
            (
                &["mount.cloudreve", "cloudreve://my/", "/m"][..],
                Form::MountHelper,
            ),
            (&["/sbin/mount.cloudreve-fuse", "x"], Form::MountHelper),
            (
                &["/usr/bin/cloudreve-fuse", "cloudreve://my/", "/m"],
                Form::MountHelper,
            ),
            (
                &["cloudreve-fuse", "HTTPS://h/s/AbCd", "/m"],
                Form::MountHelper,
            ),
            (
                &["cloudreve-fuse", "mount", "https://h", "/m"],
                Form::Command,
            ),
            (&["cloudreve-fuse", "login", "https://h"], Form::Command),
            (&["cloudreve-fuse"], Form::Command),
            (&[], Form::Command),
        ] {
            assert_eq!(form(&args(line)), expected, "{line:?}");
        }
    }

    #[test]
    fn a_mount_helper_takes_what_mount_8_passes_in_its_order() {
        let line = [
            "mount.cloudreve",
            "cloudreve://my/",
            "/m",
            "-sfnv",
            "-N",
            "ns",
            "-o",
            "rw,ro",
            "-t",
            "fuse.cloudreve",
        ];
        let Command::Helper(helper) = parsed(&line) else {
            panic!("not the helper")
        };
        assert_eq!((helper.dir.as_path(), helper.fake), (Path::new("/m"), true));
        assert_eq!(helper.o, ["rw,ro"]);
    }

    #[test]
    fn options_of_the_table_are_flags_whose_text_is_kept_as_typed() {
        let line = [
            "cloudreve-fuse",
            "mount",
            "cloudreve://my/",
            "/m",
            "--order-by",
            "sise",
            "--ro",
            "--hide-uploading=no",
            "--version-upload",
            "--local-only",
            "*.a",
            "--local-only",
            "*.b",
            "-o",
            "a,b",
            "-o",
            "c",
            "-d",
        ];
        let Command::Mount(mount) = parsed(&line) else {
            panic!("not mount")
        };
        let typed: Vec<_> = mount
            .options
            .0
            .iter()
            .map(|(name, text)| (*name, text.to_str().unwrap()))
            .collect();
        assert_eq!(
            typed,
            [
                ("read-only", "yes"),
                ("hide-uploading", "no"),
                ("order-by", "sise"),
                ("local-only", "*.a"),
                ("local-only", "*.b"),
                ("version-upload", "version"),
            ]
        );
        assert!(mount.background);
        assert_eq!(mount.o, ["a,b", "c"]);
    }

    #[test]
    fn what_was_mistyped_is_said_in_one_line_with_the_nearest_word() {
        for (line, said) in [
            (
                &["mout", "a", "b"][..],
                "'mout' is no command; did you mean mount? ('cloudreve-fuse --help' lists them)",
            ),
            (
                &["mount", "a", "b", "--ordr-by", "name"],
                "--ordr-by: no such option; did you mean --order-by?",
            ),
            (
                &["status", "--jsn"],
                "--jsn: no such option; did you mean --json?",
            ),
            (
                &["status", "--verbos"],
                "--verbos: no such option; did you mean --verbose?",
            ),
            (
                &["umount", "a", "--memory", "3"],
                "--memory: 'umount' has no such option",
            ),
            (
                &["cache", "show", "--jsn"],
                "--jsn: no such option; did you mean --json?",
            ),
            (
                &["cache", "clear", "--memory", "3"],
                "--memory: 'cache clear' has no such option",
            ),
            (
                &["cache", "claer"],
                "'cache claer' is no command; did you mean cache clear? ('cloudreve-fuse cache --help' lists them)",
            ),
            (
                &["cache"],
                "'cache' is not all: cache show, cache clear; see 'cloudreve-fuse cache --help'",
            ),
            (&["mount", "a"], "missing: <DIR>; see --help"),
            (
                &[],
                "a command is missing; 'cloudreve-fuse --help' lists them",
            ),
        ] {
            let line = [&["cloudreve-fuse"], line].concat();
            assert_eq!(refused(&line), Failure::usage(said));
        }
        let said =
            refused(&["cloudreve-fuse", "mount", "a", "b", "--password", "hunter2"]).to_string();
        assert!(
            said.contains("CLOUDREVE_PASSWORD") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn commands_that_are_to_come_say_so() {
        for word in LATER {
            let failure = refused(&["cloudreve-fuse", word, "--anything", "/x"]);
            assert_eq!(failure.kind, crate::failure::FailureKind::Failed);
            assert!(failure.to_string().contains("not there yet"), "{failure}");
        }
    }

    #[test]
    fn a_server_is_named_by_its_address_or_any_of_its_pages() {
        let address =
            |text: &str| server_address(OsStr::new(text)).map(|address| address.to_string());
        assert_eq!(
            address("https://h/home?path=/x"),
            Ok("https://h".to_owned())
        );
        assert_eq!(
            address("http://h:1/cloud"),
            Ok("http://h:1/cloud".to_owned())
        );
        assert!(
            address("drive.example.com")
                .unwrap_err()
                .contains("did you mean https://drive.example.com?")
        );
        assert!(
            !address("https://me:hunter2@h")
                .unwrap_err()
                .contains("hunter2")
        );
    }
}
