//! What the server says of accounts, sites and shares.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::super::time::rfc3339;
use super::super::{Error, ShareInfo};
use super::nonsense;
use crate::model::{Capacity, User};
use crate::secret::Secret;
use crate::tokens::Tokens;

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireUser {
    id: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    nickname: String,
    #[serde(default)]
    anonymous: Option<bool>,
}

impl From<WireUser> for User {
    fn from(user: WireUser) -> Self {
        Self {
            id: user.id,
            email: user.email.filter(|email| !email.is_empty()),
            nickname: user.nickname,
            anonymous: user.anonymous.unwrap_or(false),
        }
    }
}

// No `Debug`: these hold tokens before they become `Secret`s.
#[derive(Deserialize)]
pub(in crate::api) struct WireTokens {
    access_token: String,
    refresh_token: String,
    access_expires: String,
    refresh_expires: String,
}

impl WireTokens {
    /// The pair, if it is a whole one.
    pub(in crate::api) fn into_tokens(self) -> Result<Tokens, Error> {
        if self.access_token.is_empty() || self.refresh_token.is_empty() {
            return Err(nonsense("a token is missing"));
        }
        let expiry = |text: &str| rfc3339(text).ok_or_else(|| nonsense("a token without expiry"));
        Ok(Tokens {
            access_expires: expiry(&self.access_expires)?,
            refresh_expires: expiry(&self.refresh_expires)?,
            access: Secret::new(self.access_token),
            refresh: Secret::new(self.refresh_token),
        })
    }
}

#[derive(Deserialize)]
pub(in crate::api) struct WireLogin {
    pub(in crate::api) user: WireUser,
    pub(in crate::api) token: WireTokens,
}

/// The OAuth token endpoint's own form, without envelope (→ api part 1 §3.8).
#[derive(Deserialize)]
pub(in crate::api) struct WireOauthTokens {
    pub(in crate::api) access_token: String,
    #[serde(default)]
    pub(in crate::api) refresh_token: Option<String>,
    #[serde(default)]
    pub(in crate::api) expires_in: i64,
    #[serde(default)]
    pub(in crate::api) refresh_token_expires_in: i64,
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireOauthError {
    pub(in crate::api) error: String,
    #[serde(default)]
    pub(in crate::api) error_codes: Option<Vec<i64>>,
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireOauthApp {
    #[serde(default)]
    pub(in crate::api) name: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireSite {
    pub(in crate::api) instance_id: String,
    #[serde(default)]
    pub(in crate::api) title: String,
    pub(in crate::api) user: WireUser,
    #[serde(default)]
    pub(in crate::api) captcha_type: Option<String>,
}

impl WireSite {
    /// Whether it was told to a visitor.
    pub(in crate::api) fn is_anonymous(&self) -> bool {
        self.user.anonymous.unwrap_or(false)
    }
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireLoginRules {
    #[serde(default)]
    pub(in crate::api) login_captcha: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireCaptcha {
    image: String,
    #[serde(default)]
    pub(in crate::api) ticket: String,
}

impl WireCaptcha {
    /// The picture's bytes, off its `data:` URL.
    pub(in crate::api) fn picture(&self) -> Result<Vec<u8>, Error> {
        let base64 = self.image.split_once(',').map_or("", |(_, base64)| base64);
        match STANDARD.decode(base64) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(nonsense("a captcha without a picture")),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireCapacity {
    total: i64,
    used: i64,
}

impl From<WireCapacity> for Capacity {
    fn from(capacity: WireCapacity) -> Self {
        let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
        Self {
            total_bytes: bytes(capacity.total),
            used_bytes: bytes(capacity.used),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireShare {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    unlocked: bool,
    #[serde(default)]
    password_protected: Option<bool>,
    #[serde(default)]
    remain_downloads: Option<i64>,
    #[serde(default)]
    expired: Option<bool>,
}

impl WireShare {
    /// The share, unless it has expired.
    pub(in crate::api) fn into_share(self) -> Result<ShareInfo, Error> {
        if self.expired.unwrap_or(false) {
            return Err(Error::ShareGone("it has expired".into()));
        }
        Ok(ShareInfo {
            name: self.name,
            unlocked: self.unlocked,
            password_protected: self.password_protected.unwrap_or(false),
            remaining_downloads: self
                .remain_downloads
                .map(|left| u64::try_from(left).unwrap_or(0)),
        })
    }
}

/// When an access token ends, read off the token itself: the middle of a JWT. None where it is none.
pub(in crate::api) fn token_expiry(token: &Secret) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = token.expose().split('.').nth(1)?.trim_end_matches('=');
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let exp = serde_json::from_slice::<Claims>(&claims).ok()?.exp;
    let since_epoch = Duration::try_from_secs_f64(exp).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since_epoch)
}
