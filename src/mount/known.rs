//! What a mount must know of its drive before anybody can be asked: kept from one mount of it to the next.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::{Api, Error, Site};
use crate::config::{Account, MountPlan};
use crate::fs::{Fs, Root};
use crate::metadata::{Room, Store};
use crate::model::User;
use crate::mount::debts::drive;

/// How long a mount that could do without waits for the server.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is kept of folders takes at most such a part of the room for the cache: as much is not used for content.
const SHARE: u64 = 16;

/// A database takes up to so many times what is in it, with its log and its index.
const OVERHEAD: u64 = 4;

/// In a cache that is smaller there is no room for a database.
const SMALLEST_CACHE: u64 = 64 << 20;

/// What a drive was when it was mounted last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    instance_id: String,
    title: String,
    user_id: String,
    email: Option<String>,
    nickname: String,
    anonymous: bool,
    /// Why it could only be read; none where it could be written to.
    read_only: Option<String>,
    root: Root,
}

impl Known {
    /// What `fs`, which is mounted, is.
    pub(super) fn of(site: &Site, read_only: Option<String>, fs: &Fs) -> Option<Self> {
        let user = site.user.clone();
        Some(Self {
            instance_id: site.instance_id.clone(),
            title: site.title.clone(),
            user_id: user.id,
            email: user.email,
            nickname: user.nickname,
            anonymous: user.anonymous,
            read_only,
            root: fs.root_to_keep()?,
        })
    }

    /// What `store` has; what it does not have, or cannot be read, is nothing.
    pub(super) fn in_store(store: &Store) -> Option<Self> {
        serde_json::from_str(&store.mount()?).ok()
    }

    pub(super) fn keep(&self, store: &Store) {
        match serde_json::to_string(self) {
            Ok(text) => store.keep_mount(&text),
            Err(error) => log::warn!("the mount cannot be noted for the next one: {error}"),
        }
    }

    pub(super) fn site(&self) -> Site {
        Site {
            instance_id: self.instance_id.clone(),
            title: self.title.clone(),
            user: User {
                id: self.user_id.clone(),
                email: self.email.clone(),
                nickname: self.nickname.clone(),
                anonymous: self.anonymous,
            },
        }
    }

    pub(super) fn read_only(&self) -> Option<String> {
        self.read_only.clone()
    }

    pub(super) fn root(&self) -> Root {
        self.root.clone()
    }

    /// Whether it is of that installation and that account.
    pub(super) fn is_of(&self, site: &Site) -> bool {
        self.instance_id == site.instance_id && self.user_id == site.user.id
    }
}

/// Where folders of `plan` are kept; none where nothing is to be kept on disk, or only the server knows whose they are.
pub(super) fn store(plan: &MountPlan) -> Option<Arc<Store>> {
    let who = match &plan.account {
        Account::Anonymous => "nobody".to_owned(),
        Account::Profile { name, user, .. } => format!("profile {name}, {user}"),
        Account::Password { email, .. } => format!("user {email}"),
        Account::RefreshToken(_) | Account::AccessToken(_) => return None,
    };
    if plan.cache_size_bytes < SMALLEST_CACHE {
        return None;
    }
    let fs = &plan.fs;
    let about = format!(
        "{}\n{:?} {:?} {}",
        drive(&plan.api.address.to_string(), &who, &fs.root),
        fs.names,
        fs.order,
        fs.hide_uploading
    );
    let room = Room {
        entries: fs.metadata_entries,
        bytes: room_bytes(plan) / OVERHEAD,
    };
    let store = Store::open(&plan.cache_dir, &about, room)?;
    Some(Arc::new(store))
}

/// Bytes of the cache's room that are for folders.
pub(super) fn room_bytes(plan: &MountPlan) -> u64 {
    plan.cache_size_bytes / SHARE
}

/// Asks what the site is; none where it cannot be reached, which the mount does without.
pub(super) async fn site_if_reached(api: &Api) -> Result<Option<Site>, Error> {
    let is_silent = async {
        match timeout(PATIENCE, api.ping()).await {
            Ok(Err(error)) if is_unreached(&error) => {}
            Ok(_) => std::future::pending().await,
            Err(_) => {}
        }
    };
    let asked = tokio::select! {
        asked = api.site() => asked,
        () = is_silent => Err(Error::Timeout(PATIENCE)),
    };
    match asked {
        Ok(site) => Ok(Some(site)),
        Err(error) if is_unreached(&error) => {
            api.reach().set(false);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_unreached(error: &Error) -> bool {
    matches!(
        error,
        Error::Timeout(_) | Error::Transport { .. } | Error::Trouble { .. }
    )
}
