//! `logout`: revokes on the server, forgets here.

use crate::accounts::Account;
use crate::api::{Api, Credentials};
use crate::cli::LogoutArgs;
use crate::cli::nearest::did_you_mean;
use crate::commands::{print, run_with_api, say};
use crate::config::environment::Environment;
use crate::config::{self, Local};
use crate::failure::Failure;

pub(super) fn run(args: &LogoutArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let accounts = local.accounts();
    let failed = |err: std::io::Error| Failure::failed(err.to_string());
    let names = accounts.names().map_err(failed)?;
    let name = chosen(args.profile.as_deref(), &names)?;
    let revoked = match accounts.load(name) {
        Ok(Some(account)) => revoke(&local, &account),
        Ok(None) => Ok(()),
        // It is forgotten all the same: that is what was asked.
        Err(err) => Err(err.to_string()),
    };
    accounts.forget(name).map_err(failed)?;
    if let Err(why) = revoked {
        say(&format!(
            "warning: the token was not revoked and may work until it expires: {why}"
        ));
    }
    print(&format!("Forgot the account '{name}'.\n"))
}

fn revoke(local: &Local, account: &Account) -> Result<(), String> {
    let options = local.api_options(account.address.clone());
    // The refresh token itself is the proof; nobody needs to be signed in.
    let api = Api::new(options, Credentials::Anonymous).map_err(|err| err.to_string())?;
    let sign_out = async {
        let revoked = api.sign_out(&account.tokens.refresh).await;
        Ok(revoked.map_err(|err| format!("{}: {err}", account.address)))
    };
    run_with_api(&api, sign_out).map_err(|failure| failure.to_string())?
}

fn chosen<'a>(asked: Option<&str>, names: &'a [String]) -> Result<&'a str, Failure> {
    match (asked, names) {
        (None, []) => Err(Failure::failed("no account is stored here")),
        (None, [only]) => Ok(only),
        (None, several) => Err(Failure::failed(format!(
            "several accounts are stored ({}): name one with --profile",
            several.join(", ")
        ))),
        (Some(asked), names) => names
            .iter()
            .find(|name| *name == asked)
            .map(String::as_str)
            .ok_or_else(|| {
                let meant = did_you_mean(asked, names.iter().map(String::as_str), str::to_owned);
                Failure::failed(format!("no account is stored under '{asked}'{meant}"))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_need_only_be_named_among_several() {
        let names = ["home".to_owned(), "work".to_owned()];
        assert_eq!(chosen(None, &names[..1]), Ok("home"));
        assert_eq!(chosen(Some("work"), &names), Ok("work"));
        assert!(
            chosen(None, &names)
                .unwrap_err()
                .to_string()
                .contains("home, work")
        );
        assert!(
            chosen(Some("wrok"), &names)
                .unwrap_err()
                .to_string()
                .contains("did you mean work?")
        );
        assert!(chosen(None, &[]).is_err());
    }
}
