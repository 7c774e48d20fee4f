use std::time::Duration;

use super::*;
use crate::model::{EntityId, FileKind};
use crate::read::{Download, Options};

fn entry(id: &str, kind: FileKind) -> Arc<Entry> {
    Arc::new(Entry::plain(id, id, kind))
}

fn files() -> Files {
    // Nobody listens there: what these tests read is never asked for.
    let gate = api::Options {
        address: "http://127.0.0.1:9".parse().unwrap(),
        user_agent: "test".to_owned(),
        ca_file: None,
        timeout: Duration::from_secs(1),
        limit_down_bytes: 0,
        limit_up_bytes: 0,
    };
    let api = api::Api::new(gate, api::Credentials::Anonymous).unwrap();
    let options = Options {
        memory_bytes: 1 << 20,
        download: Download::Direct,
        timeout: Duration::from_secs(1),
    };
    let root = entry("root", FileKind::Folder);
    let inodes = Inodes::new("instance", FileUri::my(), root);
    Files::new(
        Reader::new(api, crate::cache::Cache::off(), options),
        Arc::new(inodes),
    )
}

fn to_read(entry: &Arc<Entry>) -> Opening<'_> {
    Opening {
        entry,
        local: None,
        locate: Arc::new(FileUri::my),
        read_bytes: Arc::default(),
        writes: false,
    }
}

#[tokio::test]
async fn a_handle_reads_and_holds_its_inode_until_it_is_released_and_not_after() {
    let files = files();
    let entry = entry("f", FileKind::File);
    let (ino, _) = files.inodes.count(Ino::ROOT, &entry, Some(&entry)).unwrap();
    let open = || files.open(ino, to_read(&entry)).unwrap();
    let (handle, other) = (open().handle, open());
    assert!(!other.keep_cache, "the kernel may not have opened it yet");
    files.inodes.forget(ino, 1);
    assert_eq!((files.count(), files.inodes.len()), (2, 2));
    assert!(files.read(handle, 0, 4096).await.unwrap().is_empty());
    assert!(open().keep_cache, "these are its pages");
    files.release(handle);
    let late = files.read(handle, 0, 4096).await;
    assert!(matches!(late, Err(Error::BadHandle)));
}

#[tokio::test]
async fn what_the_kernel_takes_for_another_version_is_not_opened() {
    let files = files();
    let old = entry("f", FileKind::File);
    let (ino, _) = files.inodes.count(Ino::ROOT, &old, Some(&old)).unwrap();
    let new = Arc::new(Entry {
        entity: EntityId("new".into()),
        ..(*old).clone()
    });
    let opened = files.open(ino, to_read(&new));
    assert!(matches!(opened, Err(Error::Gone)), "{opened:?}");
    assert_eq!(files.count(), 0);
}

#[tokio::test]
async fn an_inode_is_written_to_while_a_handle_that_may_is_open() {
    let files = files();
    let entry = entry("f", FileKind::File);
    let (ino, _) = files.inodes.count(Ino::ROOT, &entry, Some(&entry)).unwrap();
    let reader = files.open(ino, to_read(&entry)).unwrap().handle;
    assert!(!files.is_written(ino));
    let opening = Opening {
        writes: true,
        ..to_read(&entry)
    };
    let writer = files.open(ino, opening).unwrap().handle;
    assert!(files.is_written(ino));
    files.release(writer);
    assert!(!files.is_written(ino));
    files.release(reader);
    assert!(files.contents.lock().unwrap().is_empty());
}

#[test]
fn what_is_gone_while_it_is_open_is_stale_not_absent() {
    assert!(matches!(error(api::Error::NotFound), Error::Stale(_)));
    assert!(matches!(error(api::Error::EntityGone), Error::Stale(_)));
    assert!(matches!(error(api::Error::UrlExpired), Error::Io(_)));
}
