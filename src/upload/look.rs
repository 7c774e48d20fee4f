//! Looking at what the server has, as closely as it takes.

use super::attempt::Attempt;
use super::place::{Places, find_exactly};
use crate::api::{Api, Error, Version};
use crate::model::FileInfo;
use crate::staging::Place;
use crate::uri::FileUri;

/// A file and its versions, newest first, unfinished ones among them.
pub(super) type Look = (FileInfo, Vec<Version>);

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
        return look_in_moved(api, place, attempt, uri).await;
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

/// A new file, whose folder may have been renamed or moved since, and took along what the try left in it.
async fn look_in_moved(
    api: &Api,
    place: &Place,
    attempt: &Attempt,
    uri: &FileUri,
) -> Result<Option<Look>, Error> {
    let Some(then) = attempt.place(place) else {
        return Ok(None);
    };
    let there = match find_exactly(api, &then).await {
        Ok(folder) => folder.child(then.name),
        Err(Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    if there == *uri {
        return Ok(None);
    }
    match api.history(&there).await {
        Ok(look) => Ok(Some(look)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
