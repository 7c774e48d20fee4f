//! Reading through the gate from the test server.

use cloudreve_test_server::{Fault, Route, Server, ShareOptions, Store, generated_bytes};

use super::*;
use crate::model::FileInfo;

/// A drive on a server with one file on it, `f`, and our account there.
struct Drive {
    server: Server,
    api: Api,
    reader: Arc<Reader>,
    file: FileInfo,
}

const SEED: u64 = 7;

impl Drive {
    async fn new(size: u64, timeout: Duration) -> Self {
        let server = Server::start(Default::default()).unwrap();
        server.put_generated("f", size, SEED);
        let api = Api::of_test_server(&server, timeout);
        let options = Options {
            memory_bytes: 4 * M,
            download: Download::Direct,
            timeout,
        };
        let file = FileUri::parse("cloudreve://my/f").unwrap();
        let file = api.info(&file).await.unwrap();
        let reader = Reader::new(api.clone(), crate::cache::Cache::off(), options);
        Self {
            server,
            api,
            reader,
            file,
        }
    }

    fn open(&self, uri: &FileUri) -> Stream {
        let uri = uri.clone();
        self.reader.open(Source {
            file: self.file.id.clone(),
            entity: self.file.entity.clone(),
            size_bytes: self.file.size_bytes,
            locate: Arc::new(move || uri.clone()),
        })
    }
}

/// Reads a file of the server's and compares; whether bytes came.
async fn try_generated(stream: &Stream, offset: u64, size_bytes: u64) -> bool {
    let end = (offset + size_bytes).min(stream.source.size_bytes);
    match stream.read(offset, size_bytes as u32).await {
        Ok(read) => {
            let right = generated_bytes(SEED, offset.min(end)..end);
            assert!(read == right, "wrong bytes at {offset}");
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn eight_readers_through_the_gate_get_the_servers_bytes() {
    let drive = Drive::new(8 * M + 123, TIMEOUT).await;
    let mut readers = JoinSet::new();
    for number in 0..8 {
        let stream = drive.open(&drive.file.uri);
        readers.spawn(async move {
            let pieces = stream.source.size_bytes.div_ceil(128 * K);
            for i in 0..pieces {
                let backwards = number % 2 == 1;
                let piece = if backwards { pieces - 1 - i } else { i };
                assert!(try_generated(&stream, piece * 128 * K, 128 * K).await);
            }
        });
    }
    readers.join_all().await;
}

#[tokio::test]
async fn a_server_and_a_network_gone_bad_give_right_bytes_or_an_error() {
    let drive = Drive::new(4 * M, Duration::from_secs(3)).await;
    let bad = || Fault::on(Route::Content);
    let faults = [
        bad().truncate_after(70_000),
        bad().reset_after(100_000),
        bad().ignore_range(),
        bad().wrong_range(),
        bad().html_page(),
        bad().short_content(),
        bad().code(40005, "signature expired"),
        bad().reset_before_headers(),
    ];
    for (fault, seed) in faults.into_iter().zip(1..) {
        drive.server.fail(fault.with_probability(0.1, seed));
    }
    let mut readers = JoinSet::new();
    for number in 1..=4 {
        let stream = drive.open(&drive.file.uri);
        readers.spawn(async move {
            let mut seed = number;
            for _ in 0..40 {
                let at = random(&mut seed, 4 * M);
                let size = random(&mut seed, 300_000);
                try_generated(&stream, at, size).await;
            }
        });
    }
    readers.join_all().await;
    drive.server.clear_faults();
    assert!(try_generated(&drive.open(&drive.file.uri), 0, M).await);
}

#[tokio::test]
async fn a_store_that_wants_to_be_left_alone_longer_than_anyone_waits_is_left_alone() {
    let drive = Drive::new(M, TIMEOUT).await;
    let busy = Fault::on(Route::Content).status(429);
    drive.server.fail(busy.retry_after(Duration::from_secs(60)));
    let begun = Instant::now();
    assert!(!try_generated(&drive.open(&drive.file.uri), 0, 4096).await);
    assert!(begun.elapsed() < TIMEOUT / 2, "it was waited for in vain");
    assert_eq!(drive.server.count(Route::Content), 1);
}

#[tokio::test]
async fn a_reader_keeps_the_version_it_opened_past_the_end_of_its_url() {
    let drive = Drive::new(8 * M, TIMEOUT).await;
    let stream = drive.open(&drive.file.uri);
    assert!(try_generated(&stream, 6 * M, 4096).await);
    drive.server.put("f", b"new".to_vec());
    drive.server.rename("f", "g");
    drive.server.advance_clock(Duration::from_secs(7200));
    // Any answer tells the gate what time it is there.
    drive.api.ping().await.unwrap();
    assert!(try_generated(&stream, 0, 4096).await);
    assert!(drive.server.count(Route::Url) >= 2);
}

#[tokio::test]
async fn a_whole_file_of_a_share_is_one_download() {
    let drive = Drive::new(2 * M, TIMEOUT).await;
    let share = drive.server.share(
        "f",
        ShareOptions {
            downloads: Some(5),
            ..ShareOptions::default()
        },
    );
    let uri = FileUri::parse(&format!("cloudreve://{share}@share/f")).unwrap();
    let (one, two) = (drive.open(&uri), drive.open(&uri));
    for at in (0..16).map(|i| i * 128 * K) {
        assert!(try_generated(&one, at, 128 * K).await);
        assert!(try_generated(&two, 2 * M - 128 * K - at, 128 * K).await);
    }
    assert_eq!(drive.server.downloads_left(&share), Some(4));
}

#[tokio::test]
async fn wherever_the_bytes_lie_they_are_right() {
    let drive = Drive::new(64 * M, TIMEOUT).await;
    let change = |store, ranges_as_200, site_url: Option<&str>| {
        drive.server.configure(|settings| {
            settings.store = store;
            settings.store_ranges_as_200 = ranges_as_200;
        });
        drive.server.set_site_url(site_url);
    };
    let mut at = 0;
    for (store, ranges_as_200, site_url) in [
        (Store::Own, false, None),
        // What an installation gives out whose site URL was never set.
        (Store::Own, false, Some("http://localhost:1")),
        (Store::Redirect, false, None),
        (Store::Direct, false, None),
        (Store::Direct, true, None),
    ] {
        change(store, ranges_as_200, site_url);
        // The links of before are too old now, so that a new one is asked for.
        drive.server.advance_clock(Duration::from_secs(7200));
        drive.api.ping().await.unwrap();
        let stream = drive.open(&drive.file.uri);
        assert!(try_generated(&stream, at, 100_000).await, "{store:?}");
        at += 10 * M;
    }
    assert_eq!(drive.server.count(Route::Url), 5);
}

#[tokio::test]
async fn reads_that_are_killed_never_hang_up_on_the_server() {
    let drive = Drive::new(64 * M, TIMEOUT).await;
    drive.server.set_latency(Duration::from_millis(10));
    let mut seed = 1;
    for _ in 0..100 {
        let stream = drive.open(&drive.file.uri);
        let at = random(&mut seed, 64 * M);
        let patience = Duration::from_millis(random(&mut seed, 15));
        // Killed or not, both are meant.
        let _ = tokio::time::timeout(patience, try_generated(&stream, at, 4096)).await;
    }
    drop(drive.reader);
    drive.api.drain().await;
    assert_eq!(drive.server.hung_up_before_headers(), 0);
}
