//! Who we are: holds the tokens, renews them in time, once for all who wait.
//!
//! Promise: with credentials given, no request leaves without a token that is believed valid, because the server
//! takes an expired one for an anonymous visitor's and says nothing (→ api part 1 §3.1). A new pair is handed to
//! the store before anyone uses it. A renewal runs in a task of its own: who waits for it may leave.
//!
//! Never signs anyone out over trouble: only the server's own verdict on a token does.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::link::Link;
use super::retry::Patience;
use super::{Credentials, Error, SignIn, SignedIn, session, wire};
use crate::expiry::Expiry;
use crate::secret::Secret;
use crate::tokens::{TokenStore, Tokens};

/// A token is not used in its last minute, or last quarter where it lives shorter.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);
/// Twice the margin before the end a renewal begins in the background, at most this often.
const EARLY_TRY_INTERVAL: Duration = Duration::from_secs(10);
/// What is left of a token from the store that is worth using: another process renewed it just now.
const STORED_LEAST_LIFE: Duration = Duration::from_secs(10);
/// How long a verdict on stored tokens stands before the store is asked again: somebody may have signed in.
const STORED_VERDICT: Duration = Duration::from_secs(5);
/// How long a refused password is not tried again, so that we never lock an account by guessing on.
const PASSWORD_VERDICT: Duration = Duration::from_secs(300);
/// Renewals one call waits for; more would only help a server whose tokens are dead on arrival.
const MOST_RENEWALS: usize = 3;
/// The server's `Date` has whole seconds, cut off.
const DATE_GRAIN: Duration = Duration::from_secs(1);

/// A token as it goes with one request.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) access: Secret,
    expires: Option<SystemTime>,
}

impl Token {
    /// Whether the server, at `date` of its answer, took it for nobody's.
    pub(super) fn was_dead(&self, date: SystemTime) -> bool {
        self.expires
            .is_some_and(|expires| date + DATE_GRAIN >= expires)
    }
}

/// The tokens of one account.
pub(super) struct Auth {
    link: Arc<Link>,
    credentials: Credentials,
    state: Mutex<State>,
}

type Outcome = Option<Result<(), Error>>;

#[derive(Default)]
struct State {
    held: Option<Held>,
    renewal: Option<watch::Receiver<Outcome>>,
    verdict: Option<Verdict>,
    next_early_try: Option<Instant>,
    /// The newest refresh token, also after its access token was refused.
    refresh: Option<Secret>,
    /// The access token that does not serve any more: a store that still holds it brings nothing.
    unwanted: Option<Secret>,
    /// A refresh token that the server called dead, which is final: it is not sent again.
    dead: Option<Secret>,
}

struct Held {
    tokens: Tokens,
    /// How long before the end they are no longer used.
    margin: Duration,
    /// When the server issued them to us; none for those that lay in the store.
    issued: Option<Instant>,
}

/// What a renewal brought.
struct New {
    tokens: Tokens,
    /// By the server, just now; not found in the store.
    issued: bool,
}

impl New {
    fn issued(tokens: Tokens) -> Self {
        Self {
            tokens,
            issued: true,
        }
    }

    fn stored(tokens: Tokens) -> Self {
        Self {
            tokens,
            issued: false,
        }
    }
}

/// The server's own word that nobody is signed in here, and how long it is taken for that.
struct Verdict {
    error: Error,
    until: Instant,
}

impl Auth {
    /// Asks nobody yet.
    pub(super) fn new(link: Arc<Link>, credentials: Credentials) -> Self {
        Self {
            link,
            credentials,
            state: Mutex::default(),
        }
    }

    /// The token to send, renewed if need be; none for an anonymous visitor.
    pub(super) async fn token(
        self: &Arc<Self>,
        patience: &Patience,
    ) -> Result<Option<Token>, Error> {
        match &self.credentials {
            Credentials::Anonymous => return Ok(None),
            Credentials::AccessToken(token) => return self.fixed(token).map(Some),
            Credentials::Stored(_) | Credentials::Password { .. } => {}
        }
        // A renewal may bring a token that another process is about to replace, or a short-lived one.
        for _ in 0..MOST_RENEWALS {
            let renewal = match self.held_token() {
                Ok(token) => return Ok(Some(token)),
                Err(renewal) => renewal?,
            };
            wait(renewal, patience).await?;
        }
        Err(Error::Trouble {
            code: 0,
            said: "its tokens are expired when they arrive".into(),
        })
    }

    /// The server did not accept `refused`: brings another token, or says that there is none.
    pub(super) async fn renew(
        self: &Arc<Self>,
        refused: &Secret,
        patience: &Patience,
    ) -> Result<(), Error> {
        if !self.can_renew() {
            return Err(self.signed_out());
        }
        let renewal = {
            let mut state = self.state.lock().unwrap();
            state.held.take_if(|held| held.tokens.access == *refused);
            if state.held.is_some() {
                // Somebody renewed it while this request was under way.
                return Ok(());
            }
            state.unwanted = Some(refused.clone());
            self.join_unless_decided(&mut state)?
        };
        wait(renewal, patience).await
    }

    /// Whether the token was issued so recently that its refusal cannot be for its age.
    pub(super) fn is_fresh(&self, token: &Secret) -> bool {
        const FRESH: Duration = Duration::from_secs(30);
        match &self.state.lock().unwrap().held {
            Some(held) if held.tokens.access == *token => {
                held.issued.is_some_and(|issued| issued.elapsed() < FRESH)
            }
            Some(_) => false,
            None => !self.can_renew(),
        }
    }

    /// What `status` says when nobody can sign in any more.
    pub(super) fn verdict(&self) -> Option<String> {
        let state = self.state.lock().unwrap();
        Some(match &state.verdict.as_ref()?.error {
            said @ Error::SignedOut(_) => said.to_string(),
            refused @ Error::Denied { .. } => {
                format!(
                    "{refused}: ask the administrator of {}",
                    self.link.address()
                )
            }
            other => format!("{other}: {}", self.advice()),
        })
    }

    /// Whether nobody can sign in because the server does not let the account in.
    pub(super) fn is_refused(&self) -> bool {
        let state = self.state.lock().unwrap();
        let verdict = state.verdict.as_ref();
        verdict.is_some_and(|verdict| matches!(verdict.error, Error::Denied { .. }))
    }

    /// The way back in, for whoever reads the error.
    pub(super) fn advice(&self) -> String {
        let address = self.link.address();
        match &self.credentials {
            Credentials::Anonymous => {
                format!("this needs an account; sign in: cloudreve-fuse login {address}")
            }
            Credentials::AccessToken(_) => format!(
                "the access token has expired or is not accepted; give a new one, or sign in: cloudreve-fuse login {address}"
            ),
            Credentials::Stored(store) => {
                // Without its name another account of the same server would be replaced.
                let profile = store
                    .profile()
                    .map(|name| format!(" --profile {name}"))
                    .unwrap_or_default();
                format!("sign in again: cloudreve-fuse login {address}{profile}")
            }
            Credentials::Password { .. } => format!(
                "the server signed this e-mail and password out; check them, or sign in: cloudreve-fuse login {address}"
            ),
        }
    }

    fn signed_out(&self) -> Error {
        Error::SignedOut(self.advice())
    }

    fn can_renew(&self) -> bool {
        matches!(
            self.credentials,
            Credentials::Stored(_) | Credentials::Password { .. }
        )
    }

    /// A token that nobody can renew. Believed until the server's own clock says that it ended.
    fn fixed(&self, token: &Secret) -> Result<Token, Error> {
        // Before the first answer our own clock would decide, which may be hours off. That first answer tells:
        // see `Token::was_dead`.
        let expires = wire::token_expiry(token);
        let ended = expires.is_some_and(|moment| moment <= self.link.server_now());
        if ended && self.link.knows_the_time() {
            return Err(self.signed_out());
        }
        Ok(Token {
            access: token.clone(),
            expires,
        })
    }

    /// The token at hand, or the renewal to wait for.
    fn held_token(self: &Arc<Self>) -> Result<Token, Result<watch::Receiver<Outcome>, Error>> {
        let now = Instant::now();
        let server_now = self.link.server_now();
        let mut state = self.state.lock().unwrap();
        let Some(held) = &state.held else {
            return Err(self.join_unless_decided(&mut state));
        };
        let expiry = Expiry::at(held.tokens.access_expires);
        let access = held.tokens.access.clone();
        if expiry.is_near(server_now, held.margin) {
            state.unwanted = Some(access);
            return Err(self.join_unless_decided(&mut state));
        }
        let early = expiry.is_near(server_now, held.margin * 2);
        if early && state.next_early_try.is_none_or(|next| next <= now) {
            state.next_early_try = Some(now + EARLY_TRY_INTERVAL);
            state.unwanted = Some(access.clone());
            // Nobody waits for it: the token still serves.
            self.join(&mut state);
        }
        Ok(Token {
            access,
            expires: Some(expiry.moment()),
        })
    }

    /// As `join`, except while a verdict stands.
    fn join_unless_decided(
        self: &Arc<Self>,
        state: &mut State,
    ) -> Result<watch::Receiver<Outcome>, Error> {
        match &state.verdict {
            Some(verdict) if Instant::now() < verdict.until => Err(verdict.error.clone()),
            _ => Ok(self.join(state)),
        }
    }

    /// The renewal under way, begun if there is none.
    fn join(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Outcome> {
        // A closed channel without an outcome is a renewal that died.
        if let Some(renewal) = &state.renewal
            && renewal.has_changed().is_ok()
        {
            return renewal.clone();
        }
        let (tell, renewal) = watch::channel(None);
        state.renewal = Some(renewal.clone());
        let auth = Arc::clone(self);
        tokio::spawn(async move {
            let result = auth.new_tokens().await;
            tell.send_replace(Some(auth.settle(result)));
        });
        renewal
    }

    /// Takes what a renewal brought.
    fn settle(&self, result: Result<New, Error>) -> Result<(), Error> {
        let now = Instant::now();
        let server_now = self.link.server_now();
        let mut state = self.state.lock().unwrap();
        state.renewal = None;
        match result {
            Ok(New { tokens, issued }) => {
                let life = tokens.access_expires.duration_since(server_now);
                state.refresh = Some(tokens.refresh.clone());
                state.held = Some(Held {
                    // Of short-lived tokens a fixed margin would leave nothing to use.
                    margin: (life.unwrap_or_default() / 4).min(LONGEST_MARGIN),
                    tokens,
                    issued: issued.then_some(now),
                });
                state.verdict = None;
                Ok(())
            }
            Err(error) => {
                // Trouble proves nothing about the account: who waited is told, the next one tries again.
                let passing = matches!(
                    error,
                    Error::Transport { .. }
                        | Error::Trouble { .. }
                        | Error::Timeout(_)
                        | Error::Local(_)
                );
                if !passing {
                    log::info!("no new token: {error}");
                    let stands = match self.credentials {
                        Credentials::Password { .. } => PASSWORD_VERDICT,
                        _ => STORED_VERDICT,
                    };
                    state.verdict = Some(Verdict {
                        error: error.clone(),
                        until: now + stands,
                    });
                }
                Err(error)
            }
        }
    }

    async fn new_tokens(&self) -> Result<New, Error> {
        match &self.credentials {
            Credentials::Stored(store) => self.by_store(store).await,
            Credentials::Password { email, password } => {
                self.by_password(email, password).await.map(New::issued)
            }
            Credentials::Anonymous | Credentials::AccessToken(_) => Err(self.signed_out()),
        }
    }

    async fn by_store(&self, store: &Arc<dyn TokenStore>) -> Result<New, Error> {
        let unwanted = self.state.lock().unwrap().unwanted.clone();
        let serves = |tokens: &Tokens| {
            let near = Expiry::at(tokens.access_expires)
                .is_near(self.link.server_now(), STORED_LEAST_LIFE);
            !near && unwanted.as_ref() != Some(&tokens.access)
        };
        let mut tokens = load(store).await?.ok_or_else(|| self.signed_out())?;
        if serves(&tokens) {
            return Ok(New::stored(tokens));
        }
        loop {
            if self.state.lock().unwrap().dead.as_ref() == Some(&tokens.refresh) {
                return Err(self.signed_out());
            }
            match session::refresh(&self.link, &tokens.refresh, &self.advice()).await {
                Ok(new) => {
                    save(store, &new).await;
                    return Ok(New::issued(new));
                }
                Err(dead @ Error::SignedOut(_)) => {
                    self.state.lock().unwrap().dead = Some(tokens.refresh.clone());
                    // Another process may have renewed them, or signed in, in the meantime.
                    let newer = load(store).await?;
                    tokens = match newer.filter(|newer| newer.refresh != tokens.refresh) {
                        Some(newer) if serves(&newer) => return Ok(New::stored(newer)),
                        Some(newer) => newer,
                        None => return Err(dead),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn by_password(&self, email: &str, password: &Secret) -> Result<Tokens, Error> {
        let refresh = self.state.lock().unwrap().refresh.clone();
        if let Some(refresh) = refresh {
            match session::refresh(&self.link, &refresh, &self.advice()).await {
                Err(Error::SignedOut(_)) => self.state.lock().unwrap().refresh = None,
                result => return result,
            }
        }
        let sign_in = SignIn {
            email: email.to_owned(),
            password: password.clone(),
            captcha: None,
        };
        match session::sign_in(&self.link, &sign_in, &self.advice()).await? {
            SignedIn::Done(_, tokens) => Ok(tokens),
            SignedIn::SecondFactor(_) => Err(Error::SecondFactor),
        }
    }
}

async fn wait(mut renewal: watch::Receiver<Outcome>, patience: &Patience) -> Result<(), Error> {
    let outcome = patience.wait(renewal.wait_for(Option::is_some)).await?;
    match outcome {
        Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
        Err(_) => Err(Error::Local("the renewal of the token ended early".into())),
    }
}

async fn load(store: &Arc<dyn TokenStore>) -> Result<Option<Tokens>, Error> {
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || store.load()).await {
        Ok(Ok(tokens)) => Ok(tokens),
        Ok(Err(err)) => Err(Error::Local(format!(
            "the stored tokens cannot be read: {err}"
        ))),
        Err(_) => Err(Error::Local("the stored tokens cannot be read".into())),
    }
}

/// Keeps the pair before anyone uses it. Where the disk refuses, the mount goes on: the server still takes the
/// refresh token that is stored (→ api part 1 §3.6).
async fn save(store: &Arc<dyn TokenStore>, tokens: &Tokens) {
    let store = Arc::clone(store);
    let tokens = tokens.clone();
    match tokio::task::spawn_blocking(move || store.save(&tokens)).await {
        Ok(Ok(())) => {}
        Ok(Err(err)) => log::warn!("the new tokens cannot be stored: {err}"),
        Err(_) => log::warn!("the new tokens cannot be stored"),
    }
}
