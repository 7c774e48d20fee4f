//! Files that are unlinked or replaced while the server does not answer: what their uploads left is seen to.

use super::*;

/// No request gets through from here on.
fn cut(drive: &Drive) {
    drive.server.fail(Fault::everywhere().status(503));
}

fn mend(drive: &Drive, run: &Run) {
    drive.server.clear_faults();
    run.uploader.wake();
}

/// What comes after the process of `run` was killed, with a server that answers again.
async fn killed(drive: &Drive, run: Run) -> Run {
    run.kill().await;
    drive.api.drain().await;
    drive.server.clear_faults();
    drive.run()
}

/// All of `content` gets to the server as `f`, and its answer is lost, as all later ones.
async fn landed_unheard(drive: &Drive, run: &Run, base: Option<Base>) -> Arc<Local> {
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).reset_before_headers());
    let local = run.save_over("f", base, b"landed");
    until(|| drive.content("f").as_deref() == Some(b"landed")).await;
    cut(drive);
    local
}

/// A new file got to the server as `old/f`, its answer is lost, and so are all later ones.
async fn landed_in_folder() -> (Drive, Run, Arc<Local>) {
    let drive = Drive::new();
    drive.server.mkdir("old");
    let folder = drive.server.file_id("old");
    let mut belongs = place("f");
    belongs.folder.id = FileId(folder.as_str().into());
    belongs.folder_uri = belongs
        .folder_uri
        .child(ServerName::from_wire(b"old".to_vec()));
    let run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).reset_before_headers());
    let local = run.staging.create(belongs, None, then()).unwrap();
    local.write(0, b"landed", then()).unwrap();
    local.stage(then()).unwrap();
    run.uploader.staged(&local);
    until(|| drive.content("old/f").as_deref() == Some(b"landed")).await;
    cut(&drive);
    (drive, run, local)
}

/// Another content takes the place of `old`, as by a rename onto it.
async fn replace(run: &Run, old: &Arc<Local>, base: Option<Base>, content: &[u8]) {
    let held = run.uploader.hold(old).await;
    let new = run.staging.create(place("temp"), None, then()).unwrap();
    let now = SystemTime::now();
    new.write(0, content, now).unwrap();
    new.stage(now).unwrap();
    new.relocate_over(old.place(), base, old).unwrap();
    run.uploader.staged(&new);
    drop(held);
}

/// `f` alone is there, with this content, and nothing is left open or noted.
async fn check(drive: &Drive, run: &Run, content: Option<&[u8]>) {
    run.drained().await;
    run.uploader.wake();
    until(|| run.staging.unfinished().is_empty()).await;
    let names: &[&str] = if content.is_some() { &["f"] } else { &[] };
    assert_eq!(drive.names(), names);
    assert_eq!(drive.content("f").as_deref(), content);
    drive.is_tidy();
}

#[tokio::test]
async fn a_version_whose_answer_was_lost_is_the_base_of_what_replaced_its_file() {
    // Over what has no content it goes by way of a version of ours that has none.
    let cases = [("old", false), ("old", true), ("", false), ("", true)];
    for (before, is_killed) in cases {
        let drive = Drive::new();
        drive.server.put("f", before);
        let file = drive.server.file_id("f");
        let base = drive.base("f", before.len() as u64);
        let mut run = drive.run();
        let old = landed_unheard(&drive, &run, Some(base.clone())).await;
        replace(&run, &old, Some(base), b"newer").await;
        drop(old);
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        check(&drive, &run, Some(b"newer")).await;
        assert_eq!(drive.server.file_id("f"), file);
    }
}

#[tokio::test]
async fn a_new_file_whose_answer_was_lost_goes_where_its_file_was_renamed_and_then_replaced() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        let old = landed_unheard(&drive, &run, None).await;
        let held = run.uploader.hold(&old).await;
        old.relocate(place("g"), None).unwrap();
        drop(held);
        replace(&run, &old, None, b"newer").await;
        drop(old);
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        run.drained().await;
        run.uploader.wake();
        until(|| run.staging.unfinished().is_empty()).await;
        assert_eq!(drive.names(), ["g"]);
        assert_eq!(drive.content("g").as_deref(), Some(&b"newer"[..]));
        drive.is_tidy();
    }
}

#[tokio::test]
async fn a_new_file_whose_answer_was_lost_is_found_though_its_folder_was_moved_since() {
    let (drive, run, local) = landed_in_folder().await;
    let held = run.uploader.hold(&local).await;
    local.relocate(place("g"), None).unwrap();
    drop(held);
    drive.server.rename("old", "new");
    mend(&drive, &run);
    run.drained().await;
    assert_eq!(drive.content("g").as_deref(), Some(&b"landed"[..]));
    assert_eq!(drive.server.names("new").unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_was_written_over_an_empty_file_and_not_answered_stays_in_it_though_that_has_another_name()
 {
    let drive = Drive::new();
    drive.server.put("f", "");
    let run = drive.run();
    let local = landed_unheard(&drive, &run, Some(drive.base("f", 0))).await;
    let held = run.uploader.hold(&local).await;
    local.relocate(place("g"), None).unwrap();
    drop(held);
    drive.server.clear_faults();
    let held = run.uploader.hold(&local).await;
    let known = local.base().unwrap().entity.id;
    assert_eq!(*known.0, *drive.server.entity_id("f"));
    drop(held);
    run.drained().await;
    // Whoever gave it the name tells the server.
    assert_eq!(drive.names(), ["f"]);
    assert_eq!(drive.content("f").as_deref(), Some(&b"landed"[..]));
    assert_eq!(*local.base().unwrap().file.0, *drive.server.file_id("f"));
    drive.is_tidy();
}

#[tokio::test]
async fn what_lies_above_a_folder_that_is_gone_is_not_taken_for_what_an_upload_left_in_that() {
    let (drive, run, local) = landed_in_folder().await;
    let held = run.uploader.hold(&local).await;
    local.unlink().unwrap();
    drop(held);
    drive.server.remove("old");
    // The same bytes, one folder up.
    drive.server.put("f", "landed");
    mend(&drive, &run);
    until(|| run.staging.unfinished().is_empty()).await;
    assert_eq!(drive.content("f").as_deref(), Some(&b"landed"[..]));
}

#[tokio::test]
async fn a_new_file_whose_answer_was_lost_is_the_base_of_what_replaced_it() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        let old = landed_unheard(&drive, &run, None).await;
        let file = drive.server.file_id("f");
        replace(&run, &old, None, b"newer").await;
        drop(old);
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        check(&drive, &run, Some(b"newer")).await;
        assert_eq!(drive.server.file_id("f"), file);
    }
}

#[tokio::test]
async fn a_new_file_whose_answer_was_lost_goes_where_it_was_unlinked_before_anybody_knew() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        let old = landed_unheard(&drive, &run, None).await;
        let held = run.uploader.hold(&old).await;
        old.unlink().unwrap();
        drop((held, old));
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        check(&drive, &run, None).await;
    }
}

/// An empty file is made at the server as `f`, and the answer is lost, as all later ones.
async fn made_unheard(drive: &Drive, run: &Run) -> Arc<Local> {
    let unheard = Fault::on(Route::Create).reset_before_headers();
    drive.server.fail(unheard);
    let local = run.save("f", b"");
    until(|| drive.content("f").is_some()).await;
    cut(drive);
    local
}

#[tokio::test]
async fn an_empty_file_whose_answer_was_lost_goes_where_it_was_unlinked_before_anybody_knew() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        let old = made_unheard(&drive, &run).await;
        let held = run.uploader.hold(&old).await;
        old.unlink().unwrap();
        drop((held, old));
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        check(&drive, &run, None).await;
    }
}

#[tokio::test]
async fn an_empty_file_whose_answer_was_lost_goes_also_where_it_was_written_to_and_unlinked() {
    let drive = Drive::new();
    let run = drive.run();
    let local = made_unheard(&drive, &run).await;
    let now = SystemTime::now();
    local.write(0, b"more", now).unwrap();
    local.stage(now).unwrap();
    run.uploader.staged(&local);
    let held = run.uploader.hold(&local).await;
    local.unlink().unwrap();
    drop((held, local));
    mend(&drive, &run);
    check(&drive, &run, None).await;
}

#[tokio::test]
async fn an_empty_file_whose_answer_was_lost_is_the_base_of_what_replaced_it() {
    let drive = Drive::new();
    let run = drive.run();
    let old = made_unheard(&drive, &run).await;
    let file = drive.server.file_id("f");
    replace(&run, &old, None, b"newer").await;
    drop(old);
    mend(&drive, &run);
    check(&drive, &run, Some(b"newer")).await;
    assert_eq!(drive.server.file_id("f"), file);
}

#[tokio::test]
async fn an_upload_that_could_not_be_cancelled_is_no_conflict_with_what_replaced_its_file() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        drive
            .server
            .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(20)));
        let old = run.save("f", &bytes(1, 40 * CHUNK));
        until(|| drive.server.count(Route::UploadChunk) > 3).await;
        cut(&drive);
        replace(&run, &old, None, b"newer").await;
        drop(old);
        assert_eq!(drive.server.open_uploads(), 1, "held in vain");
        if is_killed {
            run = killed(&drive, run).await;
        }
        mend(&drive, &run);
        check(&drive, &run, Some(b"newer")).await;
    }
}

/// A new file `f` that got there, with the answer still on its way when whoever holds it has waited long enough.
async fn landing(drive: &mut Drive) -> (Run, Arc<Local>, Held) {
    drive.options.timeout = Duration::from_millis(200);
    drive.server.fail(Fault::on(Route::UploadChunk).stall());
    let run = drive.run();
    let local = run.save("f", b"landed");
    until(|| drive.content("f").as_deref() == Some(b"landed")).await;
    let held = run.uploader.hold(&local).await;
    assert!(matches!(local.state(), State::Staged(_)), "held in vain");
    (run, local, held)
}

#[tokio::test]
async fn what_lands_after_its_file_was_renamed_follows_it() {
    let mut drive = Drive::new();
    let (run, local, held) = landing(&mut drive).await;
    let file = drive.server.file_id("f");
    local.relocate(place("g"), None).unwrap();
    drop(held);
    mend(&drive, &run);
    run.drained().await;
    assert_eq!(drive.names(), ["g"]);
    assert_eq!(drive.content("g").as_deref(), Some(&b"landed"[..]));
    assert_eq!(drive.server.file_id("g"), file);
    drive.is_tidy();
}

#[tokio::test]
async fn what_lands_after_its_file_was_put_onto_another_one_replaces_that() {
    let mut drive = Drive::new();
    drive.server.put("t", "old");
    let base = drive.base("t", 3);
    let file = drive.server.file_id("t");
    let (run, local, held) = landing(&mut drive).await;
    local.relocate(place("t"), Some(base)).unwrap();
    drop(held);
    mend(&drive, &run);
    run.drained().await;
    assert_eq!(drive.names(), ["t"]);
    assert_eq!(drive.content("t").as_deref(), Some(&b"landed"[..]));
    assert_eq!(drive.server.file_id("t"), file);
    drive.is_tidy();
}

#[tokio::test]
async fn what_lands_after_its_file_was_unlinked_goes() {
    let mut drive = Drive::new();
    let (run, local, held) = landing(&mut drive).await;
    local.unlink().unwrap();
    drop(held);
    drive.server.clear_faults();
    until(|| drive.names().is_empty()).await;
    check(&drive, &run, None).await;
}

#[tokio::test]
async fn a_session_whose_mark_is_off_its_file_is_cancelled_all_the_same() {
    let mut drive = Drive::new();
    drive.options.overwrite = Overwrite::Version;
    drive.server.put("f", "old");
    let base = drive.base("f", 3);
    let slow = Fault::on(Route::UploadChunk).delay(Duration::from_millis(20));
    drive.server.fail(slow);
    let run = drive.run();
    let ours = bytes(1, 40 * CHUNK);
    let local = run.save_over("f", Some(base), &ours);
    until(|| drive.server.count(Route::UploadChunk) > 3).await;
    // By other means than the API's, which would be refused.
    drive.server.put("f", "theirs");
    assert_eq!(drive.server.open_uploads(), 1);
    let held = run.uploader.hold(&local).await;
    drive.is_tidy();
    assert_eq!(local.delivery().session, None);
    drop(held);
    drive.server.clear_faults();
    run.drained().await;
    assert_eq!(drive.content("f").as_deref(), Some(&b"theirs"[..]));
    assert!(drive.server.contents().contains(&ours), "both are kept");
    drive.is_tidy();
}

/// What was asked for to bring a new file `f` of four bytes.
fn late() -> crate::api::NewSession {
    crate::api::NewSession {
        uri: place("f").uri(),
        size_bytes: 4,
        modified: then(),
        over: None,
        metadata: Default::default(),
    }
}

#[tokio::test]
async fn a_session_that_comes_of_a_lost_request_after_a_look_for_it_is_cancelled() {
    let drive = Drive::new();
    let run = drive.run();
    drive
        .server
        .fail(Fault::on(Route::UploadCreate).status(502).times(1));
    let local = run.save("f", b"ours");
    let why = run.uploader.deliver(&local).await;
    assert!(why.is_err(), "a gateway gave up");
    let busy = Fault::on(Route::UploadCreate).code(409, "Object conflict");
    drive.server.fail(busy);
    let why = run.uploader.deliver(&local).await;
    assert!(why.is_err(), "nothing is there, and the server is busy");
    let held = run.uploader.hold(&local).await;
    drive.server.clear_faults();
    drive.api.open_session(&late()).await.unwrap();
    drop(held);
    check(&drive, &run, Some(b"ours")).await;
}

#[tokio::test]
async fn a_session_that_comes_late_of_a_file_that_is_no_more_is_cancelled() {
    for is_killed in [false, true] {
        let drive = Drive::new();
        let mut run = drive.run();
        let lost = Fault::on(Route::UploadCreate).status(502);
        drive.server.fail(lost.times(1));
        let local = run.save("f", b"ours");
        let why = run.uploader.deliver(&local).await;
        assert!(why.is_err(), "a gateway gave up");
        let held = run.uploader.hold(&local).await;
        local.unlink().unwrap();
        drop((held, local));
        if is_killed {
            run.kill().await;
            run = drive.run();
        }
        let looked = drive.server.count(Route::Info);
        until(|| {
            run.uploader.wake();
            drive.server.count(Route::Info) > looked
        })
        .await;
        drive.api.open_session(&late()).await.unwrap();
        until(|| {
            run.uploader.wake();
            drive.server.open_uploads() == 0
        })
        .await;
        assert_eq!(drive.names(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_upload_of_a_new_file_that_nobody_remembers_is_waited_for() {
    let drive = Drive::new();
    drive.server.add_unfinished_upload("f", 9);
    let run = drive.run();
    let local = run.save("f", b"ours");
    let why = run.uploader.deliver(&local).await;
    assert!(
        matches!(why, Err(Undelivered::Api(crate::api::Error::Locked(_)))),
        "{why:?}"
    );
    assert_eq!(local.delivery().conflict, None);
    drive.server.remove("f");
    check(&drive, &run, Some(b"ours")).await;
}
