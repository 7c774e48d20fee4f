//! The uploader against the test server: a drive, an account on it, and a state directory that outlives a crash.

mod conflicts;
mod crashes;
mod orphans;
mod races;
mod real;
mod stays;
mod storages;
mod trouble;
mod ways;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use cloudreve_test_server::{Fault, Route, Server};
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::api::Credentials;
use crate::entity::Entity;
use crate::entry::{FileKey, Tree};
use crate::model::{EntityId, FileId};
use crate::names::{NamePolicy, ServerName};
use crate::secret::Secret;
use crate::staging::{self, Base, Place, State};
use crate::uri::FileUri;

/// Chunks of the test server's policy.
const CHUNK: u64 = 64 << 10;
/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A drive with nothing on it, and our account there.
struct Drive {
    server: Server,
    api: Api,
    dir: tempfile::TempDir,
    options: Options,
    /// How often parts were asked for that are only in the base.
    completed: Arc<AtomicU64>,
}

/// One run of the program: what owes, and who delivers.
struct Run {
    staging: Arc<Staging>,
    uploader: Arc<Uploader>,
    news: UnboundedReceiver<News>,
    found: Vec<Arc<Local>>,
    state_dir: std::path::PathBuf,
}

impl Drive {
    fn new() -> Self {
        let server = Server::start(Default::default()).unwrap();
        server.configure(|settings| {
            settings.chunk_size = CHUNK;
            settings.preallocate = true;
            settings.chunk_concurrency = 3;
        });
        Self {
            api: Api::of_test_server(&server, Duration::from_secs(5)),
            server,
            dir: tempfile::tempdir().unwrap(),
            options: Options {
                delay: Duration::from_millis(20),
                transfers: 4,
                overwrite: Overwrite::Replace,
                delete: Delete::Trash,
                host: "desk".into(),
                names: NamePolicy::Encode,
                timeout: Duration::from_secs(5),
            },
            completed: Arc::default(),
        }
    }

    /// Starts the program, or starts it again.
    fn run(&self) -> Run {
        let options = staging::Options {
            dir: self.dir.path().to_owned(),
            drive: "drive".into(),
            local_only: staging::LocalOnly::of(&["*.here"]),
        };
        let (staging, found) = Staging::open(options).unwrap();
        let (api, completed) = (self.api.clone(), Arc::clone(&self.completed));
        let complete: Complete = Arc::new(move |local| {
            completed.fetch_add(1, Ordering::Relaxed);
            complete(api.clone(), local).boxed()
        });
        let (uploader, news) = Uploader::new(
            self.api.clone(),
            Arc::clone(&staging),
            complete,
            self.options.clone(),
        );
        Run {
            staging,
            uploader,
            news,
            found,
            state_dir: self.dir.path().to_owned(),
        }
    }

    /// What is at `path` on the server.
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.server.content(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.server.names("").unwrap_or_default();
        names.sort();
        names
    }

    /// The current version of the file at `path`, of so many bytes.
    fn base(&self, path: &str, size_bytes: u64) -> Base {
        Base {
            file: FileId(self.server.file_id(path).as_str().into()),
            entity: Entity {
                id: EntityId(self.server.entity_id(path).into()),
                size_bytes,
            },
            visible_bytes: size_bytes,
        }
    }

    /// No session is open on the server.
    #[track_caller]
    fn is_tidy(&self) {
        assert_eq!(self.server.open_uploads(), 0, "a session was left behind");
    }
}

/// Reads what is only in the base, in one piece, as a mount would do by way of its cache.
async fn complete(api: Api, local: Arc<Local>) -> Result<(), crate::api::Error> {
    let Some(base) = local.base() else {
        return Ok(());
    };
    let info = api.info_by_id(&base.file).await?;
    let urls = api.urls(&[info.uri], Some(&base.entity.id)).await?;
    let url = urls.urls[0].clone().unwrap();
    while let Some(range) = local.missing() {
        let mut at = range.start;
        let mut content = api.content(&url, range, base.entity.size_bytes).await?;
        while let Some(bytes) = content.next().await? {
            local.fill(at, &bytes).unwrap();
            at += bytes.len() as u64;
        }
    }
    Ok(())
}

fn place(name: &str) -> Place {
    Place {
        folder: FileKey {
            tree: Tree::MAIN,
            id: FileId("".into()),
        },
        folder_uri: FileUri::my(),
        name: ServerName::from_wire(name.as_bytes()),
    }
}

/// Bytes that are different in each place and with each seed.
fn bytes(seed: u64, size: u64) -> Vec<u8> {
    cloudreve_test_server::generated_bytes(seed, 0..size)
}

/// A moment that no clock shows now.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_234_567_890_123)
}

impl Run {
    /// A new file with this content, closed.
    fn save(&self, name: &str, content: &[u8]) -> Arc<Local> {
        self.save_over(name, None, content)
    }

    fn save_over(&self, name: &str, base: Option<Base>, content: &[u8]) -> Arc<Local> {
        let base = base.map(|base| Base {
            visible_bytes: 0,
            ..base
        });
        let local = self.staging.create(place(name), base, then()).unwrap();
        self.rewrite(&local, content);
        local
    }

    /// The file gets another content, and is closed.
    fn rewrite(&self, local: &Arc<Local>, content: &[u8]) {
        let now = SystemTime::now();
        local.truncate(0, now).unwrap();
        local.write(0, content, now).unwrap();
        local.set_mtime(then()).unwrap();
        local.stage(now).unwrap();
        self.uploader.staged(local);
    }

    /// The next news.
    async fn news(&mut self) -> (staging::LocalId, Box<FileInfo>, bool) {
        let next = tokio::time::timeout(PATIENCE, self.news.recv()).await;
        match next.expect("news in time").expect("an uploader") {
            News::Delivered {
                local,
                info,
                conflict,
                ..
            } => (local, info, conflict),
            News::Told(untold) => panic!("nothing was to be told: {untold:?}"),
        }
    }

    /// Waits until nothing is owed.
    async fn drained(&self) {
        for local in self.staging.owed() {
            let delivered = tokio::time::timeout(PATIENCE, async {
                while let Err(why) = self.uploader.deliver(&local).await {
                    log::info!("not yet: {why}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            delivered.await.expect("delivered in time");
        }
    }

    /// Ends as a killed program does: nothing is cancelled and nothing said.
    async fn kill(self) {
        let state_dir = self.state_dir.clone();
        drop(self);
        // What is at work for a file on another thread keeps its slot in use.
        until(|| staging::is_free(&state_dir)).await;
    }
}

/// Waits until `what` holds.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("comes to pass in time");
}
