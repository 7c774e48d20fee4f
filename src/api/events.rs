//! One stream of what changes below a folder, as the server tells it, from its beginning to its end (→ api part 1 §13).
//!
//! Events are hints: they may be lost, merged and late, and a path in one may never have been seen. What can be read of them
//! is handed on as it is; what cannot be read says so, and is never taken for nothing.

mod frames;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::timeout;

use super::call::Call;
use super::files::on;
use super::{Api, Error};
use crate::model::FileId;
use crate::names::ServerName;
use crate::uri::{FileSystem, FileUri};
use frames::{Frame, Frames};

/// Who follows, to the server: a UUID. What is sent under the same one is not told to its own stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// One that nobody has.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // The server wants it to differ, no more.
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
            bytes =
                (now.unwrap_or_default().as_nanos() ^ u128::from(std::process::id())).to_be_bytes();
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Self(parts.join("-").into())
    }

    /// As a header's value.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What happened to a file or folder. Nothing is told of what lies in a folder that was moved, copied or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new there, or came from where nobody followed. Out of the trash it has a name here that it has not: only its
    /// id tells what it is.
    Created,
    /// Its content is another.
    Modified,
    /// It has another name or place, and perhaps other content as well.
    Renamed,
    /// It is gone from there. Its path may be one that nobody ever saw.
    Deleted,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which file.
    pub id: FileId,
    /// Where it is or was. Names that are no text are not told right.
    pub from: FileUri,
    /// Where it is now, of one that was renamed.
    pub to: Option<FileUri>,
}

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It begins: what happens from now on is told, and nothing from before.
    Subscribed,
    /// It begins where an earlier one of the same client ended: what happened since is told.
    Resumed,
    /// The server is there.
    Alive,
    /// Some of the changes since the last ones.
    Changes(Vec<Change>),
    /// Something changed, and it cannot be read what.
    Unreadable,
    /// The server wants a new stream instead of this one.
    Reconnect,
}

/// An open stream. Dropping it at any time is harmless.
pub struct Events {
    folder: FileUri,
    response: Response,
    frames: Frames,
    ready: VecDeque<Frame>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.folder)
    }
}

impl Api {
    /// `GET /file/events`: follows what changes below `folder`, which is not told of itself, as `client`. From then on all that
    /// this gate changes is sent as `client`, so one gate has one stream. [`Error::Unsupported`] where the server has none: it
    /// is too old, switched them off, or has none of this view.
    pub async fn events(&self, folder: &FileUri, client: &ClientId) -> Result<Events, Error> {
        // The one makes the server's handler panic, the other is the drive of who asks.
        let file_system = folder.file_system();
        if matches!(file_system, FileSystem::Trash | FileSystem::SharedWithMe) {
            return Err(Error::Unsupported);
        }
        self.0.link.set_client(client);
        let call = on(Call::get("/file/events"), folder)
            .with("uri", folder.to_wire())
            .naming_client()
            .optional();
        Ok(Events {
            folder: folder.clone(),
            response: self.0.stream(&call).await?,
            frames: Frames::default(),
            ready: VecDeque::new(),
        })
    }
}

impl Events {
    /// What it says next; none where the server ended it in good order. Nothing for as long as `silence` is an error.
    pub async fn next(&mut self, silence: Duration) -> Result<Option<Told>, Error> {
        loop {
            while let Some(frame) = self.ready.pop_front() {
                if let Some(told) = read(&frame, &self.folder) {
                    return Ok(Some(told));
                }
            }
            let came = timeout(silence, self.response.chunk()).await;
            let piece = match came {
                Err(_) => return Err(Error::Timeout(silence)),
                Ok(Err(err)) => return Err(broken_off(err)),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(piece))) => piece,
            };
            let frames = self.frames.take(&piece);
            let too_long = |_| Error::transport("the event stream is not one of Cloudreve's");
            self.ready.extend(frames.map_err(too_long)?);
        }
    }
}

fn broken_off(err: reqwest::Error) -> Error {
    Error::Transport {
        what: "the event stream broke off".into(),
        // The URL may hold a share's password.
        source: Some(Arc::new(err.without_url())),
    }
}

/// What a frame says; none where it is of a kind that nobody knows.
fn read(frame: &Frame, folder: &FileUri) -> Option<Told> {
    Some(match frame.name.as_str() {
        "subscribed" => Told::Subscribed,
        "resumed" => Told::Resumed,
        "keep-alive" => Told::Alive,
        "reconnect-required" => Told::Reconnect,
        "event" => match changes(&frame.data, folder) {
            Some(changes) => Told::Changes(changes),
            None => Told::Unreadable,
        },
        _ => return None,
    })
}

/// The changes of a frame's data: one, or several in an array.
fn changes(data: &[u8], folder: &FileUri) -> Option<Vec<Change>> {
    #[derive(Deserialize)]
    struct WireChange {
        #[serde(rename = "type")]
        kind: String,
        file_id: String,
        from: String,
        #[serde(default)]
        to: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(WireChange),
        Many(Vec<WireChange>),
    }
    let wire = match serde_json::from_slice(data).ok()? {
        OneOrMany::One(change) => vec![change],
        OneOrMany::Many(changes) => changes,
    };
    let change = |wire: WireChange| {
        let kind = match wire.kind.as_str() {
            "create" => ChangeKind::Created,
            "modify" => ChangeKind::Modified,
            "rename" => ChangeKind::Renamed,
            "delete" => ChangeKind::Deleted,
            _ => return None,
        };
        let to = wire.to.filter(|to| !to.is_empty());
        let to = to
            .map(|to| below(folder, &to))
            .filter(|_| kind == ChangeKind::Renamed);
        let is_whole = kind != ChangeKind::Renamed || to.is_some();
        (is_whole && !wire.file_id.is_empty()).then(|| Change {
            kind,
            id: FileId(wire.file_id.into()),
            from: below(folder, &wire.from),
            to,
        })
    };
    wire.into_iter().map(change).collect()
}

/// What a path, which is decoded, names below `folder`.
fn below(folder: &FileUri, path: &str) -> FileUri {
    let names = path.split('/').filter(|name| !name.is_empty());
    names.fold(folder.clone(), |uri, name| {
        uri.child(ServerName::from_wire(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, data: &str) -> Option<Told> {
        let frame = Frame {
            name: name.to_owned(),
            data: data.as_bytes().to_vec(),
        };
        read(&frame, &FileUri::parse("cloudreve://my/root").unwrap())
    }

    fn one(kind: ChangeKind, from: &str, to: Option<&str>) -> Change {
        let uri = |text: &str| FileUri::parse(text).unwrap();
        Change {
            kind,
            id: FileId("2Zha".into()),
            from: uri(from),
            to: to.map(uri),
        }
    }

    #[test]
    fn a_change_comes_alone_or_with_others() {
        let create = r#"{"type":"create","file_id":"2Zha","from":"/a%20b/é","to":""}"#;
        let rename = r#"{"type":"rename","file_id":"2Zha","from":"/a","to":"/b/a","more":[1]}"#;
        let created = one(
            ChangeKind::Created,
            "cloudreve://my/root/a%2520b/%C3%A9",
            None,
        );
        let renamed = one(
            ChangeKind::Renamed,
            "cloudreve://my/root/a",
            Some("cloudreve://my/root/b/a"),
        );
        assert_eq!(
            told("event", create),
            Some(Told::Changes(vec![created.clone()]))
        );
        let both = Told::Changes(vec![created, renamed]);
        assert_eq!(told("event", &format!("[{create},{rename}]")), Some(both));
        assert_eq!(told("event", "[]"), Some(Told::Changes(Vec::new())));
    }

    #[test]
    fn a_change_that_cannot_be_read_is_not_taken_for_none() {
        for data in [
            "",
            "<nil>",
            "{}",
            "[{}]",
            r#"{"type":"merge","file_id":"2Zha","from":"/a","to":""}"#,
            r#"{"type":"rename","file_id":"2Zha","from":"/a","to":""}"#,
            r#"{"type":"create","file_id":"","from":"/a","to":""}"#,
            r#"{"type":"create","file_id":7,"from":"/a","to":""}"#,
        ] {
            assert_eq!(told("event", data), Some(Told::Unreadable), "{data}");
        }
    }

    #[test]
    fn the_stream_speaks_of_itself_and_what_is_unknown_is_passed_by() {
        assert_eq!(told("subscribed", "<nil>"), Some(Told::Subscribed));
        assert_eq!(told("resumed", ""), Some(Told::Resumed));
        assert_eq!(told("keep-alive", "<nil>"), Some(Told::Alive));
        assert_eq!(told("reconnect-required", ""), Some(Told::Reconnect));
        assert_eq!(told("something-new", "{}"), None);
        assert_eq!(told("", "{}"), None);
    }

    #[test]
    fn a_client_id_is_a_uuid_of_its_own() {
        let (one, other) = (ClientId::random(), ClientId::random());
        assert_ne!(one, other);
        let text = one.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(text.matches('-').count(), 4);
    }
}
