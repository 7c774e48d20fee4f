//! What the entries of one page have in common, and is made once for all of them.

use std::borrow::Cow;

use super::boolset;
use super::text::Text;
use crate::model::Capabilities;
use crate::uri::{FileUri, Siblings, UriError};

/// What the entries of one page mostly share, and is made once: their folder, and what is allowed with them.
#[derive(Default)]
pub(super) struct Common<'a> {
    siblings: Siblings<'a>,
    capabilities: Option<(Text<'a>, Capabilities)>,
}

impl<'a> Common<'a> {
    /// A file's place. Of a path with escapes, which is a copy, nothing is remembered.
    pub(super) fn uri(&mut self, path: &Text<'a>) -> Result<FileUri, UriError> {
        match path.0 {
            Cow::Borrowed(path) => self.siblings.parse_wire(path),
            Cow::Owned(_) => FileUri::parse_wire(path),
        }
    }

    /// What `text` allows.
    pub(super) fn capabilities(&mut self, text: Option<Text<'a>>) -> Capabilities {
        let text = text.unwrap_or_default();
        if let Some((last, capabilities)) = &self.capabilities
            && **last == *text
        {
            return capabilities.clone();
        }
        let capabilities = boolset(Some(&text));
        self.capabilities = Some((text, capabilities.clone()));
        capabilities
    }
}
