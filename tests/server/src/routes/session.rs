//! `/session/*`: signing in with a password, refreshing, signing out (→ api part 1 §3.2–3.7).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Ctx;
use crate::clock::Time;
use crate::drive::UserId;
use crate::ids::Kind;
use crate::reply::{Failure, Outcome, Reply};
use crate::sign::{Claims, digest};
use crate::site::{Site, Status};

/// How long a sign-in waits for its second factor.
const TWO_FACTOR_TIME: Duration = Duration::from_secs(600);

/// A pair of tokens, and when they expire.
pub(crate) struct TokenPair {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) access_expires: Time,
    pub(crate) refresh_expires: Time,
}

impl TokenPair {
    pub(crate) fn view(&self) -> Value {
        json!({
            "access_token": self.access,
            "refresh_token": self.refresh,
            "access_expires": self.access_expires.rfc3339(),
            "refresh_expires": self.refresh_expires.rfc3339(),
        })
    }
}

/// Whose tokens, and by which OAuth client.
pub(crate) struct Grant {
    pub(crate) user: UserId,
    pub(crate) client: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The chain that a sign-out ends.
    pub(crate) root: String,
    pub(crate) refresh_ttl: Option<Duration>,
}

impl Site {
    /// What of an account a refresh token is bound to: it dies when one of these changes.
    fn state_hash(&self, user: UserId) -> String {
        let account = self.accounts.get(&user);
        let (email, serial) = account.map_or(("", 0), |account| {
            (account.email.as_str(), account.password_serial)
        });
        digest(&format!("{email} {serial} {}", self.instance_id))
    }

    /// Issues a pair of tokens, and remembers them as secrets.
    pub(crate) fn issue(&mut self, grant: Grant, now: Time) -> TokenPair {
        let access_expires = now.plus(self.settings.access_token_ttl);
        let refresh_expires =
            now.plus(grant.refresh_ttl.unwrap_or(self.settings.refresh_token_ttl));
        let base = Claims {
            sub: self.ids.encode(Kind::User, grant.user),
            nbf: now.unix_seconds(),
            client_id: grant.client,
            scopes: grant.scopes,
            ..Claims::default()
        };
        let access = self.signer.token(&Claims {
            token_type: "access".to_owned(),
            exp: access_expires.unix_seconds(),
            ..base.clone()
        });
        let refresh = self.signer.token(&Claims {
            token_type: "refresh".to_owned(),
            exp: refresh_expires.unix_seconds(),
            state_hash: self.state_hash(grant.user),
            root_token_id: grant.root,
            ..base
        });
        self.secrets.note(&access);
        self.secrets.note(&refresh);
        TokenPair {
            access,
            refresh,
            access_expires,
            refresh_expires,
        }
    }

    /// A new chain of tokens for a user who signed in with a password.
    pub(crate) fn sign_in(&mut self, user: UserId, now: Time) -> TokenPair {
        let root = self.dice.uuid();
        self.issue(
            Grant {
                user,
                client: None,
                scopes: Vec::new(),
                root,
                refresh_ttl: None,
            },
            now,
        )
    }

    /// A new pair for a refresh token; none if anything about it is not good (→ api part 1 §3.6).
    pub(crate) fn refresh(&mut self, token: &str, now: Time) -> Option<TokenPair> {
        let claims = self
            .signer
            .claims(token, now)
            .filter(|claims| claims.token_type == "refresh")?;
        let user = self.ids.decode(Kind::User, &claims.sub)?;
        let account = self
            .accounts
            .get(&user)
            .filter(|account| account.status == Status::Active)?;
        if claims.state_hash != self.state_hash(user)
            || self.revoked_roots.contains(&claims.root_token_id)
        {
            return None;
        }
        let mut refresh_ttl = None;
        if let Some(client) = &claims.client_id {
            let granted = account.grants.get(client)?;
            if !claims.scopes.iter().all(|scope| granted.contains(scope)) {
                return None;
            }
            refresh_ttl = self.oauth_clients.get(client)?.refresh_ttl;
        }
        let root = claims.root_token_id;
        Some(self.issue(
            Grant {
                user,
                client: claims.client_id,
                scopes: claims.scopes,
                root,
                refresh_ttl,
            },
            now,
        ))
    }
}

fn is_email(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !text.contains(' '))
}

#[derive(Deserialize)]
struct SignIn {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    captcha: String,
    #[serde(default)]
    ticket: String,
}

#[derive(Deserialize)]
struct RefreshBody {
    #[serde(default)]
    refresh_token: String,
}

impl Ctx<'_> {
    pub(super) fn prepare(&self) -> Outcome {
        let email = self.asked.param("email").unwrap_or_default();
        if !is_email(email) {
            return Err(Failure::binding("Email format error"));
        }
        self.site
            .account_by_email(email)
            .ok_or_else(|| Failure::new(404, "User not found"))?;
        Ok(Reply::data(
            &json!({"webauthn_enabled": false, "password_enabled": true}),
        ))
    }

    pub(super) fn sign_in(&mut self) -> Outcome {
        let body: SignIn = self.json()?;
        if self.site.settings.captcha {
            // A ticket is good for one try, right or wrong.
            let text = self.site.captchas.remove(&body.ticket);
            if text.is_none_or(|text| !text.eq_ignore_ascii_case(&body.captcha)) {
                return Err(Failure::new(40026, "CAPTCHA not match."));
            }
        }
        if !is_email(&body.email) {
            return Err(Failure::binding("Email format error"));
        }
        match body.password.chars().count() {
            0 => return Err(Failure::binding("Password cannot be empty")),
            1..4 => return Err(Failure::binding("Password too short")),
            4..=128 => {}
            _ => return Err(Failure::binding("Password too long")),
        }
        let wrong = || Failure::new(40080, "Incorrect password or email address");
        let user = self.site.account_by_email(&body.email).ok_or_else(wrong)?;
        let account = self
            .site
            .accounts
            .get(&user)
            .filter(|account| account.password == body.password);
        let account = account.ok_or_else(wrong)?;
        match account.status {
            Status::Active => {}
            Status::Banned => return Err(Failure::new(40017, "This account has been blocked")),
            Status::Inactive => return Err(Failure::new(40018, "This account is not activated")),
        }
        if account.two_factor.is_some() {
            let session = self.site.dice.uuid();
            self.site
                .two_factor
                .insert(session.clone(), (user, self.now.plus(TWO_FACTOR_TIME)));
            return Ok(Reply::json(
                200,
                json!({"code": 203, "data": session, "msg": ""}).to_string(),
            ));
        }
        Ok(self.signed_in(user))
    }

    fn signed_in(&mut self, user: UserId) -> Reply {
        let token = self.site.sign_in(user, self.now).view();
        Reply::data(&json!({"user": self.site.user_view(Some(user)), "token": token}))
    }

    /// A wrong code leaves the session as it is, a right one uses it up.
    pub(super) fn two_factor(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct TwoFactor {
            #[serde(default)]
            otp: String,
            #[serde(default)]
            session_id: String,
        }
        let body: TwoFactor = self.json()?;
        let session = self
            .site
            .two_factor
            .get(&body.session_id)
            .filter(|(_, expires)| self.now < *expires);
        let (user, _) = *session.ok_or_else(|| Failure::new(404, "Session not found"))?;
        let secret = self
            .site
            .accounts
            .get(&user)
            .and_then(|account| account.two_factor.clone());
        let right =
            secret.is_some_and(|secret| self.site.two_factor_code(&secret, self.now) == body.otp);
        if !right {
            return Err(Failure::new(40022, "Incorrect 2FA code"));
        }
        self.site.two_factor.remove(&body.session_id);
        Ok(self.signed_in(user))
    }

    fn refresh_body(&self) -> Result<RefreshBody, Failure> {
        let body: RefreshBody = self.json()?;
        if body.refresh_token.is_empty() {
            return Err(Failure::binding("RefreshToken cannot be empty"));
        }
        Ok(body)
    }

    pub(super) fn refresh(&mut self) -> Outcome {
        let body = self.refresh_body()?;
        let pair = self.site.refresh(&body.refresh_token, self.now);
        Ok(Reply::data(
            &pair
                .ok_or_else(|| Failure::credential("Failed to issue token pair"))?
                .view(),
        ))
    }

    /// Ends the whole chain of refresh tokens; access tokens live on.
    pub(super) fn sign_out(&mut self) -> Outcome {
        let body = self.refresh_body()?;
        let claims = self.site.signer.claims(&body.refresh_token, self.now);
        let claims = claims.ok_or_else(|| Failure::credential("Failed to parse token"))?;
        self.site.revoked_roots.insert(claims.root_token_id);
        Ok(Reply::data(&""))
    }
}
