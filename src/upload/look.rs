//! Looking at what the server has, as closely as it takes.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::attempt::Attempt;
use super::body::sampled;
use super::place::Places;
use crate::api::{Api, Error};
use crate::entity::Entity;
use crate::model::FileInfo;
use crate::secret::Secret;
use crate::staging::Place;
use crate::uri::FileUri;

/// A file and its versions, newest first, unfinished ones among them.
pub(super) type Look = (FileInfo, Vec<Entity>);

/// What is where `attempt` goes, or where its file is now; none where nothing is.
pub(super) async fn look(
    api: &Api,
    places: &Places,
    place: &Place,
    attempt: &Attempt,
    uri: &FileUri,
) -> Result<Option<Look>, Error> {
    let file = attempt.over.as_ref().map(|over| over.file());
    match api.history(uri).await {
        Ok(look) if file.as_ref().is_none_or(|file| look.0.id == *file) => return Ok(Some(look)),
        Ok(_) | Err(Error::NotFound) => {}
        Err(error) => return Err(error),
    }
    let Some(file) = file else {
        return Ok(None);
    };
    // The file was renamed or moved.
    let found = match places.file(api, place, &file).await {
        Ok(info) => api.history(&info.uri).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(look) if look.0.id == file => Ok(Some(look)),
        Ok(_) | Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether version `entity` of the file at `uri` has the bytes of which `sample` was made.
pub(super) async fn has_sample(
    api: &Api,
    uri: &FileUri,
    entity: &Entity,
    sample: u64,
) -> Result<bool, Error> {
    match sample_of(api, uri, entity).await {
        Ok(theirs) => Ok(theirs == sample),
        Err(Error::EntityGone | Error::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn sample_of(api: &Api, uri: &FileUri, entity: &Entity) -> Result<u64, Error> {
    let mut hash = Xxh3::new();
    let parts = sampled(entity.size_bytes).into_iter();
    let parts: Vec<Range<u64>> = parts.filter(|part| !part.is_empty()).collect();
    if !parts.is_empty() {
        let uris = [uri.clone()];
        let urls = api.urls(&uris, Some(&entity.id)).await?;
        let url = urls.urls.into_iter().flatten().next();
        let url = url.ok_or(Error::EntityGone)?;
        for part in parts {
            read(api, &url, part, entity.size_bytes, &mut hash).await?;
        }
    }
    Ok(hash.digest())
}

async fn read(
    api: &Api,
    url: &Secret,
    part: Range<u64>,
    size_bytes: u64,
    hash: &mut Xxh3,
) -> Result<(), Error> {
    let mut content = api.content(url, part, size_bytes).await?;
    while let Some(bytes) = content.next().await? {
        hash.update(&bytes);
    }
    Ok(())
}
