//! Runs of removals that the server does not take.

use super::*;

/// A drive with the folder `a`, in which so many files are, and their names.
async fn with_files(count: usize) -> (Mounted, Vec<String>) {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.add_many("a", count);
    })
    .await;
    let names = mounted.names("a").await;
    (mounted, names)
}

impl Mounted {
    async fn unlink_in_a(&self, name: &str) -> Result<(), Error> {
        self.unlink(&format!("a/{name}")).await
    }
}

#[tokio::test]
async fn each_removal_fails_while_the_server_does_not_answer() {
    let (mounted, names) = with_files(6).await;
    mounted.server.fail(Fault::on(Route::Delete).status(502));
    for name in &names {
        mounted.unlink_in_a(name).await.unwrap_err();
    }
    mounted.server.clear_faults();
    assert_eq!(mounted.names("a").await, names);
}

#[tokio::test]
async fn a_batch_without_an_answer_shows_again_and_is_not_sent_one_by_one() {
    let (mounted, names) = with_files(20).await;
    for name in &names[..3] {
        mounted.unlink_in_a(name).await.unwrap();
    }
    mounted.server.fail(Fault::on(Route::Delete).status(502));
    for name in &names[3..15] {
        mounted.unlink_in_a(name).await.unwrap();
    }
    mounted.server.reset_counters();
    mounted.fs.settle().await;
    let requests = mounted.server.count(Route::Delete);
    assert!(requests < 6, "{requests} for 12 files");
    assert_eq!(mounted.names("a").await, names[3..]);
    mounted.unlink_in_a(&names[4]).await.unwrap_err();
    mounted.server.clear_faults();
    mounted.unlink_in_a(&names[4]).await.unwrap();
    assert_eq!(mounted.on_server("a").len(), 16);
}

#[tokio::test]
async fn a_batch_is_sent_also_where_nobody_waits_for_it_any_more() {
    let (mounted, names) = with_files(10).await;
    for name in &names[..8] {
        mounted.unlink_in_a(name).await.unwrap();
    }
    let before = mounted.server.count(Route::Delete);
    mounted.server.set_latency(Duration::from_millis(50));
    let is_sent = async {
        while mounted.server.count(Route::Delete) == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = mounted.fs.settle() => {}
        () = is_sent => {}
    }
    let key = mounted.fs.namespace.folder_key(mounted.ino("a").await);
    let key = key.unwrap();
    let all_sent = async {
        while mounted.fs.namespace.leaving.any_in(&key) {
            tokio::task::yield_now().await;
        }
    };
    let all_sent = tokio::time::timeout(Duration::from_secs(10), all_sent);
    all_sent.await.expect("it is sent");
    assert_eq!(mounted.on_server("a"), names[8..]);
    assert_eq!(mounted.names("a").await, names[8..]);
}
