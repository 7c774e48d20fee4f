//! A Cloudreve V4 drive as a Linux directory.
//!
//! One crate, a house with floors: a file is a room, a folder of the same name holds its inner rooms, and a room
//! uses only rooms of a lower floor or its own inner rooms. Each room's header says what it keeps or does, what it
//! promises and what it never does. In reading order, from the ground up:
//!
//! | floor | rooms |
//! |---|---|
//! | 0 | the shared words: what everyone speaks of |

pub mod address;
pub mod expiry;
pub mod failure;
pub mod model;
pub mod names;
pub mod secret;
pub mod uri;
