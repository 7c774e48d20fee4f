//! A Cloudreve V4 drive as a Linux directory.
//!
//! One crate, a house with floors: a file is a room, a folder of the same name holds its inner rooms, and a room
//! uses only rooms of a lower floor or its own inner rooms. Each room's header says what it keeps or does, what it
//! promises and what it never does. In reading order, from the ground up:
//!
//! | floor | rooms |
//! |---|---|
//! | 8 | [`commands`]: what each command does; the only room that prints |
//! | 7 | [`mount`]: builds the rooms from the ground up, waits, closes them from the top down |
//! | 6 | [`config`]: what was decided: flags, then `-o`, environment, file, as plain values for each room |
//! | 5 | [`fuse`]: the kernel's requests, translated; [`control`]: a mount's socket; [`warm`]: content fetched before anybody reads it |
//! | 4 | [`fs`]: the filesystem in POSIX verbs; knows no FUSE, no HTTP |
//! | 3 | movers, which join the gate and the keepers: [`listing`]: whole folders from a server that pages; [`read`]: bytes of an entity; [`upload`]: delivers what is staged; [`watch`]: what others change, as it is told; [`thumbnails`] for the desktop |
//! | 2 | keepers, which remember and never speak: [`accounts`] on disk, [`inodes`], [`metadata`], [`blocks`] of content in memory, [`cache`] of content on disk, [`staging`]: content that the server does not have yet, [`pins`]: what is to stay at hand |
//! | 1 | [`api`]: the gate, the only HTTP; [`cli`]: what may be typed; [`mountpoint`]: the kernel's mount table; [`systemd`] |
//! | 0 | the shared words: [`address`], [`attributes`], [`uri`], [`names`], [`model`], [`reach`], [`entity`], [`entry`], [`expiry`], [`globs`], [`secret`], [`tokens`], [`failure`]; [`argv`]; [`asker`]; [`task`]; [`crash`] |
//!
//! A read: `fuse` decodes a request and polls it once on the spot → `fs/files` finds the handle, which pinned an entity when
//! it was opened → `read` has the blocks, or sends one ranged GET for all who wait → the reply. A look at a folder: `fs`
//! answers from `metadata` while that may be believed, else `listing` asks page by page and hands out what has come.
//!
//! A write: the first one to a clean file makes a `staging::Local` over the version that its handle pinned; what is not written
//! is a hole, read from there → close(2) journals it → `upload` opens a session that names that version, sends, and looks
//! whether it is there → `fs` points the file at its new version, and the journal forgets it.
//!
//! `→ api part 1 §7.5` and the like name sections of the team's notes on the server's API; `tests/contract` holds what they
//! say as cases that run.

pub mod address;
pub mod argv;
pub mod asker;
pub mod attributes;
pub mod crash;
pub mod entity;
pub mod entry;
pub mod expiry;
pub mod failure;
pub mod globs;
pub mod model;
pub mod names;
pub mod reach;
pub mod secret;
pub mod task;
pub mod tokens;
pub mod uri;

pub mod api;
pub mod cli;
pub mod mountpoint;
pub mod systemd;

pub mod accounts;
pub mod blocks;
pub mod cache;
pub mod inodes;
pub mod metadata;
pub mod pins;
pub mod staging;

pub mod listing;
pub mod read;
pub mod thumbnails;
pub mod upload;
pub mod watch;

pub mod fs;

pub mod control;
pub mod fuse;
pub mod warm;

pub mod config;

pub mod mount;

pub mod commands;
