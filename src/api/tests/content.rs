//! What is content, and what only looks like it.

use super::*;

const TEN: &[u8] = b"0123456789";

/// Content of ten bytes, asked for in `range`, answered so.
async fn read(range: std::ops::Range<u64>, answer: Vec<u8>) -> Result<Vec<u8>, Error> {
    let (server, api) = answering(answer).await;
    read_from(&server, &api, range).await
}

/// A server that gives one answer, and the way to it.
async fn answering(answer: Vec<u8>) -> (Responder, Api) {
    let server = Responder::new(move |_| answer.clone()).await;
    // Some answers are asked for again until patience ends; all others come at once, on a busy machine nearly so.
    let api = server.impatient(Credentials::Anonymous, Duration::from_secs(4));
    (server, api)
}

async fn read_from(
    server: &Responder,
    api: &Api,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, Error> {
    let path = "api/v4/file/content/1osq/0/b.bin?sign=x";
    let url = Secret::new(format!("{}/{path}", server.address));
    whole(api.content(&url, range, 10).await?).await
}

async fn whole(mut content: Content) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = content.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn part(status: &str, range: &str, body: &[u8]) -> Vec<u8> {
    answer(status, &format!("Content-Range: bytes {range}\r\n"), body)
}

#[tokio::test]
async fn content_is_what_says_so_in_range_and_length() {
    for (range, answer) in [
        (2..5, part("206 Partial Content", "2-4/10", b"234")),
        (2..5, part("200 OK", "2-4/10", b"234")),
        (2..5, part("206 Partial Content", "2-4/*", b"234")),
        (0..10, answer("200 OK", "", TEN)),
        (0..10, answer("200 OK", "Content-Type: text/html\r\n", TEN)),
        (
            0..10,
            answer(
                "200 OK",
                "Content-Type: application/json\r\nEtag: \"1osq\"\r\n",
                TEN,
            ),
        ),
        (0..4, answer("200 OK", "", TEN)),
    ] {
        let expected = TEN[range.start as usize..range.end as usize].to_vec();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(read(range, answer).await.unwrap(), expected, "{text}");
    }
}

#[tokio::test]
async fn nothing_else_is_content() {
    let envelope = |code: i64| {
        let body = format!(r#"{{"code":{code},"msg":"m"}}"#);
        let headers = "Content-Type: application/json\r\nCache-Control: private, no-cache\r\n";
        answer("200 OK", headers, body.as_bytes())
    };
    let page = "Content-Type: text/html\r\n";
    let cases = [
        (
            2..5,
            part("206 Partial Content", "3-5/10", b"345"),
            "Transport",
        ),
        (
            2..5,
            part("206 Partial Content", "2-4/11", b"234"),
            "Transport",
        ),
        (
            2..5,
            part("206 Partial Content", "2-3/10", b"23"),
            "Transport",
        ),
        (
            2..5,
            part("206 Partial Content", "2-4/10", b"2345"),
            "Transport",
        ),
        (
            2..5,
            part("206 Partial Content", "garbage", b"234"),
            "Transport",
        ),
        (2..5, answer("206 Partial Content", "", b"234"), "Transport"),
        (2..5, answer("200 OK", "", TEN), "Transport"),
        (0..10, answer("200 OK", page, b"<html>portal"), "Transport"),
        (
            0..10,
            answer("200 OK", "Content-Encoding: gzip\r\n", TEN),
            "Transport",
        ),
        (0..10, envelope(40005), "UrlExpired"),
        (2..5, envelope(40005), "UrlExpired"),
        (2..5, envelope(40071), "UrlExpired"),
        (2..5, envelope(40077), "EntityGone"),
        (2..5, envelope(50001), "Trouble"),
        (
            2..5,
            answer("200 OK", "Content-Type: application/json\r\n", b"{}"),
            "Transport",
        ),
        (
            2..5,
            answer("404 Not Found", "Content-Type: text/plain\r\n", b"gone"),
            "Refused",
        ),
        (
            2..5,
            answer(
                "416 Range Not Satisfiable",
                "Content-Range: bytes */10\r\n",
                b"",
            ),
            "Refused",
        ),
        (2..5, answer("403 Forbidden", page, b"<h1>"), "Transport"),
        (2..5, answer("502 Bad Gateway", page, b"<h1>"), "Trouble"),
        (
            2..5,
            answer("429 Too Many Requests", "Retry-After: 99\r\n", b""),
            "Trouble",
        ),
        (2..5, answer("304 Not Modified", "", b""), "Transport"),
        (8..11, answer("200 OK", "", b""), "Refused"),
        (3..3, answer("200 OK", "", b""), "Refused"),
    ];
    // A way is long in the making, and holds up whoever waits for an answer meanwhile.
    let mut made = Vec::new();
    for (range, answer, expected) in cases {
        let text = String::from_utf8_lossy(&answer).into_owned();
        made.push((range, answering(answer).await, expected, text));
    }
    let checks = made
        .into_iter()
        .map(|(range, (server, api), expected, text)| async move {
            let error = read_from(&server, &api, range).await.unwrap_err();
            assert_eq!(variant(&error), expected, "{error}: {text}");
        });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn an_envelope_as_long_as_the_content_is_not_the_content() {
    let body = br#"{"code":40005,"msg":"signature expired"}"#;
    let size = body.len() as u64;
    let headers = "Content-Type: application/json\r\nCache-Control: private, no-cache\r\n";
    let server = Responder::new(move |_| answer("200 OK", headers, body)).await;
    let api = server.api(Credentials::Anonymous);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let error = api.content(&url, 0..size, size).await.unwrap_err();
    assert_eq!(variant(&error), "UrlExpired");
}

#[tokio::test]
async fn half_a_body_is_an_error_after_its_good_bytes() {
    let mut cut = part("206 Partial Content", "0-9/10", TEN);
    cut.truncate(cut.len() - 4);
    let server = Responder::new(move |_| cut.clone()).await;
    let api = server.api(Credentials::Anonymous);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let mut content = api.content(&url, 0..10, 10).await.unwrap();
    assert_eq!(content.next().await.unwrap().unwrap(), "012345");
    assert_eq!(variant(&content.next().await.unwrap_err()), "Transport");
}

#[tokio::test]
async fn a_body_that_stops_is_waited_for_no_longer_than_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/c?sign=x", listener.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .read_buf(&mut Vec::with_capacity(4096))
            .await
            .unwrap();
        let answer = part("206 Partial Content", "0-9/10", TEN);
        stream.write_all(&answer[..answer.len() - 4]).await.unwrap();
        stream
    });
    let server = Responder::new(|_| html()).await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_millis(200));
    let mut content = api.content(&Secret::new(url), 0..10, 10).await.unwrap();
    assert!(content.next().await.unwrap().is_some());
    assert_eq!(variant(&content.next().await.unwrap_err()), "Timeout");
    drop(held.await.unwrap());
}

#[tokio::test]
async fn redirects_are_followed_to_the_store_without_credentials() {
    let store = Responder::new(|seen| match seen.path() {
        "/gone" => answer("403 Forbidden", "Content-Type: text/html\r\n", b"<Error/>"),
        _ => part("206 Partial Content", "2-4/10", b"234"),
    })
    .await;
    let (bucket, gone) = (
        format!("{}/bucket?sig=1", store.address),
        format!("{}/gone", store.address),
    );
    let server = Responder::new(move |seen| match seen.path() {
        "/c" => answer("302 Found", &format!("Location: {bucket}\r\n"), b""),
        "/old" => answer("302 Found", &format!("Location: {gone}\r\n"), b""),
        _ => answer("302 Found", "Location: /loop\r\n", b""),
    })
    .await;
    let signed_in = || stored(tokens("good", 3600)).1;
    let api = server.api(signed_in());
    let url = |path: &str| Secret::new(format!("{}/{path}", server.address));
    let content = api.content(&url("c"), 2..5, 10).await.unwrap();
    assert_eq!(whole(content).await.unwrap(), b"234");
    let error = api.content(&url("old"), 2..5, 10).await.unwrap_err();
    assert_eq!(variant(&error), "UrlExpired");
    // That is tried again, so with less patience.
    let api = server.impatient(signed_in(), Duration::from_secs(2));
    let error = api.content(&url("loop"), 2..5, 10).await.unwrap_err();
    assert_eq!(variant(&error), "Transport");
    for seen in server.seen().iter().chain(&store.seen()) {
        assert_eq!(seen.header("authorization"), None);
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert_eq!(seen.header("range"), Some("bytes=2-4"));
        assert_eq!(seen.header("user-agent"), Some("test/1"));
        assert!(seen.headers.keys().all(|name| !name.starts_with("if-")));
    }
}

#[tokio::test]
async fn trouble_before_the_first_byte_is_waited_out() {
    let tries = AtomicUsize::new(0);
    let server = Responder::new(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => answer("502 Bad Gateway", "Content-Type: text/html\r\n", b"<h1>"),
        1 => b"HTTP/1.1 200".to_vec(),
        _ => part("206 Partial Content", "2-4/10", b"234"),
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let content = api.content(&url, 2..5, 10).await.unwrap();
    assert_eq!(whole(content).await.unwrap(), b"234");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_said_at_once() {
    let server = Responder::new(|_| html()).await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_secs(60));
    // Nobody listens on the discard port; another origin than the server's.
    let url = Secret::new("http://127.0.0.1:9/api/v4/file/content/e/0/n?sign=x");
    let error = api.content(&url, 0..5, 10).await.unwrap_err();
    assert_eq!(variant(&error), "Transport");
    assert_eq!(api.health().requests, 1);
}

#[tokio::test]
async fn content_that_cannot_be_had_shows_in_the_health() {
    let server = Responder::new(|_| answer("403 Forbidden", "", b"")).await;
    let api = server.api(Credentials::Anonymous);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let error = api.content(&url, 0..5, 10).await.unwrap_err();
    let health = api.health();
    assert_eq!(health.last_error, Some(error.to_string()));
    assert_eq!(health.unreachable_since, None);
}

#[tokio::test]
async fn a_limit_is_kept_by_all_bodies_together_and_none_of_them_seems_to_stall() {
    const LIMIT: u64 = 40;
    let server = Responder::new(|_| answer("200 OK", "", TEN)).await;
    // One that waited for the three before it would be silent for three quarters of a second.
    let timeout = Duration::from_millis(500);
    let api = server.limited(Credentials::Anonymous, timeout, LIMIT);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let began = tokio::time::Instant::now();
    let read = async || {
        let mut content = api.content(&url, 0..10, 10).await.unwrap();
        let (mut bytes, mut silent_since) = (Vec::new(), tokio::time::Instant::now());
        while let Some(piece) = content.next().await.unwrap() {
            let silence = silent_since.elapsed();
            assert!(silence < timeout, "silent for {silence:?}");
            silent_since = tokio::time::Instant::now();
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes, TEN);
    };
    tokio::join!(read(), read(), read(), read());
    let least = Duration::from_secs_f64(40.0 / LIMIT as f64);
    let took = began.elapsed();
    // What a late timer is forgiven.
    assert!(took > least - Duration::from_millis(20), "{took:?}");
}

#[tokio::test]
async fn a_piece_that_is_waited_for_in_vain_is_there_for_the_next_who_waits() {
    let server = Responder::new(|_| answer("200 OK", "", TEN)).await;
    let api = server.limited(Credentials::Anonymous, Duration::from_secs(5), 50);
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let mut content = api.content(&url, 0..10, 10).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        // Less than one of its bytes takes.
        let a_moment = Duration::from_millis(3);
        match tokio::time::timeout(a_moment, content.next()).await {
            Ok(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
            Ok(end) => break assert!(end.unwrap().is_none()),
            Err(_) => {}
        }
    }
    assert_eq!(bytes, TEN);
}
