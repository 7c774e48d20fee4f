//! What is told of a local file beside its content: mode, owner, exact times and the like.
//!
//! It goes to the server with the content, and lies beside that here. What changes after the content was sent, or did not
//! get there with it, is told apart (`untold`) once the content is delivered.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Inner, Local};
use crate::attributes::{Attributes, Times, whole_milliseconds};
use crate::entity::Entity;
use crate::model::FileInfo;
use crate::staging::State;

/// What the server tells of a file to which content was delivered.
#[derive(Debug)]
pub struct There {
    updated: SystemTime,
    attributes: Attributes,
}

impl There {
    /// As `info` says.
    pub fn of(info: &FileInfo) -> Self {
        Self {
            updated: info.updated,
            attributes: Attributes::of(info).unwrap_or_default(),
        }
    }

    /// What the server is to hear of the file, whose content is `entity`, if that is not what `here` tells of it.
    pub(super) fn missing(&self, here: &Inner, entity: &Entity) -> Option<Attributes> {
        let wanted = here
            .about
            .attributes
            .as_deref()
            .cloned()
            .unwrap_or_default();
        let modified = whole_milliseconds(here.mtime);
        let times = wanted.shown_times(modified, entity);
        let without_times = |attributes: &Attributes| Attributes {
            times: None,
            ..attributes.clone()
        };
        let is_heard = without_times(&wanted) == without_times(&self.attributes)
            && self.attributes.shown_times(self.updated, entity) == times;
        (!is_heard).then(|| Attributes {
            times: Some(Times::of_content(times, entity)),
            ..wanted
        })
    }
}

impl Local {
    /// What is told of it beside its content; none where nothing is.
    pub fn attributes(&self) -> Option<Arc<Attributes>> {
        self.inner.read().unwrap().about.attributes.clone()
    }

    /// What the server is to hear of it together with its content; none where it has heard it.
    pub fn to_tell(&self) -> Option<Arc<Attributes>> {
        let inner = self.inner.read().unwrap();
        let attributes = inner.about.attributes.clone();
        inner.about.untold.then(|| attributes.unwrap_or_default())
    }

    /// Changes what is told of it beside its content, which survives the end of the process when this returns, where it is
    /// owed. False where the server has its content: then it is to hear of it by
    /// [`Staging::tell`](crate::staging::Staging::tell).
    pub fn set_attributes(&self, change: impl FnOnce(&mut Attributes)) -> io::Result<bool> {
        let _turn = self.turn.lock().unwrap();
        let (old, state) = {
            let inner = self.inner.read().unwrap();
            (inner.about.clone(), inner.state.clone())
        };
        let mut attributes = old.attributes.as_deref().cloned().unwrap_or_default();
        change(&mut attributes);
        let new = old.clone().telling(Some(Arc::new(attributes)), true);
        // Of what nobody is owed, nothing is written down.
        self.write_down_soon(&old, &new)?;
        let mut inner = self.inner.write().unwrap();
        inner.about.attributes = new.attributes;
        inner.about.untold = new.untold;
        Ok(state != State::Delivered)
    }
}
