//! What lies in the stores behind the server: uploads under way there, and objects that the server has not taken over.
//!
//! An object is the server's once an upload is complete; until then it is found by the upload session it belongs to.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};

use crate::clock::Time;

/// An upload in parts.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// The server's session.
    pub(crate) session: String,
    /// Parts by number, from 1, with their ETags.
    pub(crate) parts: BTreeMap<u64, (String, Bytes)>,
    /// What a client has to show, where URLs are not signed.
    pub(crate) credential: String,
    pub(crate) expires: Time,
}

/// An upload of fragments, one after the other.
#[derive(Debug)]
pub(crate) struct Fragments {
    pub(crate) session: String,
    pub(crate) received: BytesMut,
    pub(crate) expires: Time,
}

/// All stores in one.
#[derive(Debug, Default)]
pub(crate) struct StoreState {
    /// By upload id.
    pub(crate) multiparts: HashMap<String, Multipart>,
    /// By the last segment of the upload URL.
    pub(crate) fragments: HashMap<String, Fragments>,
    /// Whole objects, by session.
    pub(crate) objects: HashMap<String, Bytes>,
    /// Sessions whose object the server is told of later, with the time of it.
    pub(crate) notices: Vec<(Time, String)>,
}

impl StoreState {
    /// Drops what belongs to a session. False if there was nothing under way, so that it cannot be aborted.
    pub(crate) fn abort(&mut self, session: &str) -> bool {
        let before = self.multiparts.len() + self.fragments.len();
        self.multiparts
            .retain(|_, upload| upload.session != session);
        self.fragments.retain(|_, upload| upload.session != session);
        self.objects.remove(session);
        before > self.multiparts.len() + self.fragments.len()
    }
}

/// One after the other.
pub(crate) fn joined(parts: impl Iterator<Item = Bytes>) -> Bytes {
    let parts: Vec<_> = parts.collect();
    if let [only] = &parts[..] {
        return only.clone();
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}
