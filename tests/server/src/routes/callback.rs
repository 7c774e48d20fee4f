//! The end of an upload at a store: by a call of the client, or of the store (→ api part 2 §5.11).

use hyper::StatusCode;

use super::Ctx;
use crate::clock::Time;
use crate::policy::StoragePolicy;
use crate::reply::{Failure, Outcome, Reply};
use crate::serve::Asked;
use crate::site::Site;

/// The status under which a failed callback comes.
pub(super) fn failure_status(asked: &Asked, code: i32) -> StatusCode {
    match code {
        40006 | 40011 | 40020 => StatusCode::UNAUTHORIZED,
        _ if asked.segment(1) == StoragePolicy::OneDrive.name() => StatusCode::OK,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl Ctx<'_> {
    pub(super) fn callback(&mut self) -> Outcome {
        let (kind, id, secret) = (
            self.asked.segment(1),
            self.asked.segment(2),
            self.asked.segment(3),
        );
        let upload = self
            .site
            .uploads
            .get(&id)
            .filter(|upload| self.now < upload.expires);
        let gone = || Failure::new(40011, "Upload session does not exist or expired");
        let upload = upload.ok_or_else(gone)?;
        if upload.secret != secret {
            return Err(Failure::credential("Invalid callback secret"));
        }
        let policy = upload.policy;
        if StoragePolicy::of_name(&kind) != Some(policy) {
            return Err(Failure::new(40006, ""));
        }
        if !policy.is_measured() {
            // These come from the store, signed with its keys; here it tells the server without a request.
            return Err(Failure::credential("Failed to verify callback request."));
        }
        self.site.take_object(&id, self.now)?;
        Ok(Reply::done())
    }
}

impl Site {
    /// Takes over an object that lies whole in the store.
    fn take_object(&mut self, session: &str, now: Time) -> Result<(), Failure> {
        let gone = || Failure::new(40011, "Upload session does not exist or expired");
        let upload = self.uploads.get(session).ok_or_else(gone)?;
        let (declared, measured) = (upload.size, upload.policy.is_measured());
        let object = self.store.objects.get(session);
        let object = object.cloned().ok_or_else(Failure::unclassified)?;
        let stored = object.len() as u64;
        if measured && stored != declared {
            return Err(Failure::new(
                40055,
                format!("File size not match, expected: {declared}, actual: {stored}"),
            ));
        }
        self.finish_upload(session, object, now)
    }

    /// The store tells that it has an object, if it can reach the server.
    pub(super) fn call_back(&mut self, session: &str, now: Time) -> Result<(), Failure> {
        if !self.settings.store_calls_back {
            return Err(Failure::new(-1, "the callback could not be sent"));
        }
        let upload = self
            .uploads
            .get(session)
            .filter(|upload| now < upload.expires);
        let upload = upload.ok_or_else(|| Failure::new(40011, ""))?;
        let stored = self
            .store
            .objects
            .get(session)
            .map_or(0, |o| o.len() as u64);
        if upload.policy == StoragePolicy::Oss && stored != upload.size {
            return Err(Failure::new(-1, "size mismatch"));
        }
        self.take_object(session, now)
    }

    /// Tells the server of the objects whose time has come.
    pub(crate) fn deliver_notices(&mut self, now: Time) {
        let due = |(time, _): &(Time, String)| *time <= now;
        let notices = std::mem::take(&mut self.store.notices);
        let (due, rest): (Vec<_>, Vec<_>) = notices.into_iter().partition(due);
        self.store.notices = rest;
        for (_, session) in due {
            // A store does not care what becomes of its notice, nor whether anybody still waits for it.
            self.call_back(&session, now).ok();
        }
    }
}
