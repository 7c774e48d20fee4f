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
        let about = Self {
            place,
            base,
            replaces: None,
            attributes: None,
            untold: false,
        };
        about.named()
    }

    /// With what is told of it, which the server has not heard if `untold`. Of a file that it does not have, it need not hear
    /// that there is nothing to tell.
    pub(super) fn telling(self, attributes: Option<Arc<Attributes>>, untold: bool) -> Self {
        let attributes = attributes.filter(|attributes| !attributes.is_plain());
        let about = Self {
            untold: untold && (self.base.is_some() || attributes.is_some()),
            attributes,
            ..self
        };
        about.named()
    }

    /// It lies elsewhere now. Its full name goes with its name.
    pub(super) fn moved_to(self, place: Place) -> Self {
        if place.name == self.place.name {
            let full = place.full.or(self.place.full);
            let place = Place { full, ..place };
            return Self { place, ..self }.named();
        }
        let mut attributes = self.attributes.as_deref().cloned().unwrap_or_default();
        let names: Vec<_> = place.full.iter().cloned().collect();
        let untold = self.untold || attributes.names != names;
        attributes.names = names;
        let about = Self { place, ..self };
        about.telling(Some(Arc::new(attributes)), untold)
    }

    /// What is told of it has the full name of its place, and the place the full name that is told.
    fn named(mut self) -> Self {
        let told = self.attributes.as_deref();
        let known = told.and_then(|told| told.full_of(&self.place.name));
        match (known, &self.place.full) {
            (Some(known), None) => self.place.full = Some(Arc::clone(known)),
            (None, Some(full)) => {
                let mut attributes = told.cloned().unwrap_or_default();
                attributes.add_name(full);
                self.attributes = Some(Arc::new(attributes));
                self.untold |= self.base.is_some();
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        self
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
            full: None,
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
        let about = Self {
            place,
            base,
            replaces: text.replaces.map(LocalId),
            attributes: attributes.map(Arc::new),
            untold: text.untold,
        };
        Some(about.named())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::names::{NamePolicy, ServerName, Stored};
    use crate::staging::untold::nothing_of;
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
                        full: None,
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

    #[test]
    fn a_full_name_goes_with_the_name_that_is_a_part_of_it_and_with_no_other() {
        let place = |local: &str| {
            let stored = Stored::of(OsStr::new(local), NamePolicy::Encode).unwrap();
            Place {
                folder: FileKey {
                    tree: Tree::MAIN,
                    id: FileId("d".into()),
                },
                folder_uri: FileUri::my(),
                name: stored.name,
                full: stored.full,
            }
        };
        let told = |about: &About| {
            let names = about.attributes.as_ref().map(|told| told.names.clone());
            assert_eq!(About::parse(&about.text()).as_ref(), Some(about));
            (names.unwrap_or_default(), about.untold)
        };
        let [long, other] = ["?", "x"].map(|letter| place(&letter.repeat(255)));
        let names = |place: &Place| Vec::from_iter(place.full.clone());
        let new = About::new(long.clone(), None);
        assert_eq!(told(&new), (names(&long), false));
        // It is among what is told from the beginning, whatever else that is.
        let mode = Attributes {
            mode: Some(0o600),
            ..Attributes::default()
        };
        let new = new.telling(Some(Arc::new(mode)), false);
        assert_eq!(told(&new), (names(&long), false));
        let moved = new.moved_to(other.clone());
        assert_eq!(told(&moved), (names(&other), true));
        // The same name in another folder, by who knows no more than that.
        let bare = Place {
            folder_uri: FileUri::my().child(long.name.clone()),
            full: None,
            ..other.clone()
        };
        let moved = moved.moved_to(bare);
        assert_eq!(moved.place.full, other.full);
        let moved = moved.moved_to(place("short"));
        assert_eq!((told(&moved).0, &moved.place.full), (Vec::new(), &None));
        assert_eq!(moved.attributes.unwrap().mode, Some(0o600));
        // Of a file that the server has, it is to hear of that.
        let over = About::new(place("short"), Some(nothing_of(&FileId("f".into()))));
        assert_eq!(told(&over), (Vec::new(), false));
        assert_eq!(told(&over.moved_to(long.clone())), (names(&long), true));
    }
}
