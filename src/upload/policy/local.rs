//! Chunks to the server itself: storage on its own disk, and any storage that it relays to.

use super::Transfer;
use crate::api::Error;

/// Sends what is not there yet.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    let (id, last) = (&*t.session.session_id, t.chunks() - 1);
    t.send_to_disk(|index, part| async move {
        match t.api.send_chunk(id, index, part.clone()).await {
            // The lock of a session is, for moments, out of sight of chunks that run beside each other.
            Err(Error::SessionGone) if index < last => t.api.send_chunk(id, index, part).await?,
            sent => sent?,
        }
        Ok(String::new())
    })
    .await
}
