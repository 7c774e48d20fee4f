//! Who may follow a folder's changes, how a stream begins and goes on, and what of them is lost (→ api part 1 §13).
//!
//! No case waits for a time to pass: the test server is told to let its events go, and of a real one, which lets them go
//! after a pause of five seconds, the next event is waited for.

use std::sync::Arc;

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::calls::Call;
use crate::runner::{Case, cases};
use crate::sharing::share;
use crate::subject::{Subject, random_word, text};

pub(crate) const CASES: &[Case] = cases![
    a_stream_begins_at_once,
    a_stream_needs_an_account_and_a_client_id,
    a_stream_is_of_a_folder_that_is_there,
    a_share_of_one_file_cannot_be_followed,
    a_shared_folder_is_followed_from_its_root,
    a_stream_shows_that_it_lives,
    at_most_seventeen_come_at_once,
    what_happens_while_one_is_away_comes_later,
    what_waits_at_an_end_comes_at_the_next_beginning,
    one_client_of_two_folders_gets_the_events_of_both_in_one,
    a_second_stream_of_a_client_goes_silent_with_the_first,
];

pub(crate) const ON_TEST_SERVER: &[Case] = cases![
    every_event_begins_the_pause_anew,
    a_stream_outlives_its_token,
    who_is_away_too_long_is_forgotten,
    a_restart_forgets_who_followed,
    events_may_be_switched_off,
    an_old_server_has_no_events,
    a_visitor_of_a_share_follows_it_only_with_an_account,
];

/// Somebody who follows a folder.
pub(crate) struct Follower<'a> {
    subject: &'a Subject,
    pub(crate) id: String,
    answer: reqwest::Response,
    /// What came and was not read yet.
    rest: String,
    windows: u32,
}

/// A random UUID.
pub(crate) fn client_id() -> String {
    let (a, b, c) = (random_word(), random_word(), random_word());
    format!("{a}-{}-4{}-8{}-{c}{}", &b[..4], &b[4..7], &a[..3], &b[..4])
}

fn call<'a>(subject: &'a Subject, uri: &str, id: &str) -> Call<'a> {
    let call = subject.get("/file/events").query(&[("uri", uri)]);
    call.header("x-cr-client-id", id)
}

impl<'a> Follower<'a> {
    /// Follows the case's folder as a new client.
    pub(crate) async fn new(subject: &'a Subject) -> Self {
        let (follower, greeting) = Self::with_id(subject, "", &client_id()).await;
        assert_eq!(greeting, "subscribed");
        follower
    }

    /// Follows a path below the case's folder; gives the first word of the stream, too.
    pub(crate) async fn with_id(subject: &'a Subject, path: &str, id: &str) -> (Self, String) {
        Self::of(subject, call(subject, &subject.at(path), id), id).await
    }

    async fn of(subject: &'a Subject, call: Call<'a>, id: &str) -> (Self, String) {
        let (asked, answer) = call.open().await;
        let kind = answer.headers().get(CONTENT_TYPE).cloned();
        if kind.is_none_or(|kind| kind != "text/event-stream;charset=utf-8") {
            panic!("{asked}: {:?}", answer.text().await);
        }
        let mut follower = Self {
            subject,
            id: id.to_owned(),
            answer,
            rest: String::new(),
            windows: 0,
        };
        let (greeting, data) = follower.frame().await.expect("a first frame");
        assert_eq!(data, "<nil>");
        (follower, greeting)
    }

    /// Closes the client's only stream, and waits until the server knows. Gives the id.
    pub(crate) async fn leave(self) -> String {
        self.leave_others(0).await
    }

    /// Closes one of two streams of the same client.
    async fn leave_one_of_two(self) {
        self.leave_others(1).await;
    }

    /// Closes the stream, and waits until the server knows that the client has `others` left.
    async fn leave_others(self, others: usize) -> String {
        let (subject, id) = (self.subject, self.id.clone());
        drop(self);
        if subject.site.test_server_behind().is_some() {
            let (site, id) = (Arc::clone(&subject.site), id.clone());
            // Not here, where the connection has yet to be closed.
            let waiting = tokio::task::spawn_blocking(move || {
                site.server().wait_for_event_streams_of(&id, others);
            });
            waiting.await.expect("the server sees it");
        } else {
            // A real server does not tell that it knows; it does before it has answered twice.
            for _ in 0..2 {
                subject.list(&subject.at("")).await.expect(0);
            }
        }
        id
    }

    /// The next frame; none at the end.
    pub(crate) async fn frame(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((frame, rest)) = self.rest.split_once("\n\n") {
                let (name, data) = frame.split_once('\n').expect("two lines");
                let part = |line: &str, key: &str| line.strip_prefix(key).map(str::to_owned);
                let (name, data) = (part(name, "event:"), part(data, "data:"));
                let frame = name.zip(data).unwrap_or_else(|| panic!("{frame:?}"));
                self.rest = rest.to_owned();
                return Some(frame);
            }
            let piece = self.answer.chunk().await.expect("a stream goes on")?;
            self.rest
                .push_str(std::str::from_utf8(&piece).expect("text"));
        }
    }

    /// The next event, once it is let go.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            match self.frame().await.expect("an open stream") {
                (name, data) if name == "event" => {
                    return serde_json::from_str(&data).expect("JSON");
                }
                (name, _) => assert_eq!(name, "keep-alive"),
            }
        }
    }

    /// Lets go what waits for a pause, where that can be told.
    pub(crate) fn let_go(&self) {
        if let Some(server) = self.subject.site.test_server_behind() {
            server.flush_events(Some(&self.id));
        }
    }

    /// Everything told of what was done since the last time, a line each: `create /a`, `rename /a /b`. Makes a folder, so
    /// that it knows where that ends.
    pub(crate) async fn told(&mut self) -> Vec<String> {
        self.told_in("").await
    }

    /// The same of somebody who follows `path` below the case's folder.
    pub(crate) async fn told_in(&mut self, path: &str) -> Vec<String> {
        self.windows += 1;
        let last = format!("/end {} {}", self.windows, &self.id[..8]);
        let at = format!("{path}{}", last.replace(' ', "%20"));
        let at = self.subject.at(at.trim_start_matches('/'));
        self.subject.create(&at, "folder").await.data();
        self.let_go();
        let mut told = Vec::new();
        loop {
            let event = self.event().await;
            if event["from"] == last.as_str() {
                return told;
            }
            told.push(line(&event));
        }
    }
}

/// An event in one line.
pub(crate) fn line(event: &Value) -> String {
    let word = |key: &str| text(&event[key]);
    format!("{} {} {}", word("type"), word("from"), word("to"))
        .trim_end()
        .to_owned()
}

async fn a_stream_begins_at_once(subject: &Subject) {
    let (_, answer) = call(subject, &subject.at(""), &client_id()).open().await;
    let header = |name: &str| answer.headers().get(name).cloned();
    assert_eq!(header("x-accel-buffering").unwrap(), "no");
    assert_eq!(header("cache-control").unwrap(), "no-cache");
    assert!(header("content-length").is_none());
    let mut answer = answer;
    let first = answer.chunk().await.unwrap().unwrap();
    assert_eq!(&*first, b"event:subscribed\ndata:<nil>\n\n");
}

async fn a_stream_needs_an_account_and_a_client_id(subject: &Subject) {
    let bare = || subject.get("/file/events");
    let uri = subject.at("");
    let query = [("uri", uri.as_str())];
    let id = client_id();
    let refused = bare()
        .query(&query)
        .anonymous()
        .header("x-cr-client-id", &id);
    refused.send().await.expect(401);
    let refused = bare().query(&query).send().await.expect(40001);
    assert_eq!(refused.json()["msg"], "Client ID is required");
    let refused = call(subject, &uri, "anybody").send().await.expect(40001);
    assert_eq!(refused.json()["msg"], "Invalid client ID");
    let refused = bare().header("x-cr-client-id", &id).send().await;
    assert_eq!(refused.expect(40001).json()["msg"], "Uri cannot be empty");
}

async fn a_stream_is_of_a_folder_that_is_there(subject: &Subject) {
    subject.put("f", b"x").await;
    for path in ["missing", "f"] {
        let refused = call(subject, &subject.at(path), &client_id()).send().await;
        let msg = refused.expect(40016).json()["msg"].clone();
        assert_eq!(msg, "Requested uri not available", "{path}");
    }
    let refused = call(subject, "cloudreve://zzzz@share", &client_id());
    let refused = refused.send().await.expect(404);
    assert_eq!(refused.json()["msg"], "Requested uri not available");
}

async fn a_share_of_one_file_cannot_be_followed(subject: &Subject) {
    subject.put("f", b"x").await;
    let id = share(subject, &subject.at("f"), json!({})).await;
    let refused = call(subject, &format!("cloudreve://{id}@share"), &client_id());
    let refused = refused.send().await.expect(403);
    assert_eq!(
        refused.json()["msg"],
        "Event subscriptions are not supported on this view"
    );
}

async fn a_shared_folder_is_followed_from_its_root(subject: &Subject) {
    subject.folders(&["d/e"]).await;
    let share = share(subject, &subject.at("d"), json!({})).await;
    let id = client_id();
    let uri = format!("cloudreve://{share}@share");
    let (mut follower, _) = Follower::of(subject, call(subject, &uri, &id), &id).await;
    subject.put("d/e/f", b"x").await;
    subject.put("beside", b"x").await;
    assert_eq!(follower.told_in("d").await, ["create /e/f"]);
}

async fn a_stream_shows_that_it_lives(subject: &Subject) {
    if let Some(server) = subject.site.test_server_behind() {
        let soon = std::time::Duration::from_millis(50);
        server.configure_events(|events| events.keep_alive = soon);
    }
    let mut follower = Follower::new(subject).await;
    let sign = ("keep-alive".to_owned(), "<nil>".to_owned());
    assert_eq!(follower.frame().await, Some(sign));
}

/// Makes the folder `to` and copies forty files into it by one request: forty events.
async fn forty(subject: &Subject, to: &str) {
    subject.folders(&[to]).await;
    let name = |n| subject.at(&format!("forty/{n:02}"));
    let uris: Vec<_> = (0..40).map(name).collect();
    let body = json!({"uris": uris, "dst": subject.at(to), "copy": true});
    subject.post("/file/move", body).send().await.expect(0);
}

async fn forty_files(subject: &Subject) {
    for n in 0..40 {
        let uri = subject.at(&format!("forty/{n:02}"));
        subject.create(&uri, "file").await.data();
    }
}

async fn at_most_seventeen_come_at_once(subject: &Subject) {
    forty_files(subject).await;
    let mut follower = Follower::new(subject).await;
    forty(subject, "to").await;
    follower.let_go();
    let mut events = vec![line(&follower.event().await)];
    for _ in 0..16 {
        events.push(line(&follower.event().await));
    }
    assert_eq!((&*events[0], &*events[1]), ("create /to", "create /to/00"));
    // The rest never comes, and nothing tells so.
    assert_eq!(follower.told().await, Vec::<String>::new());
}

async fn what_happens_while_one_is_away_comes_later(subject: &Subject) {
    let id = Follower::new(subject).await.leave().await;
    forty_files(subject).await;
    let (mut back, greeting) = Follower::with_id(subject, "", &id).await;
    assert_eq!(greeting, "resumed");
    back.let_go();
    assert_eq!(line(&back.event().await), "create /forty");
    for n in 0..16 {
        assert_eq!(line(&back.event().await), format!("create /forty/{n:02}"));
    }
    assert_eq!(back.told().await, Vec::<String>::new());
}

async fn what_waits_at_an_end_comes_at_the_next_beginning(subject: &Subject) {
    let follower = Follower::new(subject).await;
    subject.folders(&["before"]).await;
    let id = follower.leave().await;
    let (mut back, greeting) = Follower::with_id(subject, "", &id).await;
    assert_eq!(greeting, "resumed");
    // Nothing was let go here: it has been there already.
    assert_eq!(line(&back.event().await), "create /before");
}

async fn one_client_of_two_folders_gets_the_events_of_both_in_one(subject: &Subject) {
    subject.folders(&["a", "b"]).await;
    let id = client_id();
    let (of_a, _) = Follower::with_id(subject, "a", &id).await;
    let (of_b, greeting) = Follower::with_id(subject, "b", &id).await;
    assert_eq!(greeting, "subscribed", "of another folder");
    of_a.leave_one_of_two().await;
    of_b.leave().await;
    subject.folders(&["a/in a", "b/in b"]).await;
    if let Some(server) = subject.site.test_server_behind() {
        server.flush_events(Some(&id));
    }
    // They are stored after a pause: who hears of two later ones knows that it is over.
    let mut other = Follower::new(subject).await;
    other.told().await;
    other.told().await;
    let (mut back, greeting) = Follower::with_id(subject, "b", &id).await;
    assert_eq!(greeting, "resumed");
    back.let_go();
    let mut told = [line(&back.event().await), line(&back.event().await)];
    told.sort();
    assert_eq!(told, ["create /in a", "create /in b"]);
}

async fn a_second_stream_of_a_client_goes_silent_with_the_first(subject: &Subject) {
    let first = Follower::new(subject).await;
    let mut other = Follower::new(subject).await;
    let (mut second, greeting) = Follower::with_id(subject, "", &first.id).await;
    assert_eq!(greeting, "resumed");
    first.leave_one_of_two().await;
    for name in ["one", "two"] {
        subject.folders(&[name]).await;
        other.let_go();
        second.let_go();
        while line(&other.event().await) != format!("create /{name}") {}
    }
    // Both passed it by, and come with the next beginning.
    let unread = tokio::time::timeout(std::time::Duration::ZERO, second.event()).await;
    assert!(unread.is_err(), "{unread:?}");
    let id = second.leave().await;
    let (mut third, greeting) = Follower::with_id(subject, "", &id).await;
    assert_eq!(greeting, "resumed");
    third.let_go();
    assert_eq!(line(&third.event().await), "create /one");
}

async fn every_event_begins_the_pause_anew(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    let server = subject.site.server();
    for name in ["a", "b", "c"] {
        subject.folders(&[name]).await;
        server.advance_clock(std::time::Duration::from_millis(4500));
        assert!(server.waiting_events() > 0, "after {name}");
    }
    server.advance_clock(std::time::Duration::from_millis(500));
    for name in ["a", "b", "c"] {
        assert_eq!(line(&follower.event().await), format!("create /{name}"));
    }
}

async fn a_stream_outlives_its_token(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    let server = subject.site.server();
    server.advance_clock(std::time::Duration::from_secs(7200));
    subject.list(&subject.at("")).await.expect(401);
    subject.site.renew_token().await;
    assert_eq!(follower.told().await, Vec::<String>::new());
}

async fn who_is_away_too_long_is_forgotten(subject: &Subject) {
    let id = Follower::new(subject).await.leave().await;
    let server = subject.site.server();
    server.advance_clock(std::time::Duration::from_secs(14 * 86_400 + 1));
    subject.site.renew_token().await;
    let (_, greeting) = Follower::with_id(subject, "", &id).await;
    assert_eq!(greeting, "subscribed");
}

async fn a_restart_forgets_who_followed(subject: &Subject) {
    let mut follower = Follower::new(subject).await;
    let (id, server) = (follower.id.clone(), subject.site.server());
    subject.folders(&["lost"]).await;
    server.stop();
    assert!(follower.answer.chunk().await.is_err(), "a cut stream");
    server.restart().unwrap();
    let (mut back, greeting) = Follower::with_id(subject, "", &id).await;
    assert_eq!(greeting, "subscribed");
    assert_eq!(back.told().await, Vec::<String>::new());
}

async fn events_may_be_switched_off(subject: &Subject) {
    let server = subject.site.server();
    server.configure_events(|events| events.enabled = false);
    let refused = call(subject, &subject.at(""), &client_id()).send().await;
    let refused = refused.expect(40019);
    assert_eq!(refused.json()["msg"], "This feature is not enabled");
}

async fn an_old_server_has_no_events(subject: &Subject) {
    let old = vec![cloudreve_test_server::Route::Events];
    let server = subject.site.server();
    server.configure(|settings| settings.missing_routes = old);
    let refused = call(subject, &subject.at(""), &client_id()).send().await;
    assert_eq!(refused.expect_status(404).body, b"404 page not found");
}

async fn a_visitor_of_a_share_follows_it_only_with_an_account(subject: &Subject) {
    subject.folders(&["d"]).await;
    let share = share(subject, &subject.at("d"), json!({})).await;
    let uri = format!("cloudreve://{share}@share");
    let id = client_id();
    let anonymous = call(subject, &uri, &id).anonymous();
    anonymous.send().await.expect(401);
    let server = subject.site.server();
    let user = server.add_user("another@example.com", "another-password");
    let (token, _) = server.issue_tokens(&user.email);
    let visitor = call(subject, &uri, &id).bearer(&token);
    let (mut follower, _) = Follower::of(subject, visitor, &id).await;
    subject.folders(&["d/new", "beside"]).await;
    assert_eq!(follower.told_in("d").await, ["create /new"]);
}
