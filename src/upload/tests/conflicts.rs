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
