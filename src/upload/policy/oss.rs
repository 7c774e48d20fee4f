//! Aliyun OSS: parts, and a request that puts all of them together; OSS itself tells the server.

use super::Transfer;
use super::multipart::{Completed, Ending, Says, complete, send_parts};
use super::store::untold;
use crate::api::Error;

/// All parts there are, without a list of them. The headers are under the signature.
const ENDING: Ending = Ending {
    headers: &[
        ("x-oss-complete-all", "yes"),
        ("x-oss-forbid-overwrite", "true"),
    ],
    lists: false,
    says: Says::Callback,
};

/// Sends what is not there yet, and ends the upload.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    send_parts(t).await?;
    end(t, &ENDING).await
}

/// Ends an upload of which the store itself tells the server.
pub(super) async fn end(t: &Transfer<'_>, ending: &Ending) -> Result<(), Error> {
    match complete(t, ending).await? {
        Completed::Now => Ok(()),
        // Whether the server heard of it, the file tells.
        Completed::Before => Err(Error::SessionGone),
        Completed::Untold(answer) => Err(untold(&answer)),
    }
}
