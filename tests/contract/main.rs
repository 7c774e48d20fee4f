//! What we believe of the server, one case a belief.
//!
//! Every case speaks raw HTTP and knows nothing of the program's own rooms, so that what it proves is the wire. The
//! cases run against the test server always, and against a real one where `CLOUDREVE_TEST_ADDRESS`,
//! `CLOUDREVE_TEST_USER` and `CLOUDREVE_TEST_PASSWORD` name it. A case that needs what only the test server can do,
//! such as a clock to turn, says so by its table (`ON_TEST_SERVER`), and the last lines tell how many ran against what.
//!
//! On a real server a case writes below one folder of its own, `contract-…`, and removes it at its end with all it
//! made; a run that is killed leaves its folders. Beside that the cases sign in, and out again, and consent to the
//! desktop client that every install has, with all its scopes. They touch nothing else.
//!
//! Arguments: `--list` names the cases; any other word runs those whose name contains it.

mod account;
mod calls;
mod content;
mod encryption;
mod entities;
mod envelope;
mod events;
mod followers;
mod info;
mod kinds;
mod links;
mod listing;
mod metadata;
mod mutations;
mod names;
mod oauth;
mod others;
mod policies;
mod reply;
mod roots;
mod runner;
mod shares;
mod sharing;
mod shortcuts;
mod sign_in;
mod stores;
mod subject;
mod tokens;
mod trash;
mod uploads;
mod uris;

use std::process::ExitCode;

/// The beliefs that every server must hold.
const ANYWHERE: &[&[runner::Case]] = &[
    envelope::CASES,
    sign_in::CASES,
    tokens::CASES,
    uris::CASES,
    roots::CASES,
    kinds::CASES,
    names::CASES,
    listing::CASES,
    info::CASES,
    entities::CASES,
    links::CASES,
    content::CASES,
    mutations::CASES,
    metadata::CASES,
    trash::CASES,
    sharing::CASES,
    shares::CASES,
    shortcuts::CASES,
    events::CASES,
    followers::CASES,
    uploads::CASES,
    policies::CASES,
    encryption::CASES,
    account::CASES,
    oauth::CASES,
];

/// The beliefs that need a server whose clock, users and settings are ours.
const ON_TEST_SERVER: &[&[runner::Case]] = &[
    sign_in::ON_TEST_SERVER,
    tokens::ON_TEST_SERVER,
    names::ON_TEST_SERVER,
    listing::ON_TEST_SERVER,
    links::ON_TEST_SERVER,
    mutations::ON_TEST_SERVER,
    shares::ON_TEST_SERVER,
    followers::ON_TEST_SERVER,
    uploads::ON_TEST_SERVER,
    oauth::ON_TEST_SERVER,
    others::ON_TEST_SERVER,
    policies::ON_TEST_SERVER,
    encryption::ON_TEST_SERVER,
    stores::ON_TEST_SERVER,
];

fn main() -> ExitCode {
    runner::run(ANYWHERE, ON_TEST_SERVER)
}
