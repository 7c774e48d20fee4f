//! The referee on the wire: the same HTTP library, no filesystem.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use cloudreve_test_server::Server;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::flow::Flow;
use crate::reading::READ_BYTES;

/// Entries on a page of a listing: the most that the server gives.
const PAGE_SIZE: usize = 2000;

/// A server that sends nothing for so long does not answer any more.
const STALLED: Duration = Duration::from_secs(30);

/// A client that is signed in.
pub(crate) struct Raw {
    pub(crate) runtime: Runtime,
    pub(crate) http: Client,
    pub(crate) api: String,
    token: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct Urls {
    urls: Vec<SignedUrl>,
}

#[derive(Deserialize)]
struct SignedUrl {
    url: String,
}

#[derive(Deserialize)]
struct Page {
    files: Vec<Entry>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
}

#[derive(Deserialize)]
struct Pagination {
    next_token: Option<String>,
}

impl Raw {
    pub(crate) fn new(server: &Server) -> Outcome<Self> {
        // The client wants a TLS provider even for plain HTTP. A second installation is an error that changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let http = Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .read_timeout(STALLED)
            .build()?;
        Ok(Self {
            runtime,
            http,
            api: format!("{}/api/v4", server.address()),
            token: server.issue_tokens(&server.user().email).0,
        })
    }

    /// A signed URL of a file of the drive.
    pub(crate) fn url(&self, path: &str) -> Outcome<String> {
        self.runtime.block_on(self.ask_url(path))
    }

    /// Fetches all that `url` has, or a range of it; gives the number of bytes.
    pub(crate) fn fetch(&self, url: &str, range: Option<Range<u64>>) -> Outcome<u64> {
        self.runtime.block_on(self.get(url, range))
    }

    /// Fetches all that `url` has and hands it to a reader by a pipe, so that its bytes are copied as often as a mount
    /// copies them: off the socket, into the kernel, and to the reader. Gives the number of bytes that were read.
    pub(crate) fn fetch_through_pipe(&self, url: &str) -> Outcome<u64> {
        let (mut reader, mut writer) = std::io::pipe()?;
        let reading = std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            let mut bytes = 0;
            loop {
                match reader.read(&mut buffer)? {
                    0 => return Ok(bytes),
                    length => bytes += length as u64,
                }
            }
        });
        self.runtime.block_on(async {
            let mut response = self.http.get(url).send().await?.error_for_status()?;
            while let Some(piece) = response.chunk().await? {
                // Blocks this task alone: the connection has one of its own.
                writer.write_all(&piece)?;
            }
            Outcome::Ok(())
        })?;
        drop(writer);
        let read: io::Result<u64> = reading.join().map_err(|_| "the reader died")?;
        Ok(read?)
    }

    /// Fetches a range; gives the seconds until its first `first` bytes were there.
    pub(crate) fn fetch_timed(&self, url: &str, range: Range<u64>, first: u64) -> Outcome<f64> {
        self.runtime.block_on(async {
            let (began, mut bytes, mut seconds) = (Instant::now(), 0, None);
            let count = |length| {
                bytes += length;
                if bytes >= first && seconds.is_none() {
                    seconds = Some(began.elapsed().as_secs_f64());
                }
            };
            self.get_counted(url, Some(range), count).await?;
            Ok(seconds.ok_or("less came than was asked for")?)
        })
    }

    /// Fetches the first `size` bytes of `url` in so many neighbouring ranges at once, until they are there or `most`
    /// is over; `flow` sees what comes.
    pub(crate) fn fetch_ranges(
        &self,
        url: &str,
        size: u64,
        ranges: u64,
        flow: &Flow,
        most: Duration,
    ) -> Outcome<()> {
        let length = size.div_ceil(ranges);
        let each = (0..ranges).map(|number| number * length..size.min((number + 1) * length));
        let fetch = |range| self.get_counted(url, Some(range), |bytes| flow.note(bytes));
        self.runtime.block_on(async {
            let all = futures_util::future::try_join_all(each.map(fetch));
            match tokio::time::timeout(most, all).await {
                Ok(outcome) => outcome.map(|_| ()),
                Err(_) => Ok(()),
            }
        })
    }

    /// Fetches ranges of `url`, so many at once; gives the number of bytes.
    pub(crate) fn fetch_pieces(
        &self,
        url: &str,
        pieces: &[Range<u64>],
        connections: usize,
    ) -> Outcome<u64> {
        self.runtime.block_on(async {
            stream::iter(pieces)
                .map(|piece| self.get(url, Some(piece.clone())))
                .buffer_unordered(connections)
                .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
                .await
        })
    }

    /// Asks for the URL and for the content of each file, so many at once.
    pub(crate) fn fetch_all(&self, paths: &[String], connections: usize) -> Outcome<u64> {
        self.runtime.block_on(async {
            stream::iter(paths)
                .map(|path| async move { self.get(&self.ask_url(path).await?, None).await })
                .buffer_unordered(connections)
                .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
                .await
        })
    }

    /// Lists a folder page by page; gives the number of names, and the time until the first page was there.
    pub(crate) fn list(&self, folder: &str) -> Outcome<(usize, Duration)> {
        self.runtime.block_on(async {
            let began = Instant::now();
            let (mut names, mut first, mut token) = (Vec::new(), None, None);
            loop {
                let page = self.page(folder, token.as_deref()).await?;
                first.get_or_insert_with(|| began.elapsed());
                names.extend(page.files.into_iter().map(|entry| entry.name));
                token = page.pagination.next_token;
                if token.is_none() {
                    return Ok((names.len(), first.unwrap_or_default()));
                }
            }
        })
    }

    async fn page(&self, folder: &str, token: Option<&str>) -> Outcome<Page> {
        let uri = format!("cloudreve://my/{folder}");
        // The order that the mount asks for: without one the server sorts the whole folder by id for every page.
        let mut query = vec![
            ("uri", uri),
            ("page_size", PAGE_SIZE.to_string()),
            ("order_by", "name".to_owned()),
            ("order_direction", "asc".to_owned()),
        ];
        query.extend(token.map(|token| ("next_page_token", token.to_owned())));
        let request = self.http.get(format!("{}/file", self.api)).query(&query);
        self.answer(request).await
    }

    async fn ask_url(&self, path: &str) -> Outcome<String> {
        let asked = json!({"uris": [format!("cloudreve://my/{path}")]});
        let request = self
            .http
            .post(format!("{}/file/url", self.api))
            .json(&asked);
        let mut urls = self.answer::<Urls>(request).await?.urls;
        Ok(urls.pop().ok_or("no URL in the answer")?.url)
    }

    /// The data of an answer of the API, which must be a success.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Outcome<T> {
        let response = request.bearer_auth(&self.token).send().await?;
        let body = response.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice::<Envelope<T>>(&body)?.data)
    }

    async fn get(&self, url: &str, range: Option<Range<u64>>) -> Outcome<u64> {
        let mut bytes = 0;
        self.get_counted(url, range, |length| bytes += length)
            .await?;
        Ok(bytes)
    }

    async fn get_counted(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        mut count: impl FnMut(u64),
    ) -> Outcome<()> {
        let mut request = self.http.get(url);
        if let Some(Range { start, end }) = range {
            request = request.header("range", format!("bytes={start}-{}", end - 1));
        }
        let mut response = request.send().await?.error_for_status()?;
        while let Some(piece) = response.chunk().await? {
            count(piece.len() as u64);
        }
        Ok(())
    }
}
