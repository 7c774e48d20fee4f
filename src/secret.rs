//! What must not be printed.
//!
//! Tokens, passwords and signed URLs live in a [`Secret`]: its `Debug` hides the text, it has no `Display`
//! and no serialisation, so a secret reaches a log, an error or a status answer only through a visible
//! call of [`Secret::expose`].

use std::fmt;

/// A text that is shown to nobody but the server it belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the request or the protected file it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[hidden]");
        assert_eq!(secret.expose(), "hunter2");
    }
}
