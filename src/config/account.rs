//! As whom a mount speaks, and to which server: the settings, the credentials and the stored accounts weighed.
//!
//! Promise: tokens and passwords that belong to one server are never sent to another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::accounts::Accounts;
use crate::address::{Address, Target};
use crate::cli::nearest::did_you_mean;
use crate::config::credentials::Credentials;
use crate::config::dirs::Dirs;
use crate::config::environment::Environment;
use crate::config::file::ConfigFile;
use crate::config::settings::{Origin, Settings};
use crate::config::{Account, mount_point};
use crate::control;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::uri::FileSystem;

/// Longest wait for another mount to say whose account it uses.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What was decided.
pub(super) struct Decided {
    pub account: Account,
    pub address: Address,
}

/// What the decision is made from.
pub(super) struct Sources<'a> {
    pub target: &'a Target,
    pub environment: &'a Environment,
    pub file: &'a ConfigFile,
    pub dirs: &'a Dirs,
}

/// How `auth` reads.
enum Auth {
    Profile,
    Anonymous,
    Reference(PathBuf),
}

/// Decides, and adds the settings of the profile that was found on the way.
pub(super) fn decide(settings: &mut Settings, sources: &Sources<'_>) -> Result<Decided, Failure> {
    let accounts = Accounts::new(&sources.dirs.config);
    let named = settings.text("profile");
    if let Some(name) = &named {
        crate::accounts::check_name(name)
            .map_err(|words| Failure::usage(format!("{}: {words}", settings.written("profile"))))?;
    }
    let named = match named {
        Some(name) if is_elsewhere(&name, settings, sources, &accounts)? => None,
        named => named,
    };
    let profile = match (named, auth(settings)) {
        (Some(name), _) => Some(name),
        (None, Auth::Profile) if given(settings, sources)?.is_none() => {
            infer(settings, sources, &accounts)?
        }
        _ => None,
    };
    if let Some(name) = &profile {
        sources.file.add_profile(name, settings)?;
    }
    match auth(settings) {
        Auth::Anonymous => anonymous(settings, sources),
        Auth::Reference(dir) => by_reference(settings, sources, &accounts, &dir),
        Auth::Profile => match given(settings, sources)? {
            Some(given) if outranks(&given, settings, profile.as_deref(), &accounts)? => {
                given.decide(settings, sources)
            }
            _ => stored(settings, sources, &accounts, profile),
        },
    }
}

/// Whether `[defaults]` names the profile and it is on another server than the one that is mounted: then it is not meant.
fn is_elsewhere(
    name: &str,
    settings: &Settings,
    sources: &Sources<'_>,
    accounts: &Accounts,
) -> Result<bool, Failure> {
    let named = named_address(settings, sources.target)?;
    let account = accounts.load(name).map_err(unreadable)?;
    Ok(match (settings.origin("profile"), named, account) {
        (Some(Origin::Defaults), Some(address), Some(account)) => address != account.address,
        _ => false,
    })
}

fn auth(settings: &Settings) -> Auth {
    let text = settings.text("auth").unwrap_or_default();
    match text.strip_prefix("ref:") {
        Some(dir) => Auth::Reference(dir.into()),
        None if text == "anonymous" => Auth::Anonymous,
        None => Auth::Profile,
    }
}

/// The server that was named: by the URI, or by a setting; both must agree where both were typed.
fn named_address(settings: &Settings, target: &Target) -> Result<Option<Address>, Failure> {
    let set = settings.address("address");
    match (&target.address, set) {
        (Some(in_uri), Some(set))
            if *in_uri != set && settings.origin("address") >= Some(Origin::MountOption) =>
        {
            Err(Failure::usage(format!(
                "the URI is on {in_uri}, and {} says another server; leave one out",
                settings.written("address")
            )))
        }
        (Some(in_uri), _) => Ok(Some(in_uri.clone())),
        (None, set) => Ok(set),
    }
}

fn no_address() -> Failure {
    Failure::failed(
        "no server is named: add --address https://host, or sign in first with 'cloudreve-fuse login https://host'",
    )
}

fn anonymous(settings: &Settings, sources: &Sources<'_>) -> Result<Decided, Failure> {
    let address = named_address(settings, sources.target)?.ok_or_else(no_address)?;
    match sources.target.uri.file_system() {
        FileSystem::Share { .. } | FileSystem::My { owner: Some(_) } => Ok(Decided {
            account: Account::Anonymous,
            address,
        }),
        _ => Err(Failure::failed(format!(
            "{} belongs to an account, and {} is nobody: sign in with 'cloudreve-fuse login {address}'",
            sources.target.uri,
            settings.written("auth"),
        ))),
    }
}

/// The account of the mount at `dir`, by its control socket.
fn by_reference(
    settings: &Settings,
    sources: &Sources<'_>,
    accounts: &Accounts,
    dir: &Path,
) -> Result<Decided, Failure> {
    let written = settings.written("auth");
    let socket = control::socket_path(&sources.dirs.control, &mount_point(dir));
    let status = match control::ask(&socket, &control::Request::Status, ASK_TIMEOUT) {
        Ok(control::Answer::Status(status)) => status,
        Ok(_) => {
            return Err(Failure::failed(format!(
                "{written}: the mount there does not say whose account it uses"
            )));
        }
        Err(_) => {
            return Err(Failure::failed(format!(
                "{written}: nothing is mounted there by this program; 'cloudreve-fuse status' lists the mounts"
            )));
        }
    };
    let Some(name) = status.account.profile else {
        let words =
            "the mount there has no stored account to lend; sign in with 'cloudreve-fuse login'";
        return Err(Failure::failed(format!(
            "{written}: {words} {}",
            status.address
        )));
    };
    stored(settings, sources, accounts, Some(name))
}

/// An account that credentials or the environment give.
struct Given {
    account: Account,
    origin: Origin,
    /// The server the credentials are for, and what says so.
    address: Option<(Address, String)>,
}

impl Given {
    fn decide(self, settings: &Settings, sources: &Sources<'_>) -> Result<Decided, Failure> {
        let named = named_address(settings, sources.target)?;
        let address = match (named, self.address) {
            (Some(named), Some((bound, place))) if named != bound => {
                return Err(Failure::failed(format!(
                    "{place} is for {bound}, not for {named}; nothing of it was sent there"
                )));
            }
            (Some(address), _) | (None, Some((address, _))) => address,
            (None, None) => return Err(no_address()),
        };
        Ok(Decided {
            account: self.account,
            address,
        })
    }
}

/// What credentials file, user name and environment give, if anything.
fn given(settings: &Settings, sources: &Sources<'_>) -> Result<Option<Given>, Failure> {
    let secrets = &sources.environment.secrets;
    let username = settings.text("username");
    if let Some(path) = settings.path_as_given("credentials") {
        let found = Credentials::read(&path, sources.environment)?;
        let place = format!("credentials file {}", path.display());
        let email = found.username.or(username);
        let password = found.password.or_else(|| secrets.password.clone());
        let account = account(email, password, found.refresh_token, found.access_token)
            .ok_or_else(|| {
                Failure::failed(format!(
                    "{place} has neither username and password, nor refresh_token, nor access_token"
                ))
            })?;
        let origin = settings.origin("credentials").unwrap_or(Origin::Defaults);
        return Ok(Some(Given {
            account,
            origin,
            address: found.address.map(|address| (address, place)),
        }));
    }
    let user_origin = settings
        .origin("username")
        .filter(|_| secrets.password.is_some());
    let origin = user_origin
        .max(Some(Origin::Environment))
        .unwrap_or(Origin::Environment);
    let account = account(
        username,
        secrets.password.clone(),
        secrets.refresh_token.clone(),
        secrets.access_token.clone(),
    );
    Ok(account.map(|account| Given {
        account,
        origin,
        address: None,
    }))
}

/// The best of what there is: what can be renewed comes before what cannot.
fn account(
    email: Option<String>,
    password: Option<Secret>,
    refresh: Option<Secret>,
    access: Option<Secret>,
) -> Option<Account> {
    match (email, password, refresh, access) {
        (Some(email), Some(password), ..) => Some(Account::Password { email, password }),
        (_, _, Some(refresh), _) => Some(Account::RefreshToken(refresh)),
        (_, _, _, Some(access)) => Some(Account::AccessToken(access)),
        _ => None,
    }
}

/// Whether what is given counts although a profile is named: a stored account named more strongly comes first.
fn outranks(
    given: &Given,
    settings: &Settings,
    profile: Option<&str>,
    accounts: &Accounts,
) -> Result<bool, Failure> {
    let Some(name) = profile else { return Ok(true) };
    // What a profile's own section says of credentials is as strong as the profile's name.
    let is_its_own = given.origin == Origin::Profile;
    let is_stronger = settings
        .origin("profile")
        .is_none_or(|named| given.origin >= named);
    Ok(is_its_own || is_stronger || accounts.load(name).map_err(unreadable)?.is_none())
}

/// The profile that is meant where none is named: the one of the server's host, or the only one.
fn infer(
    settings: &Settings,
    sources: &Sources<'_>,
    accounts: &Accounts,
) -> Result<Option<String>, Failure> {
    let address = named_address(settings, sources.target)?;
    let username = settings.text("username");
    let mut candidates: Vec<(String, Option<Address>)> = Vec::new();
    for name in accounts.names().map_err(unreadable)? {
        // A file that cannot be read is no candidate; who names it hears why.
        let Ok(Some(account)) = accounts.load(&name) else {
            continue;
        };
        if username
            .as_ref()
            .is_none_or(|user| user.eq_ignore_ascii_case(&account.user))
        {
            candidates.push((name, Some(account.address)));
        }
    }
    for (name, address) in sources.file.profiles() {
        if username.is_none() && candidates.iter().all(|(known, _)| known != name) {
            candidates.push((name.to_owned(), address));
        }
    }
    if let Some(address) = &address {
        candidates.retain(|(_, of)| of.as_ref() == Some(address));
    }
    match (candidates.as_slice(), address) {
        ([], _) => Ok(None),
        ([(only, _)], _) => Ok(Some(only.clone())),
        (several, Some(address)) if several.iter().any(|(name, _)| *name == address.host()) => {
            Ok(Some(address.host()))
        }
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(Failure::failed(format!(
                "several accounts are stored ({}): name one with --profile",
                names.join(", ")
            )))
        }
    }
}

fn stored(
    settings: &Settings,
    sources: &Sources<'_>,
    accounts: &Accounts,
    profile: Option<String>,
) -> Result<Decided, Failure> {
    let named = named_address(settings, sources.target)?;
    let Some(name) = profile else {
        return Err(nobody(settings, sources, named.as_ref()));
    };
    let Some(account) = accounts.load(&name).map_err(unreadable)? else {
        return Err(not_stored(&name, accounts, named.as_ref()));
    };
    if let Some(user) = settings.text("username")
        && settings.origin("username") >= Some(Origin::MountOption)
        && !user.eq_ignore_ascii_case(&account.user)
    {
        return Err(Failure::usage(format!(
            "{}: there is no password for it, and the profile '{name}' is {}; leave one out",
            settings.written("username"),
            account.user
        )));
    }
    match named {
        Some(named) if named != account.address => Err(Failure::failed(format!(
            "the account '{name}' is on {}, not on {named}: sign in there with 'cloudreve-fuse login {named}'",
            account.address
        ))),
        _ => {
            let store = Arc::new(accounts.token_store(&name));
            Ok(Decided {
                account: Account::Profile {
                    name,
                    user: account.user,
                    store,
                },
                address: account.address,
            })
        }
    }
}

fn not_stored(name: &str, accounts: &Accounts, address: Option<&Address>) -> Failure {
    let stored = accounts.names().unwrap_or_default();
    let meant = did_you_mean(name, stored.iter().map(String::as_str), str::to_owned);
    let address = address.map_or_else(|| "https://host".to_owned(), Address::to_string);
    Failure::failed(format!(
        "no account is stored under the profile '{name}'{meant}; sign in with 'cloudreve-fuse login {address} --profile {name}'"
    ))
}

fn nobody(settings: &Settings, sources: &Sources<'_>, address: Option<&Address>) -> Failure {
    let Some(address) = address else {
        return no_address();
    };
    if let Some(email) = settings.text("username") {
        return Failure::failed(format!(
            "there is no password for {email}: set CLOUDREVE_PASSWORD, use a credentials file, or sign in with 'cloudreve-fuse login {address}'"
        ));
    }
    let or_nobody = match sources.target.uri.file_system() {
        FileSystem::Share { .. } => ", or mount the share as nobody with --auth anonymous",
        _ => "",
    };
    Failure::failed(format!(
        "no account of {address} is stored: sign in with 'cloudreve-fuse login {address}'{or_nobody}"
    ))
}

fn unreadable(err: std::io::Error) -> Failure {
    Failure::failed(format!("stored accounts cannot be read: {err}"))
}
