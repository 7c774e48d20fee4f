//! A request that was sent lives until its headers arrive.

use tokio::sync::{Notify, Semaphore};

use super::*;

/// A server that answers when told to.
async fn stuck() -> (Responder, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let server = Responder::waiting(move |_| {
        let open = Arc::clone(&open);
        Box::pin(async move {
            open.acquire().await.unwrap().forget();
            fixture("api1-list-root")
        })
    })
    .await;
    (server, gate)
}

pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("it never came true");
}

#[tokio::test]
async fn a_caller_who_leaves_takes_no_request_along() {
    let (server, gate) = stuck().await;
    let api = server.api(Credentials::Anonymous);
    let asking = api.clone();
    let caller = tokio::spawn(async move { asking.info(&my("a")).await.map(|_| ()) });
    until(|| server.seen().len() == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());

    let drained = Arc::new(Notify::new());
    let (draining, told) = (api.clone(), Arc::clone(&drained));
    let drain = tokio::spawn(async move {
        draining.drain().await;
        told.notify_one();
    });
    tokio::task::yield_now().await;
    assert!(!drain.is_finished(), "drained with a request under way");
    gate.add_permits(1);
    drained.notified().await;
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
    api.drain().await;
}

#[tokio::test]
async fn a_caller_who_waited_long_enough_is_told_and_the_request_goes_on() {
    let (server, gate) = stuck().await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_millis(200));
    let error = api.info(&my("a")).await.unwrap_err();
    assert_eq!(variant(&error), "Timeout");
    assert!(api.health().unreachable_since.is_some());
    // Not repeated either: its predecessor has not ended.
    assert_eq!(server.seen().len(), 1);
    gate.add_permits(1);
    api.drain().await;
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_link_that_hangs_collects_a_bounded_number_of_requests() {
    let (server, gate) = stuck().await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_millis(300));
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.info(&my("a")).await.map(|_| ()) })
        })
        .collect();
    for caller in callers {
        assert_eq!(variant(&caller.await.unwrap().unwrap_err()), "Timeout");
    }
    assert_eq!(server.seen().len(), 8);
    gate.add_permits(1000);
    api.drain().await;
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
}

#[tokio::test]
async fn content_is_not_hung_up_on_before_its_headers() {
    let (server, gate) = stuck().await;
    let api = server.impatient(Credentials::Anonymous, Duration::from_millis(200));
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    let error = api.content(&url, 0..10, 10).await.unwrap_err();
    assert_eq!(variant(&error), "Timeout");
    gate.add_permits(1);
    api.drain().await;
    assert_eq!(server.hangups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_storage_that_never_answers_keeps_no_content_of_others_waiting() {
    let (storage, _gate) = stuck().await;
    let server = Responder::new(|_| {
        answer(
            "206 Partial Content",
            "Content-Range: bytes 0-9/10\r\n",
            b"0123456789",
        )
    })
    .await;
    let timeout = Duration::from_millis(500);
    let api = server.impatient(Credentials::Anonymous, timeout);
    let at = |host: &Responder| Secret::new(format!("{}/file", host.address));
    let stuck: Vec<_> = (0..40)
        .map(|_| {
            let (api, url) = (api.clone(), at(&storage));
            tokio::spawn(async move { api.content(&url, 0..10, 10).await.map(|_| ()) })
        })
        .collect();
    for reader in stuck {
        reader.await.unwrap().unwrap_err();
    }
    // Nothing of the storage's is left in the way.
    tokio::time::timeout(Duration::from_secs(10), api.drain())
        .await
        .unwrap();
    let mut content = api.content(&at(&server), 0..10, 10).await.unwrap();
    assert_eq!(content.next().await.unwrap().unwrap(), "0123456789");
}

#[tokio::test]
async fn bytes_that_keep_coming_are_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .read_buf(&mut Vec::with_capacity(4096))
            .await
            .unwrap();
        // Eight pieces 60 ms apart: longer in all than anyone waits, never that long without a byte.
        for piece in fixture("api1-list-root").chunks(400) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    let options = Options {
        address: address.parse().unwrap(),
        user_agent: "test/1".into(),
        ca_file: None,
        timeout: Duration::from_millis(200),
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let api = Api::new(options, Credentials::Anonymous).unwrap();
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
}

#[tokio::test]
async fn after_the_end_nothing_more_is_sent() {
    let server = Responder::new(|_| fixture("api1-list-root")).await;
    let api = server.api(Credentials::Anonymous);
    api.close().await;
    let error = api.info(&my("a")).await.unwrap_err();
    assert_eq!(variant(&error), "Local");
    let url = Secret::new(format!("{}/c?sign=x", server.address));
    assert!(api.content(&url, 0..10, 10).await.is_err());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn what_the_server_computes_for_long_keeps_no_listing_waiting() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let server = Responder::waiting(move |seen| {
        let open = Arc::clone(&open);
        Box::pin(async move {
            if seen.target.contains("folder_summary") {
                open.acquire().await.unwrap().forget();
            }
            fixture("api1-list-root")
        })
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    for _ in 0..20 {
        let api = api.clone();
        tokio::spawn(async move { api.folder_summary(&my("a")).await.map(|_| ()) });
    }
    until(|| server.seen().len() == 2).await;
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    gate.add_permits(1000);
}

#[tokio::test]
async fn uploads_that_are_looked_for_keep_no_listing_waiting() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let server = Responder::waiting(move |seen| {
        let open = Arc::clone(&open);
        Box::pin(async move {
            if seen.target.contains("extended") {
                open.acquire().await.unwrap().forget();
            }
            fixture("api1-list-root")
        })
    })
    .await;
    let api = server.api(Credentials::Anonymous);
    for _ in 0..20 {
        let api = api.clone();
        tokio::spawn(async move { api.history(&my("a")).await.map(|_| ()) });
    }
    until(|| server.seen().len() == 20).await;
    api.list_page(&my(""), &PagePosition::First, 9)
        .await
        .unwrap();
    gate.add_permits(1000);
}
