//! Servers and networks that fail, and files that cannot be delivered.

use super::*;
use crate::api::Error;
use cloudreve_test_server::Wedge;

#[tokio::test]
async fn a_full_account_blocks_the_file_and_no_other() {
    let drive = Drive::new();
    drive.server.set_quota(1000);
    let mut run = drive.run();
    let large = run.save("large", &bytes(1, 5000));
    let refused = run.uploader.deliver(&large).await;
    assert!(
        matches!(refused, Err(Undelivered::Blocked(_))),
        "{refused:?}"
    );
    run.save("small", b"small");
    run.news().await;
    let owed = run.uploader.owed();
    assert_eq!((owed.len(), owed[0].state), (1, "blocked"));
    let words = large.delivery().blocked.expect("a reason");
    assert!(words.contains("make room"), "{words}");
    drive.server.set_quota(1 << 30);
    run.uploader.wake();
    run.news().await;
    assert!(drive.content("large") == Some(bytes(1, 5000)));
}

#[tokio::test]
async fn a_version_for_which_there_is_room_alone_says_what_the_old_one_takes() {
    let drive = Drive::new();
    drive.server.put("f", bytes(1, 600));
    drive.server.set_quota(1000);
    let run = drive.run();
    let local = run.save_over("f", Some(drive.base("f", 600)), &bytes(2, 700));
    let refused = run.uploader.deliver(&local).await;
    assert!(
        matches!(refused, Err(Undelivered::Blocked(_))),
        "{refused:?}"
    );
    let words = local.delivery().blocked.expect("a reason");
    assert!(words.contains("300 bytes are missing for both"), "{words}");
    assert!(
        drive.content("f") == Some(bytes(1, 600)),
        "the old one stays"
    );
    drive.server.set_quota(1300);
    run.uploader.wake();
    run.drained().await;
    assert!(drive.content("f") == Some(bytes(2, 700)));
}

#[tokio::test]
async fn a_name_that_the_storage_cannot_hold_blocks_its_file_until_it_is_renamed_and_no_other() {
    let drive = Drive::new();
    let run = drive.run();
    let long = "n".repeat(250);
    let locals: Vec<_> = (0..4)
        .map(|number| run.save(&format!("{long}{number}"), b"content"))
        .collect();
    for local in &locals {
        let refused = run.uploader.deliver(local).await;
        assert!(
            matches!(refused, Err(Undelivered::Blocked(_))),
            "{refused:?}"
        );
        let words = local.delivery().blocked.expect("a reason");
        assert!(words.contains("251 bytes"), "{words}");
    }
    let other = run.save("other", b"content");
    run.uploader.deliver(&other).await.unwrap();
    for (number, local) in locals.iter().enumerate() {
        let held = run.uploader.hold(local).await;
        local
            .relocate(place(&format!("short {number}")), None)
            .unwrap();
        drop(held);
    }
    run.uploader.wake();
    run.drained().await;
    assert_eq!(drive.names().len(), 5);
    drive.is_tidy();
}

#[tokio::test]
async fn a_file_that_is_too_large_says_so() {
    let drive = Drive::new();
    drive
        .server
        .configure(|settings| settings.max_file_size = 10);
    let run = drive.run();
    let local = run.save("f", b"eleven bytes");
    let refused = run.uploader.deliver(&local).await;
    assert!(
        matches!(refused, Err(Undelivered::Blocked(_))),
        "{refused:?}"
    );
    assert_eq!(drive.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_whose_writes_fail_is_asked_by_one_file_at_a_time() {
    let drive = Drive::new();
    drive.server.put("warm", "up");
    drive.server.set_wedge(Wedge::Writes);
    let mut run = drive.run();
    for number in 0..20 {
        run.save(&format!("f{number}"), b"content");
    }
    until(|| {
        run.uploader
            .owed()
            .iter()
            .any(|owed| owed.state == "retrying")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(drive.server.count(Route::UploadCreate) < 20);
    drive.server.set_wedge(Wedge::None);
    run.uploader.wake();
    for _ in 0..20 {
        run.news().await;
    }
    assert_eq!(drive.names().len(), 21);
}

#[tokio::test]
async fn a_lost_answer_to_the_last_chunk_is_no_second_upload() {
    let drive = Drive::new();
    drive.server.put("old", "old");
    let mut run = drive.run();
    for (name, size, base) in [
        ("new", 3 * CHUNK, None),
        ("small", 10, None),
        ("old", 100, Some(drive.base("old", 3))),
    ] {
        let chunks = size.div_ceil(CHUNK);
        let lost = Fault::on(Route::UploadChunk).reset_before_headers();
        drive.server.fail(lost.after(chunks - 1).times(1));
        let opened = drive.server.count(Route::UploadCreate);
        run.save_over(name, base, &bytes(size, size));
        let (_, _, conflict) = run.news().await;
        assert!(!conflict);
        assert!(drive.content(name) == Some(bytes(size, size)), "{name}");
        assert_eq!(drive.server.count(Route::UploadCreate), opened + 1);
        drive.server.clear_faults();
    }
    assert_eq!(drive.names(), ["new", "old", "small"]);
}

#[tokio::test]
async fn a_lost_answer_to_the_opening_leaves_no_placeholder() {
    let drive = Drive::new();
    drive.server.put("old", "old");
    let mut run = drive.run();
    for (name, base) in [("new", None), ("old", Some(drive.base("old", 3)))] {
        let lost = Fault::on(Route::UploadCreate).reset_before_headers();
        drive.server.fail(lost.times(1));
        run.save_over(name, base, b"content");
        let (_, _, conflict) = run.news().await;
        assert!(!conflict, "{name}");
        assert_eq!(drive.content(name).as_deref(), Some(&b"content"[..]));
        drive.server.clear_faults();
    }
    assert_eq!(drive.names(), ["new", "old"]);
    drive.is_tidy();
}

#[tokio::test]
async fn chunks_that_are_cut_off_or_refused_are_sent_again() {
    let drive = Drive::new();
    let mut run = drive.run();
    let trouble = Fault::on(Route::UploadChunk).status(502);
    drive.server.fail(trouble.after(2).times(2));
    run.save("f", &bytes(1, 8 * CHUNK));
    run.news().await;
    assert!(drive.content("f") == Some(bytes(1, 8 * CHUNK)));
    assert_eq!(drive.server.count(Route::UploadCreate), 1);
}

#[tokio::test]
async fn a_disk_that_takes_chunks_in_order_only_gets_them_so() {
    let drive = Drive::new();
    drive
        .server
        .configure(|settings| settings.preallocate = false);
    let mut run = drive.run();
    run.save("f", &bytes(1, 12 * CHUNK));
    run.news().await;
    assert!(drive.content("f") == Some(bytes(1, 12 * CHUNK)));
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_begun_anew() {
    for locks_only in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        drive
            .server
            .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(30)));
        run.save("f", &bytes(1, 20 * CHUNK));
        until(|| drive.server.count(Route::UploadChunk) > 4).await;
        match locks_only {
            true => drive.server.lose_upload_locks(),
            false => drive.server.lose_uploads(),
        }
        drive.server.clear_faults();
        let (_, _, conflict) = run.news().await;
        assert!(!conflict);
        assert!(drive.content("f") == Some(bytes(1, 20 * CHUNK)));
        assert_eq!(drive.names(), ["f"]);
        drive.is_tidy();
    }
}

#[tokio::test]
async fn a_cut_network_is_waited_out_and_the_session_goes_on() {
    let drive = Drive::new();
    let mut run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
    let local = run.save("f", &bytes(1, 30 * CHUNK));
    until(|| drive.server.count(Route::UploadChunk) > 6).await;
    drive.server.fail(Fault::everywhere().status(503));
    until(|| local.delivery().tries > 0).await;
    drive.server.clear_faults();
    run.uploader.wake();
    run.news().await;
    assert!(drive.content("f") == Some(bytes(1, 30 * CHUNK)));
    assert_eq!(drive.server.count(Route::UploadCreate), 1);
}

#[tokio::test]
async fn who_waits_for_a_delivery_hears_why_it_failed_and_later_that_it_is_there() {
    let drive = Drive::new();
    let run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadCreate).code(50004, "disk"));
    let local = run.save("f", b"content");
    let failed = run.uploader.deliver(&local).await;
    assert!(
        matches!(failed, Err(Undelivered::Api(Error::Trouble { .. }))),
        "{failed:?}"
    );
    drive.server.clear_faults();
    let delivered = run.uploader.deliver(&local);
    let delivered = tokio::time::timeout(PATIENCE, delivered).await.unwrap();
    delivered.unwrap();
    assert_eq!(drive.content("f").as_deref(), Some(&b"content"[..]));
    run.uploader.deliver(&local).await.unwrap();
}
