//! Every kind of storage, as the test server plays it, from the first chunk to the whole file.

use std::future::Future;

use bytes::Bytes;
use cloudreve_test_server::{Fault, Route, Server, StoragePolicy, generated_bytes};
use futures_util::future::join_all;

use super::*;
use crate::api::NewSession;
use crate::uri::FileUri;

/// Bytes in a chunk; OneDrive takes nothing smaller.
const CHUNK: u64 = 320 << 10;

/// A session of the server's lives as long.
const SESSION_LIFE: Duration = Duration::from_secs(86_400);

/// A moment of the server's clock.
const TINY: Duration = Duration::from_secs(5);

/// Where the store tells the server by itself.
const TELLING: [StoragePolicy; 3] = [StoragePolicy::Oss, StoragePolicy::Obs, StoragePolicy::Qiniu];

/// A server whose new content goes to one kind of storage, and one upload to it.
struct World {
    server: Server,
    policy: StoragePolicy,
    api: Api,
    session: Session,
    content: Bytes,
    halt: Arc<Halt>,
    done: Mutex<Done>,
}

impl World {
    async fn new(policy: StoragePolicy, size_bytes: u64) -> Self {
        let server = Server::start(Default::default()).unwrap();
        server.set_policy(policy);
        server.configure(|settings| {
            settings.chunk_size = CHUNK;
            settings.chunk_concurrency = 3;
        });
        Self::on(server, policy, size_bytes).await
    }

    /// One chunk after the other, so that a test knows which ones are there.
    async fn in_order(policy: StoragePolicy, size_bytes: u64) -> Self {
        let mut world = Self::new(policy, size_bytes).await;
        world.session.chunk_concurrency = 1;
        world
    }

    async fn on(server: Server, policy: StoragePolicy, size_bytes: u64) -> Self {
        let api = Api::of_test_server(&server, Duration::from_secs(30));
        let content = Bytes::from(generated_bytes(7, 0..size_bytes));
        let session = open(&api, size_bytes).await;
        Self {
            server,
            policy,
            api,
            session,
            content,
            halt: Arc::default(),
            done: Mutex::default(),
        }
    }

    /// Sends what is not there yet; what is there then is remembered, as the journal does.
    async fn transfer(&self) -> Result<(), Error> {
        let done = self.done.lock().unwrap().clone();
        let note: Note = Box::new(|_| Box::pin(async {}));
        let progress = Progress::new(done, note, Arc::clone(&self.halt));
        let body = |range: Range<u64>| {
            let range = range.start as usize..range.end as usize;
            Part::from(self.content.slice(range))
        };
        let sent = transfer(&Transfer {
            api: &self.api,
            session: &self.session,
            size_bytes: self.content.len() as u64,
            body: &body,
            progress: &progress,
        })
        .await;
        *self.done.lock().unwrap() = progress.done();
        sent
    }

    /// Whether the file is whole, and can be read from where it lies.
    #[track_caller]
    fn assert_whole(&self) {
        // The longest that a storage takes to tell.
        self.server.advance_clock(TINY);
        let content = self.server.content("f");
        assert!(
            content.is_some_and(|content| content == self.content),
            "{}",
            self.policy.name()
        );
        assert_eq!(self.server.open_uploads(), 0, "{}", self.policy.name());
    }

    /// The content, as the gate reads it from where the storage has it: a range in the middle of it.
    async fn read(&self) -> Bytes {
        let uri = FileUri::parse("cloudreve://my/f").unwrap();
        let urls = self.api.urls(&[uri], None).await.unwrap();
        let url = urls.urls[0].as_ref().unwrap();
        let size = self.content.len() as u64;
        let mut content = self.api.content(url, size / 3..size, size).await.unwrap();
        let mut read = Vec::new();
        while let Some(bytes) = content.next().await.unwrap() {
            read.extend_from_slice(&bytes);
        }
        read.into()
    }

    /// The route of the requests that bring content.
    fn parts(&self) -> Route {
        match self.policy {
            StoragePolicy::Local => Route::UploadChunk,
            _ => Route::StorePart,
        }
    }
}

async fn open(api: &Api, size_bytes: u64) -> Session {
    let uri = FileUri::parse("cloudreve://my/f").unwrap();
    let over = api.info(&uri).await.ok().map(|info| info.entity);
    let new = NewSession {
        uri,
        size_bytes,
        modified: std::time::SystemTime::now(),
        over,
        metadata: BTreeMap::new(),
    };
    api.open_session(&new).await.unwrap()
}

/// Plays something for each of these kinds, all at once.
async fn each<F: Future<Output = ()>>(
    policies: impl IntoIterator<Item = StoragePolicy>,
    play: impl Fn(StoragePolicy) -> F,
) {
    join_all(policies.into_iter().map(play)).await;
}

/// All whose uploads are more than one request.
fn in_chunks() -> impl Iterator<Item = StoragePolicy> {
    let policies = StoragePolicy::ALL.into_iter();
    policies.filter(|policy| *policy != StoragePolicy::Upyun)
}

#[tokio::test]
async fn content_of_any_size_arrives_whole_as_a_new_file_and_over_an_old_one() {
    each(StoragePolicy::ALL, |policy| async move {
        for size_bytes in [1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let world = World::new(policy, size_bytes).await;
            world.transfer().await.unwrap();
            world.assert_whole();
            let end = world.content.slice(size_bytes as usize / 3..);
            assert!(world.read().await == end, "{policy:?}");
            let over = World::on(world.server, policy, size_bytes / 2 + 1).await;
            over.transfer().await.unwrap();
            over.assert_whole();
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_server_relays_goes_to_it_in_one_piece() {
    for policy in StoragePolicy::ALL {
        let server = Server::start(Default::default()).unwrap();
        server.set_policy(policy);
        server.set_relay(true);
        let world = World::on(server, policy, 3 * CHUNK).await;
        world.transfer().await.unwrap();
        world.assert_whole();
        assert_eq!(world.server.count(Route::UploadChunk), 1);
    }
}

#[tokio::test]
async fn what_a_storage_has_is_not_sent_to_it_again() {
    each(in_chunks(), |policy| async move {
        let world = World::in_order(policy, 6 * CHUNK).await;
        let fault = Fault::on(world.parts()).code(40001, "").after(2);
        let fault = match policy {
            StoragePolicy::Local | StoragePolicy::Remote => fault,
            _ => fault.status(400),
        };
        world.server.fail(fault);
        world.transfer().await.unwrap_err();
        assert_eq!(world.done.lock().unwrap().chunks.len(), 2, "{policy:?}");
        world.server.clear_faults();
        world.server.reset_counters();
        world.transfer().await.unwrap();
        world.assert_whole();
        assert_eq!(world.server.count(world.parts()), 4, "{policy:?}");
    })
    .await;
}

#[tokio::test]
async fn an_ended_session_is_known_as_such() {
    each(StoragePolicy::ALL, |policy| async move {
        let world = World::new(policy, 2 * CHUNK).await;
        world.server.advance_clock(SESSION_LIFE + TINY);
        let error = world.transfer().await.unwrap_err();
        assert!(matches!(error, Error::SessionGone), "{policy:?}: {error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_within_the_session_is_no_end_of_it() {
    each(StoragePolicy::ALL, |policy| async move {
        if matches!(policy, StoragePolicy::Local | StoragePolicy::Remote) {
            return;
        }
        let world = World::new(policy, 2 * CHUNK).await;
        world.server.fail(Fault::on(Route::StorePart).status(403));
        let error = world.transfer().await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { code: 403, .. }),
            "{policy:?}: {error:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_storage_in_trouble_is_asked_again() {
    each(in_chunks(), |policy| async move {
        let world = World::new(policy, 4 * CHUNK).await;
        // The last chunk of some is sent once: it may have done its work.
        let fault = Fault::on(world.parts()).status(503).times(1);
        world.server.fail(fault);
        world.transfer().await.unwrap();
        world.assert_whole();
    })
    .await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_a_completion() {
    let callers = [StoragePolicy::S3, StoragePolicy::Ks3, StoragePolicy::Cos];
    each(callers.into_iter().chain(TELLING), |policy| async move {
        let world = World::new(policy, 4 * CHUNK).await;
        let fault = Fault::on(Route::StoreComplete).reset_before_headers();
        world.server.fail(fault.times(1));
        let sent = world.transfer().await;
        match TELLING.contains(&policy) {
            // Only the file tells whether the server heard of it.
            true => assert!(matches!(sent, Err(Error::SessionGone)), "{sent:?}"),
            false => sent.unwrap(),
        }
        world.assert_whole();
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_complete_without_our_knowing_is_told_all_the_same() {
    let callers = [
        StoragePolicy::S3,
        StoragePolicy::Ks3,
        StoragePolicy::Cos,
        StoragePolicy::OneDrive,
    ];
    each(callers, |policy| async move {
        let world = World::new(policy, 4 * CHUNK).await;
        world
            .server
            .fail(Fault::on(Route::Callback).code(-1, "the store sleeps"));
        world.transfer().await.unwrap_err();
        world.server.clear_faults();
        // As after a crash before anything was written down.
        *world.done.lock().unwrap() = Done::default();
        world.transfer().await.unwrap();
        world.assert_whole();
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_page_is_no_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        let world = World::new(policy, 4 * CHUNK).await;
        let page = |route| Fault::on(route).html_page().times(1);
        world.server.fail(page(world.parts()));
        if !TELLING.contains(&policy) {
            world.server.fail(page(Route::Callback));
        }
        world.server.fail(page(Route::StoreComplete));
        world.transfer().await.unwrap();
        world.assert_whole();
    })
    .await;
}

#[tokio::test]
async fn an_error_that_comes_as_a_success_is_an_error() {
    let world = World::new(StoragePolicy::S3, 2 * CHUNK).await;
    let fault = Fault::on(Route::StoreComplete).error_document();
    world.server.fail(fault.times(1));
    world.transfer().await.unwrap();
    world.assert_whole();
    assert_eq!(world.server.count(Route::StoreComplete), 2);
}

#[tokio::test]
async fn a_store_that_cannot_tell_the_server_is_said_so_once() {
    each(TELLING, |policy| async move {
        let world = World::new(policy, 2 * CHUNK).await;
        world
            .server
            .configure(|settings| settings.store_calls_back = false);
        let error = world.transfer().await.unwrap_err();
        assert!(
            error.to_string().contains("could not tell the server"),
            "{error}"
        );
        assert_eq!(world.server.count(Route::StoreComplete), 1);
        let again = world.transfer().await.unwrap_err();
        assert!(matches!(again, Error::SessionGone), "{again:?}");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_session_is_gone_at_every_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        let world = World::new(policy, 2 * CHUNK).await;
        let uri = FileUri::parse("cloudreve://my/f").unwrap();
        let id = &world.session.session_id;
        // Qiniu's cannot be cancelled without an error, which comes after the deed.
        world.api.cancel_session(id, &uri).await.ok();
        let sent = world.transfer().await;
        match policy {
            // Its store takes any form that is signed, and whom it tells does not matter to it.
            StoragePolicy::Upyun => sent.unwrap(),
            _ => assert!(
                matches!(sent, Err(Error::SessionGone)),
                "{policy:?}: {sent:?}"
            ),
        }
        assert_eq!(world.server.names(""), Some(vec![]), "{policy:?}");
    })
    .await;
}

#[tokio::test]
async fn a_halted_upload_completes_nothing() {
    each(StoragePolicy::ALL, |policy| async move {
        let world = World::new(policy, 2 * CHUNK).await;
        world.halt.raise();
        world.transfer().await.unwrap_err();
        assert_eq!(world.server.count(Route::StoreComplete), 0, "{policy:?}");
        assert_eq!(world.server.count(Route::Callback), 0, "{policy:?}");
        assert_eq!(world.server.open_uploads(), 1, "{policy:?}");
    })
    .await;
}

#[tokio::test]
async fn onedrive_goes_on_where_it_says_it_is() {
    let world = World::new(StoragePolicy::OneDrive, 6 * CHUNK).await;
    let fault = Fault::on(Route::StorePart).status(400).after(4);
    world.server.fail(fault);
    world.transfer().await.unwrap_err();
    world.server.clear_faults();
    world.server.reset_counters();
    *world.done.lock().unwrap() = Done::default();
    world.transfer().await.unwrap();
    world.assert_whole();
    // The first one again, and the two that were missing.
    assert_eq!(world.server.count(Route::StorePart), 3);
}

#[tokio::test]
async fn onedrive_gets_fragments_of_its_own_measure_whatever_the_policy_says() {
    for chunk_bytes in [1, CHUNK + 1, 100 << 20] {
        let server = Server::start(Default::default()).unwrap();
        server.set_policy(StoragePolicy::OneDrive);
        server.configure(|settings| settings.chunk_size = chunk_bytes);
        let world = World::on(server, StoragePolicy::OneDrive, 3 * CHUNK + 1).await;
        world.transfer().await.unwrap();
        world.assert_whole();
    }
}

#[tokio::test]
async fn a_storage_node_that_wants_chunks_in_order_gets_them_so() {
    let world = World::new(StoragePolicy::Remote, 6 * CHUNK).await;
    world
        .server
        .configure(|settings| settings.preallocate = false);
    world.transfer().await.unwrap();
    world.assert_whole();
}

#[tokio::test]
async fn nothing_of_the_account_goes_to_a_store_and_nothing_of_a_store_into_an_error() {
    each(StoragePolicy::ALL, |policy| async move {
        let world = World::new(policy, 2 * CHUNK).await;
        world
            .server
            .fail(Fault::on(Route::StoreComplete).status(400).times(1));
        let first = world.transfer().await;
        if let Err(error) = first {
            let said = format!("{error} {error:?}");
            let secrets = world.server.secrets_issued();
            let told = secrets.iter().find(|secret| said.contains(*secret));
            assert!(told.is_none(), "{policy:?}: {said}");
            world.transfer().await.unwrap();
        }
        let stores = [Route::StorePart, Route::StoreComplete, Route::StoreStatus];
        for request in world.server.requests() {
            if !stores.contains(&request.route) {
                continue;
            }
            let ours = request
                .headers
                .iter()
                .find(|(name, _)| name.starts_with("x-cr-"));
            assert!(ours.is_none(), "{policy:?}: {ours:?}");
            let own = matches!(policy, StoragePolicy::Remote | StoragePolicy::Qiniu);
            assert_eq!(request.had_authorization(), own, "{policy:?}");
        }
    })
    .await;
}

/// A store that says the same to every request.
async fn parrot(status: &'static str, body: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let body_at = loop {
                    let mut more = [0; 4096];
                    let len = stream.read(&mut more).await.unwrap_or(0);
                    if len == 0 {
                        return;
                    }
                    head.extend_from_slice(&more[..len]);
                    if let Some(at) = head.windows(4).position(|end| end == b"\r\n\r\n") {
                        break at + 4;
                    }
                };
                let text = String::from_utf8_lossy(&head[..body_at]).to_lowercase();
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                let rest = (body_at + length).saturating_sub(head.len());
                stream.read_exact(&mut vec![0; rest]).await.ok();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    format!("http://{address}/u")
}

#[tokio::test]
async fn onedrive_that_never_gets_any_further_is_given_up() {
    let mut world = World::new(StoragePolicy::OneDrive, 2 * CHUNK).await;
    let url = parrot("202 Accepted", r#"{"nextExpectedRanges":["0-"]}"#).await;
    world.session.upload_urls = vec![url];
    let sent = tokio::time::timeout(Duration::from_secs(20), world.transfer());
    let error = sent.await.expect("an end").unwrap_err();
    assert!(matches!(error, Error::SessionGone), "{error:?}");
    assert_eq!(*world.done.lock().unwrap(), Done::default());
}
