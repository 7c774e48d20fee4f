//! The gate: one method for each endpoint we use, and the only HTTP.
//!
//! Remembers nothing but its tokens, the server's clock, how the last calls went and, for minutes, what the server says of
//! itself. Promises: a request that was sent is never hung up on before its response headers, except in the middle of content
//! that it sends (it runs in a task of its own; the waiter gives up, the request does not); no method waits longer than
//! `Options::timeout` without bytes moving, and of those that store content none longer than that or five minutes; every
//! future may be dropped at any time; a token goes to the server's own origin only, and a new one is stored before it is used;
//! what is not Cloudreve's answer is an error of the wire, and only [`Error::NotFound`] means that a file is absent.
//!
//! What changes something is not repeated after a lost answer: [`Error::Transport`], [`Error::Timeout`] and
//! [`Error::Trouble`] of such a method mean that nobody knows whether it was done, and that the caller has to look.
//!
//! Calls must be polled inside a tokio runtime. End with [`Api::close`] before the runtime ends.

mod auth;
mod call;
mod change;
mod content;
mod error;
mod events;
mod files;
mod link;
mod pace;
mod paths;
mod remembered;
mod retry;
mod session;
mod spelling;
mod time;
mod transfer;
mod wire;

pub use change::{Delete, METADATA_VALUE_MAX_BYTES, OnItsWay, Owner, Steady};
pub use content::Content;
pub use error::{Error, UNCLASSIFIED};
pub use events::{Change, ChangeKind, ClientId, Events, Told};
pub use files::Version;
pub use link::Failing;
pub use transfer::{CIPHER, Encryption, NewSession, Part, PartAnswer, PartRequest, Session};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::address::Address;
use crate::model::{Capabilities, Capacity, FileInfo, StoragePolicy, User};
use crate::reach::Reach;
use crate::secret::Secret;
use crate::tokens::{TokenStore, Tokens};
use auth::Auth;
use call::{Call, Caller};
use error::Asked;
use link::Link;
use remembered::Remembered;

/// How the server is spoken to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub address: Address,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// A further certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// Longest a caller waits without bytes arriving; the request itself lives on (see the promise above).
    pub timeout: Duration,
    /// Bytes of content a second at most, over all connections; 0 is no limit.
    pub limit_down_bytes: u64,
    /// The same of content that is sent.
    pub limit_up_bytes: u64,
}

/// As whom.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// A token that cannot be renewed.
    AccessToken(Secret),
    /// Tokens from a store, renewed in time: one refresh for all who wait, saved before it is used.
    Stored(Arc<dyn TokenStore>),
    /// E-mail and password: signs in at first use, renews, and signs in again when the refresh token died.
    Password {
        /// E-mail address.
        email: String,
        /// Password.
        password: Secret,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::AccessToken(_) => "AccessToken",
            Self::Stored(_) => "Stored",
            Self::Password { .. } => "Password",
        })
    }
}

/// A server, spoken to as somebody. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Caller>);

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({})", self.address())
    }
}

/// What a site says of itself.
#[derive(Debug, Clone)]
pub struct Site {
    /// Stable id of the installation: the first half of every cache key.
    pub instance_id: String,
    /// Title for people.
    pub title: String,
    /// As whom it sees us.
    pub user: User,
}

/// What signing in needs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRules {
    /// A captcha goes with the password.
    pub captcha: bool,
    /// Its kind: `normal` can be shown here, others need a browser.
    pub captcha_kind: String,
}

/// A captcha to be read by a person.
#[derive(Debug, Clone)]
pub struct CaptchaImage {
    /// The picture (PNG unless the server says otherwise).
    pub image: Vec<u8>,
    /// Goes back with the answer.
    pub ticket: String,
}

/// E-mail, password and, where wanted, a captcha's ticket and text.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
    /// Ticket and answer.
    pub captcha: Option<(String, String)>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum SignedIn {
    /// Signed in.
    Done(User, Tokens),
    /// A code of the second factor is wanted; goes back with it.
    SecondFactor(Secret),
}

/// An OAuth application, asked for with [`Api::oauth_app`]; an absent one or an old server is an error.
#[derive(Debug, Clone)]
pub struct OauthApp {
    /// Name for people.
    pub name: String,
}

/// Which page of a folder, in the server's order by name: folders first, then files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PagePosition {
    /// The first.
    First,
    /// The one a cursor points at.
    Token(String),
    /// By number (0 is the first), on servers without cursors.
    Number(u32),
}

/// Whether a page may have been cut where the server loses files (→ api part 1 §7.5a).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// It was not.
    Safe,
    /// The page ends with the last folder: ask for it again, one entry shorter.
    Lossy,
    /// It ends with a folder and its token cannot be read.
    Unknown,
}

/// One page of a folder.
#[derive(Debug, Clone)]
pub struct Page {
    /// What is on it.
    pub files: Vec<FileInfo>,
    /// The folder itself; of the trash, a root without an id.
    pub folder: FileInfo,
    /// Where it goes on; none on the last page.
    pub next: Option<PagePosition>,
    /// See [`Boundary`].
    pub boundary: Boundary,
    /// Entries a page really has at most.
    pub page_size: u32,
    /// Largest page the server gives.
    pub max_page_size: u32,
    /// The share is of a single file, which is all that is listed.
    pub single_file: bool,
    /// What the file system as a whole allows.
    pub capabilities: Capabilities,
    /// Where new uploads here would go.
    pub storage_policy: Option<StoragePolicy>,
}

/// Signed URLs, in the order of the files asked for.
#[derive(Debug, Clone)]
pub struct SignedUrls {
    /// Absent where the file has none.
    pub urls: Vec<Option<Secret>>,
    /// When the first of them expires, by the server's clock; none: never.
    pub expires: Option<SystemTime>,
}

/// A share link, as its visitor sees it.
#[derive(Debug, Clone)]
pub struct ShareInfo {
    /// Name of what is shared.
    pub name: Option<String>,
    /// Whether the password given (if any) opens it.
    pub unlocked: bool,
    /// Whether one is wanted.
    pub password_protected: bool,
    /// Downloads that are left; none: unlimited.
    pub remaining_downloads: Option<u64>,
}

/// What is known of the account and the link, for `status`.
#[derive(Debug, Clone)]
pub struct Health {
    /// The refresh token or password is dead; the text says what to do.
    pub signed_out: Option<String>,
    /// That is so because the server lets this account in no more, whatever it signs in with.
    pub is_refused: bool,
    /// Since when no answer of the server came through, if the last try failed.
    pub unreachable_since: Option<SystemTime>,
    /// Since when all that the server answers is that it is in trouble.
    pub failing: Option<Failing>,
    /// How long it takes to answer, lately.
    pub pace: Option<Duration>,
    /// What the last failure was, content included; none where it is ten minutes old.
    pub last_error: Option<String>,
    /// Seconds the server's clock is ahead of ours (negative: behind).
    pub clock_skew_seconds: i64,
    /// Requests sent so far.
    pub requests: u64,
}

#[cfg(test)]
impl Api {
    /// As the first user of `server`, for tests of what stands on the gate.
    pub(crate) fn of_test_server(
        server: &cloudreve_test_server::Server,
        timeout: std::time::Duration,
    ) -> Self {
        let options = Options {
            address: server.address().parse().expect("it is an address"),
            user_agent: "test".to_owned(),
            ca_file: None,
            timeout,
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        };
        let user = server.user();
        let credentials = Credentials::Password {
            email: user.email,
            password: Secret::new(user.password),
        };
        Self::new(options, credentials).expect("nothing is asked for yet")
    }
}

impl Api {
    /// Speaks to `options.address` as `credentials`. Sends nothing yet. Fails where the CA file cannot be used.
    pub fn new(options: Options, credentials: Credentials) -> Result<Self, Error> {
        let link = Arc::new(Link::new(&options)?);
        let auth = Arc::new(Auth::new(Arc::clone(&link), credentials));
        Ok(Self(Arc::new(Caller {
            link,
            auth,
            timeout: options.timeout,
            remembered: Remembered::default(),
        })))
    }

    /// The server.
    pub fn address(&self) -> &Address {
        self.0.link.address()
    }

    /// Whether the server can be reached.
    pub fn reach(&self) -> &Reach {
        &self.0.link.noted.reach
    }

    /// For `status`.
    pub fn health(&self) -> Health {
        let noted = &self.0.link.noted;
        Health {
            signed_out: self.0.auth.verdict(),
            is_refused: self.0.auth.is_refused(),
            unreachable_since: noted.unreachable_since(),
            failing: noted.failing(),
            pace: noted.pace(),
            last_error: noted.last_error(),
            clock_skew_seconds: self.0.link.skew_seconds(),
            requests: self.0.link.requests(),
        }
    }

    /// The server's time now (its clock, see `expiry::ServerClock`).
    pub fn server_now(&self) -> SystemTime {
        self.0.link.server_now()
    }

    /// Resolves when no request is under way. For an ordered end: nothing is hung up on.
    pub async fn drain(&self) {
        self.0.link.drain().await;
    }

    /// Lets no further request begin, and resolves when none is under way: the last call before an end.
    pub async fn close(&self) {
        self.0.link.close();
        self.0.link.drain().await;
    }

    /// `GET /site/ping`: the version, for people.
    pub async fn ping(&self) -> Result<String, Error> {
        let call = Call::get("/site/ping").about(Asked::Other);
        self.0.ask_as_nobody(call).await
    }

    /// `GET /site/config/basic`. With credentials, never tells of an anonymous visitor.
    pub async fn site(&self) -> Result<Site, Error> {
        let call = || Call::get("/site/config/basic").about(Asked::Other);
        let site: wire::WireSite = self
            .0
            .ask_unless(call, |site: &wire::WireSite| site.is_anonymous())
            .await?;
        Ok(Site {
            instance_id: site.instance_id,
            title: site.title,
            user: site.user.into(),
        })
    }

    /// `GET /site/config/login` and `basic`.
    pub async fn login_rules(&self) -> Result<LoginRules, Error> {
        let section = |name: &str| Call::get(format!("/site/config/{name}")).about(Asked::Other);
        let rules: wire::WireLoginRules = self.0.ask_as_nobody(section("login")).await?;
        let site: wire::WireSite = self.0.ask_as_nobody(section("basic")).await?;
        Ok(LoginRules {
            captcha: rules.login_captcha.unwrap_or(false),
            captcha_kind: site.captcha_type.unwrap_or_else(|| "normal".into()),
        })
    }

    /// `GET /site/captcha`.
    pub async fn captcha(&self) -> Result<CaptchaImage, Error> {
        let call = Call::get("/site/captcha").about(Asked::Other);
        let captcha: wire::WireCaptcha = self.0.ask_as_nobody(call).await?;
        Ok(CaptchaImage {
            image: captcha.picture()?,
            ticket: captcha.ticket,
        })
    }

    /// `POST /session/token`. Sent once, never repeated.
    pub async fn sign_in(&self, sign_in: &SignIn) -> Result<SignedIn, Error> {
        session::sign_in(&self.0.link, sign_in, &self.advice()).await
    }

    /// `POST /session/token/2fa`.
    pub async fn sign_in_second_factor(
        &self,
        session: &Secret,
        code: &str,
    ) -> Result<(User, Tokens), Error> {
        session::second_factor(&self.0.link, session, code, &self.advice()).await
    }

    /// `POST /session/token/refresh`, of a token that is not the one in use.
    pub async fn refresh(&self, refresh_token: &Secret) -> Result<Tokens, Error> {
        let advice = format!(
            "the server does not accept this refresh token; sign in: cloudreve-fuse login {}",
            self.address()
        );
        session::refresh(&self.0.link, refresh_token, &advice).await
    }

    /// `DELETE /session/token`. [`Error::SignedOut`] where the token was dead already.
    pub async fn sign_out(&self, refresh_token: &Secret) -> Result<(), Error> {
        let advice = "the server does not know this refresh token any more";
        session::sign_out(&self.0.link, refresh_token, advice).await
    }

    /// `GET /session/oauth/app/ID`; [`Error::Unsupported`] on servers before 4.12.
    pub async fn oauth_app(&self, client_id: &str) -> Result<OauthApp, Error> {
        let call = Call::get(format!("/session/oauth/app/{}", segment(client_id)))
            .about(Asked::Other)
            .optional();
        let app: wire::WireOauthApp = self.0.ask_as_nobody(call).await?;
        Ok(OauthApp { name: app.name })
    }

    /// `POST /session/oauth/token`. Sent once: the code is used up also by a failure.
    pub async fn oauth_exchange(
        &self,
        client_id: &str,
        client_secret: &Secret,
        code: &Secret,
        verifier: &Secret,
    ) -> Result<Tokens, Error> {
        let fields = [
            ("client_id", client_id),
            ("client_secret", client_secret.expose()),
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("code_verifier", verifier.expose()),
        ];
        session::oauth_exchange(&self.0.link, &fields, &self.advice()).await
    }

    /// `GET /user/me`. [`Error::SignedOut`] for an anonymous visitor.
    pub async fn user(&self) -> Result<User, Error> {
        let user: wire::WireUser = self.0.ask(Call::get("/user/me")).await?;
        Ok(user.into())
    }

    /// `GET /user/capacity`.
    pub async fn capacity(&self) -> Result<Capacity, Error> {
        let capacity: wire::WireCapacity = self.0.ask(Call::get("/user/capacity")).await?;
        Ok(capacity.into())
    }

    /// `GET /share/info/ID`. A wrong password is not an error: see [`ShareInfo::unlocked`].
    pub async fn share_info(
        &self,
        id: &str,
        password: Option<&Secret>,
    ) -> Result<ShareInfo, Error> {
        let mut call = Call::get(format!("/share/info/{}", segment(id))).about(Asked::Share);
        if let Some(password) = password {
            call = call.with("password", password.expose());
        }
        let share: wire::WireShare = self.0.ask(call).await?;
        share.into_share()
    }

    fn advice(&self) -> String {
        self.0.auth.advice()
    }
}

/// An id as one segment of a path.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
