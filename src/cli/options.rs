//! The options of a mount: one table for the command line, `-o`, the environment and config.toml.
//!
//! Name, type, default and help stand here and nowhere else; the four sources spell a name each in their way
//! (`--order-by`, `-o order_by`, `CLOUDREVE_ORDER_BY`, `order-by =`) and hand its text to [`MountOption::parse`].

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::{Address, AddressError};
use crate::cli::nearest::did_you_mean;
use crate::cli::values;
use crate::globs::Glob;

/// One option.
#[derive(Debug)]
pub struct MountOption {
    /// Its long name, with `-`.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What counts where nobody set it.
    pub default: Fallback,
    /// One line for `--help`.
    pub help: &'static str,
    /// Which commands take it.
    pub scope: Scope,
    /// Whether it does something already.
    pub effect: Effect,
    /// Left out of `--help`: for tests and packagers.
    pub hidden: bool,
}

/// What an option's values are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Set or not.
    Flag,
    /// Bytes, at least so many.
    Size(u64),
    /// A length of time within bounds, in milliseconds.
    Duration(u64, u64),
    /// A whole number within bounds.
    Count(u64, u64),
    /// Permission bits in octal.
    Mode,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or text behind one of these prefixes.
    ChoiceOr(
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
    ),
    /// A path; not necessarily UTF-8.
    Path,
    /// A server's base URL.
    Address,
    /// Patterns of file names, separated by commas; several times adds up.
    Globs,
    /// Anything; what `--help` calls it.
    Text(&'static str),
}

/// What counts where nobody set an option.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// What these words describe; who asks for the value finds none.
    Described(&'static str),
}

/// Which commands take an option, each including those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All that look at this machine: where things are kept.
    Local,
    /// All that speak to a server.
    Server,
    /// `mount` alone.
    Mount,
}

/// Whether an option does something already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Now,
    /// It is checked and kept, and does nothing yet.
    Later,
}

/// An option's value, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a flag.
    Flag(bool),
    /// Bytes, a count, permission bits.
    Number(u64),
    /// A length of time.
    Time(Duration),
    /// A word of a choice, or text.
    Text(String),
    /// A path as given.
    Path(PathBuf),
    /// A server.
    Address(Address),
    /// Patterns.
    List(Vec<String>),
}

/// Other words for an option, or for one of its values.
pub const ALIASES: &[(&str, &str, Option<&str>)] = &[
    ("ro", "read-only", None),
    ("version-upload", "overwrite", Some("version")),
];

const DAY_MS: u64 = 24 * 3600 * 1000;

const fn option(
    name: &'static str,
    kind: Kind,
    default: Fallback,
    help: &'static str,
) -> MountOption {
    MountOption {
        name,
        kind,
        default,
        help,
        scope: Scope::Mount,
        effect: Effect::Now,
        hidden: false,
    }
}

impl MountOption {
    const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// The value that `raw` means, or words that say what it should be.
    pub fn parse(&self, raw: &OsStr) -> Result<Value, String> {
        match (self.kind, raw.to_str()) {
            (Kind::Path, _) if raw.is_empty() => Err("the path is empty".to_owned()),
            (Kind::Path, _) => Ok(Value::Path(raw.into())),
            (_, Some(text)) => self.parse_text(text.trim()),
            (_, None) => Err("it is not UTF-8".to_owned()),
        }
    }

    fn parse_text(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Flag => values::flag(text).map(Value::Flag),
            Kind::Size(least) => {
                let bytes = bounded(values::size(text)?, least, u64::MAX, values::show_size)?;
                Ok(Value::Number(bytes))
            }
            Kind::Duration(least, most) => {
                let show = |ms| values::show_duration(Duration::from_millis(ms));
                let ms = u64::try_from(values::duration(text)?.as_millis()).unwrap_or(u64::MAX);
                let ms = bounded(ms, least, most, show)?;
                Ok(Value::Time(Duration::from_millis(ms)))
            }
            Kind::Count(least, most) => {
                let count = text
                    .parse()
                    .map_err(|_| format!("'{text}' is not a whole number"))?;
                let count = bounded(count, least, most, |count| count.to_string())?;
                Ok(Value::Number(count))
            }
            Kind::Mode => values::mode(text).map(Value::Number),
            Kind::Choice(words) => choice(text, words, &[]).map(Value::Text),
            Kind::ChoiceOr(words, prefixes) => {
                let chosen = choice(text, words, prefixes)?;
                for (prefix, what) in prefixes {
                    if *what == "URL" && chosen.strip_prefix(prefix).is_some_and(|url| !is_web(url))
                    {
                        // The text may hold a key here, so it is not repeated.
                        return Err(format!(
                            "what follows {prefix} is no http:// or https:// URL"
                        ));
                    }
                }
                Ok(Value::Text(chosen))
            }
            Kind::Address => match text.parse() {
                Ok(address) => Ok(Value::Address(address)),
                Err(AddressError::NotWeb) => {
                    Err(format!("'{text}' is no address; {}", AddressError::NotWeb))
                }
                // The text may hold a password here, so it is not repeated.
                Err(err) => Err(err.to_string()),
            },
            Kind::Globs => globs(text).map(Value::List),
            Kind::Text(_) | Kind::Path if text.is_empty() => Err("it is empty".to_owned()),
            Kind::Text(_) => Ok(Value::Text(text.to_owned())),
            Kind::Path => Ok(Value::Path(text.into())),
        }
    }

    /// What `--help` calls its value.
    pub fn placeholder(&self) -> &'static str {
        match self.kind {
            Kind::Flag => "YES|NO",
            Kind::Size(_) => "SIZE",
            Kind::Duration(..) => "TIME",
            Kind::Count(..) => "N",
            Kind::Mode => "OCTAL",
            Kind::Choice(_) | Kind::ChoiceOr(..) => "WORD",
            Kind::Path => "PATH",
            Kind::Address => "URL",
            Kind::Globs => "GLOB",
            Kind::Text(what) => what,
        }
    }

    /// The words of a choice, for completions and `--help`.
    pub fn words(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Choice(words) | Kind::ChoiceOr(words, _) => words,
            _ => &[],
        }
    }
}

/// Names of secrets, which have no form that other users could read.
const SECRETS: [&str; 5] = [
    "password",
    "pass",
    "refresh-token",
    "access-token",
    "oauth-secret",
];

/// What to do instead of typing a secret where it would be seen or kept.
pub const SECRETS_HINT: &str = "a secret has no place here; use 'login', credentials=FILE, or CLOUDREVE_PASSWORD, \
    CLOUDREVE_REFRESH_TOKEN, CLOUDREVE_ACCESS_TOKEN in the environment";

/// Whether `name` (with `-` or `_`) asks for a secret.
pub fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name.replace('_', "-").as_str())
}

/// The option called `name` (with `-`), also by another word for it; and the value that the word implies.
pub fn find(name: &str) -> Option<(&'static MountOption, Option<&'static str>)> {
    let alias = ALIASES.iter().find(|(alias, ..)| *alias == name);
    let (name, value) = alias.map_or((name, None), |(_, name, value)| (*name, *value));
    let option = OPTIONS.iter().find(|option| option.name == name)?;
    Some((option, value))
}

/// All names that [`find`] knows, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    let aliases = ALIASES.iter().map(|(alias, ..)| *alias);
    OPTIONS.iter().map(|option| option.name).chain(aliases)
}

fn bounded(value: u64, least: u64, most: u64, show: impl Fn(u64) -> String) -> Result<u64, String> {
    match value {
        v if v < least => Err(format!("it must be at least {}", show(least))),
        v if v > most => Err(format!("it must be at most {}", show(most))),
        v => Ok(v),
    }
}

fn choice(text: &str, words: &[&str], prefixes: &[(&str, &str)]) -> Result<String, String> {
    let known = |prefix: &&(&str, &str)| {
        text.strip_prefix(prefix.0)
            .is_some_and(|rest| !rest.is_empty())
    };
    if words.contains(&text) || prefixes.iter().any(|prefix| known(&prefix)) {
        return Ok(text.to_owned());
    }
    let meant = did_you_mean(text, words.iter().copied(), str::to_owned);
    let forms = prefixes
        .iter()
        .map(|(prefix, what)| format!("{prefix}{what}"));
    let all: Vec<String> = words
        .iter()
        .map(|word| (*word).to_owned())
        .chain(forms)
        .collect();
    Err(format!("'{text}' is not one of {}{meant}", all.join(", ")))
}

/// Whether `text`, perhaps a template with `{url}` in it, is a URL that can be asked.
fn is_web(text: &str) -> bool {
    let url = url::Url::parse(&text.replace("{url}", "url"));
    url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn globs(text: &str) -> Result<Vec<String>, String> {
    let globs = text.split(',').map(str::trim);
    let globs = globs.filter(|glob| !glob.is_empty());
    globs
        .map(|glob| match Glob::parse(glob) {
            Ok(_) => Ok(glob.to_owned()),
            Err(error) => Err(format!("'{glob}': {error}")),
        })
        .collect()
}

use Effect::Later;
use Fallback::{Described, Value as Is};

/// Every option, in the order of `--help`; a line each, whatever its length.
#[rustfmt::skip]
pub static OPTIONS: &[MountOption] = &[
    option("address", Kind::Address, Described("from the URI or the profile"), "The server: https://host[:port][/prefix]"),
    option("profile", Kind::Text("NAME"), Described("the only one, or the one of the server's host"), "The stored account to use (see 'login')"),
    option("ca-file", Kind::Path, Described("the system's store alone"), "A further certificate authority (PEM), for a server of your own").scope(Scope::Server),
    option("auth", Kind::ChoiceOr(&["profile", "anonymous"], &[("ref:", "/mnt/other")]), Is("profile"), "As whom: a stored account, nobody, or ref:DIR for the account of the mount at DIR"),
    option("credentials", Kind::Path, Described("none"), "A file with username=, password=, refresh_token=, access_token=, address= lines, readable by its owner alone"),
    option("username", Kind::Text("EMAIL"), Described("none"), "E-mail address to sign in with; the password comes from CLOUDREVE_PASSWORD or the credentials file"),
    option("read-only", Kind::Flag, Is("no"), "Mount read-only; on by itself where the account may not write"),
    option("overwrite", Kind::Choice(&["replace", "version", "delete"]), Is("replace"), "What becomes of the old content of an overwritten file: dropped once the new one is there, kept as a version, or deleted first"),
    option("delete", Kind::Choice(&["trash", "permanent"]), Is("trash"), "Where deleted files go"),
    option("durability", Kind::Choice(&["local", "server"]), Is("local"), "What close(2) and fsync(2) wait for: this machine's disk, or the server"),
    option("upload-delay", Kind::Duration(0, DAY_MS), Is("1s"), "Quiet time after a file is closed before its upload begins"),
    option("transfers", Kind::Count(1, 256), Is("8"), "Files uploaded at once; small ones are not held up by large ones"),
    option("hide-uploading", Kind::Flag, Is("no"), "Do not show other clients' unfinished uploads"),
    option("order-by", Kind::Choice(&["name", "size", "updated_at", "created_at"]), Is("name"), "By what folders are ordered when they are read"),
    option("order-direction", Kind::Choice(&["asc", "desc"]), Is("asc"), "The direction of that order"),
    option("folder-size", Kind::Flag, Is("no"), "Show folders with the size of what lies below them"),
    option("thumbnails", Kind::Flag, Is("no"), "Fill the desktop's thumbnail cache from the server"),
    option("user-agent", Kind::Text("TEXT"), Is(concat!("cloudreve-fuse/", env!("CARGO_PKG_VERSION"))), "User-Agent of every request").scope(Scope::Server),
    option("download", Kind::ChoiceOr(&["direct", "server"], &[("proxy=", "URL")]), Is("direct"), "Which way content takes: the signed URL, by the server's own address, or proxy=URL (a prefix, or a template with {url})"),
    option("limit-down", Kind::Size(0), Described("none"), "Bytes of content a second to download at most, over all connections; 0 is no limit"),
    option("limit-up", Kind::Size(0), Described("none"), "Bytes a second to upload at most; 0 is no limit"),
    option("cache-dir", Kind::Path, Described("$XDG_CACHE_HOME/cloudreve-fuse; /var/cache/cloudreve-fuse as root"), "Where content is cached; may be deleted at any time").scope(Scope::Local),
    option("cache-size", Kind::Size(0), Described("10 % of that disk, at most 20G"), "Most that the cache holds, together for all mounts that use it; 0 keeps nothing on disk"),
    option("state-dir", Kind::Path, Described("$XDG_STATE_HOME/cloudreve-fuse; /var/lib/cloudreve-fuse as root"), "Where bytes owed to the server are kept").scope(Scope::Local),
    option("memory", Kind::Size(8 << 20), Is("128M"), "Memory for content in flight"),
    option("metadata-ttl", Kind::Duration(0, DAY_MS), Is("15s"), "Oldest that a name, an attribute or a listing in use may be"),
    option("metadata-entries", Kind::Count(1000, 1 << 32), Is("1000000"), "Files and folders remembered at most"),
    option("timeout", Kind::Duration(100, DAY_MS), Is("30s"), "Longest wait for the network without bytes arriving").scope(Scope::Server),
    option("names", Kind::Choice(&["encode", "reject"]), Is("encode"), "Names the server refuses: exchange their characters for look-alikes, or refuse them"),
    option("uid", Kind::Count(0, u32::MAX as u64 - 1), Described("the mounting user"), "Owner that files show"),
    option("gid", Kind::Count(0, u32::MAX as u64 - 1), Described("the mounting user's group"), "Group that files show"),
    option("umask", Kind::Mode, Is("022"), "Permission bits that files and folders do not show"),
    option("file-mode", Kind::Mode, Described("666 without the umask"), "Permission bits of files, the umask not applied"),
    option("dir-mode", Kind::Mode, Described("777 without the umask"), "Permission bits of folders, the umask not applied"),
    option("local-only", Kind::Globs, Described("none"), "Patterns of names of files and folders; what is written to such files, or in such folders, stays on this machine: '*.tmp,.~lock.*'"),
    option("allow-other", Kind::Flag, Is("no"), "Let other users in; needs user_allow_other in /etc/fuse.conf where not root"),
    option("allow-root", Kind::Flag, Is("no"), "Let root in; needs user_allow_other in /etc/fuse.conf where not root"),
    option("passthrough", Kind::Choice(&["auto", "off"]), Is("auto"), "Let the kernel read files that are complete in the cache, and write new ones, by itself, where it can (Linux 6.9, root)"),
    option("metrics", Kind::Text("ADDR"), Described("off"), "Address for metrics in Prometheus' text format").effect(Later),
    option("control", Kind::Path, Described("under $XDG_RUNTIME_DIR; /run/cloudreve-fuse as root"), "Directory of control sockets").scope(Scope::Local),
    option("config-dir", Kind::Path, Described("$XDG_CONFIG_HOME/cloudreve-fuse; /etc/cloudreve-fuse as root"), "Where config.toml and accounts are").scope(Scope::Local).hidden(),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Result<Value, String> {
        find(name).unwrap().0.parse(OsStr::new(text))
    }

    #[test]
    fn every_default_is_a_value_its_option_takes() {
        for option in OPTIONS {
            if let Is(text) = option.default {
                option
                    .parse(OsStr::new(text))
                    .unwrap_or_else(|err| panic!("{}: {err}", option.name));
            }
        }
    }

    #[test]
    fn names_are_unique_and_aliases_lead_to_options() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(ALIASES.iter().all(|(alias, ..)| find(alias).is_some()));
        assert_eq!(find("version-upload").unwrap().1, Some("version"));
    }

    #[test]
    fn malformed_values_are_refused_with_what_would_do() {
        for (name, text, word) in [
            ("order-by", "sise", "did you mean size?"),
            ("memory", "lots", "128M"),
            ("memory", "1K", "at least 8.00 MiB"),
            ("timeout", "5 parsecs", "30s"),
            ("timeout", "0", "at least 100ms"),
            ("transfers", "many", "whole number"),
            ("umask", "999", "octal"),
            ("auth", "ref:", "ref:/mnt/other"),
            ("auth", "anonymus", "did you mean anonymous?"),
            ("download", "proxy", "proxy=URL"),
            ("download", "proxy=relay/{url}", "https://"),
            ("download", "proxy=ftp://relay/", "https://"),
            ("download", "proxy={url}", "https://"),
            ("address", "drive", "https://host"),
            ("read-only", "maybe", "yes nor no"),
            ("cache-dir", "", "empty"),
        ] {
            let complaint = parse(name, text).unwrap_err();
            assert!(complaint.contains(word), "{name}={text}: {complaint}");
        }
    }

    #[test]
    fn values_become_our_types() {
        assert_eq!(parse("memory", "64M"), Ok(Value::Number(64 << 20)));
        assert_eq!(
            parse("download", "proxy=https://p/{url}"),
            Ok(Value::Text("proxy=https://p/{url}".into()))
        );
        assert_eq!(parse("ro", "yes"), Ok(Value::Flag(true)));
        assert_eq!(
            parse("local-only", "*.tmp, .~lock.*"),
            Ok(Value::List(vec!["*.tmp".into(), ".~lock.*".into()]))
        );
        let refused = parse("local-only", "*.tmp, build/").unwrap_err();
        assert!(
            refused.starts_with("'build/': a pattern is one name"),
            "{refused}"
        );
    }

    #[test]
    fn paths_need_not_be_utf_8() {
        use std::os::unix::ffi::OsStrExt;
        let odd = OsStr::from_bytes(b"/tmp/\xff");
        assert_eq!(
            find("cache-dir").unwrap().0.parse(odd),
            Ok(Value::Path(odd.into()))
        );
        assert!(find("username").unwrap().0.parse(odd).is_err());
    }
}
