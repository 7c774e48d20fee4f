//! `login`: signs in, verifies, and stores the account.

use std::sync::Arc;

use crate::accounts::{self, Account};
use crate::address::Address;
use crate::api::{Api, Credentials, Error, SignIn, SignedIn};
use crate::cli::{self, LoginArgs};
use crate::commands::browser::{self, Client};
use crate::commands::captcha::ShownCaptcha;
use crate::commands::terminal::{Terminal, secret_from_stdin};
use crate::commands::{print, run_with_api, say, told};
use crate::config::environment::Environment;
use crate::config::{self, Local};
use crate::failure::Failure;
use crate::model::User;
use crate::secret::Secret;
use crate::tokens::{MemoryStore, TokenStore, Tokens};

/// How often a person may try a password, a captcha or a code.
const TRIES: usize = 3;

/// A `login` under way.
struct Login<'a> {
    args: &'a LoginArgs,
    environment: &'a Environment,
    local: Local,
    address: Address,
    terminal: Option<Terminal>,
}

pub(super) fn run(args: &LoginArgs, environment: &Environment) -> Result<(), Failure> {
    let address = cli::server_address(&args.address).map_err(Failure::usage)?;
    let name = args.profile.clone().unwrap_or_else(|| address.host());
    accounts::check_name(&name).map_err(Failure::usage)?;
    if let Some(warning) = config::unsafe_address(&address) {
        say(&format!("warning: {warning}"));
    }
    let local = config::local(&args.options.0, environment)?;
    let login = Login {
        args,
        environment,
        local,
        address,
        terminal: Terminal::find(),
    };
    let account = login.account()?;
    let accounts = login.local.accounts();
    let before = accounts.load(&name).ok().flatten();
    let stored = accounts.store(&name, &account);
    stored.map_err(|err| Failure::failed(format!("the account could not be stored: {err}")))?;
    if let Some(Account { address, user, .. }) = before
        && (&address, &user) != (&account.address, &account.user)
    {
        say(&format!(
            "note: '{name}' was {user} at {address}, which is no longer stored; another --profile keeps both"
        ));
    }
    print(&farewell(&name, &account))
}

fn farewell(name: &str, account: &Account) -> String {
    let Account { address, user, .. } = account;
    format!(
        "Signed in to {address} as {user}; stored as profile '{name}'.\nTo mount:  cloudreve-fuse mount cloudreve://my/ DIR --profile {name}\n"
    )
}

impl Login<'_> {
    fn account(&self) -> Result<Account, Failure> {
        let input = match (self.args.refresh_token_stdin, self.args.password_stdin) {
            (true, _) => Some(secret_from_stdin("refresh token")?),
            (_, true) => Some(secret_from_stdin("password")?),
            _ => None,
        };
        let options = self.local.api_options(self.address.clone());
        let nobody = Api::new(options.clone(), Credentials::Anonymous)
            .map_err(|err| told(&self.address, &err))?;
        let tokens = run_with_api(&nobody, self.tokens(&nobody, input))?;
        // What was issued is only stored once it was seen to work.
        let store = Arc::new(MemoryStore::default());
        let failed = |err: std::io::Error| Failure::failed(err.to_string());
        store.save(&tokens).map_err(failed)?;
        let api = Api::new(options, Credentials::Stored(store.clone()))
            .map_err(|err| told(&self.address, &err))?;
        let user = run_with_api(&api, verify(&api))?;
        Ok(Account {
            address: self.address.clone(),
            user: user.email.unwrap_or(user.nickname),
            tokens: store.load().map_err(failed)?.unwrap_or(tokens),
        })
    }

    async fn tokens(&self, api: &Api, input: Option<Secret>) -> Result<Tokens, Failure> {
        // Before anything is asked: whether a Cloudreve answers there at all.
        let version = api.ping().await.map_err(|err| told(&self.address, &err))?;
        log::info!("{} runs Cloudreve {version}", self.address);
        match (self.args.refresh_token_stdin, self.args.browser, input) {
            (true, _, Some(token)) => api.refresh(&token).await.map_err(|err| match err {
                Error::SignedOut(_) => Failure::failed(format!(
                    "{}: the refresh token is no longer valid; sign in again with 'cloudreve-fuse login {}'",
                    self.address, self.address
                )),
                err => told(&self.address, &err),
            }),
            (_, true, _) => {
                let secret = self.environment.secrets.oauth_secret.clone();
                let client = Client::decide(self.args.oauth_client.clone(), self.args.oauth_redirect.clone(), secret)?;
                browser::sign_in(api, &client, self.terminal, self.environment).await
            }
            (.., password) => self.by_password(api, password).await,
        }
    }

    async fn by_password(&self, api: &Api, given: Option<Secret>) -> Result<Tokens, Failure> {
        let named = self.args.username.clone();
        let named = named.or_else(|| self.local.settings.text("username"));
        let mut email = match &named {
            Some(email) => email.clone(),
            None => {
                let terminal = self.terminal("--username and --password-stdin")?;
                terminal.some_line("E-mail").await?
            }
        };
        let given = given.or_else(|| self.environment.secrets.password.clone());
        let rules = api
            .login_rules()
            .await
            .map_err(|err| told(&self.address, &err))?;
        let mut wants_captcha = rules.captcha;
        let mut last = Failure::failed("nothing was tried");
        let mut password = given.clone();
        for left in (0..TRIES).rev() {
            let current = match password.take() {
                Some(password) => password,
                None => {
                    let terminal = self.terminal("--password-stdin")?;
                    terminal.some_secret("Password").await?
                }
            };
            let captcha = match wants_captcha {
                true => Some(self.captcha(api, &rules.captcha_kind).await?),
                false => None,
            };
            let sign_in = SignIn {
                email: email.clone(),
                password: current.clone(),
                captcha,
            };
            match api.sign_in(&sign_in).await {
                Ok(SignedIn::Done(_, tokens)) => return Ok(tokens),
                Ok(SignedIn::SecondFactor(session)) => {
                    return self.second_factor(api, &session).await;
                }
                Err(Error::Captcha) => {
                    // The password was not even looked at: it is not asked for again.
                    (wants_captcha, password) = (true, Some(current));
                    last = Failure::failed("the captcha's text was wrong");
                }
                Err(err @ (Error::WrongPassword | Error::Refused { .. })) if given.is_none() => {
                    last = told(&self.address, &err)
                }
                Err(err) => return Err(told(&self.address, &err)),
            }
            if left > 0 {
                say(&last.to_string());
                // It may be the e-mail that was mistyped.
                if named.is_none() && password.is_none() {
                    email = self.email_again(email).await?;
                }
            }
        }
        Err(last)
    }

    /// The e-mail that is meant after all; nothing typed means `email` still.
    async fn email_again(&self, email: String) -> Result<String, Failure> {
        let terminal = self.terminal("--username and --password-stdin")?;
        let typed = terminal.line(&format!("E-mail [{email}]")).await?;
        Ok(if typed.is_empty() { email } else { typed })
    }

    async fn captcha(&self, api: &Api, kind: &str) -> Result<(String, String), Failure> {
        // The server treats its old name for it like the new one.
        if !matches!(kind, "normal" | "tcaptcha" | "") {
            return Err(Failure::failed(format!(
                "{} wants a captcha of the kind '{kind}', which only a browser can show: use --browser",
                self.address
            )));
        }
        let terminal = self.terminal.ok_or_else(|| {
            Failure::failed(format!(
                "{} wants a captcha, which a person has to read: run this in a terminal, or use --refresh-token-stdin",
                self.address
            ))
        })?;
        let captcha = api
            .captcha()
            .await
            .map_err(|err| told(&self.address, &err))?;
        let shown = ShownCaptcha::show(&captcha, self.environment).map_err(|err| {
            Failure::failed(format!("the captcha's picture could not be saved: {err}"))
        })?;
        say(&format!(
            "The server wants a captcha: {}",
            shown.path().display()
        ));
        let text = terminal.line("Text in the picture").await?;
        Ok((captcha.ticket, text))
    }

    async fn second_factor(&self, api: &Api, session: &Secret) -> Result<Tokens, Failure> {
        let mut last = Failure::failed("no code was tried");
        let mut given = self.args.otp.clone();
        for left in (0..TRIES).rev() {
            let was_given = given.is_some();
            let code = match given.take() {
                Some(code) => code,
                None => {
                    self.terminal("--otp CODE")?
                        .line("Code of the second factor (2FA)")
                        .await?
                }
            };
            match api.sign_in_second_factor(session, code.trim()).await {
                Ok((_, tokens)) => return Ok(tokens),
                Err(Error::SecondFactor) => {
                    last = Failure::failed("the code of the second factor (2FA) is wrong")
                }
                Err(err) => return Err(told(&self.address, &err)),
            }
            if was_given && self.terminal.is_none() {
                return Err(last);
            }
            if left > 0 {
                say(&last.to_string());
            }
        }
        Err(last)
    }

    /// The terminal, or a line that says which flags make it unnecessary.
    fn terminal(&self, flags: &str) -> Result<Terminal, Failure> {
        self.terminal
            .ok_or_else(|| Failure::failed(format!("there is no terminal to ask on; use {flags}")))
    }
}

/// As whom the server sees the new account.
async fn verify(api: &Api) -> Result<User, Failure> {
    let user = match api.user().await {
        // 4.16.1 lets no OAuth client ask that; the site's own words are as good.
        Err(Error::Denied { .. }) => api.site().await.map(|site| site.user),
        user => user,
    };
    match user.map_err(|err| told(api.address(), &err))? {
        user if user.anonymous => Err(Failure::failed(format!(
            "{} issued a token and does not know it",
            api.address()
        ))),
        user => Ok(user),
    }
}
