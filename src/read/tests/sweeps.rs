//! Files that are fetched before they are opened.

use super::*;
use crate::read::ahead::{AheadCounts, Next};

/// A small file.
const SMALL: u64 = 16 * K;

fn source_at(name: &str, size_bytes: u64, place: &str) -> Source {
    let place = FileUri::parse(place).unwrap();
    Source {
        file: FileId(name.into()),
        entity: EntityId(name.into()),
        size_bytes,
        locate: Arc::new(move || place.clone()),
    }
}

fn source(number: usize, size_bytes: u64) -> Source {
    let name = format!("e{number}");
    source_at(&name, size_bytes, &format!("cloudreve://my/{name}"))
}

/// Whole files of one size.
fn next(numbers: Range<usize>, size_bytes: u64) -> Vec<Next> {
    let next = |number| Next {
        source: source(number, size_bytes),
        bytes: size_bytes,
    };
    numbers.map(next).collect()
}

/// Opens a file, reads all of it, closes it.
async fn cat(reader: &Arc<Reader>, number: usize, size_bytes: u64) {
    check(&reader.open(source(number, size_bytes)), 0, size_bytes).await;
}

/// Time for everything that can be fetched to come.
async fn settle() {
    tokio::time::sleep(LATENCY * 10).await;
}

fn wasted(reader: &Arc<Reader>) -> u64 {
    reader.ahead_counts().wasted_bytes
}

#[tokio::test(start_paused = true)]
async fn the_next_files_come_with_one_request_for_urls_and_are_there_when_they_are_opened() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    settle().await;
    for number in 0..8 {
        cat(&reader, number, SMALL)
            .now_or_never()
            .expect("it is here");
    }
    assert_eq!(*world.batches.lock().unwrap(), [8]);
    assert_eq!((world.signed(), world.requests().len()), (0, 8));
    let counts = AheadCounts {
        fetched_bytes: 8 * SMALL,
        used_bytes: 8 * SMALL,
        wasted_bytes: 0,
        early_files: 8,
        late_files: 0,
    };
    assert_eq!(reader.ahead_counts(), counts);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_urls_are_on_their_way_waits_for_them_and_asks_for_none() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    tokio::time::sleep(LATENCY / 2).await;
    for number in [5, 0, 7] {
        cat(&reader, number, SMALL).await;
    }
    settle().await;
    assert_eq!(
        (world.signed(), world.batches.lock().unwrap().len()),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn on_shares_nothing_is_asked_ahead_of_need() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    let next = (0..8).map(|number| Next {
        source: source_at(&format!("e{number}"), SMALL, "cloudreve://abc@share/f"),
        bytes: SMALL,
    });
    ahead.expect(next.collect());
    settle().await;
    assert!(world.batches.lock().unwrap().is_empty());
    assert_eq!((world.signed(), world.requests().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_lands_before_the_batch_is_not_taken_for_the_one_that_is_wanted() {
    let mut world = World::new();
    world.batch_url = |_| Some("https://h/api/v4/file/content/newer/0/f?sign=b".to_owned());
    let world = Arc::new(world);
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..3, SMALL));
    settle().await;
    assert_eq!((world.signed(), world.requests().len()), (0, 0));
    cat(&reader, 0, SMALL).await;
    assert_eq!(world.signed(), 1, "the old version is asked for by name");
    let requests = world.requests.lock().unwrap();
    assert!(requests.iter().all(|(url, _)| !url.contains("newer")));
}

#[tokio::test(start_paused = true)]
async fn urls_of_other_storages_are_asked_for_one_by_one_few_at_once() {
    let mut world = World::new();
    world.batch_url = |name| Some(format!("https://bucket.example/{name}?sign=b"));
    let world = Arc::new(world);
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    tokio::time::sleep(LATENCY * 3 / 2).await;
    assert_eq!(world.places.lock().unwrap().len(), 4);
    settle().await;
    assert_eq!((world.signed(), world.requests().len()), (8, 8));
    let requests = world.requests.lock().unwrap();
    assert!(requests.iter().all(|(url, _)| !url.contains("bucket")));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_or_lacks_a_file_is_nobodys_failure() {
    let mut world = World::new();
    world.batch_url =
        |name| (name != "e1").then(|| format!("https://h/api/v4/file/content/{name}/0/f?sign=b"));
    let world = Arc::new(world);
    world
        .batch_answers
        .lock()
        .unwrap()
        .push_back(Err(transport("cut")));
    let reader = world.reader(64 * M);
    let (first, second) = (reader.ahead(), reader.ahead());
    first.expect(next(10..20, SMALL));
    let waiting = cat(&reader, 10, SMALL);
    let (_, ()) = tokio::join!(settle(), waiting);
    assert_eq!(world.signed(), 1);
    second.expect(next(0..3, SMALL));
    settle().await;
    cat(&reader, 1, SMALL).await;
    assert_eq!(world.signed(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_sweep_leaves_unread_leaves_memory_when_it_ends_and_counts_as_waste() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    settle().await;
    cat(&reader, 0, SMALL).await;
    drop(ahead);
    assert_eq!((reader.memory_bytes(), wasted(&reader)), (0, 7 * SMALL));
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_of_a_file_that_outlives_its_sweep_is_read_or_waste_in_the_end() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    settle().await;
    let open = reader.open(source(0, SMALL));
    drop(ahead);
    check(&open, 0, SMALL / 2).await;
    let again = reader.ahead();
    again.expect(next(0..1, SMALL));
    settle().await;
    drop(open);
    let counts = reader.ahead_counts();
    assert_eq!(counts.used_bytes, SMALL / 2);
    assert_eq!(counts.wasted_bytes, 7 * SMALL + SMALL / 2, "none is held");
    assert_eq!(counts.fetched_bytes, 8 * SMALL);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_closed_before_its_fetch_began_is_not_fetched() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let urls = reader.ahead();
    let alone = next(0..1, SMALL)
        .into_iter()
        .map(|next| Next { bytes: 0, ..next });
    urls.expect(alone.collect());
    settle().await;
    drop(urls);
    let ahead = reader.ahead();
    ahead.expect(next(0..1, SMALL));
    drop(reader.open(source(0, SMALL)));
    settle().await;
    assert_eq!((world.requests().len(), reader.memory_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_a_sweep_ends_does_not_stay_either() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    tokio::time::sleep(LATENCY * 3 / 2).await;
    assert_eq!(reader.memory_bytes(), 8 * SMALL);
    drop(ahead);
    settle().await;
    assert_eq!((reader.memory_bytes(), wasted(&reader)), (0, 8 * SMALL));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_falls_silent_gives_its_memory_back_and_goes_on_later() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..8, SMALL));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((reader.memory_bytes(), wasted(&reader)), (0, 8 * SMALL));
    ahead.expect(next(8..16, SMALL));
    settle().await;
    cat(&reader, 8, SMALL).now_or_never().expect("it is here");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_unread_is_bounded_however_much_is_expected() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..50, 300 * K));
    settle().await;
    assert_eq!(reader.memory_bytes(), 3 * 300 * K);
    let little = world.reader(M);
    let ahead = little.ahead();
    ahead.expect(next(0..50, SMALL));
    settle().await;
    assert!(little.memory_bytes() <= M / 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_memory_is_not_fetched_again() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    for number in 0..4 {
        cat(&reader, number, SMALL).await;
    }
    let ahead = reader.ahead();
    ahead.expect(next(0..4, SMALL));
    settle().await;
    assert_eq!(world.requests().len(), 4);
    assert!(world.batches.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_a_file_whose_content_is_not_wanted_the_url_is_there_when_it_is_opened() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    let next = (0..60).map(|number| Next {
        source: source(number, 8 * M),
        bytes: 0,
    });
    ahead.expect(next.collect());
    settle().await;
    assert_eq!(*world.batches.lock().unwrap(), [50, 10]);
    assert!(world.requests().is_empty());
    let began = Instant::now();
    check(&reader.open(source(55, 8 * M)), 0, 4096).await;
    assert_eq!((began.elapsed(), world.signed()), (LATENCY, 0));
}

#[tokio::test(start_paused = true)]
async fn files_passed_over_are_given_up_when_the_sweep_is_far_beyond() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..60, SMALL));
    settle().await;
    for number in 5..40 {
        cat(&reader, number, SMALL).await;
    }
    assert_eq!(wasted(&reader), 5 * SMALL);
}

#[tokio::test(start_paused = true)]
async fn with_a_server_that_fails_a_sweep_goes_on_by_itself() {
    let refused = Error::Refused {
        code: 1,
        said: "no".into(),
    };
    let world = World::with_faults(std::iter::repeat_n(Mishap::Refuse(refused), 40));
    let reader = world.reader(64 * M);
    let ahead = reader.ahead();
    ahead.expect(next(0..30, SMALL));
    settle().await;
    let requests = world.requests().len();
    assert!(requests <= 20, "{requests} requests for nothing");
    world.faults.lock().unwrap().clear();
    for number in 0..30 {
        cat(&reader, number, SMALL).await;
    }
    assert_eq!(wasted(&reader), 0);
}

/// Opens and reads the first of many files as a sweep does, while the next ones are given; how long it took.
async fn sweep(reader: &Arc<Reader>, files: Range<usize>, read: usize) -> Duration {
    let began = Instant::now();
    let ahead = reader.ahead();
    let mut given = files.start + 3;
    for number in files.start..files.start + read {
        let stream = reader.open(source(number, SMALL));
        if number >= files.start + 2 && given.saturating_sub(number) <= 64 {
            let to = files.end.min(number + 96);
            ahead.expect(next(given..to, SMALL));
            given = to.max(given);
        }
        check(&stream, 0, SMALL).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn five_hundred_small_files_at_50_ms_come_at_400_a_second() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let took = sweep(&reader, 0..500, 500).await;
    assert!(took < Duration::from_millis(1250), "{took:?}");
    assert_eq!(world.requested_bytes(), 500 * SMALL);
    assert_eq!(wasted(&reader), 0);
}

#[tokio::test(start_paused = true)]
async fn less_than_a_tenth_is_wasted_beside_a_small_beginning_wherever_sweeps_stop() {
    let world = Arc::new(World::new());
    let reader = world.reader(64 * M);
    let mut read = 0;
    for (at, stop) in [3, 10, 100, 4, 250, 30, 400, 20, 20, 20]
        .into_iter()
        .enumerate()
    {
        sweep(&reader, at * 1000..at * 1000 + 500, stop).await;
        read += stop as u64 * SMALL;
        let wasted = wasted(&reader);
        assert!(wasted <= M + read / 10, "{wasted} of {read}");
    }
    assert!(wasted(&reader) > 0);
}
