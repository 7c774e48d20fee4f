//! `config.toml`: settings for all mounts, and for those of each profile.
//!
//! ```toml
//! [defaults]
//! metadata-ttl = "30s"
//!
//! [profiles.home]
//! address = "https://drive.example.com"
//! read-only = true
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::accounts;
use crate::address::Address;
use crate::cli::nearest::did_you_mean;
use crate::cli::options::{self, Kind};
use crate::config::settings::{Origin, Settings};
use crate::failure::Failure;

/// The file, checked as a whole: what is wrong in a profile that is not used is said, too.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigFile {
    path: PathBuf,
    defaults: Section,
    profiles: Vec<(String, Section)>,
}

/// Keys and their values as text.
type Section = Vec<(String, String)>;

/// Keys that choose where to look, and so cannot stand in what is found there.
const NOT_IN_PROFILES: [&str; 2] = ["profile", "config-dir"];

impl ConfigFile {
    /// Reads `config.toml` in `dir`; an absent one is empty.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("config.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(Self::default())
            }
            Err(err) => Err(Failure::failed(format!("{}: {err}", path.display()))),
        }
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self, Failure> {
        let table: toml::Table = text.parse().map_err(|err: toml::de::Error| {
            let at = err.span().map_or(0, |span| span.start);
            let line = text
                .get(..at)
                .map_or(1, |before| before.matches('\n').count() + 1);
            Failure::usage(format!("{} line {line}: {}", path.display(), err.message()))
        })?;
        let mut file = Self {
            path,
            ..Self::default()
        };
        for (name, value) in table {
            match (name.as_str(), value) {
                ("defaults", toml::Value::Table(keys)) => {
                    file.defaults = file.section("[defaults]", keys)?
                }
                ("profiles", toml::Value::Table(profiles)) => file.add_profiles(profiles)?,
                (name, _) => {
                    let meant =
                        did_you_mean(name, ["defaults", "profiles"], |name| format!("[{name}]"));
                    let words = "only [defaults] and [profiles.NAME] stand at the top";
                    return Err(Failure::usage(format!(
                        "{} {name}: {words}{meant}",
                        file.path.display()
                    )));
                }
            }
        }
        file.check()?;
        Ok(file)
    }

    fn add_profiles(&mut self, profiles: toml::Table) -> Result<(), Failure> {
        for (name, value) in profiles {
            accounts::check_name(&name)
                .map_err(|words| Failure::usage(format!("{}: {words}", self.path.display())))?;
            let toml::Value::Table(keys) = value else {
                let words = format!(
                    "{} profiles.{name}: write [profiles.{name}] and its options below",
                    self.path.display()
                );
                return Err(Failure::usage(words));
            };
            let section = self.section(&format!("[profiles.{name}]"), keys)?;
            self.profiles.push((name, section));
        }
        Ok(())
    }

    fn section(&self, title: &str, keys: toml::Table) -> Result<Section, Failure> {
        let mut section = Section::new();
        for (key, value) in keys {
            let text = self.text(&key, value).map_err(|words| {
                Failure::usage(format!("{} {title} {key}: {words}", self.path.display()))
            })?;
            section.push((key, text));
        }
        Ok(section)
    }

    /// A value as the table's parsers read it.
    fn text(&self, key: &str, value: toml::Value) -> Result<String, String> {
        let kind = options::find(key).map(|(option, _)| option.kind);
        match (value, kind) {
            // What is relative lies beside the file, wherever the command was typed.
            (toml::Value::String(text), Some(Kind::Path)) => {
                let beside = self.path.with_file_name(&text);
                // A bare name of credentials is looked for in $CREDENTIALS_DIRECTORY first.
                let kept = key == "credentials" && !text.contains('/') || text.is_empty();
                Ok(if kept {
                    text
                } else {
                    beside.to_string_lossy().into_owned()
                })
            }
            (toml::Value::String(text), _) => Ok(text),
            (toml::Value::Boolean(yes), _) => Ok(if yes { "yes" } else { "no" }.to_owned()),
            // TOML writes octal as 0o022, and hands over the number.
            (toml::Value::Integer(mode), Some(Kind::Mode)) => Ok(format!("{mode:o}")),
            (toml::Value::Integer(number), _) => Ok(number.to_string()),
            (toml::Value::Array(items), Some(Kind::Globs)) => {
                let globs = items.iter().map(|item| {
                    item.as_str()
                        .ok_or("a list of patterns in quotes is wanted".to_owned())
                });
                Ok(globs.collect::<Result<Vec<_>, _>>()?.join(","))
            }
            (value, _) => Err(format!("a {} is no value for an option", value.type_str())),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let mut scratch = Settings::default();
        self.add_defaults(&mut scratch)?;
        for (name, section) in &self.profiles {
            let forbidden = section
                .iter()
                .find(|(key, _)| NOT_IN_PROFILES.contains(&key.as_str()));
            if let Some((key, _)) = forbidden {
                let words = format!(
                    "{} [profiles.{name}] {key}: it cannot stand in a profile",
                    self.path.display()
                );
                return Err(Failure::usage(words));
            }
            self.add_profile(name, &mut scratch)?;
        }
        Ok(())
    }

    /// Adds `[defaults]` to the settings.
    pub(super) fn add_defaults(&self, settings: &mut Settings) -> Result<(), Failure> {
        let place = format!("{} [defaults] ", self.path.display());
        self.defaults
            .iter()
            .try_for_each(|(key, text)| settings.add_key(Origin::Defaults, &place, key, text))
    }

    /// Adds `[profiles.NAME]` to the settings, where there is one.
    pub(super) fn add_profile(&self, name: &str, settings: &mut Settings) -> Result<(), Failure> {
        let place = format!("{} [profiles.{name}] ", self.path.display());
        let sections = self.profiles.iter().filter(|(profile, _)| profile == name);
        let mut keys = sections.flat_map(|(_, section)| section);
        keys.try_for_each(|(key, text)| settings.add_key(Origin::Profile, &place, key, text))
    }

    /// Names of the profiles that have a section, and the server each names, if it does.
    pub(super) fn profiles(&self) -> impl Iterator<Item = (&str, Option<Address>)> {
        self.profiles.iter().map(|(name, section)| {
            let address = section.iter().find(|(key, _)| key == "address");
            (
                name.as_str(),
                address.and_then(|(_, text)| text.parse().ok()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, Failure> {
        ConfigFile::parse("/etc/x/config.toml".into(), text)
    }

    #[test]
    fn sections_become_settings() {
        let file = parse(
            "[defaults]\nread-only = true\numask = 0o027\nlocal-only = ['*.tmp', '~*']\nca-file = 'ca.pem'\nmetadata-entries = 5000\n\
             [profiles.home]\naddress = 'https://h'\nmemory = '64M'\ncredentials = 'cred'\n[profiles.'h:1']\nmemory = 16777216\n",
        )
        .unwrap();
        let mut settings = Settings::default();
        file.add_defaults(&mut settings).unwrap();
        file.add_profile("home", &mut settings).unwrap();
        file.add_profile("absent", &mut settings).unwrap();
        assert!(settings.flag("read-only"));
        assert_eq!(settings.number("umask"), Some(0o027));
        assert_eq!(settings.number("memory"), Some(64 << 20));
        assert_eq!(settings.path("ca-file"), Some("/etc/x/ca.pem".into()));
        assert_eq!(settings.path_as_given("credentials"), Some("cred".into()));
        let profiles: Vec<_> = file
            .profiles()
            .map(|(name, address)| (name.to_owned(), address.is_some()))
            .collect();
        assert_eq!(
            profiles,
            [("h:1".to_owned(), false), ("home".to_owned(), true)]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_file_place_and_the_nearest_word() {
        for (text, line) in [
            (
                "[defaults]\nordr-by = 'name'\n",
                "/etc/x/config.toml [defaults] ordr-by: no such option; did you mean order-by?",
            ),
            (
                "[profiles.a]\nmemory = 'lots'\n",
                "/etc/x/config.toml [profiles.a] memory=lots: 'lots' is not a size; write bytes, or a number with K, M or G, as 128M",
            ),
            (
                "[profile.a]\n",
                "/etc/x/config.toml profile: only [defaults] and [profiles.NAME] stand at the top; did you mean [profiles]?",
            ),
            (
                "order-by = 'name'\n",
                "/etc/x/config.toml order-by: only [defaults] and [profiles.NAME] stand at the top",
            ),
            (
                "[profiles.a]\nprofile = 'b'\n",
                "/etc/x/config.toml [profiles.a] profile: it cannot stand in a profile",
            ),
            (
                "[defaults]\ntimeout = 1.5\n",
                "/etc/x/config.toml [defaults] timeout: a float is no value for an option",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), Failure::usage(line));
        }
        let said = parse("[defaults]\nmemory = \n").unwrap_err().to_string();
        assert!(said.starts_with("/etc/x/config.toml line 2: "), "{said}");
        let said = parse("[profiles.a]\npassword = 'hunter2'\n")
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("login") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn no_file_is_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            ConfigFile::read(dir.path())
                .unwrap()
                .profiles()
                .next()
                .is_none()
        );
        assert!(ConfigFile::read(&dir.path().join("absent")).is_ok());
    }
}
