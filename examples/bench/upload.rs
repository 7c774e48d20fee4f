//! The raw client that uploads: a session, its chunks, and a look at what came of it where that is asked for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::Outcome;
use crate::raw::Raw;

#[derive(Deserialize)]
struct Session {
    session_id: String,
    /// Bytes; 0 is the whole file in one.
    chunk_size: u64,
    storage_policy: Policy,
}

#[derive(Deserialize)]
struct Policy {
    /// Chunks that may be sent at once; not said is one after the other.
    #[serde(default)]
    chunk_concurrency: usize,
}

#[derive(Deserialize)]
struct Info {
    size: u64,
}

impl Raw {
    /// Uploads files into a folder of the drive under their own names, so many files at once; chunks are as large, and as
    /// many at once, as the server's policy says. `looks`: a file is done when the server shows it, whole.
    pub(crate) fn upload_all(
        &self,
        paths: &[PathBuf],
        folder: &str,
        files: usize,
        looks: bool,
    ) -> Outcome<()> {
        self.runtime.block_on(async {
            stream::iter(paths)
                .map(|path| self.upload(path, folder, looks))
                .buffer_unordered(files)
                .try_collect()
                .await
        })
    }

    async fn upload(&self, path: &Path, folder: &str, looks: bool) -> Outcome<()> {
        let file = Arc::new(File::open(path)?);
        let size = file.metadata()?.len();
        let name = path.file_name().ok_or("no name")?.to_string_lossy();
        let uri = format!("cloudreve://my/{folder}/{name}");
        let asked = json!({"uri": uri, "size": size});
        let request = self.http.put(format!("{}/file/upload", self.api));
        let session: Session = self.answer(request.json(&asked)).await?;
        let chunk = match session.chunk_size {
            0 => size,
            bytes => bytes,
        };
        let streams = session.storage_policy.chunk_concurrency.max(1);
        let (file, session) = (&file, &session.session_id);
        stream::iter(0..size.div_ceil(chunk))
            .map(|index| {
                let range = index * chunk..size.min((index + 1) * chunk);
                self.send_chunk(file, session, index, range)
            })
            .buffer_unordered(streams)
            .try_collect::<()>()
            .await?;
        match looks {
            true => self.look(&uri, size).await,
            false => Ok(()),
        }
    }

    /// An error unless a file of so many bytes is there.
    async fn look(&self, uri: &str, size: u64) -> Outcome<()> {
        let request = self.http.get(format!("{}/file/info", self.api));
        let request = request.query(&[("uri", uri), ("extended", "true")]);
        let found: Info = self.answer(request).await?;
        match found.size == size {
            true => Ok(()),
            false => Err(format!("{uri} has {} bytes instead of {size}", found.size).into()),
        }
    }

    async fn send_chunk(
        &self,
        file: &Arc<File>,
        session: &str,
        index: u64,
        range: std::ops::Range<u64>,
    ) -> Outcome<()> {
        let file = Arc::clone(file);
        let read = move || {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map(|()| bytes)
        };
        let bytes = tokio::task::spawn_blocking(read).await??;
        let request = self
            .http
            .post(format!("{}/file/upload/{session}/{index}", self.api));
        let request = request.header("content-type", "application/octet-stream");
        self.answer::<Option<IgnoredAny>>(request.body(bytes))
            .await
            .map(drop)
    }
}
