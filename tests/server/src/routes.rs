//! From a request to its answer: who asks, whether the route exists, and which handler knows.

mod callback;
mod content;
mod credential;
mod events;
mod file;
mod list;
mod manage;
mod oauth;
mod session;
mod share;
mod site;
mod store;
mod upload;
mod url;

pub(crate) use oauth::Consent;

use hyper::StatusCode;
use serde::de::DeserializeOwned;

use crate::clock::Time;
use crate::faults::Effect;
use crate::ids::Kind;
use crate::locate::{Caller, Located};
use crate::options::Wedge;
use crate::reply::{Failure, Outcome, Reply};
use crate::route::Route;
use crate::serve::Asked;
use crate::site::{Site, Status};
use crate::uri::{Action, FileUri};

/// What a handler works with.
pub(crate) struct Ctx<'a> {
    pub(crate) site: &'a mut Site,
    pub(crate) asked: &'a Asked,
    pub(crate) caller: Caller,
    pub(crate) now: Time,
}

/// Answers a request.
pub(crate) fn answer(site: &mut Site, asked: &Asked) -> Reply {
    site.deliver_notices(asked.now);
    if matches!(
        asked.route,
        Route::Store | Route::StorePart | Route::StoreComplete | Route::StoreStatus
    ) {
        return store::answer(site, asked);
    }
    if let Some(reply) = without_slash(asked) {
        return reply;
    }
    if asked.route == Route::Unknown || site.settings.missing_routes.contains(&asked.route) {
        return Reply::unknown_route();
    }
    handle(site, asked).unwrap_or_else(|failure| {
        let correlation = asked
            .header("x-cr-correlation-id")
            .filter(|id| is_uuid(id))
            .map(str::to_ascii_lowercase);
        let mut reply = Reply::failure(&failure, &correlation.unwrap_or_else(|| site.dice.uuid()));
        if asked.route == Route::Callback {
            reply.status = callback::failure_status(asked, failure.code);
        }
        if asked.route == Route::Content && failure.code == 40077 {
            // Set once the signature was found good.
            reply.set("content-security-policy", "sandbox");
        }
        reply
    })
}

/// A known path with a slash at its end is redirected to the path without (→ api part 1 §1.3).
fn without_slash(asked: &Asked) -> Option<Reply> {
    let path = asked.path.strip_suffix('/')?;
    if asked.route != Route::Unknown || Route::of(&asked.method, path) == Route::Unknown {
        return None;
    }
    let mut reply = Reply::redirect(path);
    if !asked.raw_query.is_empty() {
        reply.set("location", &format!("{path}?{}", asked.raw_query));
    }
    let get = asked.method == hyper::Method::GET;
    reply.status = if get {
        StatusCode::MOVED_PERMANENTLY
    } else {
        StatusCode::TEMPORARY_REDIRECT
    };
    Some(reply)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn handle(site: &mut Site, asked: &Asked) -> Outcome {
    if let Effect::Code(code, msg) = &asked.effect {
        return Err(Failure::new(*code, msg.clone()));
    }
    let now = asked.now;
    if site.wedge(now) == Wedge::Reads {
        return Err(Failure::new(50001, "failed to get login user"));
    }
    let caller = caller(site, asked)?;
    if let Some(scopes) = &caller.scopes
        && let Some(scope) = asked.route.scope()
        && !allows(scopes, scope)
    {
        return Err(Failure::new(40089, format!("Insufficient scope: {scope}")));
    }
    if asked.route.needs_login() && caller.user.is_none() {
        return Err(Failure::login_required());
    }
    if asked.route.writes() && site.wedge(now) == Wedge::Writes {
        let metadata = asked.route == Route::Metadata;
        return Err(if metadata {
            Failure::unclassified()
        } else {
            Failure::new(50001, "Failed to start transaction")
        });
    }
    // Whoever follows under the same name is not told of it.
    let client = asked.header("x-cr-client-id").map(str::to_owned);
    site.hub.acting = client;
    let outcome = dispatch(&mut Ctx {
        site,
        asked,
        caller,
        now,
    });
    site.hub.acting = None;
    outcome
}

fn dispatch(ctx: &mut Ctx<'_>) -> Outcome {
    match ctx.asked.route {
        Route::Ping => ctx.ping(),
        Route::Captcha => ctx.captcha(),
        Route::SiteConfig => ctx.site_config(),
        Route::Prepare => ctx.prepare(),
        Route::SignIn => ctx.sign_in(),
        Route::TwoFactor => ctx.two_factor(),
        Route::Refresh => ctx.refresh(),
        Route::SignOut => ctx.sign_out(),
        Route::OAuthApp => ctx.oauth_app(),
        Route::OAuthConsent => ctx.oauth_consent(),
        Route::OAuthToken => ctx.oauth_token(),
        Route::OAuthUserInfo => ctx.oauth_user_info(),
        Route::OAuthGrant => ctx.oauth_grant(),
        Route::Me => ctx.me(),
        Route::Capacity => ctx.capacity(),
        Route::UserSetting => ctx.user_setting(),
        Route::List => ctx.list(),
        Route::Info => ctx.info(),
        Route::Url => ctx.url(),
        Route::Thumb => ctx.thumb(),
        Route::Content => ctx.content(),
        Route::Create => ctx.create(),
        Route::Rename => ctx.rename(),
        Route::Move => ctx.move_or_copy(),
        Route::Delete => ctx.delete(),
        Route::Restore => ctx.restore(),
        Route::EmptyTrash => ctx.empty_trash(),
        Route::Metadata => ctx.metadata(),
        Route::FolderView => ctx.folder_view(),
        Route::Unlock => ctx.unlock(),
        Route::PutContent => ctx.put_content(),
        Route::UploadCreate => ctx.upload_create(),
        Route::UploadChunk => ctx.upload_chunk(),
        Route::UploadCancel => ctx.upload_cancel(),
        Route::VersionCurrent => ctx.version_current(),
        Route::VersionDelete => ctx.version_delete(),
        Route::Events => ctx.events(),
        Route::ShareList => ctx.share_list(),
        Route::ShareCreate => ctx.share_create(),
        Route::ShareDelete => ctx.share_delete(),
        Route::ShareInfo => ctx.share_info(),
        Route::ShortLink => ctx.short_link(),
        Route::Callback => ctx.callback(),
        Route::Store
        | Route::StorePart
        | Route::StoreComplete
        | Route::StoreStatus
        | Route::Unknown => Ok(Reply::unknown_route()),
    }
}

/// Who asks (→ api part 1 §3.1): a token that is expired or garbled makes an anonymous caller, not an error.
fn caller(site: &Site, asked: &Asked) -> Result<Caller, Failure> {
    let token = asked
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| !token.starts_with("Cr ")) else {
        return Ok(Caller::default());
    };
    let Some(claims) = site.signer.claims(token, asked.now) else {
        return Ok(Caller::default());
    };
    if claims.token_type != "access" {
        return Err(Failure::credential("Invalid token type"));
    }
    let user = site
        .ids
        .decode(Kind::User, &claims.sub)
        .ok_or_else(|| Failure::new(404, "User not found"))?;
    let active = site
        .accounts
        .get(&user)
        .is_some_and(|account| account.status == Status::Active);
    if !active {
        return Err(Failure::new(50001, "failed to get login user"));
    }
    Ok(Caller {
        user: Some(user),
        scopes: claims.client_id.map(|_| claims.scopes),
    })
}

/// Whether scopes contain one that is needed; `.Write` implies `.Read` (→ api part 1 §3.9).
fn allows(scopes: &[String], needed: &str) -> bool {
    let write = needed
        .strip_suffix(".Read")
        .map(|area| format!("{area}.Write"));
    scopes
        .iter()
        .any(|scope| scope == needed || Some(scope) == write.as_ref())
}

impl Ctx<'_> {
    /// The JSON body; what is missing or of a wrong type is refused before the handler (→ api part 1 §1.1).
    fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let value: serde_json::Value = serde_json::from_slice(&self.asked.body)
            .map_err(|_| Failure::binding("Parameter error"))?;
        serde_json::from_value(value).map_err(|_| Failure::binding("JSON marshall error"))
    }

    fn flag(&self, name: &str) -> bool {
        self.asked.flag(name)
    }

    /// The URI in the query.
    fn uri_param(&self) -> Result<FileUri, Failure> {
        let uri = self.asked.param("uri").filter(|uri| !uri.is_empty());
        FileUri::parse(uri.ok_or_else(|| Failure::binding("Uri cannot be empty"))?)
    }

    fn locate(&self, uri: &FileUri) -> Result<Located, Failure> {
        self.site.locate(&self.caller, uri, self.now)
    }

    /// Finds an object of which something is asked that a root without an object refuses in its own way.
    fn locate_or(&self, uri: &FileUri, of_root: Failure) -> Result<Located, Failure> {
        if uri.is_bare_root() && self.caller.user.is_some() {
            return Err(of_root);
        }
        self.locate(uri)
    }

    /// Finds each URI of a batch; failures are collected, what was found goes on (→ api part 1 §1.5).
    fn locate_all(
        &self,
        uris: &[String],
        action: Action,
    ) -> Result<(Vec<Located>, Failures), Failure> {
        if uris.is_empty() {
            return Err(Failure::binding("Uris too short"));
        }
        self.check_batch(uris)?;
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for text in uris {
            let uri = FileUri::parse(text)?;
            match uri.require(action).and_then(|()| self.locate(&uri)) {
                Ok(located) => found.push(located),
                Err(failure) => failed.push((uri.text(), failure)),
            }
        }
        Ok((found, failed))
    }

    fn check_batch(&self, uris: &[String]) -> Result<(), Failure> {
        let max = self.site.settings.max_batch;
        if uris.len() > max {
            return Err(Failure::new(
                40074,
                format!("Maximum allowed batch size: {max}"),
            ));
        }
        Ok(())
    }
}

/// Failures of single items of a batch, by their URIs.
type Failures = Vec<(String, Failure)>;

/// Success, or the failures of single items of a batch that was otherwise done.
fn batch_done(failed: Failures) -> Outcome {
    if failed.is_empty() {
        Ok(Reply::done())
    } else {
        Err(Failure::batch(failed))
    }
}
