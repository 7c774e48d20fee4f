//! Content that got to the server after its file was given another name or place here.
//!
//! A request that completes an upload may take longer than whoever renames a file waits for it. The rename was
//! acknowledged, so what landed follows it; where it cannot, it goes, and the content is sent anew to where it belongs.

use std::sync::Arc;

use super::attempt::Attempt;
use super::body::Flight;
use super::deliver::{Courier, Landed};
use super::outcome::Failure;
use crate::api::Error;
use crate::entity::Entity;
use crate::staging::{Local, State};

/// What becomes of content that landed.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is where it belongs.
    Stays,
    /// It is in the file that it belongs to, which may have another place by now.
    Follows,
    /// It gets the name that its file has now.
    Renamed,
    /// It is a new file that is not wanted there.
    Goes,
    /// It is a version of a file that the content is not for any more.
    Left,
}

fn fate(local: &Local, attempt: &Attempt, landed: &Landed) -> Fate {
    let (place, base) = (local.place(), local.base());
    if attempt.is_meant(&place, base.as_ref()) {
        return Fate::Stays;
    }
    match (&attempt.over, base) {
        (Some(_), Some(base)) if attempt.is_over(&base.file, &base.entity.id) => Fate::Follows,
        (Some(_), _) => Fate::Left,
        (None, Some(base)) if base.file == landed.info.id => Fate::Follows,
        (None, Some(_)) => Fate::Goes,
        (None, None) if !attempt.is_into_folder_of(&place) => Fate::Goes,
        // Its folder was moved, and took it along.
        (None, None) if attempt.is_to(&place) => Fate::Follows,
        (None, None) => Fate::Renamed,
    }
}

impl Courier {
    /// What landed, where it belongs by now; none where it is to be sent there anew. On an error its note is still there.
    pub(super) async fn at_home(
        &self,
        flight: &Arc<Flight>,
        landed: Landed,
    ) -> Result<Option<Landed>, Failure> {
        let local = &flight.local;
        if local.state() == State::Unlinked {
            return Ok(Some(landed));
        }
        let Some(attempt) = Attempt::noted(&local.delivery()) else {
            return Ok(Some(landed));
        };
        let fate = fate(local, &attempt, &landed);
        if fate == Fate::Stays {
            return Ok(Some(landed));
        }
        let place = local.place();
        if fate == Fate::Follows {
            return match self.places.file(&self.api, &place, &landed.info.id).await {
                Ok(info) => Ok(Some(Landed { info, ..landed })),
                Err(Error::NotFound) => Ok(Some(landed)),
                Err(error) => Err(error.into()),
            };
        }
        let name = place.name;
        log::info!(
            "{} got its content after its file was renamed to '{name}' or put onto another one here",
            landed.info.uri
        );
        match fate {
            Fate::Stays | Fate::Follows => return Ok(Some(landed)),
            Fate::Left => return Ok(None),
            Fate::Goes => {}
            Fate::Renamed => match self.api.rename(&landed.info.uri, &name).await {
                Ok(info) if info.id == landed.info.id => {
                    return Ok(Some(Landed { info, ..landed }));
                }
                Ok(_) | Err(Error::Exists) => {}
                Err(error) => return Err(error.into()),
            },
        }
        let entity = Entity {
            id: landed.entity.clone(),
            size_bytes: attempt.size_bytes,
        };
        self.delete_orphan(&landed.info.id, &entity).await?;
        Ok(None)
    }
}
