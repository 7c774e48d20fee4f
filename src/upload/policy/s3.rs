//! Amazon S3 and what speaks like it, Kingsoft KS3, Tencent COS: parts, a request that puts them together, and a call that
//! tells the server.

use super::Transfer;
use super::multipart::{Completed, Ending, Says, complete, send_parts};
use super::store::{tell, untold};
use crate::api::Error;

/// S3 and KS3.
pub(super) const PLAIN: Ending = Ending {
    headers: &[],
    lists: true,
    says: Says::Result,
};

/// COS has this header under its signature.
pub(super) const COS: Ending = Ending {
    headers: &[("x-cos-forbid-overwrite", "true")],
    lists: true,
    says: Says::Result,
};

/// Sends what is not there yet, and ends the upload.
pub(super) async fn send(t: &Transfer<'_>, ending: &Ending) -> Result<(), Error> {
    match send_parts(t).await {
        // It may be complete already, and only we do not know: the server looks what is there.
        Err(Error::SessionGone) => return tell(t, false).await,
        sent => sent?,
    }
    match complete(t, ending).await? {
        Completed::Now => tell(t, true).await,
        Completed::Before => tell(t, false).await,
        Completed::Untold(answer) => Err(untold(&answer)),
    }
}
