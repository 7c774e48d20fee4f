//! Every kind of storage behind the server, by the whole way from a staged file to the verified one.

use std::future::Future;

use cloudreve_test_server::StoragePolicy;
use futures_util::future::join_all;

use super::*;

/// A session of the server's lives as long, and a moment.
const A_DAY: Duration = Duration::from_secs(86_405);

/// Kinds whose store puts the parts of an upload together.
const COMPLETING: [StoragePolicy; 6] = [
    StoragePolicy::S3,
    StoragePolicy::Ks3,
    StoragePolicy::Oss,
    StoragePolicy::Cos,
    StoragePolicy::Obs,
    StoragePolicy::Qiniu,
];

fn drive_on(policy: StoragePolicy) -> Drive {
    let drive = Drive::new();
    drive.server.set_policy(policy);
    drive
}

/// Plays something for each of these kinds, all at once.
async fn each<F: Future<Output = ()>>(
    policies: impl IntoIterator<Item = StoragePolicy>,
    play: impl Fn(StoragePolicy) -> F,
) {
    join_all(policies.into_iter().map(play)).await;
}

/// The route of the requests that bring content.
fn parts(policy: StoragePolicy) -> Route {
    match policy {
        StoragePolicy::Local => Route::UploadChunk,
        _ => Route::StorePart,
    }
}

#[tokio::test]
async fn a_new_file_of_any_size_gets_to_every_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        let drive = drive_on(policy);
        let mut run = drive.run();
        for size in [0, 1, CHUNK, CHUNK + 1, 20 * CHUNK + 77] {
            let name = format!("f{size}");
            run.save(&name, &bytes(size, size));
            let (_, info, conflict) = run.news().await;
            assert_eq!((info.size_bytes, conflict), (size, false), "{policy:?}");
            assert!(
                drive.content(&name) == Some(bytes(size, size)),
                "{policy:?}: {size}"
            );
        }
        drive.is_tidy();
    })
    .await;
}

#[tokio::test]
async fn a_file_is_overwritten_in_every_way_at_every_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        for overwrite in [Overwrite::Replace, Overwrite::Version, Overwrite::Delete] {
            let mut drive = drive_on(policy);
            drive.options.overwrite = overwrite;
            drive.server.put("f", "old");
            let file = drive.server.file_id("f");
            let mut run = drive.run();
            let newer = bytes(1, 7 * CHUNK);
            run.save_over("f", Some(drive.base("f", 3)), &newer);
            let (_, info, conflict) = run.news().await;
            assert!(!conflict, "{policy:?}, {overwrite:?}");
            assert!(
                drive.content("f") == Some(newer),
                "{policy:?}, {overwrite:?}"
            );
            assert_eq!(
                &*info.id.0 == file.as_str(),
                overwrite != Overwrite::Delete,
                "{policy:?}, {overwrite:?}"
            );
            assert_eq!(drive.names(), ["f"], "{policy:?}, {overwrite:?}");
            drive.is_tidy();
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_after_a_kill_at_every_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        let drive = drive_on(policy);
        // What OneDrive takes at once.
        let chunk = 5 * CHUNK;
        drive
            .server
            .configure(|settings| settings.chunk_size = chunk);
        // Chunks are noted by 4 MiB.
        let (count, seen) = (30, 16);
        let content = bytes(2, count * chunk);
        let delay = Fault::on(parts(policy)).delay(Duration::from_millis(10));
        drive.server.fail(delay);
        let run = drive.run();
        run.save("f", &content);
        let enough = match policy {
            StoragePolicy::Upyun => 1,
            _ => seen,
        };
        until(|| drive.server.count(parts(policy)) >= enough).await;
        run.kill().await;
        drive.api.drain().await;
        drive.server.clear_faults();
        let run = drive.run();
        run.drained().await;
        assert!(
            drive.content("f").is_some_and(|is| is == content),
            "{policy:?}"
        );
        assert_eq!(drive.names(), ["f"], "{policy:?}");
        drive.is_tidy();
        if policy != StoragePolicy::Upyun {
            let again = drive.server.count(parts(policy)) - count;
            assert!(again <= (4 << 20) / chunk + 4, "{policy:?}: {again} twice");
            assert_eq!(drive.server.count(Route::UploadCreate), 1, "{policy:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_is_followed_by_another_at_every_storage() {
    each(StoragePolicy::ALL, |policy| async move {
        let drive = drive_on(policy);
        let content = bytes(3, 21 * CHUNK);
        drive.server.fail(Fault::on(parts(policy)).status(503));
        let run = drive.run();
        run.save("f", &content);
        until(|| drive.server.count(parts(policy)) >= 1).await;
        drive.server.advance_clock(A_DAY);
        drive.server.clear_faults();
        run.drained().await;
        assert!(
            drive.content("f").is_some_and(|is| is == content),
            "{policy:?}"
        );
        assert_eq!(drive.names(), ["f"], "{policy:?}");
        drive.is_tidy();
    })
    .await;
}

#[tokio::test]
async fn a_completion_that_was_refused_is_made_good() {
    each(COMPLETING, |policy| async move {
        for status in [400, 403, 500] {
            let drive = drive_on(policy);
            let content = bytes(4, 3 * CHUNK);
            let fault = Fault::on(Route::StoreComplete).status(status);
            drive.server.fail(fault.times(1));
            let run = drive.run();
            run.save("f", &content);
            run.drained().await;
            assert!(
                drive.content("f").is_some_and(|is| is == content),
                "{policy:?}: {status}"
            );
            assert_eq!(drive.names(), ["f"], "{policy:?}: {status}");
            drive.is_tidy();
        }
    })
    .await;
}

#[tokio::test]
async fn a_callback_that_was_refused_is_made_good() {
    let callers = [
        StoragePolicy::S3,
        StoragePolicy::Ks3,
        StoragePolicy::Cos,
        StoragePolicy::OneDrive,
    ];
    each(callers, |policy| async move {
        for code in [40055, 50001, -1] {
            let drive = drive_on(policy);
            let content = bytes(5, 21 * CHUNK);
            drive
                .server
                .fail(Fault::on(Route::Callback).code(code, "no").times(1));
            let run = drive.run();
            run.save("f", &content);
            run.drained().await;
            assert!(
                drive.content("f").is_some_and(|is| is == content),
                "{policy:?}: {code}"
            );
            assert_eq!(drive.names(), ["f"], "{policy:?}: {code}");
            drive.is_tidy();
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_a_store_could_not_tell_of_says_why_and_gets_there_later() {
    let telling = [StoragePolicy::Oss, StoragePolicy::Obs, StoragePolicy::Qiniu];
    each(telling, |policy| async move {
        let drive = drive_on(policy);
        let content = bytes(6, 3 * CHUNK);
        drive
            .server
            .configure(|settings| settings.store_calls_back = false);
        let run = drive.run();
        let local = run.save("f", &content);
        let undelivered = run.uploader.deliver(&local).await.unwrap_err();
        let words = undelivered.to_string();
        assert!(words.contains("could not tell the server"), "{words}");
        drive
            .server
            .configure(|settings| settings.store_calls_back = true);
        run.drained().await;
        assert!(
            drive.content("f").is_some_and(|is| is == content),
            "{policy:?}"
        );
        assert_eq!(drive.names(), ["f"], "{policy:?}");
        drive.is_tidy();
    })
    .await;
}

#[tokio::test]
async fn content_is_enciphered_for_every_storage_that_wants_it() {
    each(StoragePolicy::ALL, |policy| async move {
        for relay in [false, true] {
            let drive = drive_on(policy);
            drive.server.set_encryption(true);
            drive.server.set_relay(relay);
            drive
                .server
                .configure(|settings| settings.chunk_concurrency = 3);
            let mut run = drive.run();
            for size in [1, CHUNK + 1, 20 * CHUNK + 77] {
                let name = format!("f{size}");
                run.save(&name, &bytes(size, size));
                run.news().await;
                // Sent in clear it would be garbage now: the server deciphers what it gives out.
                assert!(
                    drive.content(&name) == Some(bytes(size, size)),
                    "{policy:?}: {size}"
                );
                assert!(drive.server.is_encrypted(&name), "{policy:?}: {size}");
            }
            drive.is_tidy();
        }
    })
    .await;
}

#[tokio::test]
async fn an_enciphered_upload_goes_on_in_its_middle_after_a_kill() {
    each(
        [StoragePolicy::Local, StoragePolicy::S3],
        |policy| async move {
            let drive = drive_on(policy);
            drive.server.set_encryption(true);
            // No multiple of what is enciphered at a time.
            let chunk = 5 * CHUNK + 7;
            drive
                .server
                .configure(|settings| settings.chunk_size = chunk);
            let content = bytes(2, 30 * chunk);
            let delay = Fault::on(parts(policy)).delay(Duration::from_millis(10));
            drive.server.fail(delay);
            let run = drive.run();
            run.save("f", &content);
            until(|| drive.server.count(parts(policy)) >= 16).await;
            run.kill().await;
            drive.api.drain().await;
            drive.server.clear_faults();
            let run = drive.run();
            run.drained().await;
            assert!(
                drive.content("f").is_some_and(|is| is == content),
                "{policy:?}"
            );
            assert_eq!(drive.server.count(Route::UploadCreate), 1, "{policy:?}");
            assert!(drive.server.is_encrypted("f"), "{policy:?}");
            drive.is_tidy();
        },
    )
    .await;
}

#[tokio::test]
async fn what_the_server_relays_gets_there_and_can_be_overwritten() {
    each(StoragePolicy::ALL, |policy| async move {
        let drive = drive_on(policy);
        drive.server.set_relay(true);
        let mut run = drive.run();
        let old = bytes(7, 5 * CHUNK);
        run.save("f", &old);
        run.news().await;
        assert!(drive.content("f").is_some_and(|is| is == old), "{policy:?}");
        let (base, newer) = (drive.base("f", 5 * CHUNK), bytes(8, CHUNK));
        run.save_over("f", Some(base), &newer);
        run.news().await;
        assert!(
            drive.content("f").is_some_and(|is| is == newer),
            "{policy:?}"
        );
        drive.is_tidy();
    })
    .await;
}
