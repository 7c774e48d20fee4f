//! Ways to sign in and out. Never sends a token as `Authorization`: what proves an account here is in the body.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::call::{Call, check, exchange, raw};
use super::error::{Asked, harmless};
use super::link::Link;
use super::retry::Patience;
use super::wire::{self, WireLogin, WireOauthError, WireOauthTokens, WireTokens};
use super::{Error, SignIn, SignedIn};
use crate::model::User;
use crate::secret::Secret;
use crate::tokens::Tokens;

/// The code of a password that was right, where a second factor is wanted.
const SECOND_FACTOR_WANTED: i64 = 203;

/// Signing in waits for the server longer than a reader would: nobody else can do it meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// No token is believed to live longer than ten years.
const LONGEST_LIFE_SECONDS: i64 = 10 * 365 * 86_400;

fn patience() -> Patience {
    Patience::new(PATIENCE, Instant::now())
}

/// `POST /session/token`.
pub(super) async fn sign_in(
    link: &Arc<Link>,
    sign_in: &SignIn,
    advice: &str,
) -> Result<SignedIn, Error> {
    let mut body = json!({ "email": sign_in.email, "password": sign_in.password.expose() });
    if let Some((ticket, captcha)) = &sign_in.captcha {
        body["ticket"] = ticket.as_str().into();
        body["captcha"] = captcha.as_str().into();
    }
    let call = Call::send(Method::POST, "/session/token", &body);
    let answer = exchange(link, &call, None, &mut patience())
        .await
        .map_err(|failed| failed.error)?;
    match answer.head.code {
        0 => {
            let (user, tokens) = whole(wire::data(&answer.body)?)?;
            Ok(SignedIn::Done(user, tokens))
        }
        SECOND_FACTOR_WANTED => {
            let session: String = wire::data(&answer.body)?;
            Ok(SignedIn::SecondFactor(Secret::new(session)))
        }
        _ => Err(answer.head.error(Asked::Other, advice)),
    }
}

/// `POST /session/token/2fa`.
pub(super) async fn second_factor(
    link: &Arc<Link>,
    session: &Secret,
    code: &str,
    advice: &str,
) -> Result<(User, Tokens), Error> {
    let body = json!({ "otp": code, "session_id": session.expose() });
    let call = Call::send(Method::POST, "/session/token/2fa", &body);
    let login: WireLogin = once(link, &call, advice).await?;
    whole(login)
}

/// `POST /session/token/refresh`. [`Error::SignedOut`] is final: the token is dead.
pub(super) async fn refresh(
    link: &Arc<Link>,
    refresh_token: &Secret,
    advice: &str,
) -> Result<Tokens, Error> {
    let body = json!({ "refresh_token": refresh_token.expose() });
    let call = Call::send(Method::POST, "/session/token/refresh", &body);
    let tokens: WireTokens = once(link, &call, advice).await?;
    tokens.into_tokens()
}

/// `DELETE /session/token`.
pub(super) async fn sign_out(
    link: &Arc<Link>,
    refresh_token: &Secret,
    advice: &str,
) -> Result<(), Error> {
    let body = json!({ "refresh_token": refresh_token.expose() });
    let call = Call::send(Method::DELETE, "/session/token", &body);
    let answer = exchange(link, &call, None, &mut patience())
        .await
        .map_err(|failed| failed.error)?;
    match answer.head.code {
        0 => Ok(()),
        _ => Err(answer.head.error(Asked::Other, advice)),
    }
}

/// `POST /session/oauth/token`: a form, and an answer without envelope (→ api part 1 §3.8).
pub(super) async fn oauth_exchange(
    link: &Arc<Link>,
    fields: &[(&str, &str)],
    advice: &str,
) -> Result<Tokens, Error> {
    let call = Call::form("/session/oauth/token", fields).optional();
    let answer = raw(link, &call, &mut patience()).await?;
    if answer.status.as_u16() == 400
        && let Ok(refusal) = serde_json::from_slice::<WireOauthError>(&answer.body)
    {
        let codes = refusal.error_codes.unwrap_or_default();
        return Err(Error::Refused {
            code: codes.first().copied().unwrap_or(400),
            said: harmless(&refusal.error),
        });
    }
    check(link, &call, &answer).map_err(|failed| failed.error)?;
    // Parameters it does not like are answered in an envelope after all.
    if let Ok(head) = wire::Head::read(&answer.body) {
        return Err(head.error(Asked::Other, advice));
    }
    let tokens: WireOauthTokens =
        serde_json::from_slice(&answer.body).map_err(|_| wire::nonsense("tokens that are none"))?;
    let seconds = |number: i64| Duration::from_secs(number.clamp(0, LONGEST_LIFE_SECONDS) as u64);
    // Told as lengths here, as moments everywhere else.
    let now = link.server_now();
    let refresh = tokens.refresh_token.filter(|token| !token.is_empty());
    match refresh {
        Some(refresh) if !tokens.access_token.is_empty() => Ok(Tokens {
            access: Secret::new(tokens.access_token),
            access_expires: now + seconds(tokens.expires_in),
            refresh: Secret::new(refresh),
            refresh_expires: now + seconds(tokens.refresh_token_expires_in),
        }),
        _ => Err(Error::Refused {
            code: 0,
            said: "the application may not stay signed in (scope offline_access)".into(),
        }),
    }
}

async fn once<T: serde::de::DeserializeOwned>(
    link: &Arc<Link>,
    call: &Call,
    advice: &str,
) -> Result<T, Error> {
    let answer = exchange(link, call, None, &mut patience())
        .await
        .map_err(|failed| failed.error)?;
    match answer.head.code {
        0 => wire::data(&answer.body),
        _ => Err(answer.head.error(call.asked, advice)),
    }
}

fn whole(login: WireLogin) -> Result<(User, Tokens), Error> {
    Ok((login.user.into(), login.token.into_tokens()?))
}
