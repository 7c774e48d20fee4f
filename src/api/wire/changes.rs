//! JSON of what changes something: locks that were met, sessions, and the settings that decide about versions.

use serde::Deserialize;
use serde_json::Value;

use super::super::{Error, Owner, Session};
use super::nonsense;
use crate::secret::Secret;
use crate::uri::FileUri;

#[derive(Deserialize)]
struct WireLock {
    /// Left out where the file is another account's.
    #[serde(default)]
    path: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    owner: WireOwner,
}

#[derive(Default, Deserialize)]
struct WireOwner {
    #[serde(default)]
    application: WireApplication,
}

#[derive(Default, Deserialize)]
struct WireApplication {
    #[serde(default, rename = "type")]
    kind: String,
}

/// The owners of locks in the `data` of a conflict; none where it is something else.
pub(super) fn owners(data: &Value) -> Vec<Owner> {
    let locks = data.as_array().into_iter().flatten();
    let locks = locks.filter_map(|lock| WireLock::deserialize(lock).ok());
    locks
        .map(|lock| Owner {
            uri: FileUri::parse_wire(&lock.path).ok(),
            token: Some(Secret::new(lock.token)).filter(|token| !token.is_empty()),
            application: lock.owner.application.kind,
        })
        .collect()
}

/// The answer to `PUT /file/upload`.
#[derive(Deserialize)]
pub(in crate::api) struct WireSession {
    #[serde(flatten)]
    session: Session,
    #[serde(default)]
    storage_policy: WireSessionPolicy,
}

#[derive(Default, Deserialize)]
struct WireSessionPolicy {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    relay: bool,
    #[serde(default)]
    chunk_concurrency: u32,
    #[serde(default)]
    encryption: bool,
}

impl WireSession {
    /// Flat, as it is kept.
    pub(in crate::api) fn into_session(self) -> Result<Session, Error> {
        if self.session.session_id.is_empty() {
            return Err(nonsense("an upload session without an id"));
        }
        Ok(Session {
            policy: self.storage_policy.kind,
            relay: self.storage_policy.relay,
            chunk_concurrency: self.storage_policy.chunk_concurrency,
            encryption: self.storage_policy.encryption,
            ..self.session
        })
    }
}

/// What of an account's settings decides about versions.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::api) struct WireSettings {
    #[serde(default)]
    version_retention_enabled: bool,
    #[serde(default)]
    version_retention_ext: Option<Vec<String>>,
    /// The current version counts; 0 is no limit.
    #[serde(default)]
    version_retention_max: i64,
}

impl WireSettings {
    /// Whether the version that is replaced stays, of a file of this name. As the server judges it: an ending is what
    /// follows the last dot, in lower case, and no ending is in no list (→ api part 2 §7).
    pub(in crate::api) fn keeps_versions_of(&self, name: &[u8]) -> bool {
        let endings = self.version_retention_ext.as_deref().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let ending = name
            .rsplit_once('.')
            .map(|(_, ending)| ending.to_lowercase());
        let listed = ending
            .filter(|ending| !ending.is_empty())
            .is_some_and(|ending| endings.contains(&ending));
        self.version_retention_enabled
            && self.version_retention_max != 1
            && (endings.is_empty() || listed)
    }
}

/// What of a site's settings bounds a batch.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct WireExplorer {
    #[serde(default)]
    pub(in crate::api) max_batch_size: i64,
}
