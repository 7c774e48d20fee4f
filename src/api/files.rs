//! Endpoints that speak of files: listings, info, signed URLs, content.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::error::Asked;
use super::wire::{self, WireFile, WireList, WireThumb, WireThumbs, WireUrls};
use super::{Api, Content, Error, Page, PagePosition, SignedUrls, UNCLASSIFIED, content};
use crate::entity::Entity;
use crate::model::{EntityId, FileId, FileInfo, FolderSummary};
use crate::secret::Secret;
use crate::uri::{FileSystem, FileUri};

/// The code of `info` by id for somebody else's file, and for a visitor.
const OWNER_ONLY: i64 = 40082;
/// Between the two times that a deleted file is asked for.
const SECOND_LOOK: Duration = Duration::from_millis(150);

/// One version of a file's content, as its history tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which.
    pub entity: Entity,
    /// When the server made the record, by its clock; 1970 where it does not say. That of an upload is when it began.
    pub created: SystemTime,
}

impl Api {
    /// `GET /file`: one page of at most `size` entries, by name.
    pub async fn list_page(
        &self,
        folder: &FileUri,
        position: &PagePosition,
        size: u32,
    ) -> Result<Page, Error> {
        let number = match position {
            PagePosition::Number(number) => *number,
            PagePosition::First | PagePosition::Token(_) => 0,
        };
        let order = ("name", "asc");
        let mut call = page_of(folder, size, order).with("page", number.to_string());
        if let PagePosition::Token(token) = position {
            call = call.with("next_page_token", token);
        }
        let answer = self.0.envelope(call).await?;
        wire::data::<WireList>(&answer.body)?.into_page(folder, position, size)
    }

    /// `GET /file`: the `size` files of a folder that were written last, by the times that their writers gave them, but its
    /// folders come before. For who looks for what he just wrote: what is on it is there, what is not proves nothing, since
    /// pages in the order of time leave out and repeat (→ api part 1 §7.5).
    pub async fn latest(&self, folder: &FileUri, size: u32) -> Result<Vec<FileInfo>, Error> {
        let call = page_of(folder, size, ("updated_at", "desc")).with("page", "0");
        let answer = self.0.envelope(call.session()).await?;
        let list = wire::data::<WireList>(&answer.body)?;
        let page = list.into_page(folder, &PagePosition::First, size)?;
        Ok(page.files)
    }

    /// `GET /file/info` by place. Refused for roots (use a page's `folder`). What a server has of another spelling is not
    /// what was asked for.
    pub async fn info(&self, uri: &FileUri) -> Result<FileInfo, Error> {
        self.spelled(uri, self.file(info_of(uri)).await?)
    }

    /// `GET /file/info` by identity, for one's own files: where it is now.
    pub async fn info_by_id(&self, id: &FileId) -> Result<FileInfo, Error> {
        let call = || {
            Call::get("/file/info")
                .with("id", &*id.0)
                .strangers_hear(OWNER_ONLY)
                .plain(UNCLASSIFIED)
        };
        let unclassified =
            |error: &Error| matches!(error, Error::Trouble { code, .. } if *code == UNCLASSIFIED);
        let mut answer = self.file(call()).await;
        if answer.as_ref().is_err_and(unclassified) {
            // A deleted file's answer, but also that of a database in a bad moment: once more.
            tokio::time::sleep(SECOND_LOOK).await;
            answer = self.file(call()).await;
        }
        match answer {
            Err(error) if unclassified(&error) => Err(Error::NotFound),
            answer => answer,
        }
    }

    /// A call whose answer is one file.
    pub(super) async fn file(&self, call: Call) -> Result<FileInfo, Error> {
        let answer = self.0.envelope(call).await?;
        wire::data::<WireFile>(&answer.body)?.into_info()
    }

    /// `GET /file/info` with `extended`: the versions of its content, newest first, unfinished uploads among them.
    pub async fn versions(&self, uri: &FileUri) -> Result<Vec<EntityId>, Error> {
        let call = info_of(uri).with("extended", "true");
        let answer = self.0.envelope(call).await?;
        Ok(wire::data::<WireFile>(&answer.body)?.versions())
    }

    /// As [`Api::versions`], with what they belong to, their sizes and moments.
    pub async fn history(&self, uri: &FileUri) -> Result<(FileInfo, Vec<Version>), Error> {
        let call = info_of(uri).with("extended", "true").session();
        let answer = self.0.envelope(call).await?;
        let mut file = wire::data::<WireFile>(&answer.body)?;
        let versions = file.take_history();
        Ok((self.spelled(uri, file.into_info()?)?, versions))
    }

    /// `GET /file/info` with `folder_summary`. Expensive there: for whoever asks for it by name.
    pub async fn folder_summary(&self, uri: &FileUri) -> Result<FolderSummary, Error> {
        let call = info_of(uri).with("folder_summary", "true").slow();
        let answer = self.0.envelope(call).await?;
        let file: WireFile = wire::data(&answer.body)?;
        file.summary().ok_or(Error::Unsupported)
    }

    /// `POST /file/url`. With `entity`, of that version. On shares each URI counts as one download.
    ///
    /// Of several files those that have no URL are none; of a single one the error says why.
    pub async fn urls(
        &self,
        files: &[FileUri],
        entity: Option<&EntityId>,
    ) -> Result<SignedUrls, Error> {
        self.signed_urls(files, entity, false).await
    }

    /// As [`Api::urls`], made anew: for a URL that stopped working before its time, which the server's own cache
    /// would hand out again.
    pub async fn fresh_urls(
        &self,
        files: &[FileUri],
        entity: Option<&EntityId>,
    ) -> Result<SignedUrls, Error> {
        self.signed_urls(files, entity, true).await
    }

    async fn signed_urls(
        &self,
        files: &[FileUri],
        entity: Option<&EntityId>,
        fresh: bool,
    ) -> Result<SignedUrls, Error> {
        let Some(first) = files.first() else {
            return Ok(SignedUrls {
                urls: Vec::new(),
                expires: None,
            });
        };
        let uris: Vec<String> = files.iter().map(FileUri::to_wire).collect();
        let mut body = json!({ "uris": uris });
        if let Some(entity) = entity {
            body["entity"] = (*entity.0).into();
        }
        if fresh {
            body["no_cache"] = true.into();
        }
        if files.len() > 1 {
            body["skip_error"] = true.into();
        }
        let urls: WireUrls = self.0.ask(on(Call::ask("/file/url", &body), first)).await?;
        let urls = urls.into_urls(files.len())?;
        if files.len() > 1 && urls.urls.iter().all(Option::is_none) {
            // Skipped errors hide a dead token, or a dead share: ask for the reason.
            body["skip_error"] = false.into();
            let urls: WireUrls = self.0.ask(on(Call::ask("/file/url", &body), first)).await?;
            return urls.into_urls(files.len());
        }
        if files.len() == 1 && urls.urls[0].is_none() {
            return Err(wire::nonsense("a URL that is empty"));
        }
        Ok(urls)
    }

    /// `GET /file/thumb`, then the picture itself, in whatever format it has; none where the server has none. Its bytes
    /// count towards the limit, and are not held back by it: they are few.
    pub async fn thumbnail(&self, uri: &FileUri) -> Result<Option<Bytes>, Error> {
        let call = on(Call::get("/file/thumb"), uri)
            .with("uri", uri.to_wire())
            .plain(UNCLASSIFIED)
            .slow();
        let thumb: WireThumb = match self.0.ask(call).await {
            Ok(thumb) => thumb,
            Err(Error::EntityGone | Error::Unsupported) => return Ok(None),
            Err(Error::Trouble { code, .. }) if code == UNCLASSIFIED => return Ok(None),
            Err(error) => return Err(error),
        };
        if thumb.obfuscated || thumb.url.is_empty() {
            return Ok(None);
        }
        content::picture(&self.0.link, &Secret::new(thumb.url), self.0.timeout).await
    }

    /// `GET /site/config/thumb`: lower-case extensions of the files of which the server makes thumbnails;
    /// [`Error::Unsupported`] where it does not tell.
    pub async fn thumbnail_extensions(&self) -> Result<Vec<String>, Error> {
        let call = Call::get("/site/config/thumb").about(Asked::Other);
        let thumbs: WireThumbs = self.0.ask(call).await?;
        let extensions = thumbs.thumb_exts.ok_or(Error::Unsupported)?;
        Ok(extensions
            .iter()
            .map(|one| one.to_ascii_lowercase())
            .collect())
    }

    /// Waits until all that was downloaded so far is within the limit, however long that is: before what nobody waits for.
    pub async fn wait_for_pace(&self) {
        if let Some(pace) = &self.0.link.pace {
            let through = pace.take(0, Instant::now());
            sleep_until(through).await;
        }
    }

    /// A ranged GET on a signed URL; `size_bytes` is the entity's whole size, and the answer is held against it.
    ///
    /// [`Error::UrlExpired`]: ask for a [fresh](Api::fresh_urls) URL, once. [`Error::EntityGone`]: the version was
    /// purged. An empty range is refused: nothing is ever asked for a file of no bytes.
    pub async fn content(
        &self,
        url: &Secret,
        range: Range<u64>,
        size_bytes: u64,
    ) -> Result<Content, Error> {
        content::content(&self.0.link, url, range, size_bytes, self.0.timeout).await
    }
}

/// One page of `folder`. Always says size, order and direction: left out, they come from what the owner last did in the web
/// interface (→ api part 1 §7.2).
fn page_of(folder: &FileUri, size: u32, (key, direction): (&str, &str)) -> Call {
    on(Call::get("/file"), folder)
        .with("uri", folder.to_wire())
        .with("page_size", size.to_string())
        .with("order_by", key)
        .with("order_direction", direction)
}

pub(super) fn info_of(uri: &FileUri) -> Call {
    on(Call::get("/file/info"), uri).with("uri", uri.to_wire())
}

/// What code 404 would speak of.
pub(super) fn on(call: Call, uri: &FileUri) -> Call {
    match uri.file_system() {
        FileSystem::Share { .. } => call.about(Asked::Share),
        _ => call,
    }
}
