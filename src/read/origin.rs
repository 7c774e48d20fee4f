//! What the reader asks of the server, as functions: so everything above them is tried without a network.

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::address::Address;
use crate::api::{Api, Content, Error};
use crate::model::{EntityId, FileId};
use crate::secret::Secret;
use crate::uri::FileUri;

/// The bytes of a range as they arrive.
pub(super) type Body = BoxStream<'static, Result<Bytes, Error>>;

/// A signed URL, and when it expires by the server's clock (none: never).
pub(super) type Signed = (Secret, Option<SystemTime>);

/// Signed URLs of several files, none for those that have none, and when the first of them expires.
pub(super) type SignedMany = (Vec<Option<Secret>>, Option<SystemTime>);

type Answer<T> = BoxFuture<'static, Result<T, Error>>;

/// The questions.
pub(super) struct Origin {
    /// The server's own address.
    pub(super) address: Address,
    /// The server's time now.
    pub(super) server_now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// A signed URL of a version of the file at a place; with the last argument, made anew.
    pub(super) sign: Box<dyn Fn(FileUri, EntityId, bool) -> Answer<Signed> + Send + Sync>,
    /// Signed URLs of the versions that are current now of the files at some places, in one request.
    pub(super) sign_many: Box<dyn Fn(Vec<FileUri>) -> Answer<SignedMany> + Send + Sync>,
    /// Where a file is by now.
    pub(super) place_of: Box<dyn Fn(FileId) -> Answer<FileUri> + Send + Sync>,
    /// A range behind a signed URL, of an entity of so many bytes.
    pub(super) content: Box<dyn Fn(Secret, Range<u64>, u64) -> Answer<Body> + Send + Sync>,
}

impl Origin {
    /// Asks by way of `api`.
    pub(super) fn new(api: Api) -> Self {
        let (clock, sign, place, content) = (api.clone(), api.clone(), api.clone(), api.clone());
        let sign_many = api.clone();
        Self {
            address: api.address().clone(),
            server_now: Box::new(move || clock.server_now()),
            sign: Box::new(move |uri, entity, fresh| {
                let api = sign.clone();
                Box::pin(async move { sign_one(&api, uri, &entity, fresh).await })
            }),
            sign_many: Box::new(move |places| {
                let api = sign_many.clone();
                Box::pin(async move {
                    let answer = api.urls(&places, None).await?;
                    Ok((answer.urls, answer.expires))
                })
            }),
            place_of: Box::new(move |file| {
                let api = place.clone();
                Box::pin(async move { Ok(api.info_by_id(&file).await?.uri) })
            }),
            content: Box::new(move |url, range, size_bytes| {
                let api = content.clone();
                Box::pin(async move { Ok(body(api.content(&url, range, size_bytes).await?)) })
            }),
        }
    }
}

/// Always names the version, so that a new one that lands meanwhile changes nothing; the server's own cache of URLs is
/// keyed by version, so naming it costs nothing (→ api part 2 §2.1).
async fn sign_one(
    api: &Api,
    uri: FileUri,
    entity: &EntityId,
    fresh: bool,
) -> Result<Signed, Error> {
    let answer = match fresh {
        true => api.fresh_urls(&[uri], Some(entity)).await?,
        false => api.urls(&[uri], Some(entity)).await?,
    };
    let url = answer.urls.into_iter().next().flatten();
    let url = url.ok_or_else(|| Error::Refused {
        code: 0,
        said: "no URL for this file".to_owned(),
    })?;
    Ok((url, answer.expires))
}

fn body(content: Content) -> Body {
    stream::try_unfold(content, |mut content| async move {
        let chunk = content.next().await?;
        Ok(chunk.map(|chunk| (chunk, content)))
    })
    .boxed()
}
