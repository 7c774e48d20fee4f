//! Signatures: tokens in the form of JWTs, and signed URLs. One secret a site.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Time;
use crate::reply::Failure;

/// What a token says (→ api part 1 §3.5).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) token_type: String,
    pub(crate) sub: String,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) state_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) root_token_id: String,
}

/// Signs and verifies for one site.
#[derive(Debug)]
pub(crate) struct Signer {
    secret: String,
}

impl Signer {
    pub(crate) fn new(secret: String) -> Self {
        Self { secret }
    }

    fn mac(&self, text: &str) -> Vec<u8> {
        // HMAC takes keys of any length, so this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .unwrap_or_else(|_| unreachable!());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    pub(crate) fn token(&self, claims: &Claims) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
        let signed = format!("{header}.{body}");
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&signed));
        format!("{signed}.{signature}")
    }

    /// The claims of a token that is signed, begun and not expired; no leeway, as on the server.
    pub(crate) fn claims(&self, token: &str, now: Time) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        if URL_SAFE_NO_PAD.decode(signature).ok()? != self.mac(signed) {
            return None;
        }
        let body = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        let claims: Claims = serde_json::from_slice(&body).ok()?;
        let now = now.unix_seconds();
        (claims.nbf <= now && now < claims.exp).then_some(claims)
    }

    /// The value of the `sign` parameter for a decoded path: signature, colon, unix expiry (→ api part 2 §2.2).
    pub(crate) fn path(&self, path: &str, expires: Time) -> String {
        let expires = expires.unix_seconds();
        format!(
            "{}:{expires}",
            URL_SAFE.encode(self.mac(&format!("{path}:{expires}")))
        )
    }

    /// Refuses what [`Signer::path`] did not make, in the order in which the server looks (→ api part 2 §2.4).
    pub(crate) fn check_path(
        &self,
        path: &str,
        sign: Option<&str>,
        now: Time,
    ) -> Result<(), Failure> {
        let Some(sign) = sign else {
            return Err(Failure::new(403, "expire timestamp is missing"));
        };
        let expires = sign
            .rsplit_once(':')
            .and_then(|(_, expires)| expires.parse::<i64>().ok());
        let Some(expires) = expires else {
            return Err(Failure::new(40071, "sign expired"));
        };
        if expires < now.unix_seconds() {
            return Err(Failure::new(40005, "signature expired"));
        }
        if self.path(path, Time(i128::from(expires) * 1_000_000_000)) != sign {
            return Err(Failure::new(40071, "invalid sign"));
        }
        Ok(())
    }
}

/// SHA-256 in base64, as a PKCE challenge (S256) and as digests of ours.
pub(crate) fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_and_not_before_it_begins() {
        let signer = Signer::new("secret".to_owned());
        let at = |seconds: i64| Time::from_millis(seconds * 1000);
        let token = signer.token(&Claims {
            nbf: 100,
            exp: 200,
            ..Claims::default()
        });
        assert_eq!(token.split('.').count(), 3);
        for (second, good) in [(99, false), (100, true), (199, true), (200, false)] {
            assert_eq!(
                signer.claims(&token, at(second)).is_some(),
                good,
                "at {second}"
            );
        }
        assert!(signer.claims(&format!("{token}x"), at(150)).is_none());
        assert!(
            Signer::new("other".to_owned())
                .claims(&token, at(150))
                .is_none()
        );
    }

    #[test]
    fn a_signed_path_fails_with_the_code_of_its_fault_and_expiry_is_looked_at_first() {
        let signer = Signer::new("secret".to_owned());
        let sign = signer.path("/a b", Time::from_millis(100_000));
        let code = |path: &str, sign: Option<&str>, second: i64| {
            signer
                .check_path(path, sign, Time::from_millis(second * 1000))
                .map_err(|failure| failure.code)
        };
        assert_eq!(code("/a b", Some(&sign), 100), Ok(()));
        assert_eq!(code("/a b", Some(&sign), 101), Err(40005));
        assert_eq!(code("/other", Some(&sign), 101), Err(40005));
        assert_eq!(code("/other", Some(&sign), 99), Err(40071));
        assert_eq!(code("/a b", Some("abc"), 99), Err(40071));
        assert_eq!(code("/a b", None, 99), Err(403));
    }
}
