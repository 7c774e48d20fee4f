//! What proves an account to its server, and where it is kept between runs.
//!
//! Only the words: `accounts` keeps tokens on disk, `api` uses and renews them.

use std::io;
use std::sync::Mutex;
use std::time::SystemTime;

use crate::secret::Secret;

/// A pair of tokens as the server issued it; both moments are by the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Goes with each request to the server, and nowhere else.
    pub access: Secret,
    /// After this the server takes the access token for an anonymous visitor's, without an error.
    pub access_expires: SystemTime,
    /// Buys a new pair.
    pub refresh: Secret,
    /// After this the user must sign in again.
    pub refresh_expires: SystemTime,
}

/// Where an account's newest tokens are kept. Several processes may share one store.
pub trait TokenStore: Send + Sync + 'static {
    /// The newest tokens, also where another process stored them; none where nobody is signed in any more.
    fn load(&self) -> io::Result<Option<Tokens>>;
    /// Keeps `tokens`, atomically, unless a later pair is there already. Durable when it returns.
    fn save(&self, tokens: &Tokens) -> io::Result<()>;
    /// The profile they are stored under, for whoever has to sign in again.
    fn profile(&self) -> Option<&str> {
        None
    }
}

/// Tokens of a mount that has no stored account: gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Option<Tokens>>);

impl TokenStore for MemoryStore {
    fn load(&self) -> io::Result<Option<Tokens>> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, tokens: &Tokens) -> io::Result<()> {
        *self.0.lock().unwrap() = Some(tokens.clone());
        Ok(())
    }
}
