//! `profiles`: the stored accounts, and whether they still work.

use std::time::Duration;

use serde::Serialize;

use crate::accounts::Accounts;
use crate::api::{Api, Credentials, Error};
use crate::cli::ProfilesArgs;
use crate::cli::values::show_size;
use crate::commands::{print, print_json, run_with_apis, table};
use crate::config::environment::Environment;
use crate::config::{self, Local};
use crate::failure::Failure;
use crate::model::Capacity;

/// Longest wait for all servers; one that is slower counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line of the list. Fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Profile {
    profile: String,
    address: Option<String>,
    user: Option<String>,
    /// `signed_in`, `signed_out`, `unreachable`, `unreadable`.
    state: &'static str,
    total_bytes: Option<u64>,
    used_bytes: Option<u64>,
    /// Why not `signed_in`, and what to do.
    error: Option<String>,
}

pub(super) fn run(args: &ProfilesArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let accounts = local.accounts();
    let names = accounts
        .names()
        .map_err(|err| Failure::failed(err.to_string()))?;
    let mut apis = Vec::new();
    let mut profiles = Vec::new();
    for name in &names {
        let (profile, api) = stored(name, &accounts, &local);
        profiles.push(profile);
        apis.push(api);
    }
    let answers = run_with_apis(&apis, async {
        let asked = apis.iter().map(|api| async move {
            match api {
                Some(api) => Some(ask(api).await),
                None => None,
            }
        });
        Ok(futures_util::future::join_all(asked).await)
    })?;
    for (profile, answer) in profiles.iter_mut().zip(answers) {
        profile.take(answer);
    }
    match args.json {
        true => print_json(&profiles),
        false if profiles.is_empty() => {
            print("No accounts are stored; 'cloudreve-fuse login ADDRESS' stores one.\n")
        }
        false => print(&text(&profiles)),
    }
}

/// What is known here; and whom to ask for the rest.
fn stored(name: &str, accounts: &Accounts, local: &Local) -> (Profile, Option<Api>) {
    let mut profile = Profile {
        profile: name.to_owned(),
        address: None,
        user: None,
        state: "unreadable",
        total_bytes: None,
        used_bytes: None,
        error: None,
    };
    match accounts.load(name) {
        Ok(Some(account)) => {
            profile.address = Some(account.address.to_string());
            profile.user = Some(account.user);
            let store = std::sync::Arc::new(accounts.token_store(name));
            match Api::new(
                local.api_options(account.address),
                Credentials::Stored(store),
            ) {
                Ok(api) => return (profile, Some(api)),
                Err(err) => profile.error = Some(err.to_string()),
            }
        }
        Ok(None) => profile.error = Some("it was forgotten meanwhile".to_owned()),
        Err(err) => profile.error = Some(err.to_string()),
    }
    (profile, None)
}

async fn ask(api: &Api) -> Result<Option<Capacity>, Error> {
    let asked = async {
        match api.user().await {
            // 4.16.1 lets no OAuth client ask that; being denied is being known.
            Ok(_) | Err(Error::Denied { .. }) => {}
            Err(err) => return Err(err),
        }
        Ok(api.capacity().await.ok())
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or(Err(Error::Timeout(PATIENCE)))
}

impl Profile {
    fn take(&mut self, answer: Option<Result<Option<Capacity>, Error>>) {
        match answer {
            None => {}
            Some(Ok(capacity)) => {
                self.state = "signed_in";
                self.total_bytes = capacity.map(|capacity| capacity.total_bytes);
                self.used_bytes = capacity.map(|capacity| capacity.used_bytes);
            }
            Some(Err(err)) => {
                let dead = matches!(err, Error::SignedOut(_) | Error::WrongPassword);
                self.state = if dead { "signed_out" } else { "unreachable" };
                self.error = Some(err.to_string());
            }
        }
    }
}

fn text(profiles: &[Profile]) -> String {
    let mut rows = vec![
        ["PROFILE", "SERVER", "USER", "USED", "STATE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for profile in profiles {
        let used = match (profile.used_bytes, profile.total_bytes) {
            (Some(used), Some(total)) => format!("{} of {}", show_size(used), show_size(total)),
            _ => "-".to_owned(),
        };
        let state = profile.state.replace('_', " ");
        rows.push(vec![
            profile.profile.clone(),
            profile.address.clone().unwrap_or_else(|| "-".to_owned()),
            profile.user.clone().unwrap_or_else(|| "-".to_owned()),
            used,
            profile
                .error
                .as_ref()
                .map_or(state.clone(), |error| format!("{state}: {error}")),
        ]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(answer: Option<Result<Option<Capacity>, Error>>) -> Profile {
        let mut profile = Profile {
            profile: "home".into(),
            address: Some("https://h".into()),
            user: Some("me@example.com".into()),
            state: "unreadable",
            total_bytes: None,
            used_bytes: None,
            error: None,
        };
        profile.take(answer);
        profile
    }

    #[test]
    fn only_a_dead_credential_is_signed_out_and_trouble_is_unreachable() {
        let trouble = Error::Trouble {
            code: 50001,
            said: "failed to get login user".into(),
        };
        assert_eq!(
            profile(Some(Err(Error::SignedOut("sign in again".into())))).state,
            "signed_out"
        );
        assert_eq!(profile(Some(Err(trouble))).state, "unreachable");
        assert_eq!(
            profile(Some(Err(Error::Timeout(PATIENCE)))).state,
            "unreachable"
        );
        assert_eq!(profile(Some(Ok(None))).state, "signed_in");
    }

    #[test]
    fn the_list_is_aligned_and_shows_quota_and_reasons() {
        let capacity = Capacity {
            total_bytes: 1 << 30,
            used_bytes: 3 << 20,
        };
        let list = [
            profile(Some(Ok(Some(capacity)))),
            profile(Some(Err(Error::SignedOut("sign in again".into())))),
        ];
        assert_eq!(
            text(&list),
            "PROFILE  SERVER     USER            USED                  STATE\n\
             home     https://h  me@example.com  3.00 MiB of 1.00 GiB  signed in\n\
             home     https://h  me@example.com  -                     signed out: sign in again\n"
        );
    }
}
