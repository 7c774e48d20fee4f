//! A program that is killed between any two steps: the next one delivers, whole and once.

use super::*;

/// Everything is as it should be: the content under its name, once, and nothing left open.
#[track_caller]
fn check(drive: &Drive, name: &str, content: &[u8]) {
    assert_eq!(drive.names(), [name]);
    assert!(drive.content(name).as_deref() == Some(content), "{name}");
    drive.is_tidy();
}

/// Kills the first run when `when` holds, then starts another one and lets it finish.
async fn killed(drive: &Drive, base: bool, content: &[u8], when: impl Fn(&Drive) -> bool) {
    let base = base.then(|| drive.base("f", 3));
    let run = drive.run();
    run.save_over("f", base, content);
    until(|| when(drive)).await;
    run.kill().await;
    // A request that was under way when the program died ends by itself, as one does that the network carries on.
    drive.api.drain().await;
    drive.server.clear_faults();
    let run = drive.run();
    run.drained().await;
    assert!(run.staging.owed().is_empty());
}

#[tokio::test]
async fn killed_before_the_session_is_opened() {
    let drive = Drive::new();
    drive
        .server
        .fail(Fault::on(Route::Info).delay(Duration::from_millis(50)));
    drive.server.put("f", "old");
    killed(&drive, true, b"content", |drive| {
        drive.server.count(Route::Info) > 0
    })
    .await;
    check(&drive, "f", b"content");
}

#[tokio::test]
async fn killed_while_the_session_is_opened() {
    for over in [false, true] {
        let drive = Drive::new();
        if over {
            drive.server.put("f", "old");
        }
        // The answer is lost with the program that waited for it.
        drive
            .server
            .fail(Fault::on(Route::UploadCreate).reset_before_headers());
        killed(&drive, over, b"content", |drive| {
            drive.server.open_uploads() > 0
        })
        .await;
        check(&drive, "f", b"content");
    }
}

#[tokio::test]
async fn killed_between_two_chunks() {
    for over in [false, true] {
        let drive = Drive::new();
        if over {
            drive.server.put("f", "old");
        }
        drive
            .server
            .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(10)));
        let content = bytes(1, 200 * CHUNK);
        killed(&drive, over, &content, |drive| {
            drive.server.count(Route::UploadChunk) > 150
        })
        .await;
        check(&drive, "f", &content);
        assert_eq!(drive.server.count(Route::UploadCreate), 1, "it goes on");
        // Chunks are noted by 4 MiB.
        let again = drive.server.count(Route::UploadChunk) - 200;
        assert!(again <= (4 << 20) / CHUNK + 3, "{again} chunks twice");
    }
}

#[tokio::test]
async fn killed_when_all_was_sent_and_before_it_was_looked_for() {
    for (over, size) in [
        (false, 10),
        (true, 10),
        (false, 5 * CHUNK),
        (true, 5 * CHUNK),
    ] {
        let drive = Drive::new();
        if over {
            drive.server.put("f", "old");
        }
        let chunks = size.div_ceil(CHUNK);
        let answered = Fault::on(Route::UploadChunk).delay(Duration::from_millis(50));
        drive.server.fail(answered.after(chunks - 1));
        let content = bytes(1, size);
        killed(&drive, over, &content, |drive| {
            drive.server.count(Route::UploadChunk) == chunks
        })
        .await;
        check(&drive, "f", &content);
        assert_eq!(drive.server.count(Route::UploadCreate), 1, "once is enough");
    }
}

#[tokio::test]
async fn killed_between_deleting_and_making_anew() {
    let mut drive = Drive::new();
    drive.options.overwrite = Overwrite::Delete;
    drive.server.put("f", "old");
    drive
        .server
        .fail(Fault::on(Route::UploadCreate).status(502));
    killed(&drive, true, b"content", |drive| {
        drive.server.count(Route::Delete) == 1 && drive.server.names("").unwrap().is_empty()
    })
    .await;
    check(&drive, "f", b"content");
}

#[tokio::test]
async fn killed_and_written_to_before_the_session_is_found_again() {
    let drive = Drive::new();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(10)));
    let size = 100 * CHUNK;
    let run = drive.run();
    let local = run.save("f", &bytes(1, size));
    until(|| {
        local
            .delivery()
            .progress
            .is_some_and(|text| text.contains("\"5\":"))
    })
    .await;
    // Same size and time, another content: only the journal can tell the two apart.
    let now = SystemTime::now();
    local.write(0, &bytes(2, size), now).unwrap();
    local.set_mtime(then()).unwrap();
    local.stage(now).unwrap();
    drop(local);
    run.kill().await;
    drive.api.drain().await;
    drive.server.clear_faults();
    let run = drive.run();
    run.drained().await;
    check(&drive, "f", &bytes(2, size));
}

#[tokio::test]
async fn killed_at_random_moments_until_all_is_there() {
    let seed = getrandom::u64().unwrap();
    let mut state = seed;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let drive = Drive::new();
    drive
        .server
        .fail(Fault::on(Route::UploadChunk).delay(Duration::from_millis(2)));
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..12 {
        let run = drive.run();
        for number in 0..3 {
            let name = format!("f{round}-{number}");
            let content = bytes(random(1 << 20), random(6 * CHUNK));
            run.save(&name, &content);
            expected.insert(name, content);
        }
        tokio::time::sleep(Duration::from_millis(random(120))).await;
        run.kill().await;
        drive.api.drain().await;
    }
    drive.server.clear_faults();
    let run = drive.run();
    run.drained().await;
    let names: Vec<String> = expected.keys().cloned().collect();
    assert_eq!(drive.names(), names, "seed {seed}");
    for (name, content) in expected {
        assert!(drive.content(&name) == Some(content), "{name}, seed {seed}");
    }
    drive.is_tidy();
}

#[tokio::test]
async fn what_a_power_cut_may_have_torn_replaces_nothing() {
    for over in [false, true] {
        let drive = Drive::new();
        if over {
            drive.server.put("f", "old");
        }
        let base = over.then(|| drive.base("f", 3));
        drive
            .server
            .fail(Fault::on(Route::UploadChunk).after(2).status(502));
        let content = bytes(1, 5 * CHUNK);
        let run = drive.run();
        run.save_over("f", base, &content);
        until(|| drive.server.count(Route::UploadChunk) > 2).await;
        run.kill().await;
        drive.api.drain().await;
        drive.server.clear_faults();
        for slot in std::fs::read_dir(drive.dir.path().join("drives")).unwrap() {
            let journal = slot.unwrap().path().join("journal.sqlite");
            let journal = rusqlite::Connection::open(journal).unwrap();
            journal.execute("UPDATE local SET kept = 2", []).unwrap();
        }
        let run = drive.run();
        assert!(run.found[0].is_doubtful());
        run.drained().await;
        let names = drive.names();
        drive.is_tidy();
        match over {
            false => assert_eq!(names, ["f"]),
            true => {
                assert_eq!(names.len(), 2, "{names:?}");
                assert_eq!(drive.content("f").as_deref(), Some(&b"old"[..]));
            }
        }
        let copy = names.iter().find(|name| !over || *name != "f").unwrap();
        assert!(drive.content(copy) == Some(content));
    }
}
