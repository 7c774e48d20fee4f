//! A watch against the test server, which is told when to let events go.

use std::collections::BTreeMap;

use cloudreve_test_server::{Fault, Options, Route, Server};

use super::*;
use crate::api::{ChangeKind, Delete};
use crate::model::FileId;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    server: Server,
    api: Api,
    watch: Watch,
    heard: Receiver<Happening>,
}

impl World {
    /// The whole drive is followed, and the first word was heard.
    async fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        let mut world = Self::of(server, SILENCE);
        world.begins().await;
        world
    }

    fn of(server: Server, silence: Duration) -> Self {
        let api = Api::of_test_server(&server, PATIENCE);
        let (watch, heard) = Watch::new(api.clone(), my(""), silence);
        Self {
            server,
            api,
            watch,
            heard,
        }
    }

    async fn next(&mut self) -> Happening {
        let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        next.expect("something happens").expect("it is followed")
    }

    async fn begins(&mut self) {
        assert_eq!(self.next().await, Happening::Gap(Gap::Begun));
    }

    /// What the server lets go now, a line a change.
    async fn let_go(&mut self) -> Vec<String> {
        self.server.flush_events(None);
        match self.next().await {
            Happening::Changes(changes) => changes.iter().map(line).collect(),
            gap => panic!("{gap:?}"),
        }
    }

    /// Waits for the health that `is` wants; the watch tells of it to nobody.
    async fn until(&self, is: impl Fn(&Health) -> bool) -> Health {
        let until = async {
            loop {
                let health = self.watch.health();
                if is(&health) {
                    return health;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let health = tokio::time::timeout(PATIENCE, until).await;
        health.unwrap_or_else(|_| panic!("{:?}", self.watch.health()))
    }
}

fn my(path: &str) -> FileUri {
    FileUri::parse(&format!("cloudreve://my/{path}")).unwrap()
}

fn line(change: &Change) -> String {
    let to = change.to.as_ref().map(|to| format!(" {to}"));
    let kind = match change.kind {
        ChangeKind::Created => "created",
        ChangeKind::Modified => "modified",
        ChangeKind::Renamed => "renamed",
        ChangeKind::Deleted => "deleted",
    };
    let line = format!("{kind} {}{}", change.from, to.unwrap_or_default());
    line.replace("cloudreve://my", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_by_others_is_told_with_what_it_was_let_go_with() {
    let mut world = World::new().await;
    let id = world.server.put("a", "x");
    world.server.mkdir("d");
    assert_eq!(world.let_go().await, ["created /a", "created /d"]);
    world.server.put("a", "y");
    assert_eq!(world.let_go().await, ["modified /a"]);
    world.server.rename("a", "b c");
    world.server.move_into("b c", "d");
    assert_eq!(world.let_go().await, ["renamed /a /d/b%20c"]);
    world.server.remove("d/b c");
    world.server.flush_events(None);
    let deleted = Change {
        kind: ChangeKind::Deleted,
        id: FileId(id.into()),
        from: my("d/b%20c"),
        to: None,
    };
    assert_eq!(world.next().await, Happening::Changes(vec![deleted]));
    let health = world.watch.health();
    assert_eq!(
        (health.state, health.changes, health.gaps),
        (State::Subscribed, 5, 1)
    );
    assert!(health.last_sign.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_change_ourselves_is_not_told() {
    let mut world = World::new().await;
    world.server.put("old", "x");
    assert_eq!(world.let_go().await, ["created /old"]);
    let api = &world.api;
    api.create_folder(&my("d"), &BTreeMap::new()).await.unwrap();
    api.rename(&my("old"), &my("new").name().unwrap().clone())
        .await
        .unwrap();
    api.delete(&[my("new")], Delete::Trash).await.unwrap();
    assert_eq!(world.server.waiting_events(), 0);
    world.server.put("theirs", "x");
    assert_eq!(world.let_go().await, ["created /theirs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_changes_is_a_gap_too() {
    let mut world = World::new().await;
    for number in 10..25 {
        world.server.mkdir(&format!("{number}"));
    }
    assert_eq!(world.let_go().await.len(), 15, "one below is none");
    world.server.mkdir("after");
    assert_eq!(world.let_go().await, ["created /after"]);
    world.server.add_many("many", 100);
    assert_eq!(world.let_go().await.len(), 17);
    assert_eq!(world.next().await, Happening::Gap(Gap::Crowd));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_an_array_are_the_same() {
    let mut world = World::new().await;
    world.server.configure_events(|events| events.array = true);
    world.server.mkdir("a");
    world.server.mkdir("b");
    assert_eq!(world.let_go().await, ["created /a", "created /b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_gap_and_what_is_unknown_is_nothing() {
    let mut world = World::new().await;
    world
        .server
        .send_events("event:something-new\ndata:{}\n\n: and a comment\n\n");
    world
        .server
        .send_events("event:event\ndata:{\"type\":\"merge\"}\n\n");
    assert_eq!(world.next().await, Happening::Gap(Gap::Unreadable));
    world.server.mkdir("a");
    assert_eq!(world.let_go().await, ["created /a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_is_followed_by_another_of_another_client_and_a_gap() {
    let mut world = World::new().await;
    world.server.cut_events();
    world.begins().await;
    assert_eq!(world.server.event_clients().len(), 2);
    world.server.mkdir("a");
    assert_eq!(world.let_go().await, ["created /a"]);
    // What is changed here goes by the new name by now.
    let folder = my("d");
    let made = world.api.create_folder(&folder, &BTreeMap::new()).await;
    made.unwrap();
    world.server.mkdir("b");
    assert_eq!(world.let_go().await, ["created /b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_the_server_ends_goes_on_without_a_gap() {
    let mut world = World::new().await;
    world.server.end_events();
    world.server.wait_for_event_streams(0);
    world.server.mkdir("meanwhile");
    world.server.wait_for_event_streams(1);
    assert_eq!(world.let_go().await, ["created /meanwhile"]);
    assert_eq!(world.server.event_clients().len(), 1);
    assert_eq!(world.watch.health().state, State::Resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_another_stream_gets_one() {
    let mut world = World::new().await;
    world
        .server
        .send_events("event:reconnect-required\ndata:\n\n");
    world.begins().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_lost() {
    let server = Server::start(Options::default()).unwrap();
    let mut world = World::of(server, Duration::from_millis(300));
    world.begins().await;
    // It lives for as long as it shows that it does.
    let soon = Duration::from_millis(20);
    world
        .server
        .configure_events(|events| events.keep_alive = soon);
    world.begins().await;
    let first = world.watch.health().last_sign;
    let health = world.until(|health| health.last_sign > first).await;
    assert_eq!(health.state, State::Subscribed);
    world
        .server
        .configure_events(|events| events.silence = true);
    let health = world
        .until(|health| matches!(health.state, State::Lost(_)))
        .await;
    assert_eq!(health.state, State::Lost("no answer within 300ms".into()));
    world
        .server
        .configure_events(|events| events.silence = false);
    world.begins().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_end_the_server_does_not_see_is_not_muted_by_it() {
    let mut world = World::new().await;
    let unnoticed = |unnoticed| {
        move |events: &mut cloudreve_test_server::EventSettings| {
            events.unnoticed_hangups = unnoticed;
        }
    };
    world.server.configure_events(unnoticed(true));
    world
        .server
        .send_events("event:reconnect-required\ndata:\n\n");
    world.begins().await;
    world.server.mkdir("a");
    assert_eq!(world.let_go().await, ["created /a"]);
    world.server.notice_hangups();
    world.server.mkdir("b");
    assert_eq!(world.let_go().await, ["created /b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_events_is_left_alone() {
    for off in [true, false] {
        let server = Server::start(Options::default()).unwrap();
        match off {
            true => server.configure_events(|events| events.enabled = false),
            false => server.configure(|settings| settings.missing_routes = vec![Route::Events]),
        }
        let world = World::of(server, SILENCE);
        world
            .until(|health| health.state == State::Unsupported)
            .await;
        assert_eq!(world.server.count(Route::Events), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_page_and_a_server_in_trouble_are_no_streams_and_are_tried_again() {
    let server = Server::start(Options::default()).unwrap();
    server.fail(Fault::on(Route::Events).html_page().times(1));
    server.fail(Fault::on(Route::Events).status(502).times(1));
    let mut world = World::of(server, SILENCE);
    world.begins().await;
    assert_eq!(world.server.count(Route::Events), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expired_is_renewed_for_a_new_stream_and_an_open_one_goes_on() {
    let mut world = World::new().await;
    world.server.advance_clock(Duration::from_secs(7200));
    world.server.mkdir("a");
    assert_eq!(world.let_go().await, ["created /a"]);
    world.server.end_events();
    world.server.wait_for_event_streams(0);
    world.until(|health| health.state == State::Resumed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_behind_hears_of_a_gap() {
    let mut world = World::new().await;
    for _ in 0..WAITING + 2 {
        world.server.send_events("event:event\ndata:{}\n\n");
    }
    world
        .until(|health| health.gaps as usize > WAITING + 2)
        .await;
    let mut last = world.next().await;
    for _ in 0..WAITING {
        last = world.next().await;
    }
    assert_eq!(last, Happening::Gap(Gap::Behind));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_dropped_leaves_and_hangs_up_on_nothing() {
    let world = World::new().await;
    drop((world.watch, world.heard));
    let server = world.server;
    let gone = tokio::task::spawn_blocking(move || {
        server.wait_for_event_streams(0);
        server.hung_up_before_headers()
    });
    assert_eq!(gone.await.unwrap(), 0);
    let server = Server::start(Options::default()).unwrap();
    server.fail(Fault::on(Route::Events).stall());
    let world = World::of(server, SILENCE);
    let server = world.server;
    // Others come before it.
    let arrived = async {
        while server.count(Route::Events) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let arrived = tokio::time::timeout(PATIENCE, arrived).await;
    arrived.expect("events are asked for");
    drop((world.watch, world.heard));
    let closing = tokio::spawn(async move { world.api.close().await });
    assert!(!closing.is_finished(), "a request is under way");
    server.clear_faults();
    let closed = tokio::time::timeout(PATIENCE, closing).await;
    closed.expect("the request ends with its headers").unwrap();
    assert_eq!(server.hung_up_before_headers(), 0);
}

/// A gate to the server that the environment names.
fn real_server() -> Option<Api> {
    let given = |name: &str| std::env::var(format!("CLOUDREVE_TEST_{name}")).ok();
    let options = crate::api::Options {
        address: given("ADDRESS")?.parse().unwrap(),
        user_agent: "test".to_owned(),
        ca_file: None,
        timeout: PATIENCE,
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let credentials = crate::api::Credentials::Password {
        email: given("USER")?,
        password: crate::secret::Secret::new(given("PASSWORD")?),
    };
    Some(Api::new(options, credentials).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_tells_what_others_change_and_not_what_we_do() {
    let (Some(api), Some(other)) = (real_server(), real_server()) else {
        eprintln!("no real server: CLOUDREVE_TEST_ADDRESS, _USER and _PASSWORD would name one");
        return;
    };
    let root = my(&format!("watch-{:x}", getrandom::u64().unwrap()));
    other.create_folder(&root, &BTreeMap::new()).await.unwrap();
    let (watch, mut heard) = Watch::new(api.clone(), root.clone(), SILENCE);
    assert_eq!(heard.recv().await, Some(Happening::Gap(Gap::Begun)));
    let child = |name: &str| FileUri::parse(&format!("{root}/{name}")).unwrap();
    let ours = child("ours");
    api.create_folder(&ours, &BTreeMap::new()).await.unwrap();
    api.delete_one(&ours, Delete::Permanent).await.unwrap();
    let theirs = child("theirs%20%C3%A9");
    let made = other
        .create_folder(&theirs, &BTreeMap::new())
        .await
        .unwrap();
    let told = Change {
        kind: ChangeKind::Created,
        id: made.id,
        from: theirs,
        to: None,
    };
    assert_eq!(heard.recv().await, Some(Happening::Changes(vec![told])));
    assert_eq!(watch.health().state, State::Subscribed);
    drop(watch);
    other.delete_one(&root, Delete::Permanent).await.unwrap();
}
