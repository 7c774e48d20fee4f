//! Batches that move objects about: move, copy, delete, restore (→ api part 1 §8.3, §9.1–9.2).
//!
//! Each looks first and acts after, so that what aborts a batch leaves nothing half done.

use std::collections::HashSet;

use serde::Deserialize;

use super::{Ctx, batch_done};
use crate::drive::NodeId;
use crate::locate::Located;
use crate::reply::{Failure, Outcome, Reply};
use crate::site::Group;
use crate::uri::{Action, FileUri, Realm};

#[derive(Deserialize)]
struct Move {
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    dst: String,
    #[serde(default)]
    copy: bool,
}

#[derive(Deserialize)]
struct Delete {
    #[serde(default)]
    uris: Vec<String>,
    #[serde(default)]
    skip_soft_delete: bool,
    #[serde(default)]
    unlink: bool,
}

/// What the database says to a name that is taken.
const TAKEN: &str = "Object existed: ent: constraint failed: constraint failed: UNIQUE constraint failed: \
    files.file_children, files.name (2067)";

impl Ctx<'_> {
    pub(super) fn move_or_copy(&mut self) -> Outcome {
        let body: Move = self.json()?;
        if body.uris.is_empty() {
            return Err(Failure::binding("Uris too short"));
        }
        if body.dst.is_empty() {
            return Err(Failure::binding("Dst cannot be empty"));
        }
        self.check_batch(&body.uris)?;
        if self.caller.user.is_none() {
            return Err(Failure::login_required());
        }
        let dst = FileUri::parse(&body.dst)?;
        if dst.realm == Realm::Trash && dst.segments.is_empty() {
            // The server's handler panics (→ api part 1 §5.3).
            return Ok(Reply::panic());
        }
        let dst = self.locate(&dst)?;
        if !self.site.drive.node(dst.node).is_folder() {
            return Err(Failure::not_supported());
        }
        if dst.realm != Realm::My {
            return Err(Failure::owner_only());
        }
        let action = if body.copy {
            Action::Change
        } else {
            Action::MoveFrom
        };
        let (found, mut failed) = self.locate_all(&body.uris, action)?;
        let mut good = Vec::new();
        for source in found {
            let inside = self
                .site
                .drive
                .ancestry(dst.node)
                .any(|above| above == source.node);
            if inside {
                let chain =
                    "Not supported action: cannot move or copy folder to itself or its descendant";
                failed.push((source.path, Failure::not_supported().chained(chain)));
            } else if source.is_root {
                failed.push((source.path, Failure::not_supported()));
            } else {
                good.push(source);
            }
        }
        self.check_move(&good, dst.node, body.copy)?;
        for source in good {
            if body.copy {
                let copy = self.site.drive.copy(source.node, dst.node, self.now);
                self.site.tell_created(copy, self.now);
            } else {
                self.site.tell_moved(source.node, dst.node, self.now);
                self.take_from_trash(source.node);
                let name = self.site.drive.node(source.node).name.clone();
                self.site
                    .drive
                    .place(source.node, dst.node, &name, self.now);
            }
        }
        batch_done(failed)
    }

    /// What aborts the whole batch: locks, taken names, quota, the walk limit.
    fn check_move(&self, sources: &[Located], dst: NodeId, copy: bool) -> Result<(), Failure> {
        let (mut names, mut walked, mut bytes) = (HashSet::new(), 0, 0);
        for source in sources {
            let node = self.site.drive.node(source.node);
            if !copy {
                if node.parent == Some(dst) {
                    // It conflicts with its own lock (→ api part 1 §8.3).
                    return Err(self.own_conflict(source.node, "moveCopy"));
                }
                self.site.check_lock(source.node, true, self.now)?;
            }
            if self.site.drive.child(dst, &node.name).is_some() || !names.insert(&node.name) {
                return Err(Failure::object_existed());
            }
            if copy {
                let all = self
                    .site
                    .drive
                    .subtree(source.node, self.site.settings.max_walked_files + 1);
                walked += all.len();
                bytes += all
                    .iter()
                    .map(|id| self.site.drive.stored(*id))
                    .sum::<u64>();
            }
        }
        if walked > self.site.settings.max_walked_files {
            return Err(Failure::new(40079, "Walked file count reached limit"));
        }
        self.check_quota(bytes)
    }

    pub(super) fn check_quota(&self, bytes: u64) -> Result<(), Failure> {
        let user = self.caller.user.unwrap_or_default();
        let capacity = self
            .site
            .accounts
            .get(&user)
            .map_or(0, |account| account.capacity);
        if bytes > 0 && self.site.drive.used(user) + bytes > capacity {
            return Err(Failure::insufficient_capacity());
        }
        Ok(())
    }

    /// The conflict of a request with itself. Its locks are gone when the answer is.
    fn own_conflict(&self, node: NodeId, application: &str) -> Failure {
        let folder = self.site.drive.node(node).is_folder();
        let token = format!("{:08x}-0000-4000-8000-000000000000", node);
        Failure::lock_conflict(self.site.my_path(node), token, application, folder)
    }

    fn take_from_trash(&mut self, node: NodeId) {
        let owner = self.site.drive.node(node).owner;
        let uuid = self
            .site
            .drive
            .node(node)
            .trashed
            .as_ref()
            .map(|trashed| trashed.uuid.clone());
        if let (Some(uuid), Some(account)) = (uuid, self.site.accounts.get_mut(&owner)) {
            account.trash.remove(&uuid);
            let node = self.site.drive.node_mut(node);
            node.metadata.remove("sys:restore_uri");
            node.metadata.remove("sys:expected_collect_time");
        }
    }

    pub(super) fn delete(&mut self) -> Outcome {
        let body: Delete = self.json()?;
        if body.unlink {
            let account = self
                .caller
                .user
                .and_then(|user| self.site.accounts.get(&user));
            if account.is_none_or(|account| account.group != Group::Admin) {
                return Err(Failure::new(403, "advance delete permission is required"));
            }
        }
        let action = if body.skip_soft_delete {
            Action::Delete
        } else {
            Action::SoftDelete
        };
        let (found, mut failed) = self.locate_all(&body.uris, action)?;
        let mut good = Vec::new();
        for target in found {
            if target.is_root {
                failed.push((target.path, Failure::not_supported()));
            } else {
                good.push(target.node);
            }
        }
        let application = if body.skip_soft_delete {
            "delete"
        } else {
            "softDelete"
        };
        for (index, node) in good.iter().enumerate() {
            // The same twice, or a folder and something in it: the request conflicts with its own lock.
            let others = good.iter().enumerate().filter(|(other, _)| *other != index);
            let mut above = others.map(|(_, other)| *other);
            if above.any(|other| self.site.drive.ancestry(*node).any(|above| above == other)) {
                return Err(self.own_conflict(*node, application));
            }
            self.site.check_lock(*node, true, self.now)?;
        }
        for node in good {
            self.site.tell_deleted(node, self.now);
            if body.skip_soft_delete {
                self.remove(node)
            } else {
                self.trash(node)
            }
        }
        batch_done(failed)
    }

    fn trash(&mut self, node: NodeId) {
        let path = self.site.my_path(node);
        let collect = self.now.unix_seconds() + 604_800;
        let uuid = self.site.dice.uuid();
        self.site.drive.trash(node, uuid.clone(), self.now);
        let owner = self.site.drive.node(node).owner;
        let metadata = &mut self.site.drive.node_mut(node).metadata;
        metadata.insert("sys:restore_uri".to_owned(), path);
        metadata.insert("sys:expected_collect_time".to_owned(), collect.to_string());
        if let Some(account) = self.site.accounts.get_mut(&owner) {
            account.trash.insert(uuid, node);
        }
    }

    /// Deletes for good; shares of what is gone are gone too.
    fn remove(&mut self, node: NodeId) {
        self.take_from_trash(node);
        self.site.drive.remove(node);
        let drive = &self.site.drive;
        self.site
            .shares
            .retain(|_, share| drive.get(share.source).is_some());
    }

    pub(super) fn restore(&mut self) -> Outcome {
        let body: Delete = self.json()?;
        let (found, mut failed) = self.locate_all(&body.uris, Action::Restore)?;
        for target in found {
            if let Err(failure) = self.restore_one(target.node) {
                failed.push((target.path, failure));
            }
        }
        batch_done(failed)
    }

    fn restore_one(&mut self, id: NodeId) -> Result<(), Failure> {
        let node = self.site.drive.node(id);
        let (name, trashed) = (node.name.clone(), node.trashed.clone());
        let parent = trashed.ok_or_else(Failure::not_supported)?.parent;
        if self.site.drive.get(parent).is_none() || self.site.drive.root_of(parent).is_none() {
            return Err(Failure::path_not_exist());
        }
        if self.site.drive.child(parent, &name).is_some() {
            return Err(Failure::object_existed().chained(TAKEN));
        }
        self.site.tell_moved(id, parent, self.now);
        self.take_from_trash(id);
        self.site.drive.place(id, parent, &name, self.now);
        Ok(())
    }

    pub(super) fn empty_trash(&mut self) -> Outcome {
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let all: Vec<_> = self
            .site
            .accounts
            .get(&user)
            .into_iter()
            .flat_map(|a| a.trash.values().copied())
            .collect();
        for node in all {
            self.remove(node);
        }
        Ok(Reply::done())
    }
}
