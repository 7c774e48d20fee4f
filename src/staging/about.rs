//! What a local file is, as text: in the journal's rows, and beside each content so that it needs no journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::entity::Entity;
use crate::entry::{FileKey, Tree};
use crate::model::{EntityId, FileId};
use crate::staging::{Base, LocalId, Place};
use crate::uri::FileUri;

/// The text's shape: short names, since a row is written for each file.
#[derive(Serialize, Deserialize)]
struct Text {
    /// Where it lies, as the server takes it: percent-encoded, so that any bytes survive. Holds a share's password.
    uri: String,
    #[serde(default, skip_serializing_if = "is_main")]
    tree: u64,
    folder: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<BaseText>,
    /// Number of the local file that had the place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    untold: bool,
}

#[derive(Serialize, Deserialize)]
struct BaseText {
    file: String,
    entity: String,
    size: u64,
    visible: u64,
}

fn is_main(tree: &u64) -> bool {
    *tree == Tree::MAIN.number()
}

/// Where a local file belongs and what it is written over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) place: Place,
    pub(super) base: Option<Base>,
    /// The local file that had the place before, and is owed no more.
    pub(super) replaces: Option<LocalId>,
    /// What is told of it beside its content; none where nothing is.
    pub(super) attributes: Option<Arc<Attributes>>,
    /// The server has others, or none, of the file that gets the content.
    pub(super) untold: bool,
}

impl About {
    /// Of a file that replaces no other local one.
    pub(super) fn new(place: Place, base: Option<Base>) -> Self {
        Self {
            place,
            base,
            replaces: None,
            attributes: None,
            untold: false,
        }
    }

    /// With what is told of it, which the server has not heard if `untold`. Of a file that it does not have, it need not hear
    /// that there is nothing to tell.
    pub(super) fn telling(self, attributes: Option<Arc<Attributes>>, untold: bool) -> Self {
        let attributes = attributes.filter(|attributes| !attributes.is_plain());
        Self {
            untold: untold && (self.base.is_some() || attributes.is_some()),
            attributes,
            ..self
        }
    }

    /// As text; [`About::parse`] takes it back.
    pub(super) fn text(&self) -> String {
        let text = Text {
            uri: self.place.uri().to_wire(),
            tree: self.place.folder.tree.number(),
            folder: self.place.folder.id.0.to_string(),
            base: self.base.as_ref().map(|base| BaseText {
                file: base.file.0.to_string(),
                entity: base.entity.id.0.to_string(),
                size: base.entity.size_bytes,
                visible: base.visible_bytes,
            }),
            replaces: self.replaces.map(|id| id.0),
            attributes: self.attributes.as_ref().map(|attributes| attributes.text()),
            untold: self.untold,
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// What [`About::text`] made; none of anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text: Text = serde_json::from_str(text).ok()?;
        let uri = FileUri::parse_wire(&text.uri).ok()?;
        let place = Place {
            folder: FileKey {
                tree: Tree::of_number(text.tree),
                id: FileId(text.folder.into()),
            },
            folder_uri: uri.parent()?,
            name: uri.name()?.clone(),
        };
        // Content is worth more than what is told of it.
        let attributes = text.attributes.as_deref().and_then(Attributes::parse);
        let base = text.base.map(|base| Base {
            file: FileId(base.file.into()),
            entity: Entity {
                id: EntityId(base.entity.into()),
                size_bytes: base.size,
            },
            visible_bytes: base.visible,
        });
        Some(Self {
            place,
            base,
            replaces: text.replaces.map(LocalId),
            attributes: attributes.map(Arc::new),
            untold: text.untold,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServerName;
    use crate::uri::FileSystem;

    #[test]
    fn any_name_place_and_base_come_back_as_they_were() {
        let share = FileSystem::Share {
            id: "aB".into(),
            password: Some(crate::secret::Secret::new("p:/@ w")),
        };
        for name in [
            &b"plain"[..],
            b"%2F#?\"\\",
            b"\xff\xfe\n",
            "ß 文".as_bytes(),
            b".",
            b"..",
        ] {
            for root in [FileUri::my(), FileUri::root(share.clone())] {
                let about = About {
                    place: Place {
                        folder: FileKey {
                            tree: Tree::MAIN.behind(&FileId("x".into())),
                            id: FileId("".into()),
                        },
                        folder_uri: root.child(ServerName::from_wire(name)),
                        name: ServerName::from_wire(name),
                    },
                    base: Some(Base {
                        file: FileId("f".into()),
                        entity: Entity {
                            id: EntityId("e".into()),
                            size_bytes: u64::MAX >> 1,
                        },
                        visible_bytes: 7,
                    }),
                    replaces: Some(LocalId(u64::MAX)),
                    attributes: Some(Arc::new(Attributes {
                        mode: Some(0o640),
                        ..Attributes::default()
                    })),
                    untold: true,
                };
                assert_eq!(About::parse(&about.text()), Some(about));
            }
        }
        assert_eq!(About::parse("{}"), None);
    }
}
