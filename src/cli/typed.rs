//! The table's options as flags of the command line.

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::cli::options::{self, Effect, Fallback, Kind, MountOption, OPTIONS, Scope};

/// Options of commands that look at this machine.
pub const LOCAL: u8 = Scope::Local as u8;
/// Options of commands that speak to a server.
pub const SERVER: u8 = Scope::Server as u8;
/// All options.
pub const MOUNT: u8 = Scope::Mount as u8;

/// What was typed for the options up to a scope: names and unread text, in the table's order.
#[derive(Debug, Clone, Default)]
pub struct Typed<const SCOPE: u8>(pub Vec<(&'static str, OsString)>);

impl<const SCOPE: u8> Args for Typed<SCOPE> {
    fn augment_args(cmd: Command) -> Command {
        let options = OPTIONS.iter().filter(|option| option.scope as u8 <= SCOPE);
        let cmd = options.fold(cmd, |cmd, option| cmd.arg(arg(option)));
        // The one alias that carries a value is a flag of its own.
        match SCOPE == MOUNT {
            true => cmd.arg(
                Arg::new("version-upload")
                    .long("version-upload")
                    .hide(true)
                    .action(ArgAction::SetTrue),
            ),
            false => cmd,
        }
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl<const SCOPE: u8> FromArgMatches for Typed<SCOPE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut typed = Self::default();
        for option in OPTIONS.iter().filter(|option| option.scope as u8 <= SCOPE) {
            let given = matches
                .get_many::<OsString>(option.name)
                .unwrap_or_default();
            typed
                .0
                .extend(given.map(|text| (option.name, text.clone())));
        }
        if SCOPE == MOUNT && matches.get_flag("version-upload") {
            typed.0.push(("version-upload", "version".into()));
        }
        Ok(typed)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(option: &'static MountOption) -> Arg {
    let default = match option.default {
        Fallback::Value(text) | Fallback::Described(text) => text,
    };
    let later = match option.effect {
        Effect::Now => "",
        Effect::Later => " (no effect yet)",
    };
    let arg = Arg::new(option.name)
        .long(option.name)
        .help(format!("{}{later} [default: {default}]", option.help))
        .value_name(option.placeholder())
        .value_parser(AnyText(option))
        .action(ArgAction::Append)
        .hide(option.hidden)
        .hide_possible_values(matches!(option.kind, Kind::ChoiceOr(..)))
        .help_heading("Settings");
    let aliases = options::ALIASES
        .iter()
        .filter(|(_, name, value)| *name == option.name && value.is_none());
    let arg = aliases.fold(arg, |arg, (alias, ..)| arg.visible_alias(*alias));
    match option.kind {
        Kind::Flag => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("yes")
            .hide_possible_values(true),
        _ => arg,
    }
}

/// Takes any text, and knows the words of a choice for help and completions: what is malformed is said by `config`,
/// in the same words for all sources.
#[derive(Clone)]
struct AnyText(&'static MountOption);

impl TypedValueParser for AnyText {
    type Value = OsString;

    fn parse_ref(
        &self,
        _: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.0.words();
        let values = words.iter().map(|word| PossibleValue::new(*word));
        (!words.is_empty()).then(|| Box::new(values) as Box<_>)
    }
}
