//! What a mount promises, tried from outside: the built program, a server on loopback, the kernel between them.
//!
//! Needs `/dev/fuse`, and root or fusermount3. `support/` has the world these suites stand on.

mod accounts;
mod at_random;
mod attributes;
mod bad_input;
mod behaviour;
mod bounds;
mod bytes;
mod cache;
mod copies;
mod crash_points;
mod crashes;
mod damage;
mod elsewhere;
mod ends;
mod faults;
mod fsx;
mod hangups;
mod helper;
mod keeping;
mod kernel;
mod killed;
mod lent;
mod model;
mod names;
mod offline;
mod owed;
mod pjdfstest;
mod places;
mod policies;
mod power;
mod programs;
mod races;
mod refusals;
mod saves;
mod secrets;
mod shown;
mod stalls;
mod storms;
mod support;
mod sweeps;
mod thumbnails;
mod walks;
mod ways;
mod write;
