//! What was set for each option of the table, by whom, and which of it counts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::cli::nearest::did_you_mean;
use crate::cli::options::{self, Effect, Fallback, MountOption, Value};
use crate::cli::values;
use crate::config::environment::{Environment, SECRET_VARIABLES};
use crate::failure::Failure;

/// Where a setting comes from, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `[defaults]` of config.toml.
    Defaults,
    /// `[profiles.NAME]` of config.toml.
    Profile,
    /// `CLOUDREVE_…`.
    Environment,
    /// `-o …`.
    MountOption,
    /// `--…`.
    Flag,
}

/// What counts for each option that somebody set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    chosen: BTreeMap<&'static str, Chosen>,
}

#[derive(Debug, Clone)]
struct Chosen {
    origin: Origin,
    value: Value,
    /// As its source writes it, for messages.
    written: String,
}

/// A setting in its source's spelling: where it stands, its name there and its text.
struct Written<'a> {
    origin: Origin,
    /// What comes before the name in messages: `-o `, a file and section, nothing.
    place: &'a str,
    name: &'a str,
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place, spelled(self.origin, self.name))
    }
}

/// A name of the table as a source spells it.
fn spelled(origin: Origin, name: &str) -> String {
    match origin {
        Origin::Flag => format!("--{name}"),
        Origin::MountOption => name.replace('-', "_"),
        Origin::Environment => format!("CLOUDREVE_{}", name.replace('-', "_").to_uppercase()),
        Origin::Profile | Origin::Defaults => name.to_owned(),
    }
}

impl Settings {
    /// Adds what was typed as flags.
    pub fn add_flags(&mut self, typed: &[(&'static str, OsString)]) -> Result<(), Failure> {
        for (name, text) in typed {
            self.add(Origin::Flag, "", name, Some(text))?;
        }
        Ok(())
    }

    /// Adds one option of `-o`: its name, with `_` or `-`, and its value; none is `yes` of a flag.
    pub fn add_mount_option(&mut self, name: &str, value: Option<&OsStr>) -> Result<(), Failure> {
        self.add(Origin::MountOption, "-o ", &name.replace('_', "-"), value)
    }

    /// Adds all `CLOUDREVE_…` variables; unknown ones are refused. `CLOUDREVE_TEST_…` belongs to our tests.
    pub fn add_environment(&mut self, environment: &Environment) -> Result<(), Failure> {
        for (variable, value) in environment.ours() {
            let name = variable
                .trim_start_matches("CLOUDREVE_")
                .to_lowercase()
                .replace('_', "-");
            if name.starts_with("test-") {
                continue;
            }
            if options::find(&name).is_none() {
                let secrets = SECRET_VARIABLES
                    .iter()
                    .map(|variable| (*variable).to_owned());
                let known: Vec<String> = options::names()
                    .map(|name| spelled(Origin::Environment, name))
                    .chain(secrets)
                    .collect();
                let meant =
                    did_you_mean(&variable, known.iter().map(String::as_str), str::to_owned);
                return Err(Failure::usage(format!(
                    "{variable} in the environment: no such setting{meant}"
                )));
            }
            self.add(Origin::Environment, "", &name, Some(value))?;
        }
        Ok(())
    }

    /// Adds a key of config.toml; `place` names file and section, with a space behind it.
    pub fn add_key(
        &mut self,
        origin: Origin,
        place: &str,
        key: &str,
        text: &str,
    ) -> Result<(), Failure> {
        self.add(origin, place, key, Some(OsStr::new(text)))
    }

    fn add(
        &mut self,
        origin: Origin,
        place: &str,
        name: &str,
        text: Option<&OsStr>,
    ) -> Result<(), Failure> {
        let written = Written {
            origin,
            place,
            name,
        };
        let Some((option, implied)) = options::find(name) else {
            return Err(unknown(&written, text));
        };
        let shown = |text: &OsStr| format!("{written}={}", text.to_string_lossy());
        let text = match (implied, text) {
            // An alias that stands for a value is itself a flag.
            (Some(value), None) => OsStr::new(value),
            (Some(value), Some(text)) if text == value || is_yes(text) => OsStr::new(value),
            (Some(_), Some(text)) => {
                return Err(Failure::usage(format!(
                    "{}: it takes no value",
                    shown(text)
                )));
            }
            (None, Some(text)) => text,
            (None, None) if matches!(option.kind, options::Kind::Flag) => OsStr::new("yes"),
            (None, None) => {
                let placeholder = option.placeholder();
                return Err(Failure::usage(format!(
                    "{written}: it needs a value: {written}={placeholder}"
                )));
            }
        };
        let value = option
            .parse(text)
            .map_err(|words| Failure::usage(format!("{}: {words}", shown(text))))?;
        self.choose(
            option,
            Chosen {
                origin,
                value,
                written: shown(text),
            },
        );
        Ok(())
    }

    /// The stronger origin counts; within one the later, except that lists add up.
    fn choose(&mut self, option: &'static MountOption, new: Chosen) {
        let Some(old) = self.chosen.get_mut(option.name) else {
            self.chosen.insert(option.name, new);
            return;
        };
        match (new.origin.cmp(&old.origin), &mut old.value, new.value) {
            (Ordering::Less, ..) => {}
            (Ordering::Equal, Value::List(list), Value::List(more)) => list.extend(more),
            (_, old_value, value) => {
                *old_value = value;
                (old.origin, old.written) = (new.origin, new.written);
            }
        }
    }

    /// Who set the option; none where its default counts.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        self.chosen.get(name).map(|chosen| chosen.origin)
    }

    /// The option as its source writes it, for messages; `--name` where nobody set it.
    pub fn written(&self, name: &str) -> String {
        self.chosen
            .get(name)
            .map_or_else(|| format!("--{name}"), |chosen| chosen.written.clone())
    }

    /// A flag.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// A size, count or mode; none where nobody set it and its default is no number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// A length of time with a default.
    pub fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Time(time)) => time,
            _ => Duration::ZERO,
        }
    }

    /// A word or text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Patterns; none where nobody set any.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(list)) => list,
            _ => Vec::new(),
        }
    }

    /// A path, made absolute: the daemon leaves the directory it was started in.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.path_as_given(name)?;
        Some(std::path::absolute(&path).unwrap_or(path))
    }

    /// A path, as given.
    pub fn path_as_given(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// A server.
    pub fn address(&self, name: &str) -> Option<Address> {
        match self.value(name) {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        }
    }

    /// A line for each option that was set to something other than its default and does nothing yet.
    pub fn without_effect(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for option in options::OPTIONS {
            let Some(chosen) = self.chosen.get(option.name) else {
                continue;
            };
            let later = option.effect == Effect::Later;
            if later && fallback(option).as_ref() != Some(&chosen.value) {
                lines.push(format!("{} has no effect yet", chosen.written));
            }
        }
        lines
    }

    fn value(&self, name: &str) -> Option<Value> {
        match self.chosen.get(name) {
            Some(chosen) => Some(chosen.value.clone()),
            None => options::find(name).and_then(|(option, _)| fallback(option)),
        }
    }
}

fn fallback(option: &MountOption) -> Option<Value> {
    match option.default {
        Fallback::Value(text) => option.parse(OsStr::new(text)).ok(),
        Fallback::Described(_) => None,
    }
}

fn is_yes(text: &OsStr) -> bool {
    text.to_str()
        .is_some_and(|text| values::flag(text) == Ok(true))
}

fn unknown(written: &Written<'_>, text: Option<&OsStr>) -> Failure {
    if options::is_secret(written.name) {
        // Its text is not repeated.
        return Failure::usage(format!("{written}: {}", options::SECRETS_HINT));
    }
    let shown = match text {
        Some(text) if written.origin == Origin::MountOption => {
            format!("{written}={}", text.to_string_lossy())
        }
        _ => written.to_string(),
    };
    let meant = did_you_mean(written.name, options::names(), |name| {
        spelled(written.origin, name)
    });
    Failure::usage(format!("{shown}: no such option{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All origins set `timeout`, from the weakest up; each in turn must win over those before it.
    #[test]
    fn command_line_beats_o_beats_environment_beats_profile_beats_defaults() {
        let sources: [fn(&mut Settings); 5] = [
            |s| {
                s.add_key(Origin::Defaults, "config.toml ", "timeout", "1s")
                    .unwrap()
            },
            |s| {
                s.add_key(Origin::Profile, "config.toml ", "timeout", "2s")
                    .unwrap()
            },
            |s| {
                s.add_environment(&Environment::new([("CLOUDREVE_TIMEOUT", "3s")], 0, 0))
                    .unwrap()
            },
            |s| {
                s.add_mount_option("timeout", Some(OsStr::new("4s")))
                    .unwrap()
            },
            |s| s.add_flags(&[("timeout", "5s".into())]).unwrap(),
        ];
        assert_eq!(Settings::default().time("timeout"), Duration::from_secs(30));
        for weaker in 0..sources.len() {
            for stronger in weaker..sources.len() {
                for order in [[weaker, stronger], [stronger, weaker]] {
                    let mut settings = Settings::default();
                    order
                        .iter()
                        .for_each(|source| sources[*source](&mut settings));
                    let expected = Duration::from_secs(stronger as u64 + 1);
                    assert_eq!(
                        settings.time("timeout"),
                        expected,
                        "{weaker} against {stronger}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_source_names_itself_and_the_nearest_name_in_its_own_spelling() {
        let mut settings = Settings::default();
        let environment = |name: &str| Environment::new([(name, "x")], 0, 0);
        let cases = [
            (
                settings.add_mount_option("ordr_by", Some(OsStr::new("name"))),
                "-o ordr_by=name: no such option; did you mean order_by?",
            ),
            (
                settings.add_environment(&environment("CLOUDREVE_ORDR_BY")),
                "CLOUDREVE_ORDR_BY in the environment: no such setting; did you mean CLOUDREVE_ORDER_BY?",
            ),
            (
                settings.add_environment(&environment("CLOUDREVE_PASSWROD")),
                "CLOUDREVE_PASSWROD in the environment: no such setting; did you mean CLOUDREVE_PASSWORD?",
            ),
            (
                settings.add_key(Origin::Defaults, "/c.toml [defaults] ", "ordr-by", "name"),
                "/c.toml [defaults] ordr-by: no such option; did you mean order-by?",
            ),
            (
                settings.add_key(Origin::Defaults, "/c.toml [defaults] ", "order_by", "name"),
                "/c.toml [defaults] order_by: no such option; did you mean order-by?",
            ),
            (
                settings.add_mount_option("timeout", None),
                "-o timeout: it needs a value: -o timeout=TIME",
            ),
            (
                settings.add_mount_option("order_by", Some(OsStr::new("sise"))),
                "-o order_by=sise: 'sise' is not one of name, size, updated_at, created_at; did you mean size?",
            ),
            (
                settings.add_environment(&Environment::new([("CLOUDREVE_TIMEOUT", "soon")], 0, 0)),
                "CLOUDREVE_TIMEOUT=soon: 'soon' is not a duration; write a number with ms, s, m, h or d, as 30s",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found.unwrap_err(), Failure::usage(expected));
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_refused_and_not_repeated() {
        let mut settings = Settings::default();
        let said = settings
            .add_mount_option("password", Some(OsStr::new("hunter2")))
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("credentials=FILE") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn flags_and_aliases_take_what_each_source_can_write() {
        let mut settings = Settings::default();
        settings.add_mount_option("ro", None).unwrap();
        settings.add_mount_option("version_upload", None).unwrap();
        assert!(settings.flag("read-only"));
        assert_eq!(settings.text("overwrite"), Some("version".to_owned()));
        settings.add_flags(&[("read-only", "no".into())]).unwrap();
        assert!(!settings.flag("read-only"));
        let said = settings
            .add_mount_option("version_upload", Some(OsStr::new("delete")))
            .unwrap_err();
        assert!(said.to_string().contains("takes no value"));
    }

    #[test]
    fn what_has_no_effect_yet_says_so_once() {
        let mut settings = Settings::default();
        settings
            .add_flags(&[("transfers", "2".into()), ("metrics", "[::1]:1".into())])
            .unwrap();
        assert_eq!(
            settings.without_effect(),
            ["--metrics=[::1]:1 has no effect yet"]
        );
    }
}
