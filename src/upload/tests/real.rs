//! The same against a real server, where `CLOUDREVE_TEST_ADDRESS`, `_USER` and `_PASSWORD` name one.

use super::*;
use crate::api::Part;

/// A folder of its own on that server.
async fn folder() -> Option<(Api, FileUri, FileKey)> {
    let given = |name: &str| std::env::var(format!("CLOUDREVE_TEST_{name}")).ok();
    let options = crate::api::Options {
        address: given("ADDRESS")?.parse().unwrap(),
        user_agent: "test".to_owned(),
        ca_file: None,
        timeout: Duration::from_secs(10),
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let credentials = Credentials::Password {
        email: given("USER")?,
        password: Secret::new(given("PASSWORD")?),
    };
    let api = Api::new(options, credentials).unwrap();
    let name = format!("uploads {:x}", getrandom::u64().unwrap());
    let uri = FileUri::my().child(ServerName::from_wire(name.as_bytes()));
    let info = api.create_folder(&uri, &Default::default()).await.unwrap();
    let key = FileKey {
        tree: Tree::MAIN,
        id: info.id,
    };
    Some((api, uri, key))
}

async fn read(api: &Api, uri: &FileUri) -> Vec<u8> {
    let info = api.info(uri).await.unwrap();
    let urls = api.urls(std::slice::from_ref(uri), None).await.unwrap();
    let url = urls.urls[0].clone().unwrap();
    let content = api.content(&url, 0..info.size_bytes, info.size_bytes);
    let mut content = content.await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = content.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    all
}

#[tokio::test]
async fn a_real_server_gets_new_files_new_versions_and_conflict_copies() {
    let Some((api, folder_uri, folder)) = folder().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let options = staging::Options {
        dir: dir.path().to_owned(),
        drive: "drive".into(),
        local_only: Default::default(),
    };
    let (staging, found) = Staging::open(options).unwrap();
    let complete: Complete = Arc::new(|_| async { Ok(()) }.boxed());
    let options = Options {
        delay: Duration::from_millis(20),
        transfers: 4,
        overwrite: Overwrite::Replace,
        delete: Delete::Permanent,
        host: "desk".into(),
        names: NamePolicy::Encode,
        timeout: Duration::from_secs(10),
    };
    let (uploader, news) = Uploader::new(api.clone(), Arc::clone(&staging), complete, options);
    let mut run = Run {
        staging,
        uploader,
        news,
        found,
        state_dir: dir.path().to_owned(),
    };
    let place = |name: &str| Place {
        folder: folder.clone(),
        folder_uri: folder_uri.clone(),
        name: ServerName::from_wire(name.as_bytes()),
    };
    let uri = |name: &str| place(name).uri();

    // New: of one chunk, of several, and of none.
    let mut files = Vec::new();
    for (name, size) in [("a#b%.txt", 1000), ("large", 30 << 20), ("empty", 0)] {
        let local = run.staging.create(place(name), None, then()).unwrap();
        run.rewrite(&local, &bytes(size, size));
        let (_, info, conflict) = run.news().await;
        assert!(!conflict, "{name}");
        if size > 0 {
            assert_eq!(info.updated, then(), "{name}");
            assert!(read(&api, &uri(name)).await == bytes(size, size), "{name}");
        }
        files.push((local, info));
    }

    // Over a file that never had content, and over one that had: one version is left, the file is the same.
    for nth in [2, 0] {
        let (local, before) = &files[nth];
        run.rewrite(local, b"second");
        let (_, info, conflict) = run.news().await;
        assert!(!conflict);
        assert_eq!(info.id, before.id);
        assert_eq!(read(&api, &info.uri).await, b"second");
        assert_eq!(api.versions(&info.uri).await.unwrap().len(), 1, "{nth}");
    }

    // Somebody else was faster.
    let theirs = Part::from(bytes::Bytes::from_static(b"theirs"));
    api.put_content(&uri("large"), None, theirs).await.unwrap();
    run.rewrite(&files[1].0, b"ours");
    let (_, info, conflict) = run.news().await;
    assert!(conflict);
    assert!(info.name.to_string().starts_with("large (conflict desk 20"));
    assert_eq!(read(&api, &uri("large")).await, b"theirs");
    assert_eq!(read(&api, &info.uri).await, b"ours");

    // Stopped in the middle, to be renamed; the content changes meanwhile.
    let local = run.staging.create(place("held"), None, then()).unwrap();
    run.rewrite(&local, &bytes(9, 40 << 20));
    until(|| local.delivery().session.is_some()).await;
    let held = run.uploader.hold(&local).await;
    local.relocate(place("moved"), None).unwrap();
    run.rewrite(&local, &bytes(10, 40 << 20));
    drop(held);
    let mut last = run.news().await.1;
    while last.size_bytes != 40 << 20 || local.state() != State::Delivered {
        last = run.news().await.1;
    }
    assert!(read(&api, &last.uri).await == bytes(10, 40 << 20));

    run.uploader.close().await;
    api.delete(&[folder_uri], Delete::Permanent).await.unwrap();
}
