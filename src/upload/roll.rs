//! Many looks in one: new files that went to one folder are seen on the page of what was written there last.
//!
//! A look at each file is a third of the requests that a small one costs, and a page of a folder costs the server little
//! more than one look. So whoever has sent a new file waits a moment for the others that are on their way to its folder.
//! What the page shows of a file is what `info` would; what it does not show proves nothing, and who is not seen looks
//! for himself. Versions are not on it: an overwritten file is always looked at alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::api::Api;
use crate::model::FileInfo;
use crate::names::ServerName;
use crate::uri::FileUri;

/// So many are looked for at once at most.
const MOST: usize = 24;
/// Longest that the first one waits for others. The journal keeps a file as long, and nobody else waits for that.
const GATHERING: Duration = Duration::from_millis(40);
/// Room on the page beside all who are on their way, who show there as well: others write to the folder, too, and folders
/// come first.
const ROOM: usize = 16;

/// Who is on his way to which folder.
#[derive(Default)]
pub(super) struct Roll {
    folders: Arc<Mutex<HashMap<FileUri, Folder>>>,
}

#[derive(Default)]
struct Folder {
    /// New files that are being sent there, and those that were and wait.
    coming: usize,
    waiting: Vec<(ServerName, oneshot::Sender<FileInfo>)>,
    /// Somebody gathers them.
    gathers: bool,
    /// What was written last is not first on its page: of files with old times, or behind many folders.
    unfit: bool,
    changed: Arc<Notify>,
}

/// A new file that is on its way to a folder. Dropping it ends that.
pub(super) struct Coming {
    folders: Arc<Mutex<HashMap<FileUri, Folder>>>,
    folder: FileUri,
}

impl Roll {
    /// A new file is on its way to `uri`; none where that has no folder.
    pub(super) fn coming(&self, uri: &FileUri) -> Option<Coming> {
        let folder = uri.parent()?;
        let mut folders = self.folders.lock().unwrap();
        folders.entry(folder.clone()).or_default().coming += 1;
        drop(folders);
        Some(Coming {
            folders: Arc::clone(&self.folders),
            folder,
        })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut folders = self.folders.lock().unwrap();
        let Some(folder) = folders.get_mut(&self.folder) else {
            return;
        };
        folder.coming -= 1;
        folder.changed.notify_one();
        if folder.coming == 0 && !folder.gathers {
            folders.remove(&self.folder);
        }
    }
}

impl Coming {
    /// All of it was sent: what the folder shows under `name`. None where that is not known without a look of one's own.
    pub(super) async fn seen(self, api: &Api, name: &ServerName) -> Option<FileInfo> {
        let (sender, seen) = oneshot::channel();
        {
            let mut folders = self.folders.lock().unwrap();
            let folder = folders.get_mut(&self.folder)?;
            if folder.unfit {
                return None;
            }
            folder.waiting.push((name.clone(), sender));
            folder.changed.notify_one();
            if !folder.gathers {
                folder.gathers = true;
                let gathering = Gathering {
                    folders: Arc::clone(&self.folders),
                    folder: self.folder.clone(),
                };
                tokio::spawn(gathering.run(api.clone()));
            }
        }
        // Who is not seen hears that his sender is gone.
        seen.await.ok()
    }
}

/// What looks for those who wait at one folder, until none does.
struct Gathering {
    folders: Arc<Mutex<HashMap<FileUri, Folder>>>,
    folder: FileUri,
}

impl Gathering {
    async fn run(self, api: Api) {
        while let Some((waiting, room)) = self.gathered().await {
            // One alone is as soon looked at by himself, and then with his versions.
            if waiting.len() > 1 {
                let unseen = look(&api, &self.folder, waiting, room).await;
                if unseen {
                    self.with(|folder| folder.unfit = true);
                }
            }
        }
    }

    /// Those who wait by the time that there are no more to wait for, and how long the page is to be; none at the end.
    async fn gathered(&self) -> Option<(Vec<(ServerName, oneshot::Sender<FileInfo>)>, usize)> {
        let changed = self.with(|folder| Arc::clone(&folder.changed));
        let complete = async {
            loop {
                let is_complete = self
                    .with(|folder| folder.unfit || folder.waiting.len() >= folder.coming.min(MOST));
                if is_complete {
                    break;
                }
                changed.notified().await;
            }
        };
        // Whoever is sending still, or cannot, is not waited for.
        tokio::time::timeout(GATHERING, complete).await.ok();
        let mut folders = self.folders.lock().unwrap();
        let folder = folders.get_mut(&self.folder)?;
        let waiting = std::mem::take(&mut folder.waiting);
        if !waiting.is_empty() {
            return Some((waiting, folder.coming + ROOM));
        }
        folder.gathers = false;
        if folder.coming == 0 {
            folders.remove(&self.folder);
        }
        None
    }

    fn with<T>(&self, what: impl FnOnce(&mut Folder) -> T) -> T {
        let mut folders = self.folders.lock().unwrap();
        // It is there while this gathers.
        what(folders.entry(self.folder.clone()).or_default())
    }
}

/// Tells those who are on the page; true where that is hardly anybody.
async fn look(
    api: &Api,
    folder: &FileUri,
    waiting: Vec<(ServerName, oneshot::Sender<FileInfo>)>,
    room: usize,
) -> bool {
    let latest = match api.latest(folder, room as u32).await {
        Ok(latest) => latest,
        Err(error) => {
            log::debug!("{folder} is not looked at as a whole: {error}");
            return false;
        }
    };
    let mut shown: HashMap<ServerName, FileInfo> = latest
        .into_iter()
        .map(|info| (info.name.clone(), info))
        .collect();
    let (all, mut seen) = (waiting.len(), 0);
    for (name, sender) in waiting {
        if let Some(info) = shown.remove(&name) {
            seen += 1;
            // Who ended meanwhile is not there to hear it.
            let _ = sender.send(info);
        }
    }
    2 * seen < all
}
