//! What a case stands on: a server, a user signed in, and a fresh folder of its own, seeded through the API itself.
//!
//! A subject writes only below its folder. `remove` takes away the folder with all that is in it, and
//! `Site::remove_leavings` takes from the trash what the run put there, and nothing else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloudreve_test_server::{Options, Server};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::reply::Reply;

/// The longest that an answer may take, so that a server which hangs fails its cases and no more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, with a user of it signed in.
pub(crate) struct Site {
    /// Scheme, host and port, without a slash at the end.
    pub(crate) address: String,
    pub(crate) email: String,
    pub(crate) password: String,
    /// The user's access token.
    token: Mutex<String>,
    pub(crate) http: reqwest::Client,
    /// Tells this run's folders from those of others.
    run: String,
    server: Option<Server>,
}

impl Site {
    /// A test server of its own.
    pub(crate) async fn test_server() -> Self {
        let server = Server::start(Options::default()).expect("a test server");
        let (address, user) = (server.address(), server.user());
        Self::sign_in(address, user.email, user.password, Some(server)).await
    }

    /// The server that the environment names, if it names one.
    pub(crate) async fn real() -> Option<Self> {
        let address = std::env::var("CLOUDREVE_TEST_ADDRESS").ok()?;
        let named =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is missing"));
        let (email, password) = (
            named("CLOUDREVE_TEST_USER"),
            named("CLOUDREVE_TEST_PASSWORD"),
        );
        Some(Self::sign_in(address, email, password, None).await)
    }

    async fn sign_in(
        address: String,
        email: String,
        password: String,
        server: Option<Server>,
    ) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let address = address.trim_end_matches('/').to_owned();
        let site = Self {
            address,
            email,
            password,
            token: Mutex::default(),
            http,
            run: random_word(),
            server,
        };
        site.renew_token().await;
        site
    }

    /// The access token that requests of the user carry.
    pub(crate) fn token(&self) -> String {
        self.token.lock().unwrap().clone()
    }

    /// Signs in again, where the clock or a case has ended the token.
    pub(crate) async fn renew_token(&self) {
        let token = text(&self.sign_in_again().await["token"]["access_token"]);
        *self.token.lock().unwrap() = token;
    }

    /// The `data` of a new sign-in of the same user.
    pub(crate) async fn sign_in_again(&self) -> Value {
        let body = json!({"email": self.email, "password": self.password});
        self.call(Method::POST, "/session/token")
            .anonymous()
            .json(body)
            .send()
            .await
            .data()
    }

    /// The test server behind this site. Only a case of an `ON_TEST_SERVER` table may ask.
    pub(crate) fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("this case belongs into the table ON_TEST_SERVER")
    }

    /// The same where there is one: only to make a case quicker that any server holds.
    pub(crate) fn test_server_behind(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    pub(crate) async fn version(&self) -> String {
        text(
            &self
                .call(Method::GET, "/site/ping")
                .anonymous()
                .send()
                .await
                .data(),
        )
    }

    /// Removes from the trash what this run put there.
    pub(crate) async fn remove_leavings(&self) {
        let query = [
            ("uri", "cloudreve://trash"),
            ("page_size", "2000"),
            ("order_by", "name"),
        ];
        let listed = self
            .call(Method::GET, "/file")
            .query(&query)
            .send()
            .await
            .data();
        let ours = format!("cloudreve://my/contract-{}-", self.run);
        let is_ours = |file: &&Value| {
            file["metadata"]["sys:restore_uri"]
                .as_str()
                .is_some_and(|from| from.starts_with(&ours))
        };
        let uris: Vec<_> = entries(&listed)
            .iter()
            .filter(is_ours)
            .map(|file| file["path"].clone())
            .collect();
        if !uris.is_empty() {
            let body = json!({"uris": uris, "skip_soft_delete": true});
            self.call(Method::DELETE, "/file")
                .json(body)
                .send()
                .await
                .data();
        }
    }
}

/// A case's own place on a site.
pub(crate) struct Subject {
    pub(crate) site: Arc<Site>,
    /// `cloudreve://my/contract-…`, without a slash at the end.
    folder: String,
}

impl Subject {
    /// A fresh folder, which the server has made.
    pub(crate) async fn new(site: Arc<Site>, number: usize) -> Self {
        let folder = format!("cloudreve://my/contract-{}-{number}", site.run);
        let subject = Self { site, folder };
        subject.create(&subject.folder, "folder").await.data();
        subject
    }

    /// Removes the folder for good. An upload that a failed case left open holds a lock on it: that lock is ours.
    pub(crate) async fn remove(&self) {
        for _ in 0..4 {
            let body = json!({"uris": [self.folder], "skip_soft_delete": true});
            let reply = self.call(Method::DELETE, "/file").json(body).send().await;
            match reply.code() {
                0 => return,
                40073 => {}
                // A case may have ended the token, or the user; the server then ends with the case.
                _ if self.site.server.is_some() => return,
                _ => break,
            }
            let tokens: Vec<_> = reply.json()["data"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|held| held["token"].clone())
                .collect();
            self.call(Method::DELETE, "/file/lock")
                .json(json!({"tokens": tokens}))
                .send()
                .await;
        }
        eprintln!("{} could not be removed", self.folder);
    }

    /// The URI of a path below the folder; the path is percent-encoded already, and may be empty.
    pub(crate) fn at(&self, path: &str) -> String {
        if path.is_empty() {
            self.folder.clone()
        } else {
            format!("{}/{path}", self.folder)
        }
    }

    /// The folder's name.
    pub(crate) fn folder_name(&self) -> &str {
        self.folder.trim_start_matches("cloudreve://my/")
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        self.site.call(method, path)
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Call<'_> {
        self.call(Method::POST, path).json(body)
    }

    /// A listing of everything in a folder, in the order of names.
    pub(crate) async fn list(&self, uri: &str) -> Reply {
        self.list_page(uri, "1000", "").await
    }

    /// One page of a listing; an empty token asks for the first.
    pub(crate) async fn list_page(&self, uri: &str, page_size: &str, token: &str) -> Reply {
        let query = [
            ("uri", uri),
            ("page", "0"),
            ("page_size", page_size),
            ("order_by", "name"),
            ("order_direction", "asc"),
        ];
        let call = self.get("/file").query(&query);
        if token.is_empty() {
            call.send().await
        } else {
            call.query(&[("next_page_token", token)]).send().await
        }
    }

    /// The names in a folder, as one page lists them.
    pub(crate) async fn names(&self, uri: &str) -> Vec<String> {
        names_of(&self.list(uri).await.data())
    }

    pub(crate) async fn info(&self, uri: &str) -> Reply {
        self.get("/file/info").query(&[("uri", uri)]).send().await
    }

    pub(crate) async fn extended_info(&self, uri: &str) -> Value {
        self.get("/file/info")
            .query(&[("uri", uri), ("extended", "true")])
            .send()
            .await
            .data()
    }

    /// Makes a `file` or a `folder`.
    pub(crate) async fn create(&self, uri: &str, kind: &str) -> Reply {
        self.post("/file/create", json!({"uri": uri, "type": kind}))
            .send()
            .await
    }

    /// Makes folders below the case's own.
    pub(crate) async fn folders(&self, paths: &[&str]) {
        for path in paths {
            self.create(&self.at(path), "folder").await.data();
        }
    }

    /// Writes content, and gives the file object.
    pub(crate) async fn put(&self, path: &str, content: &[u8]) -> Value {
        self.put_at(&self.at(path), content).await.data()
    }

    pub(crate) async fn put_at(&self, uri: &str, content: &[u8]) -> Reply {
        self.call(Method::PUT, "/file/content")
            .query(&[("uri", uri)])
            .body(content)
            .send()
            .await
    }

    pub(crate) async fn rename(&self, uri: &str, new_name: &str) -> Reply {
        self.post("/file/rename", json!({"uri": uri, "new_name": new_name}))
            .send()
            .await
    }

    pub(crate) async fn transfer(&self, uri: &str, folder: &str, copy: bool) -> Reply {
        self.post(
            "/file/move",
            json!({"uris": [uri], "dst": folder, "copy": copy}),
        )
        .send()
        .await
    }

    /// Into the trash, or away for good.
    pub(crate) async fn delete(&self, uris: &[&str], for_good: bool) -> Reply {
        let body = json!({"uris": uris, "skip_soft_delete": for_good});
        self.call(Method::DELETE, "/file").json(body).send().await
    }

    pub(crate) async fn patch(&self, uri: &str, patches: Value) -> Reply {
        let body = json!({"uris": [uri], "patches": patches});
        self.call(Method::PATCH, "/file/metadata")
            .json(body)
            .send()
            .await
    }

    /// `POST /file/url` for some URIs, with more fields.
    pub(crate) async fn urls(&self, uris: &[&str], more: Value) -> Reply {
        let mut body = json!({"uris": uris});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.post("/file/url", body).send().await
    }

    /// A content URL of one file, on this site's own address: where a site knows itself by another name, the URL it
    /// gives leads elsewhere, and the signature is of the path alone.
    pub(crate) async fn url(&self, uri: &str) -> String {
        let data = self.urls(&[uri], json!({})).await.data();
        self.rebased(&text(&data["urls"][0]["url"]))
    }

    /// The same path and query on this site's address.
    pub(crate) fn rebased(&self, url: &str) -> String {
        let path = url
            .find("/api/v4/file/content/")
            .unwrap_or_else(|| panic!("not a content URL: {url}"));
        format!("{}{}", self.site.address, &url[path..])
    }

    /// A GET of a content URL, without credentials.
    pub(crate) fn fetch(&self, url: &str) -> Call<'_> {
        Call::to(&self.site, Method::GET, url.to_owned()).anonymous()
    }

    /// The bytes of a file.
    pub(crate) async fn read(&self, uri: &str) -> Vec<u8> {
        self.fetch(&self.url(uri).await)
            .send()
            .await
            .expect_status(200)
            .body
    }
}

/// The entries of a listing.
pub(crate) fn entries(listing: &Value) -> &[Value] {
    listing["files"].as_array().map_or(&[], Vec::as_slice)
}

/// The names in a listing, in its order.
pub(crate) fn names_of(listing: &Value) -> Vec<String> {
    entries(listing)
        .iter()
        .map(|entry| text(&entry["name"]))
        .collect()
}

/// A JSON string's text; anything else fails.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
        .to_owned()
}

/// Eight random characters that need no encoding.
pub(crate) fn random_word() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system's random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
