//! Folders in use are listed anew before what is known of them is too old, so that nobody who uses them has to wait.
//!
//! One after the other, with pauses; while a new listing is on its way the old one counts, also where the network swallows the
//! question, and so do those of other folders until it is known whether it does.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::entry::FileKey;
use crate::inodes::Ino;
use crate::task::Task;

use super::Fs;
use super::root::root_key;

/// How often it is looked what is due.
const PERIOD: Duration = Duration::from_millis(500);

/// How long one is waited for before the next is asked for.
const PATIENCE: Duration = Duration::from_millis(100);

/// So many are under way at most, on a network that swallows what it is sent.
const UNDER_WAY: usize = 64;

/// Pauses are so many times as long as what the listing before took.
const PAUSES: u32 = 9;

/// Keeps the folders of `fs` fresh. Must be called within a runtime.
pub fn freshen(fs: &Arc<Fs>) -> Task {
    Task::spawn(keep_fresh(Arc::downgrade(fs)))
}

async fn keep_fresh(fs: Weak<Fs>) {
    let mut under_way = JoinSet::new();
    loop {
        sleep(PERIOD).await;
        if let Some(fs) = fs.upgrade() {
            fs.finish_steps().await;
            fs.finish_waiting(false).await;
            fs.be_heard(false).await;
        }
        while let Some(fs) = fs.upgrade() {
            let Some(due) = fs.namespace.metadata.due(Instant::now()) else {
                break;
            };
            let began = Instant::now();
            fs.namespace.metadata.hold(&due);
            let listing = Arc::clone(&fs);
            under_way.spawn(async move { listing.list_anew(&due).await });
            if under_way.len() >= UNDER_WAY {
                under_way.join_next().await;
            } else if timeout(PATIENCE, under_way.join_next()).await.is_err() {
                // One that is long in coming holds up none of the others.
                fs.bridge_silence().await;
            }
            sleep(began.elapsed().min(PATIENCE) * PAUSES).await;
        }
    }
}

impl Fs {
    /// Until it is known whether the server has fallen silent, folders in use count beyond their time: who looks at one is not
    /// to be the one that finds out.
    async fn bridge_silence(&self) {
        let metadata = &self.namespace.metadata;
        let mut held = Vec::new();
        let answer = self.api.ping();
        tokio::pin!(answer);
        loop {
            held.extend(metadata.hold_due(Instant::now()));
            let answered = timeout(PATIENCE, &mut answer).await.is_ok();
            if answered || self.api.reach().is_down() {
                break;
            }
        }
        held.iter().for_each(|folder| metadata.release(folder));
    }

    /// Lists `folder` once more. Where that fails, who uses it next is told why.
    async fn list_anew(&self, folder: &FileKey) {
        let space = &self.namespace;
        let ino = space.folder_of(folder);
        let Some(folder) = ino.and_then(|ino| space.folder(ino).ok()) else {
            // The kernel has forgotten it.
            return space.metadata.let_go(folder);
        };
        let (asked, timeout) = (Instant::now(), space.options.timeout);
        let listing = space.listings.list(&folder.key, &folder.uri);
        if listing.complete(timeout).await.is_err() {
            space.metadata.let_go(&folder.key);
        } else if folder.key == root_key()
            && let Ok(info) = listing.folder(timeout).await
            && let Some(node) = space.inodes.node(Ino::ROOT)
        {
            space.saw_root(&node, info, asked);
        }
    }
}
