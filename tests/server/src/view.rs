//! The server's JSON objects: files, users, policies, shares (→ api part 1 §3.4, §6, §12).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cipher;
use crate::clock::Time;
use crate::drive::{EntityId, NodeId, UserId};
use crate::ids::Kind;
use crate::locate::{Located, join};
use crate::site::{Group, Share, Site, Status};
use crate::uri::{Realm, percent};

/// A file object (→ api part 1 §6.1).
#[derive(Debug, Serialize)]
pub(crate) struct FileView<'a> {
    #[serde(rename = "type")]
    kind: u8,
    id: String,
    name: Cow<'a, str>,
    created_at: String,
    updated_at: String,
    size: u64,
    /// Null is "not loaded", which is not the same as none.
    metadata: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    owned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_entity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder_summary: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extended_info: Option<Value>,
}

impl FileView<'_> {
    /// Echoes what followed an unencoded `#` in the caller's URI (→ api part 1 §4.2).
    pub(crate) fn echo(&mut self, fragment: &str) {
        self.path.push('#');
        self.path.push_str(fragment);
    }

    /// Leaves the metadata out, as the server does where it did not load it.
    pub(crate) fn forget_metadata(&mut self) {
        self.metadata = None;
    }

    /// The object that stands where there is none: parent of the trash (→ api part 1 §7.6).
    pub(crate) fn zero() -> Self {
        FileView {
            kind: 0,
            id: String::new(),
            name: Cow::Borrowed(""),
            created_at: Time::ZERO.rfc3339(),
            updated_at: Time::ZERO.rfc3339(),
            size: 0,
            metadata: None,
            path: String::new(),
            shared: false,
            capability: None,
            owned: false,
            primary_entity: None,
            folder_summary: None,
            extended_info: None,
        }
    }
}

/// Capability bits of each file system (→ api part 1 §5.3).
pub(crate) fn capability(realm: Realm) -> &'static str {
    match realm {
        Realm::My => "w8edAQ==",
        Realm::Share => "gIaYAQ==",
        Realm::Trash => "AMIK",
        Realm::SharedWithMe => "gAKA",
    }
}

impl Site {
    /// An object as the caller sees it, with its metadata or without.
    pub(crate) fn file_view(&self, found: &Located, with_metadata: bool) -> FileView<'_> {
        let mut view = self.node_view(found.node, found.realm, found.path.clone(), found.owned);
        if !with_metadata {
            view.metadata = None;
        }
        if found.realm == Realm::Trash {
            // Seen on a live server: only the listing of the trash tells it.
            view.capability = None;
        }
        if found.is_root {
            view.path.push('/');
        }
        view
    }

    /// A child of a listed folder.
    pub(crate) fn child_view(&self, folder: &Located, node: NodeId) -> FileView<'_> {
        let path = join(&folder.path, &self.drive.node(node).name);
        self.node_view(node, folder.realm, path, folder.owned)
    }

    pub(crate) fn node_view(
        &self,
        id: NodeId,
        realm: Realm,
        path: String,
        owned: bool,
    ) -> FileView<'_> {
        let node = self.drive.node(id);
        FileView {
            kind: u8::from(node.is_folder()),
            id: self.file_id(id),
            name: percent::shown(&node.name),
            created_at: node.created.rfc3339(),
            updated_at: node.updated.rfc3339(),
            size: node.size,
            metadata: Some(&node.metadata),
            path,
            shared: false,
            capability: Some(capability(realm)),
            owned,
            primary_entity: Some(self.ids.encode(Kind::Entity, node.primary)),
            folder_summary: None,
            extended_info: None,
        }
    }

    /// The storage policy of new content (→ api part 2 §5.2).
    pub(crate) fn policy_view(&self) -> Value {
        let id = self.ids.encode(Kind::Policy, 1);
        let max_size = self.settings.max_file_size;
        let mut policy = json!({"id": id, "name": "Default storage policy", "type": self.settings.policy.name(), "max_size": max_size});
        if self.settings.relay {
            policy["relay"] = true.into();
        }
        if self.settings.encryption {
            policy["encryption"] = true.into();
        }
        if self.settings.chunk_concurrency > 0 {
            policy["chunk_concurrency"] = self.settings.chunk_concurrency.into();
        }
        policy
    }

    pub(crate) fn group_view(&self, group: Group) -> Value {
        let id = self.ids.encode(Kind::Group, group as u64);
        let mut view =
            json!({"id": id, "name": group.name(), "permission": self.permission(group)});
        if group != Group::Anonymous {
            view["direct_link_batch_size"] = if group == Group::Admin { 1000 } else { 10 }.into();
            view["trash_retention"] = 604_800.into();
        }
        view
    }

    /// A user as he sees himself; anonymous is user 0 (→ api part 1 §2).
    pub(crate) fn user_view(&self, user: Option<UserId>) -> Value {
        let account = user.and_then(|id| Some((id, self.accounts.get(&id)?)));
        let Some((id, account)) = account else {
            let (id, group) = (
                self.ids.encode(Kind::User, 0),
                self.group_view(Group::Anonymous),
            );
            let created = Time::ZERO.rfc3339();
            return json!({"id": id, "nickname": "", "created_at": created, "anonymous": true, "group": group});
        };
        json!({
            "id": self.ids.encode(Kind::User, id),
            "email": account.email,
            "nickname": account.nickname(),
            "status": match account.status {
                Status::Active => "active",
                Status::Inactive => "inactive",
                Status::Banned => "manual_banned",
            },
            "created_at": account.created.rfc3339(),
            "group": self.group_view(account.group),
            "language": "en-US",
        })
    }

    /// A user as others see him; who is signed in sees his e-mail address too.
    pub(crate) fn owner_view(&self, user: UserId, with_email: bool) -> Value {
        let Some(account) = self.accounts.get(&user) else {
            return Value::Null;
        };
        let id = self.ids.encode(Kind::User, user);
        let mut view = json!({"id": id, "nickname": account.nickname(), "created_at": account.created.rfc3339()});
        if with_email {
            view["email"] = account.email.clone().into();
        }
        view
    }

    /// A share (→ api part 1 §12.1); locked, it does not show its limits.
    pub(crate) fn share_view(
        &self,
        id: u64,
        share: &Share,
        viewer: Option<UserId>,
        unlocked: bool,
    ) -> Value {
        let source = self.drive.get(share.source);
        let hash = self.ids.encode(Kind::Share, id);
        let with_password = unlocked && !share.password.is_empty();
        let mut url = format!("{}/s/{hash}", self.site_url());
        if with_password {
            url = format!("{url}/{}", share.password);
        }
        let mut view = json!({
            "id": hash,
            "name": source.map(|node| percent::shown(&node.name)).unwrap_or_default(),
            "visited": share.visited,
            "unlocked": unlocked,
            "source_type": u8::from(source.is_some_and(|node| node.is_folder())),
            "owner": self.owner_view(share.owner, viewer.is_some()),
            "created_at": share.created.rfc3339(),
            "expired": false,
            "url": url,
            "size": 0,
        });
        if !share.password.is_empty() {
            view["password_protected"] = true.into();
        }
        if !unlocked {
            return view;
        }
        if let Some(remaining) = share.remaining {
            view["remain_downloads"] = remaining.into();
        }
        if share.downloaded > 0 {
            view["downloaded"] = share.downloaded.into();
        }
        if let Some(expires) = share.expires {
            view["expires"] = expires.rfc3339().into();
        }
        if with_password {
            view["password"] = share.password.clone().into();
        }
        if with_password && viewer == Some(share.owner) {
            view["is_private"] = true.into();
        }
        view
    }

    /// What `extended=true` adds (→ api part 1 §7.8): versions newest first, unfinished ones included.
    pub(crate) fn extended_view(&self, found: &Located) -> Value {
        let node = self.drive.node(found.node);
        let mut view = json!({"storage_used": self.drive.stored(found.node)});
        if !node.is_folder() {
            view["storage_policy"] = self.policy_view();
        }
        if !node.entities.is_empty() {
            let entities = node
                .entities
                .iter()
                .rev()
                .filter_map(|id| self.entity_view(*id));
            view["entities"] = entities.collect();
        }
        let shares = self
            .shares
            .iter()
            .filter(|(_, share)| found.owned && share.source == found.node);
        let shares: Vec<_> = shares
            .map(|(id, share)| self.share_view(*id, share, Some(share.owner), true))
            .collect();
        if !shares.is_empty() {
            view["shares"] = shares.into();
        }
        view
    }

    fn entity_view(&self, id: EntityId) -> Option<Value> {
        let entity = self.drive.entity(id)?;
        let mut view = json!({
            "id": self.ids.encode(Kind::Entity, id),
            "size": entity.content.len(),
            "type": entity.kind as u8,
            "created_at": entity.created.rfc3339(),
            "storage_policy": self.policy_view(),
            "created_by": self.owner_view(entity.created_by, false),
        });
        if entity.encrypted {
            view["encrypted_with"] = cipher::ALGORITHM.into();
        }
        Some(view)
    }
}
