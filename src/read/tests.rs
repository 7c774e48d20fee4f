//! Reading over an origin of functions: a content of known bytes, behind a network that does what the test says.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt, future, stream};
use tokio::sync::Semaphore;

use super::*;
use crate::secret::Secret;

mod kept;
mod served;
mod sweeps;

const B: u64 = BLOCK_SIZE_BYTES;
const K: u64 = 1024;
const M: u64 = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);
const LATENCY: Duration = Duration::from_millis(50);
const CHUNK: u64 = 10_000;

/// What the next answer to a request for content does instead of what it should.
#[derive(Debug, Clone)]
enum Mishap {
    Refuse(Error),
    CutAfter(u64),
    EndAfter(u64),
    StallAfter(u64),
    Hang,
}

/// The other side.
struct World {
    clock: AtomicU64,
    signed: AtomicUsize,
    /// Of those, made anew.
    fresh: AtomicUsize,
    /// What becomes of the next requests for a URL.
    sign_answers: Mutex<VecDeque<Result<(), Error>>>,
    places: Mutex<Vec<FileUri>>,
    /// How many files each batch asked for.
    batches: Mutex<Vec<usize>>,
    /// What becomes of the next batches.
    batch_answers: Mutex<VecDeque<Result<(), Error>>>,
    /// The URL that a batch gives for a file, by its name.
    batch_url: fn(&str) -> Option<String>,
    life: Option<Duration>,
    url: String,
    /// What was asked: URL and range.
    requests: Mutex<Vec<(String, Range<u64>)>>,
    faults: Mutex<VecDeque<Mishap>>,
    /// Hosts that do not answer.
    dead: Option<&'static str>,
    /// A host that says nothing of what lies beyond the first mebibyte.
    silent: Option<&'static str>,
    /// Bytes that left, over all bodies.
    sent_bytes: Arc<AtomicU64>,
    /// Answers that may leave.
    gate: Semaphore,
}

impl World {
    fn new() -> Self {
        Self {
            clock: AtomicU64::new(1_000_000),
            signed: AtomicUsize::new(0),
            fresh: AtomicUsize::new(0),
            sign_answers: Mutex::default(),
            places: Mutex::default(),
            batches: Mutex::default(),
            batch_answers: Mutex::default(),
            batch_url: |name| Some(format!("https://h/api/v4/file/content/{name}/0/f?sign=b")),
            life: Some(Duration::from_secs(3600)),
            url: "https://h/api/v4/file/content/e/0/f?sign=".to_owned(),
            requests: Mutex::default(),
            faults: Mutex::default(),
            dead: None,
            silent: None,
            sent_bytes: Arc::default(),
            gate: Semaphore::new(1_000_000),
        }
    }

    fn with_faults(faults: impl IntoIterator<Item = Mishap>) -> Arc<Self> {
        let world = Self::new();
        world.faults.lock().unwrap().extend(faults);
        Arc::new(world)
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock.load(Ordering::Relaxed))
    }

    fn reader(self: &Arc<Self>, memory_bytes: u64) -> Arc<Reader> {
        self.reader_over(&Cache::off(), memory_bytes, TIMEOUT)
    }

    fn reader_over(
        self: &Arc<Self>,
        cache: &Arc<Cache>,
        memory_bytes: u64,
        timeout: Duration,
    ) -> Arc<Reader> {
        let (clock, sign, content) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let sign_many = Arc::clone(self);
        let origin = Origin {
            address: "https://h".parse().unwrap(),
            server_now: Box::new(move || clock.now()),
            sign: Box::new(move |place, _, fresh| {
                let world = Arc::clone(&sign);
                async move { world.sign(place, fresh).await }.boxed()
            }),
            sign_many: Box::new(move |places| {
                let world = Arc::clone(&sign_many);
                async move { world.sign_many(places).await }.boxed()
            }),
            place_of: Box::new(|_| {
                let place = FileUri::parse("cloudreve://my/moved").unwrap();
                future::ready(Ok(place)).boxed()
            }),
            content: Box::new(move |url, range, size_bytes| {
                let world = Arc::clone(&content);
                async move { world.content(url, range, size_bytes).await }.boxed()
            }),
        };
        let options = Options {
            memory_bytes,
            download: Download::Direct,
            timeout,
        };
        Reader::over(origin, Arc::clone(cache), options)
    }

    async fn sign(&self, place: FileUri, fresh: bool) -> Result<origin::Signed, Error> {
        let is_elsewhere = place.to_wire().ends_with("elsewhere");
        self.places.lock().unwrap().push(place);
        tokio::time::sleep(LATENCY).await;
        if let Some(answer) = self.sign_answers.lock().unwrap().pop_front() {
            answer?;
        }
        let number = self.signed.fetch_add(1, Ordering::Relaxed);
        self.fresh.fetch_add(usize::from(fresh), Ordering::Relaxed);
        let url = match is_elsewhere {
            true => "https://elsewhere/f?sign=",
            false => &self.url,
        };
        let url = Secret::new(format!("{url}{number}"));
        Ok((url, self.life.map(|life| self.now() + life)))
    }

    async fn sign_many(&self, places: Vec<FileUri>) -> Result<origin::SignedMany, Error> {
        self.batches.lock().unwrap().push(places.len());
        tokio::time::sleep(LATENCY).await;
        if let Some(answer) = self.batch_answers.lock().unwrap().pop_front() {
            answer?;
        }
        let url = |place: FileUri| {
            let wire = place.to_wire();
            (self.batch_url)(wire.rsplit('/').next()?).map(Secret::new)
        };
        let urls = places.into_iter().map(url).collect();
        Ok((urls, self.life.map(|life| self.now() + life)))
    }

    async fn content(
        &self,
        url: Secret,
        range: Range<u64>,
        size: u64,
    ) -> Result<origin::Body, Error> {
        assert!(range.start < range.end && range.end <= size, "{range:?}");
        let request = (url.expose().to_owned(), range.clone());
        self.requests.lock().unwrap().push(request);
        self.gate.acquire().await.unwrap().forget();
        tokio::time::sleep(LATENCY).await;
        if self.dead.is_some_and(|host| url.expose().starts_with(host)) {
            return Err(transport("connection refused"));
        }
        if range.start >= M
            && self
                .silent
                .is_some_and(|host| url.expose().starts_with(host))
        {
            return future::pending().await;
        }
        let mut end = range.end;
        let mut after: Option<Result<Bytes, Error>> = None;
        let mut stalls = false;
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => {}
            Some(Mishap::Refuse(error)) => return Err(error),
            Some(Mishap::Hang) => return future::pending().await,
            Some(Mishap::EndAfter(bytes)) => end = end.min(range.start + bytes),
            Some(Mishap::StallAfter(bytes)) => {
                (end, stalls) = (end.min(range.start + bytes), true);
            }
            Some(Mishap::CutAfter(bytes)) => {
                end = end.min(range.start + bytes);
                after = Some(Err(transport("cut")));
            }
        }
        let sent_bytes = Arc::clone(&self.sent_bytes);
        let chunks = (range.start..end).step_by(CHUNK as usize).map(move |at| {
            let chunk = bytes(at..end.min(at + CHUNK));
            sent_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(chunk)
        });
        let body = stream::iter(chunks).chain(stream::iter(after));
        match stalls {
            true => Ok(body.chain(stream::pending()).boxed()),
            false => Ok(body.boxed()),
        }
    }

    fn requests(&self) -> Vec<Range<u64>> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, range)| range.clone()).collect()
    }

    fn requested_bytes(&self) -> u64 {
        self.requests()
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }
}

fn transport(what: &str) -> Error {
    Error::Transport {
        what: what.to_owned(),
        source: None,
    }
}

/// What the content holds: again and again these bytes, whose number is prime so that neighbouring blocks differ.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let byte = |at: u64| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    (0..1_000_003).map(byte).collect()
});

fn bytes(range: Range<u64>) -> Bytes {
    let mut bytes = BytesMut::new();
    let len = (range.end - range.start) as usize;
    let mut at = (range.start % CONTENT.len() as u64) as usize;
    while bytes.len() < len {
        let end = CONTENT.len().min(at + len - bytes.len());
        bytes.extend_from_slice(&CONTENT[at..end]);
        at = 0;
    }
    bytes.freeze()
}

fn open_at(reader: &Arc<Reader>, size_bytes: u64, place: &str) -> Stream {
    let place = FileUri::parse(place).unwrap();
    reader.open(Source {
        file: FileId("f".into()),
        entity: EntityId("e".into()),
        size_bytes,
        locate: Arc::new(move || place.clone()),
    })
}

fn open(reader: &Arc<Reader>, size_bytes: u64) -> Stream {
    open_at(reader, size_bytes, "cloudreve://my/f")
}

fn largest_window(reader: &Reader) -> u64 {
    let shared = &reader.shared;
    shared.largest_window_bytes(&shared.own_lanes())
}

/// Reads and compares; the length that came.
async fn check(stream: &Stream, offset: u64, size_bytes: u64) -> u64 {
    let read = stream.read(offset, size_bytes as u32).await.unwrap();
    let end = (offset + size_bytes).min(stream.source.size_bytes);
    assert!(
        read == bytes(offset.min(end)..end),
        "wrong bytes at {offset}"
    );
    read.len() as u64
}

async fn check_all(stream: &Stream, piece: u64) {
    for at in (0..stream.size_bytes()).step_by(piece as usize) {
        check(stream, at, piece).await;
    }
}

/// A generator of offsets that needs no dependency: the constants are Knuth's MMIX.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*seed >> 33) % below
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_right_whichever_way_it_is_read() {
    for size in [1, 4095, 4096, 4097, B - 1, B, B + 1, M - 1, M, M + 1] {
        for piece in [4096, 100_000, 128 * K, M] {
            let world = Arc::new(World::new());
            let offsets: Vec<u64> = (0..size.div_ceil(piece)).map(|i| i * piece).collect();
            let forwards = open(&world.reader(16 * M), size);
            for offset in &offsets {
                check(&forwards, *offset, piece).await;
            }
            let backwards = open(&world.reader(16 * M), size);
            for offset in offsets.iter().rev() {
                check(&backwards, *offset, piece).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_short_only_at_the_end_and_empty_beyond_it() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(16 * M), 1000);
    assert_eq!(check(&stream, 900, 4096).await, 100);
    assert_eq!(check(&stream, 1000, 4096).await, 0);
    assert!(stream.read(u64::MAX, u32::MAX).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_read_without_a_request() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(16 * M), 0);
    assert!(stream.read(0, 4096).await.unwrap().is_empty());
    assert_eq!((world.signed(), world.requests().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sequential_reader_fetches_each_byte_once_in_few_requests() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(64 * M), 32 * M);
    for at in (0..256).map(|i| i * 128 * K) {
        check(&stream, at, 128 * K).await;
    }
    assert_eq!(world.requested_bytes(), 32 * M);
    let requests = world.requests().len();
    assert!(requests <= 14, "{requests} requests");
    assert_eq!(world.signed(), 1);
}

#[tokio::test(start_paused = true)]
async fn random_reads_of_4_kib_fetch_at_most_16_times_what_they_ask() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(64 * M), 256 * M);
    let mut seed = 1;
    for _ in 0..200 {
        let at = random(&mut seed, 256 * M / 4096) * 4096;
        check(&stream, at, 4096).await;
    }
    assert!(world.requested_bytes() <= 200 * 4096 * 16);
}

#[tokio::test(start_paused = true)]
async fn a_backwards_reader_fetches_just_what_it_reads() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(64 * M), 8 * M);
    for at in (0..64).rev().map(|i| i * 128 * K) {
        check(&stream, at, 128 * K).await;
    }
    assert_eq!(world.requested_bytes(), 8 * M);
}

#[tokio::test(start_paused = true)]
async fn two_readers_of_one_entity_make_one_request_and_one_url() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let (one, two) = (open(&reader, 128 * K), open(&reader, 128 * K));
    tokio::join!(check(&one, 0, 128 * K), check(&two, 0, 128 * K));
    assert_eq!((world.signed(), world.requests().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_answered_at_the_first_poll() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(64 * M), 128 * K);
    check(&stream, 0, 128 * K).await;
    let read = stream.read(100, 1000).now_or_never();
    assert_eq!(read.unwrap().unwrap(), bytes(100..1100));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_cancels_nothing_for_the_others() {
    let mut world = World::new();
    world.gate = Semaphore::new(0);
    let world = Arc::new(world);
    let reader = world.reader(64 * M);
    let (killed, other) = (open(&reader, 64 * K), open(&reader, 64 * K));
    assert!(
        tokio::time::timeout(LATENCY * 4, killed.read(0, 4096))
            .await
            .is_err()
    );
    let waiting = tokio::spawn(async move { check(&other, 0, 4096).await });
    tokio::task::yield_now().await;
    drop(killed);
    world.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap(), 4096);
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_continued_where_it_broke() {
    let faults = [Mishap::CutAfter(100_000), Mishap::EndAfter(5000)];
    let world = World::with_faults(faults);
    let stream = open(&world.reader(64 * M), 512 * K);
    check(&stream, 0, 512 * K).await;
    assert_eq!(
        world.requests(),
        [0..512 * K, 100_000..512 * K, 105_000..512 * K]
    );
}

#[tokio::test(start_paused = true)]
async fn bodies_that_always_break_end_in_an_error_and_a_later_read_begins_afresh() {
    let world = World::with_faults((0..5).map(|_| Mishap::CutAfter(0)));
    let stream = open(&world.reader(64 * M), 64 * K);
    let error = stream.read(0, 4096).await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert_eq!(world.requests().len(), 5);
    assert_eq!(check(&stream, 0, 4096).await, 4096);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_falls_silent_is_continued_on_another_connection() {
    let world = World::with_faults([Mishap::StallAfter(CHUNK)]);
    let stream = open(&world.reader(64 * M), 64 * K);
    let begun = Instant::now();
    check(&stream, 0, 64 * K).await;
    assert!(begun.elapsed() < TIMEOUT / 2);
    assert_eq!(world.requests(), [0..64 * K, CHUNK..64 * K]);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_an_error_after_the_timeout_and_not_before() {
    let silent = [
        vec![Mishap::Hang],
        vec![Mishap::StallAfter(0); 3],
        vec![Mishap::StallAfter(0), Mishap::Hang],
    ];
    for faults in silent {
        let world = World::with_faults(faults);
        let stream = open(&world.reader(64 * M), 64 * K);
        let begun = Instant::now();
        let error = stream.read(0, 4096).await.unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        let waited = begun.elapsed();
        assert!(
            waited >= TIMEOUT - LATENCY && waited <= TIMEOUT + LATENCY,
            "{waited:?}"
        );
        assert_eq!(check(&stream, 0, 4096).await, 4096);
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_fetch_that_is_about_to_fail_gets_a_try_of_its_own() {
    let world = World::with_faults([Mishap::Hang]);
    let reader = world.reader(64 * M);
    let (first, late) = (open(&reader, 8 * M), open(&reader, 8 * M));
    let failing = tokio::spawn(async move { first.read(0, 4096).await });
    tokio::time::sleep(TIMEOUT - LATENCY).await;
    // A part of what it reads is on its way by the other, a part it fetches itself.
    assert_eq!(check(&late, 0, 128 * K).await, 128 * K);
    assert!(failing.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_url_that_expires_in_mid_read_is_renewed_once() {
    let faults = [Mishap::CutAfter(100_000), Mishap::Refuse(Error::UrlExpired)];
    let world = World::with_faults(faults);
    let stream = open(&world.reader(64 * M), 512 * K);
    check(&stream, 0, 512 * K).await;
    assert_eq!(
        (world.signed(), world.fresh.load(Ordering::Relaxed)),
        (2, 1)
    );
    let urls = world.requests.lock().unwrap();
    let urls: Vec<_> = urls
        .iter()
        .map(|(url, _)| url.ends_with("sign=1"))
        .collect();
    assert_eq!(urls, [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_url_may_expire_again_after_bytes_came() {
    let expired = || Mishap::Refuse(Error::UrlExpired);
    let world = World::with_faults([expired(), Mishap::CutAfter(B), expired()]);
    let stream = open(&world.reader(64 * M), 2 * B);
    assert_eq!(check(&stream, 0, 2 * B).await, 2 * B);
    assert_eq!(world.fresh.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn where_a_fresh_url_could_not_be_had_the_next_reader_asks_for_a_fresh_one_too() {
    let world = World::with_faults([Mishap::Refuse(Error::UrlExpired)]);
    let stream = open(&world.reader(64 * M), B);
    let signs = [Ok(()), Err(transport("cut"))];
    world.sign_answers.lock().unwrap().extend(signs);
    assert!(stream.read(0, 4096).await.is_err());
    assert_eq!(check(&stream, 0, 4096).await, 4096);
    let signed = (world.signed(), world.fresh.load(Ordering::Relaxed));
    assert_eq!(signed, (2, 1), "the server would give the old one again");
}

#[tokio::test(start_paused = true)]
async fn a_new_url_that_does_not_work_either_is_an_error() {
    let world = World::with_faults((0..2).map(|_| Mishap::Refuse(Error::UrlExpired)));
    let stream = open(&world.reader(64 * M), 64 * K);
    let error = stream.read(0, 10).await.unwrap_err();
    assert!(matches!(error, Error::UrlExpired), "{error}");
    assert_eq!((world.signed(), world.requests().len()), (2, 2));
}

/// URLs signed for two reads with `seconds` between them.
async fn urls_over(place: &str, seconds: u64) -> usize {
    let world = Arc::new(World::new());
    let stream = open_at(&world.reader(64 * M), 4 * M, place);
    check(&stream, 3 * M, 10).await;
    world.clock.fetch_add(seconds, Ordering::Relaxed);
    check(&stream, 0, 10).await;
    world.signed()
}

#[tokio::test(start_paused = true)]
async fn a_url_is_used_until_shortly_before_it_expires_by_the_servers_clock() {
    assert_eq!(urls_over("cloudreve://my/f", 3500).await, 1);
    assert_eq!(urls_over("cloudreve://my/f", 3550).await, 2);
}

#[tokio::test(start_paused = true)]
async fn on_shares_where_each_url_is_a_download_it_is_used_to_its_end() {
    assert_eq!(urls_over("cloudreve://AbCd@share/f", 3599).await, 1);
    assert_eq!(urls_over("cloudreve://AbCd@share/f", 3601).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_moved_is_found_by_its_identity() {
    let world = Arc::new(World::new());
    world
        .sign_answers
        .lock()
        .unwrap()
        .push_back(Err(Error::NotFound));
    let stream = open(&world.reader(64 * M), 64 * K);
    check(&stream, 0, 10).await;
    let places: Vec<String> = world
        .places
        .lock()
        .unwrap()
        .iter()
        .map(FileUri::to_wire)
        .collect();
    assert_eq!(places, ["cloudreve://my/f", "cloudreve://my/moved"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_said_at_once() {
    let world = Arc::new(World::new());
    world
        .sign_answers
        .lock()
        .unwrap()
        .push_back(Err(Error::EntityGone));
    let error = open(&world.reader(64 * M), 64 * K).read(0, 10).await;
    assert!(matches!(error, Err(Error::EntityGone)));
    let world = World::with_faults([Mishap::Refuse(Error::EntityGone)]);
    let error = open(&world.reader(64 * M), 64 * K).read(0, 10).await;
    assert!(matches!(error, Err(Error::EntityGone)));
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn content_never_says_that_a_file_is_absent() {
    let world = World::with_faults((0..2).map(|_| Mishap::Refuse(Error::NotFound)));
    let error = open(&world.reader(64 * M), 64 * K).read(0, 10).await;
    assert!(matches!(error, Err(Error::UrlExpired)));
}

#[tokio::test(start_paused = true)]
async fn content_at_a_host_that_does_not_answer_is_read_at_the_servers_address() {
    let mut world = World::new();
    world.url = "http://cloudreve:5212/api/v4/file/content/e/0/f?sign=".to_owned();
    world.dead = Some("http://cloudreve");
    let world = Arc::new(world);
    let stream = open(&world.reader(64 * M), 4 * M);
    check(&stream, 3 * M, 10).await;
    check(&stream, 0, 10).await;
    let requests = world.requests.lock().unwrap();
    let hosts: Vec<&str> = requests.iter().map(|(url, _)| &url[..10]).collect();
    assert_eq!(hosts, ["http://clo", "https://h/", "https://h/"]);
    assert_eq!(world.signed(), 1);
}

#[tokio::test(start_paused = true)]
async fn memory_stays_bounded_under_64_readers() {
    const READERS: u64 = 64;
    const PIECE: u64 = 128 * K;
    let world = Arc::new(World::new());
    let reader = world.reader(M);
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let stream = reader.open(Source {
            file: FileId("f".into()),
            entity: EntityId(format!("e{number}").into()),
            size_bytes: 2 * M,
            locate: Arc::new(FileUri::my),
        });
        let reader = Arc::clone(&reader);
        readers.spawn(async move {
            let mut most = 0;
            for at in (0..16).map(|i| i * PIECE) {
                check(&stream, at, PIECE).await;
                most = most.max(reader.memory_bytes());
            }
            most
        });
    }
    let most = readers.join_all().await.into_iter().max().unwrap();
    assert!(most <= M + READERS * PIECE, "{most} bytes");
    assert!(reader.memory_bytes() <= M);
}

#[tokio::test(start_paused = true)]
async fn who_seeks_away_ends_the_reading_ahead() {
    // The first body hangs with its first block out: all that lies ahead is still owed.
    let world = World::with_faults([Mishap::StallAfter(B)]);
    let reader = world.reader(64 * M);
    let stream = open(&reader, 256 * M);
    check(&stream, 0, B).await;
    assert!(reader.memory_bytes() > 4 * B);
    check(&stream, 200 * M, 4096).await;
    assert_eq!(reader.memory_bytes(), 2 * B);
}

#[tokio::test(start_paused = true)]
async fn a_closed_stream_ends_its_reading_ahead() {
    let world = World::with_faults([Mishap::StallAfter(B)]);
    let reader = world.reader(64 * M);
    let stream = open(&reader, 256 * M);
    check(&stream, 0, B).await;
    drop(stream);
    tokio::time::sleep(LATENCY).await;
    assert_eq!(reader.memory_bytes(), B);
    assert_eq!(reader.shared.reading_ahead.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn many_streams_share_the_memory_for_reading_ahead() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    assert_eq!(largest_window(&reader), LARGE_BYTES);
    let streams: Vec<Stream> = (0..64).map(|_| open(&reader, 256 * M)).collect();
    for stream in &streams {
        check(stream, 0, 4096).await;
    }
    assert_eq!(largest_window(&reader), 512 * K);
    drop(streams);
    assert_eq!(largest_window(&reader), LARGE_BYTES);
}

#[tokio::test(start_paused = true)]
async fn random_faults_never_give_wrong_bytes() {
    for seed in 1..20_u64 {
        let mut state = seed;
        let fault = |_| match random(&mut state, 7) {
            0 => Mishap::CutAfter(random(&mut state, 200_000)),
            1 => Mishap::EndAfter(random(&mut state, 200_000)),
            2 => Mishap::StallAfter(random(&mut state, 200_000)),
            3 => Mishap::Refuse(Error::UrlExpired),
            4 => Mishap::Refuse(transport("reset")),
            _ => Mishap::EndAfter(u64::MAX / 2),
        };
        let world = World::with_faults((0..60).map(fault));
        let stream = open(&world.reader(2 * M), 4 * M);
        let mut state = seed;
        for _ in 0..100 {
            let at = random(&mut state, 4 * M);
            let size = random(&mut state, 300_000) as u32;
            let end = (at + u64::from(size)).min(4 * M);
            if let Ok(read) = stream.read(at, size).await {
                assert!(read == bytes(at..end), "wrong bytes; seed {seed}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_blocks_were_given_up_by_another_reader_is_made_again() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let (gone, stays) = (open(&reader, 64 * M), open(&reader, 64 * M));
    let mut pieces = (0..).map(|i| i * 128 * K);
    let mut requests_before = 0;
    // Side by side until the window is large and its next part is under way, for the first reader, and stalls.
    for at in pieces.by_ref() {
        check(&gone, at, 128 * K).await;
        check(&stays, at, 128 * K).await;
        tokio::time::sleep(LATENCY).await;
        let requests = world.requests().len();
        if at >= 16 * M && requests > requests_before {
            break;
        }
        requests_before = requests;
        if at == 16 * M {
            let stall = Mishap::StallAfter(0);
            world.faults.lock().unwrap().push_back(stall);
        }
    }
    drop(gone);
    tokio::time::sleep(LATENCY).await;
    for at in pieces.take_while(|at| *at < 40 * M) {
        check(&stays, at, 128 * K).await;
    }
    let requests = world.requests().len() - requests_before;
    assert!(requests <= 24, "{requests} requests for less than 24 MiB");
}

#[tokio::test(start_paused = true)]
async fn what_found_no_room_ahead_is_asked_for_as_soon_as_there_is_room() {
    let world = World::with_faults([Mishap::Hang]);
    let reader = world.reader(16 * B);
    let (hog, stream) = (open(&reader, 256 * M), open(&reader, 256 * M));
    let hogging = tokio::spawn(async move { hog.read(100 * M, 12 * B as u32).await });
    tokio::task::yield_now().await;
    check(&stream, 0, B).await;
    assert_eq!(world.requests().last(), Some(&(0..4 * B)));
    hogging.abort();
    assert!(hogging.await.is_err());
    tokio::time::sleep(TIMEOUT + LATENCY).await;
    check(&stream, B, B).await;
    tokio::time::sleep(LATENCY).await;
    assert_eq!(
        world.requests().last().map(|range| range.start),
        Some(4 * B)
    );
}

#[tokio::test(start_paused = true)]
async fn a_demand_finds_a_free_request_however_many_read_ahead() {
    let world = World::with_faults((0..40).map(|_| Mishap::StallAfter(4 * B)));
    let reader = world.reader(1024 * M);
    let streams: Vec<Stream> = (0..40)
        .map(|number| {
            reader.open(Source {
                file: FileId("f".into()),
                entity: EntityId(format!("e{number}").into()),
                size_bytes: 64 * M,
                locate: Arc::new(FileUri::my),
            })
        })
        .collect();
    for stream in &streams {
        check(stream, 0, B).await;
    }
    let hang = (0..200).map(|_| Mishap::Hang);
    world.faults.lock().unwrap().extend(hang);
    for stream in &streams {
        // All this is in memory already and only moves the window.
        for block in 1..4 {
            check(stream, block * B, B).await;
        }
    }
    tokio::time::sleep(LATENCY).await;
    let expected = 40 + pace::FEWEST;
    assert_eq!(
        world.requests().len(),
        expected,
        "the demands and the lanes"
    );
}

#[tokio::test(start_paused = true)]
async fn who_reads_from_one_host_does_not_stand_in_line_behind_another_that_is_silent() {
    let mut world = World::new();
    world.silent = Some("https://elsewhere");
    let world = Arc::new(world);
    let mut times = Vec::new();
    for other in ["cloudreve://my/f", "cloudreve://my/elsewhere"] {
        let reader = world.reader(256 * M);
        let other = FileUri::parse(other).unwrap();
        let other = reader.open(Source {
            file: FileId("g".into()),
            entity: EntityId("g".into()),
            size_bytes: 64 * M,
            locate: Arc::new(move || other.clone()),
        });
        // What it reads ahead comes, or never does.
        for at in (0..7).map(|i| i * 128 * K) {
            check(&other, at, 128 * K).await;
        }
        tokio::time::sleep(LATENCY * 4).await;
        let stream = open(&reader, 64 * M);
        let begun = Instant::now();
        check_all(&stream, 128 * K).await;
        times.push(begun.elapsed());
    }
    assert_eq!(times[0], times[1]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_need_what_stands_in_line_does_not_wait_for_its_turn() {
    let mut world = World::new();
    world.silent = Some("https://elsewhere");
    let reader = Arc::new(world).reader(256 * M);
    let open = |id: &str, size_bytes| {
        reader.open(Source {
            file: FileId("f".into()),
            entity: EntityId(id.into()),
            size_bytes,
            locate: Arc::new(|| FileUri::parse("cloudreve://my/elsewhere").unwrap()),
        })
    };
    // Its places are taken by what never comes, and the line begins.
    let hog = open("hog", 64 * M);
    for at in (0..7).map(|i| i * 128 * K) {
        check(&hog, at, 128 * K).await;
    }
    tokio::time::sleep(LATENCY * 4).await;
    let begun = Instant::now();
    check_all(&open("f", M), 128 * K).await;
    let waited = begun.elapsed();
    assert!(waited < LATENCY * 9, "{waited:?}, and 8 reads at most");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_says_nothing_holds_the_first_read_up_for_seconds_only() {
    let mut world = World::new();
    world.url = "http://cloudreve:5212/api/v4/file/content/e/0/f?sign=".to_owned();
    world.faults.lock().unwrap().push_back(Mishap::Hang);
    let stream = open(&Arc::new(world).reader(64 * M), 64 * K);
    let begun = Instant::now();
    check(&stream, 0, 10).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_url_shares_the_answer_also_if_there_is_none() {
    let world = Arc::new(World::new());
    let gone = Error::ShareGone("revoked".to_owned());
    world.sign_answers.lock().unwrap().push_back(Err(gone));
    let stream = open(&world.reader(64 * M), 8 * M);
    let reads = (4..8).map(|i| stream.read(i * M, 10));
    for read in future::join_all(reads).await {
        assert!(matches!(read, Err(Error::ShareGone(_))));
    }
    assert_eq!(world.places.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_from_begin_to_end_leaves_little_in_memory_and_that_goes_in_time() {
    let world = Arc::new(World::new());
    let reader = world.reader(128 * M);
    let stream = open(&reader, 64 * M);
    for at in (0..512).map(|i| i * 128 * K) {
        check(&stream, at, 128 * K).await;
        let most = BEHIND_BYTES + 2 * largest_window(&reader);
        assert!(reader.memory_bytes() <= most);
    }
    tokio::time::sleep(TRIM_EVERY * 5).await;
    assert_eq!(reader.memory_bytes(), 0);
    assert!(
        !reader.is_trimmed.load(Ordering::Relaxed),
        "nothing left to do"
    );
}

#[tokio::test(start_paused = true)]
async fn a_jump_forward_into_what_is_on_its_way_asks_nothing_again() {
    let world = Arc::new(World::new());
    let reader = world.reader(128 * M);
    let stream = open(&reader, 64 * M);
    let mut at = 0;
    while stream.progress.lock().unwrap().window.behind() < 16 * M {
        check(&stream, at, 128 * K).await;
        at += 128 * K;
    }
    let asked = world.requested_bytes();
    assert!(asked >= at + 3 * M);
    check(&stream, at + 2 * M, 128 * K).await;
    assert_eq!(world.requested_bytes(), asked);
}

#[tokio::test(start_paused = true)]
async fn seeks_in_a_film_take_two_round_trips_for_the_first_mebibyte() {
    let world = Arc::new(World::new());
    let stream = open(&world.reader(128 * M), 1024 * M);
    for at in (0..16).map(|i| i * 128 * K) {
        check(&stream, at, 128 * K).await;
    }
    let mut seed = 3;
    for _ in 0..20 {
        let place = random(&mut seed, 1000) * M;
        let begun = Instant::now();
        for at in (0..8).map(|i| place + i * 128 * K) {
            check(&stream, at, 128 * K).await;
        }
        let waited = begun.elapsed();
        assert!(waited <= LATENCY * 2, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_by_where_they_came_from() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let stream = open(&reader, 64 * K);
    check(&stream, 0, 64 * K).await;
    check(&stream, 10, 100).await;
    let stats = Stats {
        asked_bytes: 64 * K + 100,
        fetched_bytes: 64 * K,
        memory_bytes: 100,
        network_bytes: 64 * K,
        ..Stats::default()
    };
    assert_eq!(reader.stats(), stats);
    let of_stream = stream.stats();
    let own = (of_stream.asked_bytes, of_stream.fetched_bytes);
    assert_eq!(own, (64 * K + 100, 64 * K));
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_gets_what_has_arrived_while_the_rest_is_awaited() {
    // Two blocks and a half came of what is read ahead, and nothing more for a while.
    let world = World::with_faults([Mishap::StallAfter(B * 5 / 2)]);
    let reader = world.reader(64 * M);
    let stream = open(&reader, 256 * M);
    check(&stream, 0, B).await;
    let begun = Instant::now();
    check(&stream, B, B).await;
    assert!(begun.elapsed() < LATENCY, "{:?}", begun.elapsed());
    check(&stream, 2 * B, 4 * B).await;
}
