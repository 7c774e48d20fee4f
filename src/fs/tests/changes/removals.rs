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

impl Mounted {
    /// All of `local`, which is at `path`, gets to the server, and its answer is lost, as all later ones.
    pub(super) async fn lands_unheard(&self, path: &str, local: &Arc<Local>, content: &[u8]) {
        self.server.fail(Fault::on(Route::UploadChunk).stall());
        let (uploader, local) = (Arc::clone(&self.owing.uploader), Arc::clone(local));
        tokio::spawn(async move { uploader.deliver(&local).await });
        let landed = async {
            while self.server.content(path).as_deref() != Some(content) {
                tokio::task::yield_now().await;
            }
        };
        let landed = tokio::time::timeout(Duration::from_secs(10), landed);
        landed.await.expect("it lands");
        self.server.fail(Fault::everywhere().reset_before_headers());
    }
}

#[tokio::test]
async fn a_version_that_nobody_heard_of_goes_with_the_file_that_was_unlinked() {
    let mounted = Mounted::new(|server| drop(server.put("one.txt", "one"))).await;
    let local = mounted.overwrite("one.txt", b"edited").await;
    mounted.lands_unheard("one.txt", &local, b"edited").await;
    mounted.unlink("one.txt").await.unwrap();
    drop(local);
    mounted.server.clear_faults();
    mounted.owing.uploader.wake();
    let gone = async {
        while !mounted.on_server("").is_empty() {
            mounted.fs.settle().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone);
    gone.await.expect("it is deleted");
    assert_eq!(mounted.names("").await, [""; 0]);
}

/// A drive with the folder `a`, in which the server has `new`, of which nobody heard before it was unlinked.
async fn left_unheard() -> Mounted {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    let local = mounted.write("a/new", b"new").await;
    mounted.lands_unheard("a/new", &local, b"new").await;
    mounted.unlink("a/new").await.unwrap();
    drop(local);
    mounted.server.clear_faults();
    mounted
}

#[tokio::test]
async fn a_file_that_was_unlinked_before_anybody_heard_that_it_is_there_does_not_show() {
    let mounted = left_unheard().await;
    mounted.server.fail(Fault::on(Route::Delete).status(502));
    assert_eq!(mounted.on_server("a"), ["new"]);
    assert_eq!(mounted.names("a").await, [""; 0]);
    assert!(mounted.find("a/new").await.is_none());
}

#[tokio::test]
async fn a_folder_is_empty_in_which_only_an_upload_is_that_nobody_heard_of() {
    let mounted = left_unheard().await;
    mounted.rmdir("a").await.unwrap();
    assert_eq!(mounted.on_server(""), [""; 0]);
}
