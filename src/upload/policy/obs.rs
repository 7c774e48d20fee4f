//! Huawei OBS: parts, and a request that lists and puts them together; OBS itself tells the server.

use super::multipart::{Ending, Says, send_parts};
use super::{Transfer, oss};
use crate::api::Error;

const ENDING: Ending = Ending {
    headers: &[],
    lists: true,
    says: Says::Callback,
};

/// Sends what is not there yet, and ends the upload.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    send_parts(t).await?;
    oss::end(t, &ENDING).await
}
