//! What a mount promises, tried from outside: the built program, a server on loopback, the kernel between them.
//!
//! Needs `/dev/fuse`, and root or fusermount3. `support/` has the world these suites stand on.

mod accounts;
mod bad_input;
mod bounds;
mod bytes;
mod cache;
mod damage;
mod elsewhere;
mod ends;
mod faults;
mod hangups;
mod helper;
mod keeping;
mod kernel;
mod names;
mod places;
mod secrets;
mod shown;
mod stalls;
mod storms;
mod support;
mod sweeps;
mod thumbnails;
mod walks;
mod ways;
