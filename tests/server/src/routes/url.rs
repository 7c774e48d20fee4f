//! `POST /file/url` and `GET /file/thumb`: signed URLs of entities (→ api part 2 §2.1–2.2, §9).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Ctx;
use super::site::PIXEL;
use crate::clock::Time;
use crate::content::Content;
use crate::drive::{EntityId, EntityKind, NodeId};
use crate::ids::Kind;
use crate::locate::Located;
use crate::options::Store;
use crate::policy::StoragePolicy;
use crate::presign::{Presign, Purpose};
use crate::reply::{Failure, Outcome, Reply};
use crate::site::{CachedUrl, Site};
use crate::uri::{Action, FileUri, Realm, percent};

/// A cached URL is handed out until this long before its end (→ api part 2 §2.1).
const CACHE_MARGIN: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct UrlBody {
    uris: Option<Vec<String>>,
    #[serde(default)]
    download: bool,
    #[serde(default)]
    redirect: bool,
    #[serde(default)]
    entity: String,
    #[serde(default)]
    skip_error: bool,
    #[serde(default)]
    no_cache: bool,
}

impl Site {
    /// A fresh URL of the server's own content endpoint.
    fn own_url(&mut self, entity: EntityId, name: &str, download: bool, expires: Time) -> String {
        let id = self.ids.encode(Kind::Entity, entity);
        let sign = self
            .signer
            .path(&format!("/api/v4/file/content/{id}/0/{name}"), expires);
        self.secrets
            .note(sign.split('=').next().unwrap_or_default());
        let mut url = format!("{}/api/v4/file/content/{id}/0/", self.site_url());
        percent::escape_segment(name, &mut url);
        url.push_str(if download {
            "?download=true&sign="
        } else {
            "?sign="
        });
        percent::escape(&sign, &mut url);
        url
    }

    /// A fresh URL of the store that holds an entity, in that store's manner (→ api part 2 §2.2).
    pub(crate) fn store_url(
        &mut self,
        entity: EntityId,
        name: &str,
        now: Time,
        lifetime: Duration,
    ) -> String {
        let id = self.ids.encode(Kind::Entity, entity);
        match self.drive.entity(entity).map(|entity| entity.policy) {
            Some(StoragePolicy::Remote) => self.node_url(&id, name, now.plus(lifetime)),
            Some(StoragePolicy::OneDrive) => self.onedrive_url(&id, now.plus(lifetime)),
            policy => {
                // A local blob in a store is a test's wish: one that speaks as S3 does.
                let policy = policy
                    .filter(|policy| *policy != StoragePolicy::Local)
                    .unwrap_or(StoragePolicy::S3);
                let asked = Presign {
                    policy,
                    purpose: Purpose::Read,
                    path: &format!("/{}-bucket/{id}/{name}", policy.name()),
                    query: Vec::new(),
                    length: 0,
                };
                self.presigned(asked, now, lifetime)
            }
        }
    }

    /// A fresh URL of a storage node, signed as the server's own are.
    fn node_url(&mut self, id: &str, name: &str, expires: Time) -> String {
        let path = format!(
            "/api/v4/slave/file/content/1/{}/0/",
            URL_SAFE.encode(format!("uploads/{id}"))
        );
        let sign = self.signer.path(&format!("{path}{name}"), expires);
        self.secrets
            .note(sign.split('=').next().unwrap_or_default());
        let mut url = format!("{}{path}", self.store_address);
        percent::escape_segment(name, &mut url);
        url.push_str("?sign=");
        percent::escape(&sign, &mut url);
        url
    }

    /// A URL that Microsoft has authenticated beforehand.
    fn onedrive_url(&mut self, id: &str, expires: Time) -> String {
        let token = self.onedrive_token(id, expires.unix_seconds());
        self.secrets.note(&token);
        format!(
            "{}/onedrive/download/{id}?tempauth={token}",
            self.store_address
        )
    }

    /// What authenticates a download from OneDrive until a time in unix seconds.
    pub(crate) fn onedrive_token(&self, id: &str, end: i64) -> String {
        let signature = self.store_signature(&format!("onedrive read {id} {end}"));
        format!("v1.{end}.{signature}")
    }

    /// A URL of an entity under a name: the cached one while it has long enough to live.
    fn entity_url(&mut self, entity: EntityId, name: &str, body: &UrlBody, now: Time) -> CachedUrl {
        let key = format!(
            "{entity} {} {} {:?} {name}",
            body.download,
            self.site_url(),
            self.settings.store
        );
        if let Some(cached) = self
            .urls
            .get(&key)
            .filter(|cached| now < cached.until && !body.no_cache)
        {
            return cached.clone();
        }
        let ttl = self.settings.url_ttl;
        let expires = now.plus(ttl);
        let elsewhere = self
            .drive
            .entity(entity)
            .is_some_and(|entity| entity.policy != StoragePolicy::Local);
        // What is enciphered is read through the server, which deciphers it (→ api part 2 §2.6).
        let encrypted = self.drive.entity(entity).is_some_and(|e| e.encrypted);
        let direct =
            (self.settings.store == Store::Direct || elsewhere) && entity != 0 && !encrypted;
        let url = if direct {
            self.store_url(entity, name, now, ttl)
        } else {
            self.own_url(entity, name, body.download, expires)
        };
        let fresh = CachedUrl {
            url,
            expires,
            until: now.plus(ttl.saturating_sub(CACHE_MARGIN)),
        };
        self.urls.insert(key, fresh.clone());
        fresh
    }
}

impl Ctx<'_> {
    pub(super) fn url(&mut self) -> Outcome {
        let body: UrlBody = self.json()?;
        let uris = body
            .uris
            .as_ref()
            .ok_or_else(|| Failure::binding("Uris cannot be empty"))?;
        self.check_batch(uris)?;
        let (mut urls, mut failed, mut expires) = (Vec::new(), Vec::new(), None::<Time>);
        for text in uris {
            let uri = FileUri::parse(text)?;
            match self.url_of(&uri, &body) {
                Ok(url) => {
                    expires =
                        Some(expires.map_or(url.expires, |earliest| earliest.min(url.expires)));
                    urls.push(url.url);
                }
                Err(failure) => {
                    failed.push((uri.text(), failure));
                    urls.push(String::new());
                }
            }
        }
        if !failed.is_empty() && !body.skip_error {
            return Err(Failure::batch(failed));
        }
        if let ([url], true) = (&urls[..], body.redirect) {
            return Ok(Reply::redirect(url));
        }
        let urls: Vec<_> = urls.into_iter().map(|url| json!({"url": url})).collect();
        Ok(Reply::data(
            &json!({"urls": urls, "expires": expires.map(Time::rfc3339)}),
        ))
    }

    fn url_of(&mut self, uri: &FileUri, body: &UrlBody) -> Result<CachedUrl, Failure> {
        uri.require(Action::Download)?;
        let found = self.locate_or(uri, Failure::entity_not_exist())?;
        let node = self.site.drive.node(found.node);
        if node.is_folder() {
            return Err(Failure::entity_not_exist());
        }
        let mut entity = node.primary;
        if !body.entity.is_empty() {
            let asked = self.site.ids.decode(Kind::Entity, &body.entity);
            entity = asked
                .filter(|id| node.entities.contains(id))
                .ok_or_else(Failure::entity_not_exist)?;
        }
        let name = node.name.clone();
        self.count_download(&found);
        Ok(self.site.entity_url(entity, &name, body, self.now))
    }

    /// Each URL of a share is a download, also a cached one, also the owner's (→ api part 2 §2.1).
    fn count_download(&mut self, found: &Located) {
        if let Some(share) = found.share.and_then(|id| self.site.shares.get_mut(&id)) {
            share.downloaded += 1;
            share.remaining = share.remaining.map(|left| left.saturating_sub(1));
        }
    }

    /// The thumbnail of a picture, made on the first request; of anything else none, and a mark that says so.
    pub(super) fn thumb(&mut self) -> Outcome {
        let uri = self.uri_param()?;
        let of_root = match uri.realm {
            Realm::Trash => Failure::unclassified(),
            _ => Failure::entity_not_exist(),
        };
        let found = self.locate_or(&uri, of_root)?;
        let node = self.site.drive.node(found.node);
        if node.metadata.contains_key("thumb:disabled") || node.is_folder() {
            return Err(Failure::entity_not_exist());
        }
        let extension = node
            .name
            .rsplit_once('.')
            .map(|(_, extension)| extension.to_ascii_lowercase());
        let picture = extension
            .is_some_and(|extension| ["png", "jpg", "jpeg", "gif"].contains(&extension.as_str()));
        if node.size == 0 {
            return Err(Failure::unclassified());
        }
        if !picture {
            let node = self.site.drive.node_mut(found.node);
            node.metadata
                .insert("thumb:disabled".to_owned(), String::new());
            return Err(Failure::unclassified());
        }
        let name = format!("1_{}_{}._thumb", self.site.file_id(found.node), node.name);
        let thumbnail = self.thumbnail(found.node);
        let expires = self.now.plus(self.site.settings.url_ttl);
        let url = self.site.own_url(thumbnail, &name, false, expires);
        Ok(Reply::data(
            &json!({"url": url, "expires": expires.rfc3339()}),
        ))
    }

    fn thumbnail(&mut self, file: NodeId) -> EntityId {
        let drive = &mut self.site.drive;
        let is_thumbnail = |id: &&EntityId| {
            drive
                .entity(**id)
                .is_some_and(|e| e.kind == EntityKind::Thumbnail)
        };
        if let Some(found) = drive.node(file).entities.iter().rev().find(is_thumbnail) {
            return *found;
        }
        let content = Content::Kept(Bytes::from_static(&PIXEL));
        drive.add_entity(file, EntityKind::Thumbnail, content, None, self.now)
    }
}
