//! Names that change: through the gate, the staging and the uploader to the test server.

use cloudreve_test_server::{Fault, Route, Server};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::api::Api;
use crate::cache::Cache;
use crate::read::Download;
use crate::staging::{self, Local, Staging, State};
use crate::upload::{self, News, Overwrite, Uploader};

mod durable;
mod names;
mod removals;
mod renames;
mod stays;
mod unheard;
mod versions;

impl Fs {
    /// The content of `ino`, which is here.
    fn local_of(&self, ino: Ino) -> Arc<Local> {
        let (_, shown) = self.namespace.node_and_local(ino).unwrap();
        shown.expect("it is here").local
    }
}

/// One drive, mounted.
struct Mounted {
    server: Arc<Server>,
    fs: Arc<Fs>,
    api: Api,
    owing: Owing,
    news: UnboundedReceiver<News>,
    dir: Arc<tempfile::TempDir>,
}

impl Mounted {
    /// An empty drive after `seed`. Nothing is uploaded before somebody asks for it.
    async fn new(seed: impl FnOnce(&Server)) -> Self {
        let server = Server::start(Default::default()).unwrap();
        seed(&server);
        let dir = tempfile::tempdir().unwrap();
        Self::mount(Arc::new(server), Arc::new(dir)).await
    }

    async fn mount(server: Arc<Server>, dir: Arc<tempfile::TempDir>) -> Self {
        let api = Api::of_test_server(&server, Duration::from_secs(5));
        let reader = Reader::new(
            api.clone(),
            Cache::off(),
            crate::read::Options {
                memory_bytes: 4 << 20,
                download: Download::Direct,
                timeout: Duration::from_secs(5),
            },
        );
        let (staging, _) = Staging::open(staging::Options {
            dir: dir.path().to_owned(),
            drive: "drive".to_owned(),
            local_only: staging::LocalOnly::of(&["*.here"]),
        })
        .unwrap();
        drop_copies(&staging);
        clear_first(&staging);
        let owed = staging.owed();
        let (uploader, news) = Uploader::new(
            api.clone(),
            Arc::clone(&staging),
            // What these tests write is whole.
            Arc::new(|_| Box::pin(async { Ok(()) })),
            upload::Options {
                delay: LONG,
                transfers: 4,
                overwrite: Overwrite::Version,
                delete: Delete::Trash,
                host: "host".to_owned(),
                names: NamePolicy::Encode,
                timeout: Duration::from_secs(5),
            },
        );
        let owing = Owing { staging, uploader };
        let options = Options {
            timeout: Duration::from_secs(5),
            ..options("cloudreve://my/", LONG)
        };
        let site = api.site().await.unwrap();
        let ground = Ground {
            api: api.clone(),
            site,
            reader,
            thumbnails: None,
            pins: Arc::new(Pins::open(dir.path(), "drive")),
            recall: None,
        };
        let fs = Fs::new(options, ground, Some((owing.clone(), owed))).await;
        Self {
            server,
            fs: fs.unwrap(),
            api,
            owing,
            news,
            dir,
        }
    }

    /// As after `kill -9`, and mounted again.
    async fn again(self) -> Self {
        let Self {
            server, dir, fs, ..
        } = self;
        drop((fs, self.owing, self.news, self.api));
        // Tasks that were ended let go of it when they are next looked at, and so do threads at work for a file.
        while !staging::is_free(dir.path()) {
            tokio::task::yield_now().await;
        }
        Self::mount(server, dir).await
    }

    /// A closed file of `content`, at a path.
    async fn write(&self, path: &str, content: &[u8]) -> Arc<Local> {
        let (parent, name) = self.parent(path).await;
        let (_, local) = self
            .fs
            .create(parent, name.as_ref(), Maker::of_tests(FileKind::File), None)
            .await
            .unwrap();
        self.fill(&local, content);
        local
    }

    fn fill(&self, local: &Arc<Local>, content: &[u8]) {
        let now = SystemTime::now();
        local.truncate(0, now).unwrap();
        local.write(0, content, now).unwrap();
        local.stage(now).unwrap();
        self.owing.uploader.staged(local);
    }

    /// Writes anew what is on the server, as a program does that opens it.
    async fn overwrite(&self, path: &str, content: &[u8]) -> Arc<Local> {
        let ino = self.ino(path).await;
        let node = self.fs.namespace.inodes.node(ino).unwrap();
        let entity = crate::entity::Entity {
            id: node.entry.entity.clone(),
            size_bytes: node.entry.size_bytes,
        };
        let now = SystemTime::now();
        let local = self.fs.write_over(ino, entity, now).unwrap();
        self.fill(&local, content);
        self.fs.changed(ino, &local);
        local
    }

    /// Waits until `local` is on the server, and hears of it.
    async fn deliver(&mut self, local: &Arc<Local>) {
        self.owing.uploader.deliver(local).await.unwrap();
        while local.state() != State::Delivered {
            self.hear().await;
        }
        self.hear().await;
    }

    /// Waits until the server is known to be reached.
    async fn is_back(&self) {
        while self.fs.namespace.is_down() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn hear(&mut self) {
        let news = tokio::time::timeout(Duration::from_secs(10), self.news.recv());
        self.fs.apply(news.await.expect("news").unwrap());
    }

    async fn parent<'a>(&self, path: &'a str) -> (Ino, &'a str) {
        match path.rsplit_once('/') {
            Some((folder, name)) => (self.ino(folder).await, name),
            None => (Ino::ROOT, path),
        }
    }

    async fn find(&self, path: &str) -> Option<Attr> {
        let mut at = Ino::ROOT;
        let mut found = None;
        for name in path.split('/') {
            match self.fs.lookup(at, OsStr::new(name)).await.unwrap() {
                Lookup::Found(believed) => {
                    at = believed.attr.ino;
                    found = Some(believed.attr);
                }
                Lookup::Absent { .. } => return None,
            }
        }
        found
    }

    async fn ino(&self, path: &str) -> Ino {
        self.find(path).await.expect(path).ino
    }

    async fn rename(&self, from: &str, to: &str, how: RenameHow) -> Result<(), Error> {
        let (parent, name) = self.parent(from).await;
        let (new_parent, new_name) = self.parent(to).await;
        // As the kernel does first.
        self.find(from).await;
        let fs = &self.fs;
        fs.rename(parent, name.as_ref(), new_parent, new_name.as_ref(), how)
            .await
    }

    async fn mv(&self, from: &str, to: &str) {
        self.rename(from, to, RenameHow::Replace).await.unwrap();
    }

    async fn unlink(&self, path: &str) -> Result<(), Error> {
        let (parent, name) = self.parent(path).await;
        self.fs.unlink(parent, name.as_ref()).await
    }

    async fn rmdir(&self, path: &str) -> Result<(), Error> {
        let (parent, name) = self.parent(path).await;
        self.fs.remove_folder(parent, name.as_ref()).await
    }

    async fn mkdir(&self, path: &str) -> Result<Believed, Error> {
        let (parent, name) = self.parent(path).await;
        self.fs
            .make_folder(parent, name.as_ref(), Maker::of_tests(FileKind::Folder))
            .await
    }

    /// What readdir(3) shows, in order of names.
    async fn names(&self, path: &str) -> Vec<String> {
        let ino = match path {
            "" => Ino::ROOT,
            path => self.ino(path).await,
        };
        let opened = self.fs.open_folder(ino).await.unwrap();
        let mut names = self.read_on(opened.handle, 0).await;
        self.fs.release_folder(opened.handle);
        names.sort();
        names
    }

    /// Names from `offset` on, two a call.
    async fn read_on(&self, handle: HandleId, mut offset: u64) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let mut taken = 0;
            let from = offset;
            let mut take = |entry: FolderEntry<'_>| {
                if taken == 2 {
                    return false;
                }
                taken += 1;
                offset = entry.next_offset;
                names.push(entry.name.to_string_lossy().into_owned());
                true
            };
            self.fs
                .read_folder(handle, from, true, &mut take)
                .await
                .unwrap();
            if taken == 0 {
                names.retain(|name| name != "." && name != "..");
                return names;
            }
        }
    }

    fn on_server(&self, folder: &str) -> Vec<String> {
        let mut names = self.server.names(folder).unwrap();
        names.sort();
        names
    }

    /// Requests so far, but for those about the space that is left.
    fn requests(&self) -> u64 {
        self.server.count_all() - self.server.count(Route::Capacity)
    }
}
