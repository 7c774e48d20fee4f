//! A drive that is mounted, and another client that changes it: on the test server, or on a real one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cloudreve_fuse::api::{self, Api, Credentials, Delete, Error, Part};
use cloudreve_fuse::model::FileInfo;
use cloudreve_fuse::secret::Secret;
use cloudreve_fuse::uri::FileUri;
use cloudreve_test_server::{Options, Server};
use tokio::runtime::Runtime;

use crate::support::mounted::{Home, Mounted};
use crate::support::shell::{PATIENCE, wait_until};

/// How long a server waits for a pause where its administrator has not said otherwise.
pub(super) const DEFAULT_DELAY: Duration = Duration::from_secs(5);

/// A folder of its own on a server.
pub(super) struct Drive {
    /// How long the server waits for a pause before it tells.
    pub(super) delay: Duration,
    pub(super) server: Option<Server>,
    address: String,
    email: String,
    password: String,
    root: String,
    api: Api,
    runtime: Runtime,
}

impl Drive {
    /// On a test server of its own, which tells after `delay`.
    pub(super) fn new(delay: Duration) -> Self {
        let server = Server::start(Options::default()).unwrap();
        server.configure_events(|events| events.debounce = delay);
        let (address, user) = (server.address(), server.user());
        Self::of(address, user.email, user.password, delay, Some(server))
    }

    /// On the server that the environment names, if it names one.
    pub(super) fn real() -> Option<Self> {
        let given = |name: &str| std::env::var(format!("CLOUDREVE_TEST_{name}")).ok();
        let named = given("ADDRESS").zip(given("USER")).zip(given("PASSWORD"));
        let Some(((address, email), password)) = named else {
            eprintln!("no real server: CLOUDREVE_TEST_ADDRESS, _USER and _PASSWORD would name one");
            return None;
        };
        Some(Self::of(address, email, password, DEFAULT_DELAY, None))
    }

    fn of(
        address: String,
        email: String,
        password: String,
        delay: Duration,
        server: Option<Server>,
    ) -> Self {
        let options = api::Options {
            address: address.parse().unwrap(),
            user_agent: "another client".to_owned(),
            ca_file: None,
            timeout: PATIENCE,
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        };
        let credentials = Credentials::Password {
            email: email.clone(),
            password: Secret::new(password.clone()),
        };
        let runtime = Runtime::new().unwrap();
        let made = runtime.block_on(async { Api::new(options, credentials) });
        let drive = Self {
            delay,
            server,
            address,
            email,
            password,
            root: format!("cloudreve://my/freshness-{:x}", std::process::id()),
            api: made.unwrap(),
            runtime,
        };
        drive.folder("");
        drive
    }

    /// A folder of it, mounted, and its changes told.
    pub(super) fn mount(&self, folder: &str) -> Mounted {
        let uri = self.uri(folder).to_wire();
        let options = ["--address", &self.address, "--username", &self.email];
        let mount = Mounted::bare(Home::new(), &uri, &options, |command| {
            command.env("CLOUDREVE_PASSWORD", &self.password);
        });
        wait_until("changes are told", || {
            let stream = &mount.status()["server"]["event_stream"];
            stream.to_string().contains("healthy")
        });
        mount
    }

    fn uri(&self, path: &str) -> FileUri {
        let text = format!("{}/{path}", self.root);
        FileUri::parse(text.trim_end_matches('/')).unwrap()
    }

    /// What the server answers. What somebody holds for a moment is asked for again.
    fn ask<T, F>(&self, what: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.runtime.block_on(async {
            loop {
                match what().await {
                    Err(Error::Locked(_)) => tokio::task::yield_now().await,
                    answer => return answer.unwrap(),
                }
            }
        })
    }

    pub(super) fn ping(&self) {
        self.ask(|| self.api.ping());
    }

    pub(super) fn folder(&self, path: &str) -> FileInfo {
        let uri = self.uri(path);
        self.ask(|| async { self.api.create_folder(&uri, &BTreeMap::new()).await })
    }

    pub(super) fn put(&self, path: &str, content: &str) {
        let uri = self.uri(path);
        self.ask(|| async {
            let content = Part::from(Bytes::copy_from_slice(content.as_bytes()));
            self.api.put_content(&uri, None, content).await
        });
    }

    pub(super) fn rename(&self, path: &str, name: &str) {
        let (uri, to) = (self.uri(path), self.uri(name));
        let name = to.name().unwrap();
        self.ask(|| async { self.api.rename(&uri, name).await });
    }

    pub(super) fn move_into(&self, path: &str, folder: &str) {
        let (uris, folder) = ([self.uri(path)], self.uri(folder));
        self.ask(|| async { self.api.move_into(&uris, &folder).await });
    }

    pub(super) fn delete(&self, path: &str, how: Delete) {
        let uri = self.uri(path);
        self.ask(|| async { self.api.delete_one(&uri, how).await });
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.server.is_none() {
            let uri = self.uri("");
            let removed = self.api.delete_one(&uri, Delete::Permanent);
            if let Err(error) = self.runtime.block_on(removed) {
                eprintln!("{uri} could not be removed: {error}");
            }
        }
    }
}
