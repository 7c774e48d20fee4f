//! What is told of a file together with its content, as metadata of the upload.

use std::collections::BTreeMap;

use super::attempt::Content;
use crate::attributes::{Attributes, KEY, Times, whole_milliseconds};
use crate::entity::Entity;
use crate::model::EntityId;
use crate::staging::Local;

/// What the server is to hear with `content` of `local`, also what it heard of another file if this one is new; empty where
/// that is nothing.
pub(super) fn of_content(
    local: &Local,
    content: &Content,
    is_new: bool,
) -> BTreeMap<String, String> {
    let attributes = match is_new {
        true => local.attributes(),
        false => local.to_tell(),
    };
    let Some(attributes) = attributes else {
        return BTreeMap::new();
    };
    let shown = attributes.shown_times(
        whole_milliseconds(content.modified),
        &here(content.size_bytes),
    );
    let times = Times::sent(shown);
    metadata(&Attributes {
        times: (!times.is_plain()).then_some(times),
        ..(*attributes).clone()
    })
}

/// What the server is to hear of `local`, which is empty and new, when it makes a file for it: that has a time of the
/// server's choice otherwise.
pub(super) fn of_empty(local: &Local) -> BTreeMap<String, String> {
    let attributes = local.attributes().unwrap_or_default();
    let shown = attributes.shown_times(whole_milliseconds(local.mtime()), &here(0));
    metadata(&Attributes {
        times: Some(Times::of_content(shown, &here(0))),
        ..(*attributes).clone()
    })
}

/// Content that is no version of the server's yet.
fn here(size_bytes: u64) -> Entity {
    Entity {
        id: EntityId("".into()),
        size_bytes,
    }
}

fn metadata(attributes: &Attributes) -> BTreeMap<String, String> {
    BTreeMap::from([(KEY.to_owned(), attributes.text())])
}
