//! Stored accounts: `accounts/NAME.json`, a file for each profile.
//!
//! Keeps an account's server, user and tokens between runs. Promises: a file is 0600, replaced as a whole or not at
//! all, durable when a call returns, written by one process at a time (a lock on `NAME.lock`); an older pair of
//! tokens never replaces a newer one, and tokens never come back to an account that was signed out or signed in
//! anew meanwhile. Never keeps a password, never speaks to the network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::secret::Secret;
use crate::tokens::{TokenStore, Tokens};

/// The format this version writes. It reads this one and older ones, and refuses newer ones.
const FORMAT: u32 = 1;

/// Longest profile name in bytes: the file's name, with what is put around it, stays below NAME_MAX.
const NAME_MAX_BYTES: usize = 200;

/// Largest account file that is read; a real one has a few KiB.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A stored account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its server.
    pub address: Address,
    /// E-mail address, or nickname where there is none; for people.
    pub user: String,
    /// Its newest tokens.
    pub tokens: Tokens,
}

/// All accounts stored in one directory.
#[derive(Debug, Clone)]
pub struct Accounts {
    dir: PathBuf,
}

/// One account as a place for tokens, shared by all processes that use it.
#[derive(Debug)]
pub struct AccountStore {
    accounts: Accounts,
    name: String,
    /// The sign-in whose tokens were loaded last; a save that belongs to another one is out of date.
    sign_in: Mutex<Option<String>>,
}

/// The file's content. Moments are whole milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct AtRest {
    format: u32,
    address: String,
    user: String,
    /// Differs from login to login; see [`AccountStore`].
    sign_in: String,
    access_token: String,
    access_expires_ms: u64,
    refresh_token: String,
    refresh_expires_ms: u64,
}

/// Read before the rest, which a newer format may have changed.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Accounts {
    /// The accounts below `config_dir`, which need not exist.
    pub fn new(config_dir: &Path) -> Self {
        Self {
            dir: config_dir.join("accounts"),
        }
    }

    /// Names of all stored accounts, sorted.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|err| named(&self.dir, err))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file_name = entry.map_err(|err| named(&self.dir, err))?.file_name();
            let name = file_name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"));
            names.extend(
                name.filter(|name| check_name(name).is_ok())
                    .map(str::to_owned),
            );
        }
        names.sort();
        Ok(names)
    }

    /// The account called `name`; none where nothing is stored under it.
    pub fn load(&self, name: &str) -> io::Result<Option<Account>> {
        self.read(name)?
            .map(|at_rest| at_rest.account(&self.path(name)))
            .transpose()
    }

    /// Stores an account that was just signed in, in place of whatever is stored under `name`.
    pub fn store(&self, name: &str, account: &Account) -> io::Result<()> {
        check_name(name).map_err(|words| io::Error::new(io::ErrorKind::InvalidInput, words))?;
        self.make_dir()?;
        let _lock = self.lock(name)?;
        self.replace(name, &AtRest::new(account, random_id()))
    }

    /// Forgets the account; true where there was one.
    pub fn forget(&self, name: &str) -> io::Result<bool> {
        let path = self.path(name);
        if !path.exists() {
            return Ok(false);
        }
        let _lock = self.lock(name)?;
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.dir).map(|()| true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(named(&path, err)),
        }
    }

    /// The account's tokens, for `api` to use and renew.
    pub fn token_store(&self, name: &str) -> AccountStore {
        AccountStore {
            accounts: self.clone(),
            name: name.to_owned(),
            sign_in: Mutex::new(None),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn make_dir(&self) -> io::Result<()> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir);
        made.map_err(|err| named(&self.dir, err))
    }

    fn read(&self, name: &str) -> io::Result<Option<AtRest>> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|err| named(&path, err))?,
        };
        let mode = file.metadata().map_err(|err| named(&path, err))?.mode();
        if mode & 0o077 != 0 {
            // Somebody copied it here; the tokens work, and more people than one may have them.
            log::warn!("others can read {0}; chmod 600 {0}", path.display());
        }
        let mut text = Vec::new();
        file.take(FILE_MAX_BYTES)
            .read_to_end(&mut text)
            .map_err(|err| named(&path, err))?;
        parse(&text).map(Some).map_err(|words| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {words}", path.display()),
            )
        })
    }

    /// Writes the whole file aside and moves it into place; the caller holds the lock, so the name aside is ours.
    fn replace(&self, name: &str, at_rest: &AtRest) -> io::Result<()> {
        let aside = self.dir.join(format!(".{name}.json.new"));
        let path = self.path(name);
        match fs::remove_file(&aside) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(named(&aside, err)),
            _ => {} // Left by a process that died, or never there.
        }
        let text = serde_json::to_vec_pretty(at_rest)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&aside).map_err(|err| named(&aside, err))?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(|err| named(&path, err))?;
        sync_dir(&self.dir)
    }

    /// Waits until no other process writes the account; released when the file is dropped.
    fn lock(&self, name: &str) -> io::Result<File> {
        let path = self.dir.join(format!("{name}.lock"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|err| named(&path, err))?;
        flock(&file).map_err(|err| named(&path, err))?;
        Ok(file)
    }
}

impl TokenStore for AccountStore {
    fn profile(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn load(&self) -> io::Result<Option<Tokens>> {
        let Some(at_rest) = self.accounts.read(&self.name)? else {
            return Ok(None);
        };
        *self.sign_in.lock().unwrap() = Some(at_rest.sign_in.clone());
        Ok(Some(at_rest.tokens()))
    }

    fn save(&self, tokens: &Tokens) -> io::Result<()> {
        let _lock = match self.accounts.lock(&self.name) {
            // Without the directory there is no account either.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            lock => lock?,
        };
        let Some(mut at_rest) = self.accounts.read(&self.name)? else {
            log::info!(
                "the account '{}' was signed out; its renewed tokens are not stored",
                self.name
            );
            return Ok(());
        };
        let loaded = self.sign_in.lock().unwrap().clone();
        let is_older = |stored: &Tokens| {
            (stored.refresh_expires, stored.access_expires)
                > (tokens.refresh_expires, tokens.access_expires)
        };
        if loaded.is_some_and(|loaded| loaded != at_rest.sign_in) || is_older(&at_rest.tokens()) {
            return Ok(());
        }
        at_rest.keep(tokens);
        self.accounts.replace(&self.name, &at_rest)
    }
}

impl AtRest {
    fn new(account: &Account, sign_in: String) -> Self {
        let mut at_rest = Self {
            format: FORMAT,
            address: account.address.to_string(),
            user: account.user.clone(),
            sign_in,
            access_token: String::new(),
            access_expires_ms: 0,
            refresh_token: String::new(),
            refresh_expires_ms: 0,
        };
        at_rest.keep(&account.tokens);
        at_rest
    }

    fn keep(&mut self, tokens: &Tokens) {
        self.access_token = tokens.access.expose().to_owned();
        self.access_expires_ms = to_ms(tokens.access_expires);
        self.refresh_token = tokens.refresh.expose().to_owned();
        self.refresh_expires_ms = to_ms(tokens.refresh_expires);
    }

    fn tokens(&self) -> Tokens {
        Tokens {
            access: Secret::new(self.access_token.as_str()),
            access_expires: from_ms(self.access_expires_ms),
            refresh: Secret::new(self.refresh_token.as_str()),
            refresh_expires: from_ms(self.refresh_expires_ms),
        }
    }

    fn account(&self, path: &Path) -> io::Result<Account> {
        let address = self.address.parse().map_err(|err| {
            let words = format!("{}: its address cannot be read: {err}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, words)
        })?;
        Ok(Account {
            address,
            user: self.user.clone(),
            tokens: self.tokens(),
        })
    }
}

/// Whether a profile can have this name, or words that say why not: it becomes a file's name.
pub fn check_name(name: &str) -> Result<(), String> {
    let refused = |why: &str| {
        Err(format!(
            "a profile cannot be called '{}': {why}",
            name.escape_default()
        ))
    };
    match name {
        "" => refused("the name is empty"),
        name if name.starts_with(['.', '-']) => refused("it begins with '.' or '-'"),
        name if name.contains('/') => refused("it has a '/' in it"),
        name if name.chars().any(char::is_control) => refused("it has a control character in it"),
        name if name.len() > NAME_MAX_BYTES => refused("it is longer than 200 bytes"),
        _ => Ok(()),
    }
}

fn parse(text: &[u8]) -> Result<AtRest, String> {
    let broken = |err: serde_json::Error| {
        // Only the place: serde's words may repeat a part of the file, which holds tokens.
        format!(
            "not an account file (line {}); 'login' writes it anew",
            err.line()
        )
    };
    let FormatOnly { format } = serde_json::from_slice(text).map_err(broken)?;
    match format <= FORMAT {
        true => serde_json::from_slice(text).map_err(broken),
        false => Err(format!(
            "written by a newer version of this program (format {format}, this one knows {FORMAT}); update cloudreve-fuse"
        )),
    }
}

fn to_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment too far away for the clock's type counts as long past: the account then has to be renewed.
fn from_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .unwrap_or(UNIX_EPOCH)
}

fn random_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness the clock still tells two logins apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = to_ms(SystemTime::now()).to_be_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|err| named(dir, err))
}

fn named(path: &Path, err: io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{}: {err}", path.display()))
}

/// flock(2), exclusive; waits. The lock belongs to the open file and ends with it, also when the process dies.
fn flock(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    loop {
        #[expect(
            unsafe_code,
            reason = "std's File::lock is newer than the Rust we promise to build with"
        )]
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and flock touches no memory.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
        match result {
            0 => return Ok(()),
            _ => {
                let err = io::Error::last_os_error();
                if err.kind() != io::ErrorKind::Interrupted {
                    return Err(err);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tokens(text: &str, issued_s: u64) -> Tokens {
        Tokens {
            access: Secret::new(format!("access.{text}")),
            access_expires: from_ms((issued_s + 3600) * 1000),
            refresh: Secret::new(format!("refresh.{text}")),
            refresh_expires: from_ms((issued_s + 14 * 86_400) * 1000),
        }
    }

    fn account(text: &str, issued_s: u64) -> Account {
        Account {
            address: "https://drive.example.com:8443/cloud".parse().unwrap(),
            user: "me@example.com".to_owned(),
            tokens: tokens(text, issued_s),
        }
    }

    fn accounts() -> (tempfile::TempDir, Accounts) {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(dir.path());
        (dir, accounts)
    }

    #[test]
    fn what_was_stored_is_loaded_and_only_its_owner_can_read_it() {
        let (dir, accounts) = accounts();
        assert_eq!(accounts.names().unwrap(), Vec::<String>::new());
        assert_eq!(accounts.load("host:8443").unwrap(), None);
        accounts.store("host:8443", &account("a", 0)).unwrap();
        assert_eq!(accounts.load("host:8443").unwrap(), Some(account("a", 0)));
        assert_eq!(accounts.names().unwrap(), ["host:8443"]);
        let mode = |path: &str| {
            fs::metadata(dir.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("accounts"), 0o700);
        assert_eq!(mode("accounts/host:8443.json"), 0o600);
        assert!(accounts.forget("host:8443").unwrap());
        assert!(!accounts.forget("host:8443").unwrap());
        assert_eq!(accounts.load("host:8443").unwrap(), None);
    }

    #[test]
    fn older_tokens_never_replace_newer_ones() {
        let (_dir, accounts) = accounts();
        accounts.store("a", &account("first", 0)).unwrap();
        let (one, other) = (accounts.token_store("a"), accounts.token_store("a"));
        assert_eq!(one.load().unwrap(), Some(tokens("first", 0)));
        other.save(&tokens("newer", 100)).unwrap();
        one.save(&tokens("older", 50)).unwrap();
        assert_eq!(one.load().unwrap(), Some(tokens("newer", 100)));
    }

    #[test]
    fn tokens_do_not_come_back_after_a_logout_or_over_another_login() {
        let (_dir, accounts) = accounts();
        accounts.store("a", &account("first", 0)).unwrap();
        let store = accounts.token_store("a");
        store.load().unwrap();
        accounts.store("a", &account("second", 10)).unwrap();
        store.save(&tokens("renewed first", 1000)).unwrap();
        assert_eq!(accounts.load("a").unwrap(), Some(account("second", 10)));
        accounts.forget("a").unwrap();
        store.save(&tokens("renewed first", 2000)).unwrap();
        assert_eq!(
            (store.load().unwrap(), accounts.load("a").unwrap()),
            (None, None)
        );
    }

    #[test]
    fn many_writers_leave_a_whole_file_with_the_newest_pair() {
        let (_dir, accounts) = accounts();
        accounts.store("a", &account("0", 0)).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let accounts = &accounts;
                scope.spawn(move || {
                    let store = accounts.token_store("a");
                    for turn in 0..25 {
                        let issued = turn * 4 + writer;
                        store.save(&tokens(&issued.to_string(), issued)).unwrap();
                        assert!(store.load().unwrap().is_some(), "half a file was read");
                    }
                });
            }
        });
        assert_eq!(accounts.load("a").unwrap(), Some(account("99", 99)));
    }

    #[test]
    fn what_a_dead_writer_left_aside_is_in_nobodys_way() {
        let (dir, accounts) = accounts();
        accounts.store("a", &account("first", 0)).unwrap();
        fs::write(dir.path().join("accounts/.a.json.new"), "{ half").unwrap();
        accounts
            .token_store("a")
            .save(&tokens("second", 5))
            .unwrap();
        assert_eq!(accounts.load("a").unwrap(), Some(account("second", 5)));
        assert_eq!(accounts.names().unwrap(), ["a"]);
    }

    #[test]
    fn a_newer_format_and_a_broken_file_are_refused_with_clear_words_and_no_token() {
        let (dir, accounts) = accounts();
        accounts.store("a", &account("a", 0)).unwrap();
        let path = dir.path().join("accounts/a.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            text.replace("\"format\": 1", "\"format\": 2, \"more\": []"),
        )
        .unwrap();
        let said = accounts.load("a").unwrap_err().to_string();
        assert!(said.contains("newer") && said.contains("update"), "{said}");
        fs::write(
            &path,
            text.replace(
                "\"access_expires_ms\": ",
                "\"access_expires_ms\": \"refresh.a\", \"x\": ",
            ),
        )
        .unwrap();
        let said = accounts.load("a").unwrap_err().to_string();
        assert!(
            said.contains("a.json") && said.contains("login") && !said.contains("refresh.a"),
            "{said}"
        );
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(accounts.load("a").is_err());
    }

    #[test]
    fn names_that_would_leave_the_directory_or_hide_are_refused() {
        let (_dir, accounts) = accounts();
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "-x",
            "a\nb",
            &"x".repeat(201),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
            assert!(accounts.store(name, &account("a", 0)).is_err(), "{name:?}");
        }
        for name in ["home", "drive.example.com:8443", "[::1]:5212", "mé", "a b"] {
            accounts.store(name, &account("a", 0)).unwrap();
            assert!(accounts.load(name).unwrap().is_some(), "{name:?}");
        }
    }
}
