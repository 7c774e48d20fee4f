//! The ways that content takes where nothing goes wrong.

use super::*;

#[tokio::test]
async fn a_new_file_of_any_size_gets_there_with_its_time() {
    let drive = Drive::new();
    let mut run = drive.run();
    for (name, size) in [
        ("one", 1),
        ("chunk", CHUNK),
        ("more", CHUNK + 1),
        ("many", 9 * CHUNK + 77),
    ] {
        let local = run.save(name, &bytes(size, size));
        let (id, info, conflict) = run.news().await;
        assert_eq!((id, conflict), (local.id(), false));
        assert_eq!(info.size_bytes, size);
        assert_eq!(info.updated, then());
        assert!(drive.content(name) == Some(bytes(size, size)), "{name}");
        assert_eq!(local.state(), State::Delivered);
        assert_eq!(local.base().map(|base| base.file), Some(info.id));
    }
    assert!(run.staging.owed().is_empty());
    assert!(run.uploader.owed().is_empty());
    drive.is_tidy();
}

#[tokio::test]
async fn an_empty_file_gets_there_new_and_over_another() {
    let drive = Drive::new();
    drive.server.put("full", "content");
    let mut run = drive.run();
    run.save("empty", b"");
    run.news().await;
    assert_eq!(drive.content("empty"), Some(Vec::new()));
    let file = drive.server.file_id("full");
    run.save_over("full", Some(drive.base("full", 7)), b"");
    let (_, info, conflict) = run.news().await;
    assert!(!conflict);
    assert_eq!(drive.content("full"), Some(Vec::new()));
    assert_eq!(&*info.id.0, file);
}

#[tokio::test]
async fn replace_keeps_the_file_and_drops_the_version_that_was_replaced() {
    overwritten(Overwrite::Replace, 1).await;
}

#[tokio::test]
async fn version_keeps_the_file_and_the_version_that_was_replaced() {
    overwritten(Overwrite::Version, 2).await;
}

async fn overwritten(overwrite: Overwrite, versions: usize) {
    let mut drive = Drive::new();
    drive.options.overwrite = overwrite;
    drive.server.put("f", "old");
    let file = drive.server.file_id("f");
    let mut run = drive.run();
    run.save_over("f", Some(drive.base("f", 3)), b"newer");
    let (_, info, conflict) = run.news().await;
    assert!(!conflict);
    assert_eq!(&*info.id.0, file);
    assert_eq!(drive.content("f").as_deref(), Some(&b"newer"[..]));
    let kept = drive.api.versions(&info.uri).await.unwrap();
    assert_eq!(kept.len(), versions);
    assert_eq!(drive.names(), ["f"]);
}

#[tokio::test]
async fn delete_makes_the_file_anew() {
    let mut drive = Drive::new();
    drive.options.overwrite = Overwrite::Delete;
    drive.server.put("f", "old");
    let file = drive.server.file_id("f");
    let mut run = drive.run();
    run.save_over("f", Some(drive.base("f", 3)), b"newer");
    let (_, info, conflict) = run.news().await;
    assert!(!conflict);
    assert_ne!(&*info.id.0, file);
    assert_eq!(drive.content("f").as_deref(), Some(&b"newer"[..]));
    assert_eq!(drive.names(), ["f"]);
}

#[tokio::test]
async fn what_is_only_in_the_base_is_brought_before_it_goes() {
    let drive = Drive::new();
    let size = 3 * CHUNK;
    drive.server.put_generated("f", size, 5);
    let mut run = drive.run();
    let base = Some(drive.base("f", size));
    let local = run.staging.create(place("f"), base, then()).unwrap();
    let now = SystemTime::now();
    local.write(CHUNK + 5, b"edit", now).unwrap();
    local.stage(now).unwrap();
    run.uploader.staged(&local);
    run.news().await;
    let mut expected = bytes(5, size);
    expected[CHUNK as usize + 5..][..4].copy_from_slice(b"edit");
    assert!(drive.content("f") == Some(expected));
    assert_eq!(drive.completed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_file_that_was_renamed_elsewhere_gets_the_content_under_its_new_name() {
    let drive = Drive::new();
    drive.server.put("f", "old");
    let base = drive.base("f", 3);
    drive.server.mkdir("d");
    drive.server.rename("f", "g");
    drive.server.move_into("g", "d");
    let mut run = drive.run();
    run.save_over("f", Some(base), b"newer");
    let (_, info, conflict) = run.news().await;
    assert!(!conflict);
    assert_eq!(info.name.to_string(), "g");
    assert_eq!(drive.content("d/g").as_deref(), Some(&b"newer"[..]));
    assert_eq!(drive.names(), ["d"]);
}

#[tokio::test]
async fn a_file_that_was_deleted_elsewhere_is_made_anew_in_what_is_left_of_its_folder() {
    let drive = Drive::new();
    drive.server.mkdir("a");
    drive.server.mkdir("a/b");
    drive.server.put("a/b/f", "old");
    let base = drive.base("a/b/f", 3);
    let folder = FileKey {
        tree: Tree::MAIN,
        id: FileId(drive.server.file_id("a/b").as_str().into()),
    };
    let place = Place {
        folder,
        folder_uri: FileUri::parse("cloudreve://my/a/b").unwrap(),
        name: ServerName::from_wire(*b"f"),
        full: None,
    };
    drive.server.remove("a/b");
    let mut run = drive.run();
    let local = run.staging.create(place, Some(base), then()).unwrap();
    run.rewrite(&local, b"newer");
    run.news().await;
    assert_eq!(drive.content("a/f").as_deref(), Some(&b"newer"[..]));
    assert_eq!(drive.server.names("a/b"), None);
}

#[tokio::test]
async fn a_folder_that_was_renamed_elsewhere_gets_the_new_file() {
    let drive = Drive::new();
    drive.server.mkdir("a");
    let folder = FileKey {
        tree: Tree::MAIN,
        id: FileId(drive.server.file_id("a").as_str().into()),
    };
    let place = Place {
        folder,
        folder_uri: FileUri::parse("cloudreve://my/a").unwrap(),
        name: ServerName::from_wire(*b"f"),
        full: None,
    };
    drive.server.rename("a", "c");
    let mut run = drive.run();
    let local = run.staging.create(place, None, then()).unwrap();
    run.rewrite(&local, b"new");
    run.news().await;
    assert_eq!(drive.content("c/f").as_deref(), Some(&b"new"[..]));
    assert_eq!(drive.names(), ["c"]);
}

#[tokio::test]
async fn ten_saves_in_a_row_are_one_upload() {
    let mut drive = Drive::new();
    drive.options.delay = Duration::from_millis(300);
    let mut run = drive.run();
    let local = run.save("f", b"0");
    for save in 1..10 {
        run.rewrite(&local, format!("{save}").as_bytes());
    }
    run.news().await;
    assert_eq!(drive.content("f").as_deref(), Some(&b"9"[..]));
    assert_eq!(drive.server.count(Route::UploadCreate), 1);
}

#[tokio::test]
async fn what_is_written_while_it_is_sent_goes_out_anew_and_never_mixed() {
    let drive = Drive::new();
    let size = 40 * CHUNK;
    let mut run = drive.run();
    // Slow enough to be caught in the middle.
    drive.server.set_bandwidth(None);
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
    let local = run.save("f", &bytes(1, size));
    until(|| drive.server.count(Route::UploadChunk) > 5).await;
    run.rewrite(&local, &bytes(2, size));
    run.news().await;
    assert!(drive.content("f") == Some(bytes(2, size)));
    run.drained().await;
    assert_eq!(drive.names(), ["f"]);
    drive.is_tidy();
}

#[tokio::test]
async fn what_is_held_is_neither_uploaded_nor_locked_until_it_is_let_go() {
    let drive = Drive::new();
    let mut run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
    let local = run.save("f", &bytes(1, 40 * CHUNK));
    until(|| drive.server.count(Route::UploadChunk) > 3).await;
    let held = run.uploader.hold(&local).await;
    drive.is_tidy();
    assert_eq!(drive.names(), Vec::<String>::new());
    local.relocate(place("g"), None).unwrap();
    let opened = drive.server.count(Route::UploadCreate);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(drive.server.count(Route::UploadCreate), opened);
    drop(held);
    run.news().await;
    assert_eq!(drive.names(), ["g"]);
}

#[tokio::test]
async fn an_ordered_end_leaves_no_session_behind_and_loses_nothing() {
    let drive = Drive::new();
    let run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
    run.save("f", &bytes(1, 40 * CHUNK));
    until(|| drive.server.count(Route::UploadChunk) > 3).await;
    run.uploader.close().await;
    drive.is_tidy();
    run.kill().await;
    drive.api.drain().await;
    let mut run = drive.run();
    assert_eq!(run.found.len(), 1);
    run.news().await;
    assert!(drive.content("f") == Some(bytes(1, 40 * CHUNK)));
}

#[tokio::test]
async fn small_files_are_not_held_up_by_large_ones() {
    let mut drive = Drive::new();
    drive.options.transfers = 2;
    let mut run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(30)));
    let large = 32 * CHUNK;
    for name in ["l1", "l2", "l3"] {
        run.save(name, &bytes(1, large));
    }
    until(|| drive.server.count(Route::UploadChunk) > 1).await;
    let small = run.save("s", b"small");
    let (first, ..) = run.news().await;
    assert_eq!(first, small.id());
}

#[tokio::test]
async fn a_session_of_an_unlinked_file_that_cannot_be_cancelled_now_is_cancelled_later() {
    let drive = Drive::new();
    let run = drive.run();
    let slow = Fault::on(Route::UploadChunk).delay(Duration::from_millis(20));
    drive.server.fail(slow);
    let local = run.save("f", &bytes(1, 40 * CHUNK));
    until(|| drive.server.count(Route::UploadChunk) > 3).await;
    drive
        .server
        .fail(Fault::on(Route::UploadCancel).status(503));
    let held = run.uploader.hold(&local).await;
    local.unlink().unwrap();
    drop(held);
    assert_eq!(drive.server.open_uploads(), 1, "held in vain, in time");
    drive.server.clear_faults();
    run.uploader.wake();
    until(|| drive.server.open_uploads() == 0).await;
    assert_eq!(drive.names(), Vec::<String>::new());
    assert!(run.uploader.owed().is_empty());
}

/// Saves so many new files into the folder `d`.
fn many_to_one_folder(drive: &Drive, run: &Run, files: u64) {
    for nth in 0..files {
        let place = Place {
            folder: FileKey {
                tree: Tree::MAIN,
                id: FileId(drive.server.file_id("d").as_str().into()),
            },
            folder_uri: FileUri::my().child(ServerName::from_wire(*b"d")),
            ..place(&format!("f{nth}"))
        };
        let local = run.staging.create(place, None, then()).unwrap();
        run.rewrite(&local, format!("content {nth}").as_bytes());
    }
}

/// All of them are on the server, as they were written, and nothing else is open there.
async fn all_in_one_folder(drive: &Drive, run: &mut Run, files: u64) {
    for _ in 0..files {
        run.news().await;
    }
    for nth in 0..files {
        let content = drive.content(&format!("d/f{nth}"));
        assert_eq!(content, Some(format!("content {nth}").into_bytes()));
    }
    drive.is_tidy();
}

#[tokio::test]
async fn files_that_go_to_one_folder_are_looked_for_together_and_ask_for_it_now_and_then() {
    const FILES: u64 = 48;
    let mut drive = Drive::new();
    drive.options.transfers = FILES as usize;
    drive.server.mkdir("d");
    drive.server.set_latency(Duration::from_millis(20));
    let mut run = drive.run();
    drive.server.reset_counters();
    many_to_one_folder(&drive, &run, FILES);
    all_in_one_folder(&drive, &mut run, FILES).await;
    // All begin at once, and however slow this machine is, they take few seconds.
    let asked = drive.server.count(Route::Info) + drive.server.count(Route::List);
    assert!((1..FILES / 2).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn who_is_not_on_the_page_of_what_was_written_last_is_looked_for_alone() {
    const FILES: u64 = 48;
    let mut drive = Drive::new();
    drive.options.transfers = FILES as usize;
    drive.server.mkdir("d");
    // Newer ones than ours, whose times are old: they fill the page.
    for nth in 0..200 {
        drive
            .server
            .put(&format!("d/newer {nth}"), b"newer".to_vec());
    }
    let mut run = drive.run();
    drive.server.reset_counters();
    many_to_one_folder(&drive, &run, FILES);
    all_in_one_folder(&drive, &mut run, FILES).await;
    assert!(drive.server.count(Route::Info) >= FILES);
    // It is not tried again and again.
    assert!(drive.server.count(Route::List) < FILES / 4);
}

#[tokio::test]
async fn where_a_page_cannot_be_had_each_is_looked_for_alone() {
    const FILES: u64 = 12;
    let mut drive = Drive::new();
    drive.options.transfers = FILES as usize;
    drive.server.mkdir("d");
    drive
        .server
        .fail(Fault::on(Route::List).code(40073, "locked"));
    let mut run = drive.run();
    many_to_one_folder(&drive, &run, FILES);
    all_in_one_folder(&drive, &mut run, FILES).await;
}

#[tokio::test]
async fn what_a_page_shows_without_our_content_is_not_taken_for_delivered() {
    const FILES: u64 = 12;
    let mut drive = Drive::new();
    drive.options.transfers = FILES as usize;
    drive.server.mkdir("d");
    // Some that it said it has are not there, as after a completion that failed (→ api part 2 §15e).
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).code(0, "").after(3).times(4));
    let mut run = drive.run();
    many_to_one_folder(&drive, &run, FILES);
    all_in_one_folder(&drive, &mut run, FILES).await;
}
