//! `/session/oauth/*`: authorization code with PKCE on top of a client secret (→ api part 1 §3.8).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::Ctx;
use super::session::Grant;
use crate::clock::Time;
use crate::drive::UserId;
use crate::ids::Kind;
use crate::reply::{Failure, Outcome, Reply};
use crate::sign::digest;
use crate::site::{OAuthCode, Site};
use crate::uri::percent;

/// How long a code waits for its exchange.
const CODE_TIME: Duration = Duration::from_secs(600);

/// What the consent page sends.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Consent {
    #[serde(default)]
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) response_type: String,
    #[serde(default)]
    pub(crate) redirect_uri: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) scope: String,
    #[serde(default)]
    pub(crate) code_challenge: String,
    #[serde(default)]
    pub(crate) code_challenge_method: String,
}

impl Site {
    /// The user's consent to a client: a code, once, for ten minutes.
    pub(crate) fn consent(
        &mut self,
        user: UserId,
        consent: &Consent,
        now: Time,
    ) -> Result<String, Failure> {
        let client = self
            .oauth_clients
            .get(&consent.client_id)
            .ok_or_else(|| Failure::new(404, "App not found"))?;
        if !client.redirect_uris.contains(&consent.redirect_uri) {
            return Err(Failure::new(40001, "Invalid redirect URI"));
        }
        let scopes: Vec<_> = consent
            .scope
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        if !scopes.iter().all(|scope| client.scopes.contains(scope)) {
            return Err(Failure::new(40001, "Invalid scope requested"));
        }
        if !scopes.iter().any(|scope| scope == "openid") {
            return Err(Failure::new(40001, "openid scope required"));
        }
        if let Some(account) = self.accounts.get_mut(&user) {
            account
                .grants
                .insert(consent.client_id.clone(), scopes.clone());
        }
        let code = self.dice.text(128);
        self.secrets.note(&code);
        let (client, challenge, expires) = (
            consent.client_id.clone(),
            consent.code_challenge.clone(),
            now.plus(CODE_TIME),
        );
        self.oauth_codes.insert(
            code.clone(),
            OAuthCode {
                client,
                user,
                scopes,
                challenge,
                expires,
            },
        );
        Ok(code)
    }
}

impl Ctx<'_> {
    pub(super) fn oauth_app(&self) -> Outcome {
        let id = self.asked.segment(3);
        let client = self
            .site
            .oauth_clients
            .get(&id)
            .ok_or_else(|| Failure::new(404, "App not found"))?;
        let mut view = json!({"id": id, "name": client.name});
        let account = self
            .caller
            .user
            .and_then(|user| self.site.accounts.get(&user));
        if let Some(scopes) = account.and_then(|account| account.grants.get(&id)) {
            view["consented_scopes"] = json!(scopes);
        }
        Ok(Reply::data(&view))
    }

    pub(super) fn oauth_consent(&mut self) -> Outcome {
        let consent: Consent = self.json()?;
        if consent.response_type != "code"
            || !matches!(consent.code_challenge_method.as_str(), "" | "S256")
        {
            return Err(Failure::binding("Invalid parameters."));
        }
        if consent.state.len() > 4096 || consent.code_challenge.len() > 255 {
            return Err(Failure::binding("Invalid parameters."));
        }
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let code = self.site.consent(user, &consent, self.now)?;
        Ok(Reply::data(&json!({"code": code, "state": consent.state})))
    }

    /// Speaks OAuth: form in, no envelope out, HTTP 400; only what does not bind is an envelope (→ §3.8.5).
    pub(super) fn oauth_token(&mut self) -> Outcome {
        let form = percent::pairs(&String::from_utf8_lossy(&self.asked.body));
        let field = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map_or("", |(_, value)| value.as_str())
        };
        let required = ["client_id", "client_secret", "code"].map(field);
        if field("grant_type") != "authorization_code" || required.contains(&"") {
            return Err(Failure::binding("Invalid parameters."));
        }
        let [client_id, secret, code] = required;
        // The code is used up even if a later check fails.
        let grant = self
            .site
            .oauth_codes
            .remove(code)
            .filter(|grant| self.now < grant.expires && grant.client == client_id);
        let Some(grant) = grant else {
            return Ok(self.refused("Invalid or expired authorization code"));
        };
        let Some(client) = self
            .site
            .oauth_clients
            .get(client_id)
            .filter(|client| client.secret == secret)
        else {
            return Ok(self.refused("Invalid client secret"));
        };
        if !grant.challenge.is_empty() && digest(field("code_verifier")) != grant.challenge {
            return Ok(self.refused("Invalid code verifier"));
        }
        let (refresh_ttl, root) = (client.refresh_ttl, self.site.dice.uuid());
        let (user, scopes) = (grant.user, grant.scopes);
        let offline = scopes.iter().any(|scope| scope == "offline_access");
        let scope = scopes.join(" ");
        let issued = Grant {
            user,
            client: Some(client_id.to_owned()),
            scopes,
            root,
            refresh_ttl,
        };
        let pair = self.site.issue(issued, self.now);
        // A second less, as time has passed since the tokens were made.
        let left = |expires: Time| expires.unix_seconds() - self.now.unix_seconds() - 1;
        let mut view = json!({
            "access_token": pair.access, "token_type": "Bearer", "expires_in": left(pair.access_expires), "scope": scope,
        });
        // Told also where there is no refresh token, as seen on a live server.
        view["refresh_token_expires_in"] = left(pair.refresh_expires).into();
        if offline {
            view["refresh_token"] = pair.refresh.clone().into();
        }
        Ok(Reply::json(200, view.to_string()))
    }

    fn refused(&mut self, error: &str) -> Reply {
        let correlation = self.site.dice.uuid();
        let body = json!({"error": error, "error_description": "", "error_codes": [40020], "correlation_id": correlation});
        Reply::json(400, body.to_string())
    }

    pub(super) fn oauth_user_info(&self) -> Outcome {
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let account = self
            .site
            .accounts
            .get(&user)
            .ok_or_else(Failure::login_required)?;
        let id = self.site.ids.encode(Kind::User, user);
        let body = json!({"sub": id, "name": account.nickname(), "email": account.email, "email_verified": true});
        Ok(Reply::json(200, body.to_string()))
    }

    pub(super) fn oauth_grant(&mut self) -> Outcome {
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        if let Some(account) = self.site.accounts.get_mut(&user) {
            account.grants.remove(&self.asked.segment(3));
        }
        Ok(Reply::done())
    }
}
