//! Content written: in one request, or by a session of chunks (→ api part 2 §4–5).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Ctx;
use super::file::{MAX_METADATA_VALUE, check_metadata};
use crate::cipher::{ALGORITHM, Cipher};
use crate::clock::Time;
use crate::content::Content;
use crate::drive::{Drive, EntityId, EntityKind, NodeId, UPLOAD_MARK};
use crate::ids::Kind;
use crate::locate::Located;
use crate::policy::StoragePolicy;
use crate::reply::{Failure, Outcome, Reply};
use crate::serve::Asked;
use crate::site::{Site, Upload};
use crate::store::joined;
use crate::uri::{Action, FileUri};

/// The last moment of the year 9999: the database takes no later one (→ api part 2 §5.1).
const LAST_MOMENT_MILLIS: i64 = 253_402_300_799_999;

#[derive(Deserialize)]
struct Session {
    #[serde(default)]
    uri: String,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    last_modified: i64,
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    policy_id: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    entity_type: Option<String>,
    #[serde(default)]
    previous: Option<String>,
    #[serde(default)]
    encryption_supported: Option<Vec<String>>,
}

/// What becomes of a file with its new content.
struct Opened {
    size: u64,
    updated: Option<Time>,
    metadata: BTreeMap<String, String>,
    mime_type: String,
    /// Both sides want the content enciphered.
    encrypted: bool,
    /// Nothing will come of it.
    lost: bool,
}

/// Where content goes.
enum Prepared {
    /// To this file.
    Fit(Located),
    /// Nowhere: the database took the name for this file's, which is spelled otherwise. The server takes that for the new
    /// file and one of its versions for the new one, and no record ever names what is sent
    /// (`Cloudreve:pkg/filemanager/fs/dbfs/upload.go`, PrepareUpload; read there, not tried).
    Lost(Located),
}

impl Site {
    /// Makes an entity the content of its file, with all that goes with it (→ api part 2 §5.10).
    pub(crate) fn complete(
        &mut self,
        file: NodeId,
        entity: EntityId,
        content: Content,
        updated: Time,
        metadata: BTreeMap<String, String>,
        now: Time,
    ) {
        if let Some(entity) = self.drive.entity_mut(entity) {
            entity.session = None;
            entity.content = content;
            entity.policy = self.settings.policy;
        }
        self.drive.make_current(file, entity, updated);
        let node = self.drive.node_mut(file);
        node.metadata.remove(UPLOAD_MARK);
        node.metadata.remove("thumb:disabled");
        node.metadata.extend(metadata);
        self.tell_modified(file, now);
        let max = match self.accounts.get(&self.drive.node(file).owner) {
            Some(account) if account.retention && account.retention_max == 0 => usize::MAX,
            Some(account) if account.retention => account.retention_max,
            _ => 1,
        };
        self.drive.cap_versions(file, max);
    }
}

impl Site {
    /// Takes a chunk that came to the server (`here`) or to a storage node (→ api part 2 §5.7, §6).
    pub(crate) fn receive_chunk(
        &mut self,
        id: &str,
        index: u64,
        asked: &Asked,
        here: bool,
    ) -> Outcome {
        let (now, preallocate) = (asked.now, self.settings.preallocate);
        let upload = self.uploads.get_mut(id);
        let upload = upload
            .filter(|upload| now < upload.expires)
            .ok_or_else(|| Failure::new(40011, ""))?;
        if upload.claimed {
            // The trap: nothing is completed, and the answer is success (→ api part 2 §5.7).
            return Ok(Reply::done());
        }
        if here && self.drive.get(upload.file).is_none() {
            return Err(Failure::path_not_exist());
        }
        if here && upload.lock.is_none() {
            return Err(Failure::new(40073, "Lock expired"));
        }
        let offset = index.saturating_mul(upload.chunk_size);
        if index > 0 && (upload.chunk_size == 0 || offset >= upload.size) {
            return Err(if here && !upload.relay {
                Failure::new(40012, "Chunk offset cannot be greater than file size")
            } else {
                Failure::new(40013, "Invalid Content-Length (expected: -1)")
            });
        }
        let rest = upload.size - offset;
        let expected = match upload.chunk_size {
            0 => rest,
            chunk => rest.min(chunk),
        };
        let sized = asked
            .header("content-length")
            .or_else(|| asked.header("x-expected-entity-length"));
        if sized.is_none() || asked.body.len() as u64 != expected {
            return Err(Failure::new(
                40013,
                format!("Invalid Content-Length (expected: {expected})"),
            ));
        }
        if !preallocate && (0..index).any(|before| !upload.chunks.contains_key(&before)) {
            return Err(Failure::new(50004, "Failed to upload file"));
        }
        upload.chunks.insert(index, asked.body.clone());
        let received: u64 = upload.chunks.values().map(|chunk| chunk.len() as u64).sum();
        if received < upload.size {
            return Ok(Reply::done());
        }
        let content = joined(std::mem::take(&mut upload.chunks).into_values());
        self.finish_upload(id, content, now).inspect_err(|_| {
            if let Some(upload) = self.uploads.get_mut(id) {
                upload.claimed = true;
            }
        })?;
        Ok(Reply::done())
    }

    /// Makes what was uploaded the content of its file, and ends the session.
    pub(crate) fn finish_upload(
        &mut self,
        id: &str,
        content: Bytes,
        now: Time,
    ) -> Result<(), Failure> {
        let upload = self
            .uploads
            .get(id)
            .ok_or_else(|| Failure::new(40011, ""))?;
        if self.drive.get(upload.file).is_none() {
            return Err(Failure::path_not_exist());
        }
        if upload.lock.is_none() {
            return Err(Failure::new(40073, "Lock expired"));
        }
        let too_late = upload
            .updated
            .is_some_and(|updated| updated > Time::from_millis(LAST_MOMENT_MILLIS));
        let too_long = |value: &String| value.len() > MAX_METADATA_VALUE;
        if too_late || upload.metadata.values().any(too_long) {
            return Err(Failure::new(50001, "Failed to upsert placeholder metadata"));
        }
        let Some(upload) = self.uploads.remove(id) else {
            return Err(Failure::new(40011, ""));
        };
        self.store.abort(id);
        let content = match &upload.cipher {
            Some(cipher) if !upload.relay => cipher.open(content),
            _ => content,
        };
        self.complete(
            upload.file,
            upload.entity,
            Content::Kept(content),
            upload.updated.unwrap_or(now),
            upload.metadata,
            now,
        );
        if let Some(entity) = self.drive.entity_mut(upload.entity) {
            entity.policy = upload.policy;
            entity.encrypted = upload.cipher.is_some();
        }
        Ok(())
    }

    /// Forgets a session, here and at the store. False if the store could not abort it (→ api part 2 §5.8).
    fn forget_upload(&mut self, id: &str) -> bool {
        let Some(upload) = self.uploads.remove(id) else {
            return true;
        };
        let aborted = self.store.abort(id);
        match upload.policy {
            StoragePolicy::Local | StoragePolicy::Upyun => true,
            // Nothing was begun there, so there is nothing to abort.
            _ if upload.relay => false,
            StoragePolicy::Remote => true,
            // Its URL and token are not kept in the session.
            StoragePolicy::Qiniu => false,
            _ => aborted,
        }
    }
}

/// Drops what former sessions left on a file.
fn drop_unfinished(drive: &mut Drive, file: NodeId) {
    let unfinished = |id: &EntityId| {
        drive
            .entity(*id)
            .is_some_and(|entity| entity.session.is_some())
    };
    let stale: Vec<_> = drive
        .node(file)
        .entities
        .iter()
        .copied()
        .filter(unfinished)
        .collect();
    for entity in stale {
        drive.drop_entity(file, entity);
    }
}

impl Ctx<'_> {
    /// Finds or makes the file that gets new content; everything that refuses an upload does so here
    /// (→ api part 2 §5.3).
    fn prepare_upload(
        &mut self,
        uri: &FileUri,
        size: u64,
        overwrite: bool,
        previous: &str,
    ) -> Result<Prepared, Failure> {
        uri.require(Action::Change)?;
        let target = self.site.locate_target(&self.caller, uri, self.now)?;
        if target.missing.is_empty() && !self.site.is_spelled(&target.found, uri) {
            if self.site.drive.node(target.found.node).primary == 0 {
                return Err(Failure::unclassified());
            }
            return Ok(Prepared::Lost(target.found));
        }
        let exists = target.missing.is_empty();
        if exists {
            let node = self.site.drive.node(target.found.node);
            if node.is_folder() || !overwrite {
                return Err(Failure::object_existed());
            }
            self.site.check_lock(target.found.node, false, self.now)?;
        }
        if self.site.settings.max_file_size > 0 && size > self.site.settings.max_file_size {
            return Err(Failure::new(40049, "File is too large"));
        }
        self.check_quota(size)?;
        if exists && !previous.is_empty() {
            let unknown = || Failure::new(40001, "Unknown version ID");
            let previous = self
                .site
                .ids
                .decode(Kind::Entity, previous)
                .ok_or_else(unknown)?;
            if self.site.drive.node(target.found.node).primary != previous {
                return Err(Failure::new(40076, "File is updated during your edit"));
            }
        }
        if !exists {
            return self.create_missing(&target, false).map(Prepared::Fit);
        }
        drop_unfinished(&mut self.site.drive, target.found.node);
        Ok(Prepared::Fit(target.found))
    }

    /// The local policy's blob names prefix the file's name: very long ones fail (→ api part 2 §13).
    fn name_fits(&self, uri: &FileUri) -> bool {
        let digits = self.caller.user.unwrap_or_default().to_string().len();
        uri.segments
            .last()
            .is_none_or(|name| name.len() <= 245 - digits || name.len() > 255)
    }

    pub(super) fn put_content(&mut self) -> Outcome {
        let uri = self.uri_param()?;
        let header = |name: &str| {
            self.asked
                .header(name)
                .and_then(|value| value.parse::<u64>().ok())
        };
        // Without either length nothing is committed but an empty version (→ api part 2 §4.1).
        let length = header("content-length")
            .or_else(|| header("x-expected-entity-length"))
            .unwrap_or(0);
        if length > self.site.settings.max_edit_size {
            return Err(Failure::new(40049, "File is too large"));
        }
        let body = self
            .asked
            .body
            .slice(..self.asked.body.len().min(length as usize));
        let previous = self.asked.param("previous").unwrap_or_default();
        if !self.name_fits(&uri) {
            return Err(Failure::new(50004, "Failed to upload file"));
        }
        let found = match self.prepare_upload(&uri, body.len() as u64, true, previous)? {
            Prepared::Fit(found) => found,
            Prepared::Lost(found) => return Ok(Reply::data(&self.site.file_view(&found, false))),
        };
        let (content, now) = (Content::Kept(body), self.now);
        let entity = self.site.drive.add_entity(
            found.node,
            EntityKind::Version,
            content.clone(),
            None,
            self.now,
        );
        self.site
            .complete(found.node, entity, content, now, BTreeMap::new(), now);
        // What comes this way the server enciphers itself, whatever the client can.
        if let Some(entity) = self.site.drive.entity_mut(entity) {
            entity.encrypted = self.site.settings.encryption;
        }
        Ok(Reply::data(&self.site.file_view(&found, false)))
    }

    pub(super) fn upload_create(&mut self) -> Outcome {
        let body: Session = self.json()?;
        if body.uri.is_empty() {
            return Err(Failure::binding("Uri cannot be empty"));
        }
        let size = u64::try_from(body.size).map_err(|_| Failure::binding("Size too small"))?;
        if !body.policy_id.is_empty()
            && self
                .site
                .ids
                .decode(Kind::Policy, &body.policy_id)
                .is_none()
        {
            return Err(Failure::new(40001, "unknown policy id"));
        }
        let overwrite = match body.entity_type.as_deref() {
            None | Some("") => false,
            Some("version") => true,
            Some(_) => return Err(Failure::binding("Invalid parameters.")),
        };
        let metadata = body.metadata.unwrap_or_default();
        if metadata.len() > 256 {
            return Err(Failure::binding("Metadata too long"));
        }
        for (key, value) in &metadata {
            if key.starts_with("sys:") || key.starts_with("props:") {
                return Err(Failure::new(40001, "Invalid metadata key"));
            }
            check_metadata(key, value, false)?;
        }
        let uri = FileUri::parse(&body.uri)?;
        if !self.name_fits(&uri) {
            return Err(Failure::unclassified());
        }
        let previous = body.previous.unwrap_or_default();
        let (found, lost) = match self.prepare_upload(&uri, size, overwrite, &previous)? {
            Prepared::Fit(found) => (found, false),
            Prepared::Lost(found) => (found, true),
        };
        let updated = (body.last_modified > 0).then(|| Time::from_millis(body.last_modified));
        // Only the first one counts; a policy that is relayed is content with any.
        let offered = body.encryption_supported.unwrap_or_default();
        let taken = offered.first().is_some_and(|first| first == ALGORITHM);
        let relayed = self.site.settings.relay && !offered.is_empty();
        let opened = Opened {
            size,
            updated,
            metadata,
            mime_type: body.mime_type,
            encrypted: self.site.settings.encryption && (taken || relayed),
            lost,
        };
        Ok(self.open_session(&found, opened))
    }

    fn open_session(&mut self, found: &Located, opened: Opened) -> Reply {
        let Opened { size, updated, .. } = opened;
        let (id, lock, secret) = (
            self.site.dice.uuid(),
            self.site.dice.uuid(),
            self.site.dice.text(32),
        );
        self.site.secrets.note(&secret);
        // The whole size is charged at once (→ api part 2 §5.4).
        let reserved = Content::Generated { size, seed: 0 };
        let entity = self.site.drive.add_entity(
            found.node,
            EntityKind::Version,
            reserved,
            Some(id.clone()),
            self.now,
        );
        self.site
            .drive
            .node_mut(found.node)
            .metadata
            .insert(UPLOAD_MARK.to_owned(), id.clone());
        let (policy, relay) = (self.site.settings.policy, self.site.settings.relay);
        let chunk_size = match relay {
            true => 0,
            false => policy.chunk_size(self.site.settings.chunk_size),
        };
        let expires = self.now.plus(self.site.settings.upload_session_ttl);
        let cipher = opened.encrypted.then(|| Cipher::new(&mut self.site.dice));
        let upload = Upload {
            user: self.caller.user.unwrap_or_default(),
            policy,
            relay,
            secret: secret.clone(),
            file: found.node,
            entity,
            size,
            chunk_size,
            expires,
            updated,
            metadata: opened.metadata,
            cipher,
            chunks: BTreeMap::new(),
            lock: Some(lock),
            claimed: opened.lost,
        };
        let mut view = json!({
            "session_id": id, "upload_id": "", "chunk_size": chunk_size, "expires": expires.unix_seconds(),
            "storage_policy": self.site.policy_view(), "uri": found.path, "callback_secret": secret,
        });
        let name = self.site.drive.node(found.node).name.clone();
        let credential = self
            .site
            .credential(&id, &upload, &name, &opened.mime_type, self.now);
        for (key, value) in credential {
            view[key] = value;
        }
        if let Some(cipher) = upload.cipher.as_ref().filter(|_| !relay) {
            view["encrypt_metadata"] = cipher.view();
        }
        self.site.uploads.insert(id, upload);
        Reply::data(&view)
    }

    pub(super) fn upload_chunk(&mut self) -> Outcome {
        let (id, index) = (self.asked.segment(2), self.asked.segment(3));
        let index: u64 = index
            .parse()
            .map_err(|_| Failure::binding("Parameter error"))?;
        // A bad token is an anonymous caller, whose sessions these are not.
        let gone = || Failure::new(40011, "");
        let user = self.caller.user.ok_or_else(gone)?;
        let upload = self
            .site
            .uploads
            .get(&id)
            .filter(|upload| upload.user == user)
            .ok_or_else(gone)?;
        if upload.policy != StoragePolicy::Local && !upload.relay {
            return Err(Failure::new(40006, ""));
        }
        self.site.receive_chunk(&id, index, self.asked, true)
    }

    pub(super) fn upload_cancel(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct Cancel {
            #[serde(default)]
            id: String,
            #[serde(default)]
            uri: String,
        }
        let body: Cancel = self.json()?;
        let file = self.locate(&FileUri::parse(&body.uri)?)?.node;
        let user = self.caller.user.unwrap_or_default();
        match self.site.uploads.get(&body.id) {
            Some(upload) if upload.file != file || upload.user != user => {
                return Err(Failure::new(404, "Upload session not found"));
            }
            Some(_) => {}
            None => self.site.check_lock(file, false, self.now)?,
        }
        let abortable = self.site.forget_upload(&body.id);
        let now = self.now;
        let drive = &mut self.site.drive;
        let is_its = |id: &EntityId| {
            drive
                .entity(*id)
                .is_some_and(|entity| entity.session.as_ref() == Some(&body.id))
        };
        let entities = &drive.node(file).entities;
        match entities.iter().copied().find(is_its) {
            // "Exactly one entity" deletes the file, also one that was there before (→ api part 2 §5.8).
            Some(_) if entities.len() == 1 => {
                self.site.tell_deleted(file, now);
                self.site.drive.remove(file);
            }
            Some(entity) => {
                drive.drop_entity(file, entity);
                drive.node_mut(file).metadata.remove(UPLOAD_MARK);
                self.site.tell_modified(file, now);
            }
            None => drop(drive.node_mut(file).metadata.remove(UPLOAD_MARK)),
        }
        if abortable {
            Ok(Reply::done())
        } else {
            // The placeholder is gone all the same (→ api part 2 §5.8).
            Err(Failure::unclassified())
        }
    }
}
