//! What fsync(2) and close(2) say where the server is to have what was written.

use futures_util::FutureExt;

use super::*;

/// An empty drive, written to as `--durability server` wants it.
async fn on_server() -> Mounted {
    let mut mounted = Mounted::new(|_| {}).await;
    let fs = Arc::get_mut(&mut mounted.fs).expect("nobody else has it");
    fs.namespace.options.durability = Durability::Server;
    mounted
}

impl Mounted {
    /// A new file, open to be written to, twice.
    async fn made(&self, name: &str) -> (HandleId, HandleId) {
        let (made, _) = self
            .fs
            .create(
                Ino::ROOT,
                name.as_ref(),
                Maker::of_tests(FileKind::File),
                None,
            )
            .await
            .unwrap();
        let ino = made.attr.ino;
        let open = async || self.fs.open_to_write(ino, false).await.unwrap().handle;
        (open().await, open().await)
    }
}

#[tokio::test]
async fn each_fsync_fails_until_the_server_has_it() {
    let mounted = on_server().await;
    let (handle, _) = mounted.made("a").await;
    let fs = &mounted.fs;
    fs.write(handle, 0, b"content", false).unwrap();
    mounted.server.set_quota(1);
    for _ in 0..3 {
        fs.sync(handle).await.unwrap_err();
        fs.flush(handle).await.unwrap_err();
    }
    mounted.server.set_quota(1 << 30);
    fs.sync(handle).await.unwrap();
    assert_eq!(mounted.server.content("a").unwrap(), b"content");
}

#[tokio::test]
async fn an_fsync_that_another_writer_comes_into_succeeds_once_the_server_has_it() {
    let mounted = on_server().await;
    let (handle, other) = mounted.made("a").await;
    let fs = &mounted.fs;
    fs.write(handle, 0, b"first", false).unwrap();
    mounted.server.set_latency(Duration::from_millis(20));
    let writes = async {
        while mounted.server.count(Route::UploadCreate) == 0 {
            tokio::task::yield_now().await;
        }
        fs.write(other, 5, b" and second", false).unwrap();
    };
    let (synced, ()) = tokio::join!(fs.sync(handle), writes);
    synced.unwrap();
    let content = mounted.server.content("a").unwrap();
    assert!(content.starts_with(b"first"), "{content:?}");
    fs.flush(other).await.unwrap();
    let content = mounted.server.content("a").unwrap();
    assert_eq!(content, b"first and second");
}

#[tokio::test]
async fn who_throws_away_what_was_flushed_holds_nobody_up_while_the_disk_takes_note() {
    let mounted = Mounted::new(|_| {}).await;
    let (handle, _) = mounted.made("a").await;
    let fs = &mounted.fs;
    fs.write(handle, 0, b"content", false).unwrap();
    fs.truncate(handle, 3).now_or_never().unwrap().unwrap();
    fs.sync(handle).await.unwrap();
    let mut truncated = std::pin::pin!(fs.truncate(handle, 0));
    assert!(truncated.as_mut().now_or_never().is_none());
    truncated.await.unwrap();
    assert!(fs.read(handle, 0, 10).await.unwrap().is_empty());
    fs.truncate(handle, 0).now_or_never().unwrap().unwrap();
}
