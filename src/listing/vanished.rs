//! What a listing lacks although it was there before: gone, or lost by the server's paging?
//!
//! Absence from a listing is no proof (→ api part 1 §7.5): a file renamed across the cursor is missed too. So a few
//! missing files are asked for one by one; where there are many, a second listing with other page borders decides.

use crate::api;
use crate::entry::Entry;
use crate::metadata::Listing;
use crate::model::FileInfo;
use crate::uri::FileUri;

use super::Source;
use super::paging::{self, Paged};

/// Files that are asked for one by one; more would cost more than listing again.
const SINGLY_MAX: usize = 16;

/// A page size whose multiples fall elsewhere than those of the usual one.
const OTHER_PAGE_SIZE: u32 = paging::PAGE_SIZE - 523;

/// Those of the `previous` entries that the listing of `folder` did not bring, and that are there all the same.
/// `answered` hears of each answer, since many may be needed.
pub(super) async fn still_there(
    source: &Source,
    folder: &FileUri,
    previous: Option<&Listing>,
    paged: &Paged,
    answered: impl Fn(),
) -> Result<Vec<FileInfo>, api::Error> {
    let previous = previous.map(Listing::entries).unwrap_or_default();
    let missing: Vec<&Entry> = previous
        .iter()
        .map(AsRef::as_ref)
        .filter(|entry| !paged.met.has(&entry.id))
        .collect();
    match missing.len() {
        0 => Ok(Vec::new()),
        1..=SINGLY_MAX => one_by_one(source, folder, &missing, answered).await,
        // One page has no border at which anything could be lost.
        _ if paged.pages == 1 => Ok(Vec::new()),
        _ => once_more(source, folder, paged, answered).await,
    }
}

async fn one_by_one(
    source: &Source,
    folder: &FileUri,
    missing: &[&Entry],
    answered: impl Fn(),
) -> Result<Vec<FileInfo>, api::Error> {
    let mut there = Vec::new();
    for entry in missing {
        let answer = (source.info)(folder.child(entry.segment())).await;
        answered();
        match answer {
            Ok(info) if info.id == entry.id => there.push(info),
            // Something else has its name; that is in the listing itself.
            Ok(_) | Err(api::Error::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}

async fn once_more(
    source: &Source,
    folder: &FileUri,
    paged: &Paged,
    answered: impl Fn(),
) -> Result<Vec<FileInfo>, api::Error> {
    let mut there = Vec::new();
    let fetch = |position, size| (source.page)(folder.clone(), position, size);
    paging::all_pages(OTHER_PAGE_SIZE, fetch, |_, files, _| {
        answered();
        there.extend(files.into_iter().filter(|file| !paged.met.has(&file.id)));
    })
    .await?;
    Ok(there)
}
