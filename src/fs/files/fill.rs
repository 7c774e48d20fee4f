//! Brings what is only in the version below a local file, before that is uploaded.

use std::ops::Range;
use std::sync::Arc;

use super::pieces::source_of;
use crate::api;
use crate::read::{Reader, Stream};
use crate::staging::{Base, Local};
use crate::upload::Complete;

/// Bytes brought at once.
const PART_BYTES: u64 = 1 << 20;

/// Makes local files complete by way of `reader`, for the uploader.
pub fn complete(reader: &Arc<Reader>) -> Complete {
    let reader = Arc::clone(reader);
    Arc::new(move |local| {
        let reader = Arc::clone(&reader);
        Box::pin(async move { fill(&reader, &local).await })
    })
}

/// Reads all that is missing of `local`, in order, and fills it in.
async fn fill(reader: &Arc<Reader>, local: &Arc<Local>) -> Result<(), api::Error> {
    let mut way: Option<(Base, Stream)> = None;
    loop {
        // In this order: where it gets another base meanwhile, nothing is missing any more.
        let base = local.base();
        let Some(missing) = local.missing() else {
            return Ok(());
        };
        let base = base.ok_or_else(|| ended(&missing))?;
        let stream = match &way {
            Some((of, stream)) if of.entity == base.entity => stream,
            _ => {
                let stream = reader.open(source_of(&base, place_of(local)));
                &way.insert((base, stream)).1
            }
        };
        let end = missing.end.min(missing.start + PART_BYTES);
        let len = end - missing.start;
        let bytes = stream.read(missing.start, len as u32).await?;
        if bytes.len() as u64 != len {
            return Err(ended(&missing));
        }
        let local = Arc::clone(local);
        let filled = tokio::task::spawn_blocking(move || local.fill(missing.start, &bytes)).await;
        match filled {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(api::Error::Local(format!("the local disk: {err}"))),
            Err(err) => return Err(api::Error::Local(err.to_string())),
        }
    }
}

/// Where the file probably is; where it is not, it is found by its id.
fn place_of(local: &Arc<Local>) -> super::Locate {
    let local = Arc::clone(local);
    Arc::new(move || local.place().uri())
}

fn ended(range: &Range<u64>) -> api::Error {
    api::Error::Local(format!(
        "the version below what was written ends before byte {}",
        range.end
    ))
}
