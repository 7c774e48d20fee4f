//! What a listing promises, on a drive that has the server's bugs.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::pretend::{Drive, trouble, uri};
use super::*;
use crate::entry::Tree;
use crate::metadata::Metadata;
use crate::model::{EntityId, FileId, FileKind};
use crate::names::NamePolicy;
use crate::reach::Reach;

const LONG: Duration = Duration::from_secs(3600);
const FOLDER: &str = "cloudreve://my/folder";

fn key() -> FileKey {
    FileKey {
        tree: Tree::MAIN,
        id: FileId("folder".into()),
    }
}

struct Lists {
    drive: Arc<Drive>,
    metadata: Arc<Metadata>,
    listings: Listings,
}

fn plain() -> Options {
    Options {
        names: NamePolicy::Encode,
        order: Order::default(),
        hide_uploading: false,
        sent: Sent::default(),
        hidden: Hidden::default(),
    }
}

fn lists(drive: Arc<Drive>, options: Options) -> Lists {
    let metadata = Arc::new(Metadata::new(LONG, 1_000_000, Reach::default()));
    let listings = Listings::new(drive.source(), options, Arc::clone(&metadata));
    Lists {
        drive,
        metadata,
        listings,
    }
}

fn drive(folders: usize, files: usize) -> Arc<Drive> {
    let drive = Arc::new(Drive::default());
    drive.folder(FOLDER);
    for folder in 0..folders {
        // Sorted behind half of the files: those are what the bug hides.
        drive.folder(&format!("{FOLDER}/m{folder}"));
    }
    for file in 0..files {
        let half = if file % 2 == 0 { 'a' } else { 'z' };
        drive.file(&format!("{FOLDER}/{half}{file}"), 1);
    }
    drive
}

impl Lists {
    async fn list(&self) -> Result<Arc<Listing>, api::Error> {
        let progress = self.listings.list(&key(), &uri(FOLDER));
        progress.complete(LONG).await.map(|(listing, _)| listing)
    }

    async fn names(&self) -> Vec<String> {
        let listing = self.list().await.unwrap();
        let names = listing.entries().iter();
        names
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .collect()
    }
}

async fn check_complete(
    folders: usize,
    files: usize,
    page_max: u32,
    change: impl Fn(&mut pretend::State),
) {
    let drive = drive(folders, files);
    drive.state().page_max = Some(page_max);
    change(&mut drive.state());
    let names = lists(drive, plain()).names().await;
    let what = format!("{folders} folders, {files} files, {page_max} a page: {names:?}");
    assert_eq!(names.len(), folders + files, "{what}");
    assert_eq!(
        names.iter().collect::<HashSet<_>>().len(),
        names.len(),
        "{what}"
    );
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_wherever_a_page_ends() {
    for folders in 0..8 {
        for files in 0..7 {
            for page_max in 2..12 {
                check_complete(folders, files, page_max, |_| {}).await;
                // Pages of two or three leave too few other sizes to try, which is an error (as below).
                check_complete(folders, files, page_max.max(4), |state| {
                    state.unreadable_tokens = true;
                })
                .await;
                check_complete(folders, files, page_max, |state| state.numbered = true).await;
            }
        }
    }
}

#[tokio::test]
async fn a_server_whose_pages_are_too_small_to_be_safe_is_an_error_and_no_empty_folder() {
    let drive = drive(1, 3);
    drive.state().page_max = Some(1);
    let lists = lists(drive, plain());
    assert!(matches!(
        lists.list().await,
        Err(api::Error::Trouble { .. })
    ));
    assert!(lists.metadata.last_listing(&key()).is_none());
}

#[tokio::test]
async fn pages_that_repeat_without_end_are_an_error() {
    let drive = drive(0, 3);
    let mut source = drive.source();
    let first = source.page.clone();
    source.page = Arc::new(move |uri, _, size| {
        let page = first(uri, PagePosition::First, size);
        Box::pin(async move {
            let mut page = page.await?;
            page.next = Some(PagePosition::Token("again".into()));
            Ok(page)
        })
    });
    let metadata = Arc::new(Metadata::new(LONG, 100, Reach::default()));
    let listings = Listings::new(source, plain(), metadata);
    let ended = listings.list(&key(), &uri(FOLDER)).complete(LONG).await;
    assert!(
        matches!(ended, Err(api::Error::Trouble { .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn however_many_wait_a_folder_is_listed_once_and_none_of_them_can_cancel_it() {
    let lists = lists(drive(0, 3), plain());
    let all: Vec<_> = (0..50)
        .map(|_| lists.listings.list(&key(), &uri(FOLDER)))
        .collect();
    drop(all[0].complete(LONG));
    for progress in &all {
        assert_eq!(progress.complete(LONG).await.unwrap().0.len(), 3);
    }
    assert_eq!(lists.drive.requests(), (1, 0));
}

#[tokio::test]
async fn the_next_page_is_on_its_way_before_the_last_one_is_shown() {
    let drive = drive(0, 5);
    drive.state().page_max = Some(2);
    let source = drive.source();
    let log = RefCell::new(Vec::new());
    let fetch = |position, size| {
        let (page, log) = ((source.page)(uri(FOLDER), position, size), &log);
        async move {
            log.borrow_mut().push("asked");
            page.await
        }
    };
    let paged = paging::all_pages(2, fetch, |_, _, _| log.borrow_mut().push("shown")).await;
    assert_eq!(paged.unwrap().pages, 3);
    assert_eq!(
        log.into_inner(),
        ["asked", "asked", "shown", "asked", "shown", "shown"]
    );
}

#[tokio::test]
async fn the_first_entries_are_there_before_the_last_page_is() {
    let drive = Drive::with_gate();
    for file in 0..5 {
        drive.file(&format!("{FOLDER}/{file}"), 1);
    }
    drive.state().page_max = Some(2);
    let lists = lists(drive, plain());
    let progress = lists.listings.list(&key(), &uri(FOLDER));
    lists.drive.gate.as_ref().unwrap().add_permits(1);
    let Reached::Some(first, _) = progress.entries(0, 10, LONG).await.unwrap() else {
        panic!("the listing ended with its first page");
    };
    assert_eq!(first.len(), 2);
    assert!(!progress.has(2));
    lists.drive.gate.as_ref().unwrap().add_permits(9);
    assert_eq!(progress.complete(LONG).await.unwrap().0.len(), 5);
}

#[tokio::test]
async fn an_error_in_a_later_page_is_the_readers_and_removes_nothing() {
    let lists = lists(drive(0, 5), plain());
    assert_eq!(lists.names().await.len(), 5);
    lists.drive.state().page_max = Some(2);
    lists.drive.state().failing_page = Some(2);
    let progress = lists.listings.list(&key(), &uri(FOLDER));
    let ended = progress.complete(LONG).await;
    assert_eq!(
        format!("{:?}", ended.unwrap_err()),
        format!("{:?}", trouble())
    );
    assert!(progress.entries(4, 1, LONG).await.is_err());
    assert_eq!(lists.metadata.last_listing(&key()).unwrap().len(), 5);
    assert_eq!(
        lists.names().await.len(),
        5,
        "the next listing is a new one"
    );
}

#[tokio::test]
async fn what_was_known_and_is_not_listed_is_asked_for_before_it_is_gone() {
    let lists = lists(drive(0, 5), plain());
    let before = lists.list().await.unwrap();
    let lost = before.entries()[0].id.clone();
    lists.drive.state().unlisted.insert(lost.clone());
    lists.drive.remove(&format!("{FOLDER}/z1"));
    let after = lists.list().await.unwrap();
    assert!(after.by_id(&lost).is_some(), "the listing lost it");
    assert!(after.get("z1".as_ref()).is_none());
    assert_eq!(after.len(), 4);
    assert_eq!(lists.drive.requests(), (2, 2));
}

#[tokio::test]
async fn while_the_server_cannot_say_whether_a_file_is_gone_the_listing_fails() {
    let lists = lists(drive(0, 5), plain());
    lists.list().await.unwrap();
    lists.drive.remove(&format!("{FOLDER}/z1"));
    lists.drive.state().failing_infos = true;
    assert!(lists.list().await.is_err());
    assert_eq!(lists.metadata.last_listing(&key()).unwrap().len(), 5);
}

#[tokio::test]
async fn many_missing_files_are_confirmed_by_a_second_listing() {
    let drive = Arc::new(Drive::default());
    for file in 0..5000 {
        drive.file(&format!("{FOLDER}/{file:04}"), 1);
    }
    let lists = lists(drive, plain());
    lists.list().await.unwrap();
    for file in 1000..2000 {
        lists.drive.remove(&format!("{FOLDER}/{file:04}"));
    }
    let before = lists.drive.requests();
    assert_eq!(lists.list().await.unwrap().len(), 4000);
    let after = lists.drive.requests();
    assert_eq!(after.1, 0, "no file was asked for alone");
    assert!(after.0 - before.0 <= 6, "{before:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_patient_as_long_as_answers_come_however_many_are_needed() {
    let drive = Arc::new(Drive::default());
    for file in 0..5000 {
        drive.file(&format!("{FOLDER}/{file:04}"), 1);
    }
    let lists = lists(drive, plain());
    lists.list().await.unwrap();
    lists.drive.state().delay = Duration::from_secs(6);
    for removed in [0..10, 10..1000] {
        for file in removed {
            lists.drive.remove(&format!("{FOLDER}/{file:04}"));
        }
        let progress = lists.listings.list(&key(), &uri(FOLDER));
        let complete = progress.complete(Duration::from_secs(10)).await;
        assert!(complete.is_ok(), "{complete:?}");
    }
}

#[tokio::test]
async fn a_listing_with_the_same_names_has_the_same_version() {
    let lists = lists(drive(1, 3), plain());
    let first = lists.list().await.unwrap().version();
    lists.drive.change(&format!("{FOLDER}/a0"), |file| {
        file.size_bytes = 77;
        true
    });
    assert_eq!(lists.list().await.unwrap().version(), first);
    lists.drive.file(&format!("{FOLDER}/new"), 1);
    assert_ne!(lists.list().await.unwrap().version(), first);
}

#[tokio::test]
async fn folders_come_first_in_each_order() {
    let drive = Arc::new(Drive::default());
    for (name, size, age) in [("b", 10, 3), ("a", 30, 1), ("c", 20, 2)] {
        drive.add(&format!("{FOLDER}/{name}"), FileKind::File, size, |file| {
            file.updated -= Duration::from_secs(age);
            file.created += Duration::from_secs(age);
        });
    }
    drive.folder(&format!("{FOLDER}/z"));
    for (by, descending, expected) in [
        (OrderBy::Name, false, ["z", "a", "b", "c"]),
        (OrderBy::Name, true, ["z", "c", "b", "a"]),
        (OrderBy::Size, false, ["z", "b", "c", "a"]),
        (OrderBy::UpdatedAt, true, ["z", "a", "c", "b"]),
        (OrderBy::CreatedAt, true, ["z", "b", "c", "a"]),
    ] {
        let order = Order { by, descending };
        let lists = lists(Arc::clone(&drive), Options { order, ..plain() });
        assert_eq!(lists.names().await, expected, "{order:?}");
    }
}

#[tokio::test]
async fn an_unfinished_upload_is_hidden_only_if_it_is_one() {
    let drive = Arc::new(Drive::default());
    let mark = |file: &mut FileInfo| {
        let metadata = file.metadata.get_or_insert_default();
        metadata.insert("sys:upload_session_id".into(), "session".into());
    };
    drive.add(&format!("{FOLDER}/placeholder"), FileKind::File, 0, mark);
    // A copy keeps the mark for ever; a version being uploaded leaves the old content in its place.
    drive.add(&format!("{FOLDER}/copy"), FileKind::File, 5, mark);
    drive.file(&format!("{FOLDER}/empty"), 0);
    // What was uploaded may be empty too: it has an entity of its own.
    drive.add(&format!("{FOLDER}/nothing"), FileKind::File, 0, |file| {
        mark(file);
        file.entity = EntityId("of nothing".into());
    });
    let hidden = Options {
        hide_uploading: true,
        ..plain()
    };
    assert_eq!(
        lists(Arc::clone(&drive), hidden).names().await,
        ["copy", "empty", "nothing"]
    );
    let lists = lists(drive, plain());
    assert_eq!(
        lists.names().await,
        ["copy", "empty", "nothing", "placeholder"]
    );
    let listing = lists.list().await.unwrap();
    let unfinished = |name: &str| listing.get(name.as_ref()).unwrap().unfinished;
    assert!(unfinished("placeholder"));
    assert!(["copy", "empty", "nothing"].map(unfinished) == [false; 3]);
}

#[tokio::test]
async fn in_the_trash_files_of_one_name_are_told_apart_by_their_ids() {
    let drive = Arc::new(Drive::default());
    let trash = "cloudreve://trash";
    for (uuid, name) in [("u3", "a.txt"), ("u1", "a.txt"), ("u2", "b.txt")] {
        drive.add(&format!("{trash}/{uuid}"), FileKind::File, 1, |file| {
            file.name = crate::names::ServerName::from_wire(name.as_bytes());
        });
    }
    let lists = lists(drive, plain());
    let progress = lists.listings.list(&key(), &uri(trash));
    let (listing, _) = progress.complete(LONG).await.unwrap();
    let names: Vec<_> = listing.entries().iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["a.txt", "a.txt (id000002)", "b.txt"]);
    let segment = |name: &str| listing.get(name.as_ref()).unwrap().segment().to_string();
    assert_eq!(segment("a.txt"), "u3");
    assert_eq!(segment("a.txt (id000002)"), "u1");
}

#[tokio::test]
async fn names_that_would_clash_here_carry_their_ids_and_hostile_ones_stay_in_their_folder() {
    let drive = Arc::new(Drive::default());
    let quote = |name: &str| name.replace('‛', "%E2%80%9B").replace('：', "%EF%BC%9A");
    drive.file(&format!("{FOLDER}/{}", quote("‛‛x")), 1);
    drive.file(&format!("{FOLDER}/{}", quote("‛x")), 1);
    drive.file(&format!("{FOLDER}/{}", quote("a：b")), 1);
    drive.file(&format!("{FOLDER}/x%2Fy"), 1);
    let lists = lists(drive, plain());
    let mut names = lists.names().await;
    names.sort();
    assert_eq!(names, ["a:b", "x_y (id000004)", "‛x", "‛x (id000002)"]);
}

#[tokio::test]
async fn what_the_server_makes_no_thumbnail_of_is_known_by_its_mark() {
    let drive = Arc::new(Drive::default());
    drive.add(
        &format!("{FOLDER}/damaged.jpg"),
        FileKind::File,
        5,
        |file| {
            let metadata = file.metadata.get_or_insert_default();
            metadata.insert("thumb:disabled".into(), String::new());
        },
    );
    drive.file(&format!("{FOLDER}/photo.jpg"), 5);
    let listing = lists(drive, plain()).list().await.unwrap();
    let thumbless = |name: &str| listing.get(name.as_ref()).unwrap().thumbless;
    assert!(thumbless("damaged.jpg"));
    assert!(!thumbless("photo.jpg"));
}

#[tokio::test]
async fn another_folder_at_the_place_of_one_is_not_taken_for_it() {
    let lists = lists(drive(0, 2), plain());
    let tell = |id: &str| lists.drive.state().told_as = Some(FileId(id.into()));
    tell("folder");
    assert_eq!(lists.names().await.len(), 2);
    tell("another");
    assert!(matches!(lists.list().await, Err(api::Error::NotFound)));
    let known = lists.metadata.last_listing(&key()).unwrap();
    assert_eq!(known.len(), 2, "what was known of it stays known");
}
