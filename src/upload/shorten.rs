//! Files that the server has under a name in whole that its own disk takes no content for (→ api part 2 §13): they get the
//! part of it under which this program would have made them. What programs here call them stays the same.

use std::collections::BTreeMap;

use super::deliver::Courier;
use super::place::Target;
use crate::api::Error;
use crate::attributes::{Attributes, KEY, TEXT_MAX_BYTES};
use crate::names::{STORED_MAX_BYTES, Stored};

impl Courier {
    /// Gives the file of `target`, to which content was refused, the part of its name that is stored of it. False where
    /// that is nothing to try.
    pub(super) async fn shorten(&self, target: &Target) -> bool {
        match self.shortened(target).await {
            Ok(shortened) => shortened,
            Err(error) => {
                log::info!("a name that is too long for the server's storage stays: {error}");
                false
            }
        }
    }

    async fn shortened(&self, target: &Target) -> Result<bool, Error> {
        let Target::Over { uri, file, .. } = target else {
            return Ok(false);
        };
        let names = self.options.names;
        let name = uri
            .name()
            .filter(|name| name.as_bytes().len() > STORED_MAX_BYTES);
        let local = name.and_then(|name| name.local_of(None, names));
        let stored = local.and_then(|local| Stored::of(&local, names).ok());
        let Some(Stored {
            name: part,
            full: Some(full),
        }) = stored
        else {
            return Ok(false);
        };
        let info = self.api.info(uri).await?;
        if info.id != *file {
            return Err(Error::Changed);
        }
        // Told before it is given, so that nobody finds it under a part of its name alone.
        let mut told = Attributes::of(&info).unwrap_or_default();
        told.add_name(&full);
        let text = told.text();
        if text.len() > TEXT_MAX_BYTES {
            return Ok(false);
        }
        let change = BTreeMap::from([(KEY.to_owned(), Some(text))]);
        self.api.patch_metadata(uri, &change).await?;
        self.api.rename(uri, &part).await?;
        log::info!(
            "{uri} is called '{part}' on the server from now on, whose storage takes no longer names"
        );
        Ok(true)
    }
}
