//! A Cloudreve V4 on loopback, for the tests, the demo and the benchmarks of cloudreve-fuse.
//!
//! It answers as a community 4.18.0 on SQLite, with a local storage policy or, if a test says so, with any other and the
//! store behind it: same routes, envelope, codes, limits,
//! signatures, expiries and bugs. What it imitates is described in the API contract; "→ api part 1 §7.5" in a
//! comment points there. Where a real server differs, this one is wrong.
//!
//! Everything lives in memory and ends with the value:
//!
//! ```
//! use cloudreve_test_server::{Fault, Options, Route, Server};
//!
//! let server = Server::start(Options::default()).unwrap();
//! server.put("docs/a.txt", b"some content".to_vec());
//! server.fail(Fault::on(Route::List).status(503).times(2));
//! println!("{} {}", server.address(), server.user().email);
//! ```
//!
//! Rooms, from the bottom: `clock`, `ids`, `cipher`, `content`, `uri`, `reply`, `sign`, `policy` (values) · `drive`, `listing`,
//! `store`, `hub` (files, pages of them, what lies behind the server, and who follows them) · `site` (all state), `locate`,
//! `view`, `presign`, `events` (URIs, JSON objects, URLs of stores, what is told of a change) · `routes` (one handler a route)
//! · `stream`, `serve` (connections and faults) · `server`, `seed`, `people` (the face).

mod cipher;
mod clock;
mod content;
mod drive;
mod events;
mod faults;
mod hub;
mod ids;
mod line;
mod listing;
mod locate;
mod log;
mod options;
mod people;
mod policy;
mod presign;
mod reply;
mod route;
mod routes;
mod seed;
mod serve;
mod server;
mod sign;
mod site;
mod store;
mod stream;
mod trace;
mod uri;
mod view;

pub use content::generated_bytes;
pub use faults::Fault;
pub use log::LoggedRequest;
pub use options::{
    Collation, EventSettings, Options, Settings, ShareOptions, Store, User, View, Wedge,
};
pub use policy::StoragePolicy;
pub use route::Route;
pub use server::Server;
