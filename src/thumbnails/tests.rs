//! Folders are read, a server made of closures answers, a directory is looked into.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

/// Longer than any of this takes, of a clock that stands still while anything is under way.
const LONG: Duration = Duration::from_secs(60);

/// A file of the account's own that was changed in that second.
pub(super) fn photo(name: &str, mtime: u64) -> Entry {
    Entry {
        size_bytes: 12,
        updated: UNIX_EPOCH + Duration::from_millis(mtime * 1000 + 999),
        ..Entry::plain(name, name, FileKind::File)
    }
}

/// A folder of the account's own with these files.
pub(super) fn folder<const N: usize>(path: &str, entries: [Entry; N]) -> Folder {
    let entries = entries.into_iter().map(Arc::new).collect();
    Folder {
        path: path.into(),
        uri: FileUri::parse_wire(&format!("cloudreve://my/{path}")).unwrap(),
        listing: Arc::new(Listing::new(entries, 1, false)),
    }
}

struct World {
    dir: TempDir,
    thumbnails: Thumbnails,
    /// The files that the server was asked about.
    asked: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            cache_dir: dir.path().into(),
            mount_point: "/m".into(),
        };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let is_down = Arc::new(AtomicBool::new(false));
        let (log, down) = (Arc::clone(&asked), Arc::clone(&is_down));
        let source = Source {
            extensions: Box::new(|| Box::pin(async { Ok(vec!["jpg".into()]) })),
            picture: Box::new(move |uri| {
                let name = uri.to_wire();
                log.lock().unwrap().push(name.clone());
                let answer = match () {
                    () if down.load(Ordering::Relaxed) => Err(Error::Timeout(LONG)),
                    () if name.contains("none") => Ok(None),
                    () if name.contains("broken") => Ok(Some(Bytes::from_static(b"<html>"))),
                    () if name.contains("gone") => Err(Error::NotFound),
                    () => Ok(Some(picture())),
                };
                Box::pin(async move { answer })
            }),
        };
        Self {
            thumbnails: Thumbnails::over(source, options),
            dir,
            asked,
            is_down,
        }
    }

    /// Somebody reads `folder`; what the server was asked until all is quiet.
    async fn read(&self, folder: Folder) -> Vec<String> {
        self.thumbnails.folder_was_read(folder);
        self.quiet().await
    }

    async fn quiet(&self) -> Vec<String> {
        tokio::time::sleep(LONG).await;
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }

    /// Thumbnails of one size that are there.
    fn count(&self, size: &str) -> usize {
        let files = std::fs::read_dir(self.dir.path().join(size));
        files.map_or(0, Iterator::count)
    }
}

fn picture() -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::DynamicImage::new_rgb8(4, 3);
    picture
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .unwrap();
    bytes.into_inner().into()
}

#[tokio::test(start_paused = true)]
async fn the_files_that_the_server_has_thumbnails_of_get_theirs_in_each_size_once() {
    let world = World::new();
    let read = || {
        folder(
            "p",
            [
                photo("a.jpg", 1),
                photo("B.JPG", 1),
                photo("c.txt", 1),
                photo("jpg", 1),
                Entry {
                    size_bytes: 0,
                    ..photo("empty.jpg", 1)
                },
                Entry {
                    owned: false,
                    ..photo("other.jpg", 1)
                },
                Entry {
                    unfinished: true,
                    ..photo("unfinished.jpg", 1)
                },
                Entry {
                    thumbless: true,
                    ..photo("damaged.jpg", 1)
                },
                Entry {
                    kind: FileKind::Folder,
                    ..photo("folder.jpg", 1)
                },
            ],
        )
    };
    let asked = world.read(read()).await;
    assert_eq!(asked, ["cloudreve://my/p/B.JPG", "cloudreve://my/p/a.jpg"]);
    for size in ["normal", "large", "x-large"] {
        assert_eq!(world.count(size), 2, "{size}");
    }
    assert!(world.read(read()).await.is_empty(), "they are there");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changed_gets_a_new_one_in_the_place_of_the_old_one() {
    let world = World::new();
    assert_eq!(world.read(folder("p", [photo("a.jpg", 1)])).await.len(), 1);
    assert_eq!(world.read(folder("p", [photo("a.jpg", 2)])).await.len(), 1);
    assert!(
        world
            .read(folder("p", [photo("a.jpg", 2)]))
            .await
            .is_empty()
    );
    assert_eq!(world.count("large"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_without_a_picture_is_asked_about_once_and_keeps_no_other_from_its_own() {
    let world = World::new();
    let read = || {
        folder(
            "p",
            [
                photo("none.jpg", 1),
                photo("broken.jpg", 1),
                photo("a.jpg", 1),
            ],
        )
    };
    assert_eq!(world.read(read()).await.len(), 3);
    assert_eq!(world.count("large"), 1);
    assert!(world.read(read()).await.is_empty());
    let changed = folder("p", [photo("none.jpg", 2)]);
    assert_eq!(world.read(changed).await.len(), 1, "it may have one now");
    let gone = || folder("p", [photo("gone.jpg", 1)]);
    assert_eq!(world.read(gone()).await.len(), 1);
    assert_eq!(
        world.read(gone()).await.len(),
        1,
        "its name may be another file's by now"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_in_trouble_is_left_alone_until_the_next_look() {
    let world = World::new();
    world.is_down.store(true, Ordering::Relaxed);
    let many = || {
        let mut number = 0;
        folder(
            "p",
            [(); 50].map(|()| {
                number += 1;
                photo(&format!("{number}.jpg"), 1)
            }),
        )
    };
    let asked = world.read(many()).await.len();
    assert!(
        asked <= 2 * FILES_AT_ONCE,
        "{asked} questions to a dead server"
    );
    world.is_down.store(false, Ordering::Relaxed);
    assert_eq!(world.read(many()).await.len(), 50);
    assert_eq!(world.count("normal"), 50);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_about_files_of_shares_and_of_the_trash() {
    let world = World::new();
    for place in ["cloudreve://AbCd@share/p", "cloudreve://trash"] {
        let uri = FileUri::parse_wire(place).unwrap();
        let elsewhere = Folder {
            uri,
            ..folder("p", [photo("a.jpg", 1)])
        };
        assert!(world.read(elsewhere).await.is_empty(), "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_walks_through_the_drive_makes_the_server_work_for_the_last_folders_only() {
    let world = World::new();
    for number in 0..100 {
        world
            .thumbnails
            .folder_was_read(folder(&number.to_string(), [photo("a.jpg", 1)]));
        tokio::time::sleep(SETTLED / 2).await;
    }
    let asked = world.quiet().await;
    assert!(
        asked.contains(&"cloudreve://my/99/a.jpg".to_owned()),
        "{asked:?}"
    );
    assert!(asked.len() < 10, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_cannot_be_written_is_an_error_for_nobody() {
    let world = World::new();
    std::fs::write(world.dir.path().join("normal"), "").unwrap();
    let read = || folder("p", [photo("a.jpg", 1)]);
    assert_eq!(world.read(read()).await.len(), 1);
    std::fs::remove_file(world.dir.path().join("normal")).unwrap();
    assert_eq!(world.read(read()).await.len(), 1, "it is tried again");
    assert_eq!(world.count("normal"), 1);
}

#[test]
fn times_are_rounded_as_stat_rounds_them() {
    let at = |millis: i64| match u64::try_from(millis) {
        Ok(after) => UNIX_EPOCH + Duration::from_millis(after),
        Err(_) => UNIX_EPOCH - Duration::from_millis(millis.unsigned_abs()),
    };
    for (millis, whole) in [
        (0, 0),
        (999, 0),
        (1000, 1),
        (-1, -1),
        (-1000, -1),
        (-1001, -2),
    ] {
        assert_eq!(seconds(at(millis)), whole, "{millis}");
    }
}
