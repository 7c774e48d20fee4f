//! What the suites stand on.

pub(crate) mod map;
pub(crate) mod mounted;
pub(crate) mod shell;
pub(crate) mod xattr;
