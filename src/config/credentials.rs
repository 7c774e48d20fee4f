//! A credentials file, as mount.cifs has it: `key=value` lines, readable by its owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::address::Address;
use crate::cli::nearest::did_you_mean;
use crate::config::environment::Environment;
use crate::failure::Failure;
use crate::secret::Secret;

/// Largest file that is read; a real one has a few lines.
const FILE_MAX_BYTES: u64 = 64 << 10;

const KEYS: [&str; 5] = [
    "username",
    "password",
    "refresh_token",
    "access_token",
    "address",
];

/// What a credentials file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub refresh_token: Option<Secret>,
    pub access_token: Option<Secret>,
    pub address: Option<Address>,
}

impl Credentials {
    /// Reads the file at `path`; a bare name is looked for in `$CREDENTIALS_DIRECTORY` first, where systemd puts
    /// credentials and guards them itself.
    pub(super) fn read(path: &Path, environment: &Environment) -> Result<Self, Failure> {
        let given_by_systemd = by_systemd(path, environment);
        let place = given_by_systemd.as_deref().unwrap_or(path);
        let failed = |words: String| {
            Failure::failed(format!("credentials file {}: {words}", place.display()))
        };
        // Without waiting: a FIFO or a device named by mistake must not hang the mount.
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(place)
            .map_err(|err| failed(reason(&err)))?;
        let metadata = file.metadata().map_err(|err| failed(err.to_string()))?;
        let guarded = match given_by_systemd {
            Some(_) => Ok(()),
            None => guard(&metadata, environment.uid, place),
        };
        guarded.map_err(failed)?;
        let text = read_text(file).map_err(|err| failed(err.to_string()))?;
        parse(&text)
            .map_err(|words| Failure::usage(format!("credentials file {}{words}", place.display())))
    }
}

fn by_systemd(path: &Path, environment: &Environment) -> Option<PathBuf> {
    let is_bare = path.components().count() == 1 && path.is_relative();
    let found = Path::new(environment.get("CREDENTIALS_DIRECTORY")?).join(path);
    (is_bare && found.exists()).then_some(found)
}

fn reason(err: &io::Error) -> String {
    match err.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        _ => err.to_string(),
    }
}

fn guard(metadata: &std::fs::Metadata, uid: u32, path: &Path) -> Result<(), String> {
    let path = path.display();
    match metadata {
        it if !it.is_file() => Err("it is not a file".to_owned()),
        it if it.mode() & 0o077 != 0 => Err(format!("others can read it; chmod 600 {path}")),
        it if it.uid() != uid => Err(format!(
            "it belongs to user {}, not to you; chown {uid} {path}",
            it.uid()
        )),
        _ => Ok(()),
    }
}

fn read_text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    match read as u64 > FILE_MAX_BYTES {
        true => Err(io::Error::other("it is larger than 64 KiB")),
        false => Ok(text),
    }
}

/// Values are never repeated in messages, nor are unreadable lines: they are secrets.
fn parse(text: &str) -> Result<Credentials, String> {
    let mut found = Credentials::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let at = |words: String| format!(" line {}: {words}", number + 1);
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| at(format!("write KEY=VALUE, with one of {}", KEYS.join(", "))))?;
        // A password may begin or end with a space; no other value does.
        let secret = || Some(Secret::new(value)).filter(|value| !value.is_empty());
        let plain = || Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match key.trim() {
            "username" => found.username = plain(),
            "password" => found.password = secret(),
            "refresh_token" => found.refresh_token = plain().map(Secret::new),
            "access_token" => found.access_token = plain().map(Secret::new),
            "address" => {
                let address = plain().map(|text| text.parse()).transpose();
                found.address = address
                    .map_err(|err: crate::address::AddressError| at(format!("address: {err}")))?;
            }
            other => {
                let meant = did_you_mean(other, KEYS, str::to_owned);
                return Err(at(format!("no such key '{other}'{meant}")));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn us() -> Environment {
        Environment::new(
            [("HOME", "/")],
            File::open("/proc/self").unwrap().metadata().unwrap().uid(),
            0,
        )
    }

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn keys_comments_blank_lines_and_crlf_are_read() {
        let text = "\u{feff}# mine\r\nusername = me@example.com\r\n\r\npassword= a=b \r\naddress=https://h/\r\nrefresh_token=\r\n";
        let (_dir, path) = file(text, 0o600);
        let found = Credentials::read(&path, &us()).unwrap();
        assert_eq!(found.username.as_deref(), Some("me@example.com"));
        assert_eq!(found.password, Some(Secret::new(" a=b ")));
        assert_eq!(
            found.address.map(|address| address.to_string()).as_deref(),
            Some("https://h")
        );
        assert_eq!(found.refresh_token, None);
    }

    #[test]
    fn a_file_that_others_can_read_or_own_is_refused_with_the_command_that_mends_it() {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let (_dir, path) = file("username=me\n", mode);
            let failure = Credentials::read(&path, &us()).unwrap_err();
            assert_eq!(failure.kind, crate::failure::FailureKind::Failed);
            assert!(
                failure
                    .to_string()
                    .contains(&format!("chmod 600 {}", path.display())),
                "{failure}"
            );
        }
        let (_dir, path) = file("username=me\n", 0o600);
        let somebody = Environment::new([("HOME", "/")], us().uid + 1, 0);
        assert!(
            Credentials::read(&path, &somebody)
                .unwrap_err()
                .to_string()
                .contains("chown")
        );
    }

    #[test]
    fn an_unknown_key_is_a_usage_error_with_the_nearest_one_and_no_value() {
        let (_dir, path) = file("user=hunter2\n", 0o600);
        let failure = Credentials::read(&path, &us()).unwrap_err();
        assert_eq!(failure.kind, crate::failure::FailureKind::Usage);
        let said = failure.to_string();
        assert!(
            said.contains("line 1")
                && said.contains("did you mean username?")
                && !said.contains("hunter2"),
            "{said}"
        );
        let (_dir, path) = file("hunter2\n", 0o600);
        let said = Credentials::read(&path, &us()).unwrap_err().to_string();
        assert!(
            said.contains("KEY=VALUE") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Credentials::read(dir.path(), &us())
                .unwrap_err()
                .to_string()
                .contains("not a file")
        );
        let said = Credentials::read(&dir.path().join("absent"), &us())
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("absent") && said.contains("no such file"),
            "{said}"
        );
    }

    #[test]
    fn a_bare_name_is_found_among_systemds_credentials() {
        let (dir, _) = file("access_token=a.b.c\n", 0o440);
        let directory = dir.path().to_str().unwrap();
        let environment = Environment::new([("CREDENTIALS_DIRECTORY", directory)], us().uid, 0);
        let found = Credentials::read(Path::new("credentials"), &environment).unwrap();
        assert_eq!(found.access_token, Some(Secret::new("a.b.c")));
    }
}
