//! Two writers of one file: both contents are kept, whoever comes first.

use super::*;

/// The name that is not `name`.
#[track_caller]
fn beside(drive: &Drive, name: &str) -> String {
    let names = drive.names();
    assert_eq!(names.len(), 2, "{names:?}");
    let other = names.into_iter().find(|other| other != name);
    other.expect("another name")
}

#[tokio::test]
async fn a_version_that_the_writer_had_not_seen_is_kept_and_ours_goes_beside_it() {
    let drive = Drive::new();
    drive.server.put("f.txt", "old");
    let base = drive.base("f.txt", 3);
    drive.server.put("f.txt", "theirs");
    let mut run = drive.run();
    let local = run.save_over("f.txt", Some(base), b"ours");
    let (_, info, conflict) = run.news().await;
    assert!(conflict);
    let other = beside(&drive, "f.txt");
    assert!(other.starts_with("f (conflict desk 20"), "{other}");
    assert!(other.ends_with(").txt"), "{other}");
    assert_eq!(info.name.to_string(), other);
    assert_eq!(drive.content("f.txt").as_deref(), Some(&b"theirs"[..]));
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours"[..]));
    // Who goes on writing writes to the copy.
    run.rewrite(&local, b"ours again");
    let (_, _, conflict) = run.news().await;
    assert!(!conflict);
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours again"[..]));
    assert_eq!(drive.names().len(), 2);
}

#[tokio::test]
async fn a_new_file_whose_name_is_taken_goes_beside_what_has_it() {
    let drive = Drive::new();
    drive.server.put("f", "theirs");
    let mut run = drive.run();
    run.save("f", b"ours");
    assert!(run.news().await.2);
    let other = beside(&drive, "f");
    assert_eq!(drive.content("f").as_deref(), Some(&b"theirs"[..]));
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn a_new_file_whose_name_a_folder_has_goes_beside_it() {
    let drive = Drive::new();
    drive.server.mkdir("f");
    let mut run = drive.run();
    run.save("f", b"ours");
    assert!(run.news().await.2);
    let other = beside(&drive, "f");
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn an_empty_file_of_that_name_gets_the_content() {
    let drive = Drive::new();
    drive.server.touch("f");
    let file = drive.server.file_id("f");
    let mut run = drive.run();
    run.save("f", b"ours");
    let (_, info, conflict) = run.news().await;
    assert!(!conflict);
    assert_eq!(&*info.id.0, file);
    assert_eq!(drive.names(), ["f"]);
    assert_eq!(drive.content("f").as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn a_write_that_comes_while_ours_is_sent_is_refused_there_or_kept() {
    let drive = Drive::new();
    drive.server.put("f", "old");
    let mut run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(100)));
    run.save_over("f", Some(drive.base("f", 3)), b"ours");
    until(|| drive.server.open_uploads() == 1).await;
    let uri = FileUri::parse("cloudreve://my/f").unwrap();
    let theirs = crate::api::Part::from(bytes::Bytes::from_static(b"theirs"));
    let put = drive.api.put_content(&uri, None, theirs).await;
    assert!(matches!(put, Err(crate::api::Error::Locked(_))), "{put:?}");
    run.news().await;
    assert_eq!(drive.content("f").as_deref(), Some(&b"ours"[..]));
}

#[tokio::test]
async fn somebody_elses_upload_is_waited_for_and_its_content_kept() {
    let drive = Drive::new();
    drive.server.put("f", "old");
    let base = drive.base("f", 3);
    let uri = FileUri::parse("cloudreve://my/f").unwrap();
    let theirs = drive
        .api
        .open_session(&crate::api::NewSession {
            uri: uri.clone(),
            size_bytes: 6,
            modified: SystemTime::now(),
            over: Some(base.entity.id.clone()),
            metadata: Default::default(),
        })
        .await
        .unwrap();
    let mut run = drive.run();
    let local = run.save_over("f", Some(base), b"ours");
    let refused = run.uploader.deliver(&local).await;
    assert!(
        matches!(refused, Err(Undelivered::Api(crate::api::Error::Locked(_)))),
        "{refused:?}"
    );
    assert_eq!(run.uploader.owed()[0].state, "retrying");
    let part = crate::api::Part::from(bytes::Bytes::from_static(b"theirs"));
    let sent = drive.api.send_chunk(&theirs.session_id, 0, part).await;
    sent.unwrap();
    run.uploader.wake();
    assert!(run.news().await.2);
    assert_eq!(drive.content("f").as_deref(), Some(&b"theirs"[..]));
    let other = beside(&drive, "f");
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours"[..]));
}

/// Content of which a sample would not show that it differs from `bytes(1, size)`.
fn nearly(size: u64) -> Vec<u8> {
    let mut content = bytes(1, size);
    content[20 << 10] ^= 1;
    content
}

#[tokio::test]
async fn versions_that_differ_in_one_byte_are_both_kept() {
    let size = 10 * CHUNK;
    for over in [false, true] {
        let drive = Drive::new();
        drive.server.put("f", bytes(7, size));
        let base = over.then(|| drive.base("f", size));
        drive.server.put("f", nearly(size));
        drive.server.set_updated("f", then());
        let mut run = drive.run();
        run.save_over("f", base, &bytes(1, size));
        assert!(run.news().await.2, "over: {over}");
        assert!(drive.content("f") == Some(nearly(size)));
        assert!(drive.content(&beside(&drive, "f")) == Some(bytes(1, size)));
    }
}

#[tokio::test]
async fn the_very_same_bytes_are_no_conflict() {
    let size = 10 * CHUNK;
    for over in [false, true] {
        let drive = Drive::new();
        drive.server.put("f", bytes(7, size));
        let base = over.then(|| drive.base("f", size));
        drive.server.put("f", bytes(1, size));
        drive.server.set_updated("f", then());
        let mut run = drive.run();
        run.save_over("f", base, &bytes(1, size));
        assert!(!run.news().await.2, "over: {over}");
        assert_eq!(drive.names(), ["f"]);
        assert_eq!(drive.server.count(Route::UploadCreate), u64::from(!over));
    }
}

#[tokio::test]
async fn a_version_that_came_when_the_session_was_lost_is_not_taken_for_ours() {
    let size = 10 * CHUNK;
    for saved_again in [false, true] {
        let drive = Drive::new();
        drive.server.put("f", "old");
        let mut run = drive.run();
        drive
            .server
            .fail(Fault::on(Route::UploadChunk).after(9).status(502));
        let local = run.save_over("f", Some(drive.base("f", 3)), &bytes(1, size));
        until(|| drive.server.count(Route::UploadChunk) >= 10).await;
        drive.server.lose_uploads();
        drive.server.put("f", nearly(size));
        drive.server.set_updated("f", then());
        drive.server.clear_faults();
        if saved_again {
            run.rewrite(&local, b"again");
        }
        run.uploader.wake();
        assert!(run.news().await.2, "saved again: {saved_again}");
        assert!(drive.content("f") == Some(nearly(size)));
        let ours = match saved_again {
            true => b"again".to_vec(),
            false => bytes(1, size),
        };
        assert!(drive.content(&beside(&drive, "f")) == Some(ours));
    }
}

#[tokio::test]
async fn a_content_that_landed_unseen_is_no_conflict_for_the_next_one() {
    let size = 10 * CHUNK;
    for over in [false, true] {
        let drive = Drive::new();
        if over {
            drive.server.put("f", "old");
        }
        let mut run = drive.run();
        let chunks = Fault::on(Route::UploadChunk).after(9);
        drive.server.fail(chunks.reset_before_headers());
        drive
            .server
            .fail(Fault::on(Route::Info).after(u64::from(over)).status(502));
        let base = over.then(|| drive.base("f", 3));
        let local = run.save_over("f", base, &bytes(1, size));
        until(|| run.uploader.owed()[0].state == "retrying").await;
        run.rewrite(&local, b"again");
        drive.server.clear_faults();
        run.uploader.wake();
        while !run.staging.owed().is_empty() {
            assert!(!run.news().await.2, "over: {over}");
        }
        assert_eq!(drive.names(), ["f"]);
        assert_eq!(drive.content("f").as_deref(), Some(&b"again"[..]));
        drive.is_tidy();
    }
}

#[tokio::test]
async fn a_version_that_came_before_the_old_one_was_deleted_is_kept() {
    let mut drive = Drive::new();
    drive.options.overwrite = Overwrite::Delete;
    drive.server.put("f", "old");
    let mut run = drive.run();
    // The answer to the first look is on its way while somebody writes.
    let infos = drive.server.count(Route::Info);
    drive.server.fail(
        Fault::on(Route::Info)
            .after(1)
            .times(1)
            .delay(Duration::from_millis(300)),
    );
    run.save_over("f", Some(drive.base("f", 3)), b"ours");
    until(|| drive.server.count(Route::Info) == infos + 2).await;
    drive.server.put("f", "theirs");
    assert!(run.news().await.2);
    assert_eq!(drive.content("f").as_deref(), Some(&b"theirs"[..]));
    let other = beside(&drive, "f");
    assert_eq!(drive.content(&other).as_deref(), Some(&b"ours"[..]));
}
