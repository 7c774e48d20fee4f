//! What is sent: whole, of a known length, broken off only where nobody counts it, and to stores without anything of ours.

use std::collections::BTreeMap;
use std::sync::mpsc;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::hangup::until;
use super::*;
use crate::model::EntityId;

const MTIME: Duration = Duration::from_millis(1_600_000_000_123);

/// Letters, so many.
fn letters(count: usize) -> Vec<u8> {
    (0..count).map(|i| b'a' + (i % 23) as u8).collect()
}

fn part(content: &[u8]) -> Part {
    Part::from(Bytes::copy_from_slice(content))
}

fn token() -> Credentials {
    Credentials::AccessToken(Secret::new("token"))
}

fn new_session(over: Option<&str>) -> NewSession {
    NewSession {
        uri: my("u/one.bin"),
        size_bytes: 10 << 20,
        modified: SystemTime::UNIX_EPOCH + MTIME,
        over: over.map(|entity| EntityId(entity.into())),
        metadata: BTreeMap::new(),
    }
}

fn ok() -> Vec<u8> {
    fixture("api2-chunk-ok")
}

/// One connection, taken by hand.
struct Hand {
    listener: TcpListener,
    api: Api,
}

impl Hand {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            address: format!("http://{}", listener.local_addr().unwrap())
                .parse()
                .unwrap(),
            user_agent: "test/1".into(),
            ca_file: None,
            timeout: Duration::from_secs(5),
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        };
        let api = Api::new(options, token()).unwrap();
        Self { listener, api }
    }

    /// A connection, and its bytes up to the end of the head.
    async fn accept(&self) -> (TcpStream, Vec<u8>) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        (stream, bytes)
    }
}

/// How many bytes follow the head of what came.
fn body_len(bytes: &[u8]) -> usize {
    let head = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    bytes.len() - head - 4
}

#[tokio::test]
async fn content_goes_out_whole_with_its_exact_length() {
    let server = Responder::new(|_| fixture("api2-content-put-new")).await;
    let api = server.api(token());
    for size in [0, 1, (128 << 10) - 1, 128 << 10, (3 << 17) + 7, 2 << 20] {
        let content = letters(size);
        let info = api.put_content(&my("a/b.bin"), None, part(&content)).await;
        assert_eq!(&*info.unwrap().entity.0, "1osq");
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.method, "PUT");
        assert_eq!(seen.header("content-length"), Some(&*size.to_string()));
        assert_eq!(seen.header("transfer-encoding"), None);
        assert_eq!(
            seen.header("content-type"),
            Some("application/octet-stream")
        );
        assert_eq!(seen.header("authorization"), Some("Bearer token"));
        assert!(
            seen.body.as_bytes() == content,
            "{size} bytes became others"
        );
    }
    let previous = EntityId("e+1".into());
    api.put_content(&my("a b"), Some(&previous), part(b"x"))
        .await
        .unwrap();
    assert_eq!(
        server.seen().pop().unwrap().target,
        "/api/v4/file/content?uri=cloudreve%3A%2F%2Fmy%2Fa%2520b&previous=e%2B1"
    );
}

#[tokio::test]
async fn a_body_is_asked_for_in_order_and_in_small_pieces() {
    let server = Responder::new(|_| ok()).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, content) = (Arc::clone(&asked), Bytes::from(letters(300 << 10)));
    let body = Part {
        len: content.len() as u64,
        read: Arc::new(move |offset, most| {
            noted.lock().unwrap().push((offset, most));
            // Not all that was asked for.
            let end = content.len().min(offset as usize + most.min(100_000));
            Ok(content.slice(offset as usize..end))
        }),
        in_memory: false,
    };
    server.api(token()).send_chunk("s", 0, body).await.unwrap();
    let mut next = 0;
    for (offset, most) in asked.lock().unwrap().iter() {
        assert_eq!(*offset, next);
        assert!(*most <= 256 << 10);
        next += (*most).min(100_000) as u64;
    }
    assert_eq!(server.seen()[0].body.len(), 300 << 10);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_on_breaks_its_request_off() {
    type Read = fn(u64, usize) -> io::Result<Bytes>;
    let broken: [Read; 3] = [
        |_, _| Err(io::Error::other("written meanwhile")),
        |_, _| Ok(Bytes::new()),
        |_, most| Ok(Bytes::from(vec![0; most + 1])),
    ];
    for read in broken {
        let hand = Hand::new().await;
        let body = Part {
            len: 300_000,
            read: Arc::new(move |offset, most| match offset {
                0 => Ok(Bytes::from(vec![b'x'; most.min(1000)])),
                _ => read(offset, most),
            }),
            in_memory: false,
        };
        let api = hand.api.clone();
        let sending = tokio::spawn(async move { api.send_chunk("s", 0, body).await });
        let (mut stream, _) = hand.listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        // An end, or a reset: both are no whole body.
        while !matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {}
        assert!(bytes.len() < 300_000);
        let error = sending.await.unwrap().unwrap_err();
        assert_eq!(variant(&error), "Local", "{error}");
        hand.api.drain().await;
    }
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_body_breaks_it_off_at_once() {
    let hand = Hand::new().await;
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let body = Part {
        len: 300_000,
        read: Arc::new(move |offset, most| {
            if offset > 0 {
                // Until the test ends.
                let _ = wait.lock().unwrap().recv();
            }
            Ok(Bytes::from(vec![b'x'; most.min(1000)]))
        }),
        in_memory: false,
    };
    let api = hand.api.clone();
    let sending = tokio::spawn(async move { api.send_chunk("s", 0, body).await });
    let (mut stream, mut bytes) = hand.accept().await;
    sending.abort();
    while !matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {}
    assert!(body_len(&bytes) <= 1000);
    hand.api.drain().await;
    drop(go_on);
}

#[tokio::test]
async fn who_leaves_behind_a_whole_body_takes_no_request_along() {
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    let server = Responder::waiting(move |_| {
        let open = Arc::clone(&open);
        Box::pin(async move {
            open.notified().await;
            ok()
        })
    })
    .await;
    let api = server.api(token());
    let sender = api.clone();
    let sending =
        tokio::spawn(async move { sender.send_chunk("s", 0, part(&letters(500_000))).await });
    until(|| server.seen().len() == 1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    gate.notify_one();
    api.drain().await;
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_no_more_is_left_after_a_minute() {
    let hand = Hand::new().await;
    // More than all buffers between here and there.
    let body = part(&letters(32 << 20));
    let api = hand.api.clone();
    let sending = tokio::spawn(async move { api.send_chunk("s", 0, body).await });
    let began = tokio::time::Instant::now();
    let (_stream, _) = hand.accept().await;
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(variant(&error), "Transport", "{error}");
    let waited = began.elapsed();
    assert!((59..70).contains(&waited.as_secs()), "{waited:?}");
    hand.api.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_waited_for_five_minutes_and_not_hung_up_on_then() {
    let never = Arc::new(Notify::new());
    let server = Responder::waiting(move |_| {
        let never = Arc::clone(&never);
        Box::pin(async move {
            never.notified().await;
            ok()
        })
    })
    .await;
    let api = server.api(token());
    let began = tokio::time::Instant::now();
    let error = api.send_chunk("s", 0, part(b"x")).await.unwrap_err();
    assert_eq!(variant(&error), "Timeout");
    let waited = began.elapsed();
    assert!((299..310).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_keeps_moving_may_take_longer_than_anybody_waits() {
    let server = Responder::new(|_| ok()).await;
    let options = Options {
        limit_up_bytes: 1,
        ..server.options(Duration::from_secs(5))
    };
    let api = Api::new(options, token()).unwrap();
    let began = tokio::time::Instant::now();
    let content = letters(320);
    api.send_chunk("s", 0, part(&content)).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(300));
    assert!(server.seen()[0].body.as_bytes() == content);
}

#[tokio::test]
async fn uploads_share_one_limit() {
    const LIMIT: u64 = 400_000;
    let server = Responder::new(|_| ok()).await;
    let options = Options {
        limit_up_bytes: LIMIT,
        ..server.options(Duration::from_secs(5))
    };
    let api = Api::new(options, token()).unwrap();
    let content = letters(50_000);
    let send = async || api.send_chunk("s", 0, part(&content)).await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::join!(send(), send(), send(), send());
    let least = Duration::from_secs_f64(4.0 * 50_000.0 / LIMIT as f64);
    let took = began.elapsed();
    // What a late timer is forgiven.
    assert!(took > least - Duration::from_millis(20), "{took:?}");
}

#[tokio::test]
async fn a_session_is_asked_for_and_read_as_the_server_speaks() {
    let opened = async |name: &'static str, new: NewSession| {
        let server = Responder::new(move |_| fixture(name)).await;
        let session = server.api(token()).open_session(&new).await.unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!((&*seen.method, seen.path()), ("PUT", "/api/v4/file/upload"));
        (session, seen.body)
    };
    let (local, asked) = opened("api2-session-create-local", new_session(None)).await;
    assert_eq!(
        asked,
        r#"{"encryption_supported":["aes-256-ctr"],"last_modified":1600000000123,"size":10485760,"uri":"cloudreve://my/u/one.bin"}"#
    );
    assert_eq!(local.policy, "local");
    assert_eq!((local.chunk_size, local.chunk_concurrency), (4 << 20, 4));
    assert_eq!(local.expires, 1_795_563_787);
    assert!(!local.relay && local.upload_urls.is_empty());

    let mut over = new_session(Some("e0"));
    over.metadata.insert("customize:x".into(), "1".into());
    let (slave, asked) = opened("api2-session-create-slave", over).await;
    assert_eq!(
        asked,
        r#"{"encryption_supported":["aes-256-ctr"],"entity_type":"version","last_modified":1600000000123,"metadata":{"customize:x":"1"},"previous":"e0","size":10485760,"uri":"cloudreve://my/u/one.bin"}"#
    );
    assert_eq!(slave.policy, "remote");
    assert!(slave.credential.starts_with("Bearer Cr "));

    let (s3, _) = opened("api2-session-create-s3", new_session(None)).await;
    assert_eq!((s3.upload_urls.len(), s3.chunk_size), (3, 5 << 20));
    assert!(s3.complete_url.contains("uploadId=") && !s3.upload_id.is_empty());

    let (relay, _) = opened("api2-session-create-s3relay", new_session(None)).await;
    assert!(relay.relay);
    assert_eq!(relay.chunk_size, 0);
}

#[tokio::test]
async fn what_a_session_could_not_complete_with_is_refused_before_it_is_opened() {
    let server = Responder::new(|_| fixture("api2-session-create-local")).await;
    let api = server.api(token());
    let mut long = new_session(None);
    let value = "x".repeat(METADATA_VALUE_MAX_BYTES + 1);
    long.metadata.insert("customize:x".into(), value);
    let mut many = new_session(None);
    let entries = (0..257).map(|i| (format!("customize:{i}"), String::new()));
    many.metadata.extend(entries);
    for new in [long, many] {
        assert_eq!(
            variant(&api.open_session(&new).await.unwrap_err()),
            "Refused"
        );
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_session_that_nobody_waits_for_any_more_is_cancelled() {
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    let server = Responder::waiting(move |seen| {
        let open = Arc::clone(&open);
        Box::pin(async move {
            if seen.method == "DELETE" {
                return fixture("api2-session-cancel");
            }
            open.notified().await;
            fixture("api2-session-create-local")
        })
    })
    .await;
    let api = server.api(token());
    let opener = api.clone();
    let opening = tokio::spawn(async move { opener.open_session(&new_session(None)).await });
    until(|| server.seen().len() == 1).await;
    opening.abort();
    assert!(opening.await.unwrap_err().is_cancelled());
    gate.notify_one();
    api.drain().await;
    let cancelled = server.seen().pop().unwrap();
    assert_eq!(
        (&*cancelled.method, cancelled.path(), &*cancelled.body),
        (
            "DELETE",
            "/api/v4/file/upload",
            r#"{"id":"5940347c-c14f-4795-936a-8debf1c7b46e","uri":"cloudreve://my/u/one.bin"}"#
        )
    );
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cancellation_whose_answer_is_lost_is_sent_again_and_one_that_failed_is_not() {
    for (lost, sent) in [(true, 2), (false, 1)] {
        let first = if lost { Vec::new() } else { code(-1) };
        let answers = Mutex::new(vec![fixture("api2-session-cancel"), first]);
        let server =
            Responder::new(move |_| answers.lock().unwrap().pop().unwrap_or_default()).await;
        let cancelled = server.api(token()).cancel_session("s", &my("a")).await;
        assert_eq!(cancelled.is_ok(), lost);
        assert_eq!(server.seen().len(), sent);
    }
}

#[tokio::test]
async fn a_chunk_whose_token_expired_is_sent_again_whole_with_a_new_one() {
    let content = letters(300_000);
    let expected = String::from_utf8(content.clone()).unwrap();
    let server = Responder::new(move |seen| {
        if seen.path() == "/api/v4/session/token/refresh" {
            return renewed("new");
        }
        assert!(seen.body == expected);
        match seen.header("authorization") {
            Some("Bearer access-new") => ok(),
            _ => fixture("api2-chunk-bad-token"),
        }
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    api.send_chunk("a/b", 7, part(&content)).await.unwrap();
    assert_eq!(server.count("/api/v4/file/upload/a%2Fb/7"), 2);
}

#[tokio::test]
async fn a_session_is_gone_when_a_fresh_token_is_told_so_too() {
    let server = Responder::new(move |seen| match seen.path() {
        "/api/v4/session/token/refresh" => renewed("new"),
        _ => fixture("api2-chunk-bad-token"),
    })
    .await;
    let (_, credentials) = stored(tokens("old", 3600));
    let api = server.api(credentials);
    for sent in [2, 3] {
        let error = api.send_chunk("s", 0, part(b"x")).await.unwrap_err();
        assert_eq!(variant(&error), "SessionGone");
        assert_eq!(server.count("/api/v4/file/upload/s/0"), sent);
    }
    assert_eq!(server.count("/api/v4/session/token/refresh"), 1);
}

#[tokio::test]
async fn a_lock_that_seems_lost_is_believed_the_second_time() {
    let server = Responder::new(|_| fixture("api2-chunk-lock-expired")).await;
    let api = server.api(token());
    let error = api.send_chunk("s", 0, part(b"x")).await.unwrap_err();
    assert_eq!(variant(&error), "SessionGone");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_chunk_is_sent_once_where_nobody_knows_what_became_of_it() {
    for (answer, expected) in [
        (Vec::new(), "Transport"),
        (fixture("api2-chunk-out-of-order-refused"), "Trouble"),
        (fixture("api2-chunk-completion-failed"), "Trouble"),
        (fixture("api2-chunk-wrong-length"), "Refused"),
        (
            answer("413 Payload Too Large", "Content-Type: text/html\r\n", b"<"),
            "TooLarge",
        ),
    ] {
        let server = Responder::new(move |_| answer.clone()).await;
        let api = server.api(token());
        let error = api.send_chunk("s", 0, part(b"x")).await.unwrap_err();
        assert_eq!(variant(&error), expected, "{error}");
        assert_eq!(server.seen().len(), 1, "{error}");
    }
}

/// An answer with the status that was recorded with it.
fn with_status(status: &str, name: &str) -> Vec<u8> {
    answer(
        status,
        "Content-Type: application/json; charset=utf-8\r\n",
        recorded(name).as_bytes(),
    )
}

#[tokio::test]
async fn a_callback_is_sent_as_nobody_and_its_refusals_are_read() {
    let session = |policy: &str| Session {
        session_id: "id".into(),
        upload_id: String::new(),
        chunk_size: 0,
        expires: 0,
        upload_urls: Vec::new(),
        credential: String::new(),
        complete_url: String::new(),
        callback_secret: "hunter2".into(),
        mime_type: String::new(),
        upload_policy: String::new(),
        policy: policy.into(),
        relay: false,
        chunk_concurrency: 0,
        encryption: false,
        encrypt_metadata: None,
    };
    for (policy, method) in [("s3", "GET"), ("cos", "GET"), ("onedrive", "POST")] {
        let server = Responder::new(|_| fixture("api2-callback-s3")).await;
        server
            .api(token())
            .callback(&session(policy))
            .await
            .unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.method, method);
        assert_eq!(seen.target, format!("/api/v4/callback/{policy}/id/hunter2"));
        assert_eq!(seen.header("authorization"), None);
    }
    let gone = answer(
        "401 Unauthorized",
        "Content-Type: application/json\r\n",
        br#"{"code":40011,"msg":""}"#,
    );
    for (answer, expected) in [
        (gone, "SessionGone"),
        (
            with_status("400 Bad Request", "api2-callback-s3-before-complete"),
            "Trouble",
        ),
        (
            with_status("400 Bad Request", "api2-callback-s3-size-mismatch"),
            "Refused",
        ),
        (
            with_status("401 Unauthorized", "api2-callback-wrong-secret"),
            "Refused",
        ),
        (
            answer("401 Unauthorized", "Content-Type: text/html\r\n", b"<h1>"),
            "Transport",
        ),
        (Vec::new(), "Transport"),
    ] {
        let server = Responder::new(move |_| answer.clone()).await;
        let error = server
            .api(token())
            .callback(&session("s3"))
            .await
            .unwrap_err();
        assert_eq!(variant(&error), expected, "{error}");
        assert_eq!(server.seen().len(), 1, "{error}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

fn to_store(store: &Responder, method: &'static str, body: &[u8]) -> PartRequest {
    PartRequest {
        method,
        url: Secret::new(format!(
            "{}/bucket/o?X-Amz-Signature=hunter2",
            store.address
        )),
        headers: vec![
            ("Content-Range", Secret::new("bytes 0-3/4")),
            ("Authorization", Secret::new("UpToken t")),
        ],
        body: part(body),
    }
}

#[tokio::test]
async fn a_store_gets_nothing_of_ours_and_any_status_of_it_is_an_answer() {
    let store = Responder::new(|seen| match seen.method.as_str() {
        "PUT" => answer("200 OK", "ETag: \"e-1\"\r\n", b""),
        "POST" => answer("429 Too Many Requests", "Retry-After: 7\r\n", b"<Error/>"),
        _ => answer(
            "307 Temporary Redirect",
            "Location: http://127.0.0.1:1/\r\n",
            b"",
        ),
    })
    .await;
    let server = Responder::new(|_| ok()).await;
    let api = server.api(token());
    let put = api
        .send_part(to_store(&store, "PUT", b"1234"))
        .await
        .unwrap();
    assert_eq!((put.status, put.etag.as_deref()), (200, Some("\"e-1\"")));
    let post = api.send_part(to_store(&store, "POST", b"")).await.unwrap();
    assert_eq!((post.status, &*post.body), (429, &b"<Error/>"[..]));
    assert_eq!(post.retry_after, Some(Duration::from_secs(7)));
    let get = api.send_part(to_store(&store, "GET", b"")).await.unwrap();
    assert_eq!(get.status, 307);

    let headers = |seen: &Seen| seen.headers.keys().cloned().collect::<Vec<_>>().join(" ");
    let seen = store.seen();
    let usual = "accept authorization content-length content-range host user-agent";
    assert_eq!(headers(&seen[0]), usual);
    assert_eq!(headers(&seen[1]), usual);
    assert_eq!(headers(&seen[2]), usual.replace("content-length ", ""));
    assert_eq!(seen[0].header("authorization"), Some("UpToken t"));
    assert_eq!(
        (&*seen[0].body, seen[1].header("content-length")),
        ("1234", Some("0"))
    );
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn of_a_stores_answer_no_more_than_its_beginning_is_kept() {
    let store = Responder::new(|_| answer("400 Bad Request", "", &letters(200_000))).await;
    let api = store.api(token());
    let told = api.send_part(to_store(&store, "PUT", b"x")).await.unwrap();
    assert!(told.body == letters(64 << 10));
    api.drain().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_named_without_what_signs_its_url() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let server = Responder::new(|_| ok()).await;
    let api = server.api(token());
    for url in [
        format!("http://{address}/o?X-Amz-Signature=hunter2"),
        "hunter2".into(),
        "ftp://h/hunter2".into(),
    ] {
        let mut request = to_store(&server, "PUT", b"x");
        request.url = Secret::new(url);
        let error = api.send_part(request).await.unwrap_err();
        assert_eq!(variant(&error), "Transport");
        assert!(
            !format!("{error:?} {error}").contains("hunter2"),
            "{error:?}"
        );
    }
    assert_eq!(api.health().unreachable_since, None);
}

#[tokio::test]
async fn after_the_end_no_content_is_sent() {
    let server = Responder::new(|_| ok()).await;
    let api = server.api(token());
    api.close().await;
    let error = api.send_chunk("s", 0, part(b"x")).await.unwrap_err();
    assert_eq!(variant(&error), "Local");
    let error = api
        .send_part(to_store(&server, "PUT", b"x"))
        .await
        .unwrap_err();
    assert_eq!(variant(&error), "Local");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn whoever_is_told_of_a_session_has_it() {
    // The answer is there before anybody waits for it, and is taken all the same.
    let server = Responder::new(|_| fixture("api2-session-create-local")).await;
    let api = server.api(token());
    let (tell, told) = oneshot::channel();
    let opener = api.clone();
    tokio::spawn(async move {
        let session = opener.open_session(&new_session(None)).await.unwrap();
        tell.send(session).unwrap();
    });
    let session = told.await.unwrap();
    api.drain().await;
    assert_eq!(session.policy, "local");
    assert_eq!(server.seen().len(), 1, "it was cancelled");
}
