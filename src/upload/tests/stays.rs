//! What stays on this machine by its name: `*.here` in these drives.

use super::*;

#[tokio::test]
async fn what_stays_here_is_never_sent_and_not_waited_for() {
    let drive = Drive::new();
    let run = drive.run();
    let local = run.save("f.here", b"mine");
    run.uploader.deliver(&local).await.unwrap();
    let other = run.save("f", b"theirs");
    run.uploader.deliver(&other).await.unwrap();
    drop((local, other));
    run.kill().await;
    let run = drive.run();
    run.drained().await;
    assert_eq!(drive.names(), ["f"]);
    assert_eq!(run.found.len(), 1);
    assert_eq!(run.found[0].read(0..4).unwrap(), "mine");
    assert!(run.uploader.owed().is_empty());
}

#[tokio::test]
async fn what_stays_here_does_not_depend_on_a_version_of_the_servers() {
    let drive = Drive::new();
    drive.server.put("f.here", bytes(1, CHUNK));
    let run = drive.run();
    let base = drive.base("f.here", CHUNK);
    let local = run
        .staging
        .create(place("f.here"), Some(base), then())
        .unwrap();
    local.write(7, b"mine", then()).unwrap();
    local.stage(then()).unwrap();
    run.uploader.staged(&local);
    until(|| local.missing().is_none()).await;
    run.uploader.deliver(&local).await.unwrap();
    assert_eq!(drive.content("f.here"), Some(bytes(1, CHUNK)));
    let mut expected = bytes(1, CHUNK);
    expected[7..11].copy_from_slice(b"mine");
    assert_eq!(
        super::super::body::read_all(&local, 0..CHUNK).unwrap(),
        expected
    );
    drive.is_tidy();
}

#[tokio::test]
async fn what_comes_to_stay_here_in_the_middle_of_its_upload_leaves_nothing_on_the_server() {
    let drive = Drive::new();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
    let run = drive.run();
    let local = run.save("f", &bytes(1, 50 * CHUNK));
    until(|| drive.server.count(Route::UploadChunk) >= 1).await;
    let held = run.uploader.hold(&local).await;
    local.relocate(place("f.here"), None).unwrap();
    drop(held);
    run.uploader.deliver(&local).await.unwrap();
    assert!(drive.names().is_empty());
    assert!(local.delivery().session.is_none());
    drive.is_tidy();
    // And goes once it has another name.
    let held = run.uploader.hold(&local).await;
    local.relocate(place("g"), None).unwrap();
    drop(held);
    run.uploader.deliver(&local).await.unwrap();
    assert_eq!(drive.content("g"), Some(bytes(1, 50 * CHUNK)));
}
