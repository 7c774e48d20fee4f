//! The process's environment, read once: variables, secrets, and who runs it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::secret::Secret;

/// The environment as a value: what `config` decides depends on nothing else of the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Secrets, which are in no variable any more.
    pub secrets: Secrets,
    /// The user, as the kernel counts permissions.
    pub uid: u32,
    /// The group, likewise.
    pub gid: u32,
}

/// Secrets that scripts and tests pass in the environment.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `CLOUDREVE_PASSWORD`.
    pub password: Option<Secret>,
    /// `CLOUDREVE_REFRESH_TOKEN`.
    pub refresh_token: Option<Secret>,
    /// `CLOUDREVE_ACCESS_TOKEN`.
    pub access_token: Option<Secret>,
    /// `CLOUDREVE_OAUTH_SECRET`.
    pub oauth_secret: Option<Secret>,
}

const PASSWORD: &str = "CLOUDREVE_PASSWORD";
const REFRESH_TOKEN: &str = "CLOUDREVE_REFRESH_TOKEN";
const ACCESS_TOKEN: &str = "CLOUDREVE_ACCESS_TOKEN";
const OAUTH_SECRET: &str = "CLOUDREVE_OAUTH_SECRET";

/// Variables of ours that are secrets rather than options.
pub const SECRET_VARIABLES: [&str; 4] = [PASSWORD, REFRESH_TOKEN, ACCESS_TOKEN, OAUTH_SECRET];

impl Environment {
    /// Reads the process's environment, and takes the secrets out of it so that no child inherits them. The kernel goes
    /// on showing what the process was started with in its `/proc/PID/environ`, to the same user and root alone.
    ///
    /// To be called once, at the start of `main`, before any thread exists.
    pub fn take() -> Self {
        // SAFETY: geteuid and getegid only read, and always succeed.
        #[expect(unsafe_code, reason = "std does not tell who runs the process")]
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let environment = Self::new(std::env::vars_os(), uid, gid);
        for name in SECRET_VARIABLES {
            #[expect(
                unsafe_code,
                reason = "children, fusermount3 among them, must not inherit the secrets"
            )]
            // SAFETY: no other thread exists yet that could read the environment meanwhile.
            unsafe {
                std::env::remove_var(name);
            }
        }
        environment
    }

    /// The environment made of `variables`. Empty ones count as unset, as an env file writes them.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
        uid: u32,
        gid: u32,
    ) -> Self {
        let pairs = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let mut variables: BTreeMap<OsString, OsString> = pairs
            .filter(|(_, value): &(OsString, OsString)| !value.is_empty())
            .collect();
        let mut secret = |name: &str| {
            // A secret that is not UTF-8 cannot go into JSON; the server then refuses what is left of it.
            let text = variables.remove(OsStr::new(name))?;
            Some(Secret::new(text.to_string_lossy()))
        };
        let secrets = Secrets {
            password: secret(PASSWORD),
            refresh_token: secret(REFRESH_TOKEN),
            access_token: secret(ACCESS_TOKEN),
            oauth_secret: secret(OAUTH_SECRET),
        };
        Self {
            variables,
            secrets,
            uid,
            gid,
        }
    }

    /// A variable, where it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// All variables that begin with `CLOUDREVE_`, secrets excepted.
    pub fn ours(&self) -> impl Iterator<Item = (String, &OsStr)> {
        let ours = |(name, value): (&OsString, &'_ OsString)| -> Option<String> {
            let name = name.to_string_lossy();
            (name.starts_with("CLOUDREVE_") && !value.is_empty()).then(|| name.into_owned())
        };
        self.variables.iter().filter_map(move |(name, value)| {
            ours((name, value)).map(|name| (name, value.as_os_str()))
        })
    }

    /// Whether root runs it.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_no_variables_and_are_not_printed() {
        let environment = Environment::new(
            [
                (PASSWORD, "hunter2"),
                ("CLOUDREVE_TIMEOUT", "1s"),
                ("HOME", "/h"),
            ],
            0,
            0,
        );
        assert_eq!(environment.get(PASSWORD), None);
        assert_eq!(environment.secrets.password, Some(Secret::new("hunter2")));
        assert!(!format!("{environment:?}").contains("hunter2"));
        assert_eq!(
            environment.ours().map(|(name, _)| name).collect::<Vec<_>>(),
            ["CLOUDREVE_TIMEOUT"]
        );
    }

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        let environment = Environment::new([("HOME", ""), (REFRESH_TOKEN, "")], 0, 0);
        assert_eq!(environment.get("HOME"), None);
        assert_eq!(environment.secrets.refresh_token, None);
    }
}
