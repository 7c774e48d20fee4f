//! Whose a file is and who may do what with it, as the kernel is to judge; and what the server has not heard of that yet.

use std::borrow::Cow;

use crate::entry::Entry;
use crate::inodes::Node;
use crate::model::FileKind;

use super::locals::{Locals, is_here, is_nameless};
use super::namespace::Namespace;

/// Bits by which anybody may read a file, or look into a folder: with those of strangers nobody is kept from what the
/// server lets him read.
const READ: u16 = 0o444;

/// What chmod(1) and chown(1) set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Namespace {
    /// What is shown of `entry`. In somebody else's share the numbers of his users say nothing here.
    pub(super) fn access(&self, entry: &Entry) -> Access {
        let options = &self.options;
        let default = match entry.kind {
            FileKind::Folder => options.dir_mode,
            FileKind::File => options.file_mode,
        };
        let told = entry.attributes.as_ref();
        let mode = told.and_then(|told| told.mode);
        let own = told.filter(|_| entry.owned);
        Access {
            mode: match (mode, entry.owned) {
                (None, _) => default,
                (Some(mode), true) => mode,
                (Some(mode), false) => mode | default & READ,
            },
            uid: own.and_then(|told| told.uid).unwrap_or(options.uid),
            gid: own.and_then(|told| told.gid).unwrap_or(options.gid),
        }
    }

    /// What shows of `node` by what is known now.
    pub(super) fn shown_access(&self, node: &Node) -> Access {
        match self.local_of(node) {
            Some(shown) => self.access(&Locals::entry(&shown, &node.entry.name)),
            None => self.access(&self.with_untold(&node.entry)),
        }
    }

    /// `entry` with what the server has not heard of it yet. Of content that is here that lies with the content.
    pub(super) fn with_untold<'a>(&self, entry: &'a Entry) -> Cow<'a, Entry> {
        if is_here(&entry.entity) && !is_nameless(&entry.id) {
            return Cow::Borrowed(entry);
        }
        let untold = self
            .staging
            .as_ref()
            .and_then(|staging| staging.untold(&entry.id));
        match untold {
            None => Cow::Borrowed(entry),
            Some(untold) => Cow::Owned(Entry {
                attributes: Some(match &entry.attributes {
                    Some(there) => untold.renamed_as(&entry.segment(), there),
                    None => untold,
                }),
                ..entry.clone()
            }),
        }
    }
}
