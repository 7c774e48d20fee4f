//! Looking at what the server has, as closely as it takes.

use super::attempt::Attempt;
use super::place::Places;
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
