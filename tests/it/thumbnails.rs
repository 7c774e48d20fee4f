//! The desktop's thumbnail cache, filled from the server's thumbnails when a folder is looked at.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloudreve_test_server::{Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

/// A picture of 400 × 300 pixels.
fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::DynamicImage::new_rgb8(400, 300);
    picture
        .write_to(&mut bytes, image::ImageFormat::WebP)
        .unwrap();
    bytes.into_inner()
}

/// What the desktop's cache holds of one size.
fn thumbnails(mount: &Mounted, size: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(mount.home.path("cache/thumbnails").join(size));
    let found = found.into_iter().flatten();
    let found = found.map(|entry| entry.unwrap().path());
    // What begins with a dot is not finished.
    let found = found.filter(|path| path.extension().is_some());
    found.collect()
}

/// The size, and what the thumbnail tells of its original, by key.
fn read(path: &Path) -> ((u32, u32), Vec<(String, String)>) {
    let file = BufReader::new(File::open(path).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let info = reader.info();
    let texts = info.uncompressed_latin1_text.iter();
    let texts = texts.map(|text| (text.keyword.clone(), text.text.clone()));
    ((info.width, info.height), texts.collect())
}

/// Requests for content that were not for thumbnails.
fn originals_read(server: &Server) -> usize {
    let requests = server.requests().into_iter();
    let content = requests.filter(|request| request.route == Route::Content);
    content
        .filter(|request| !request.path.ends_with("_thumb"))
        .count()
}

fn look(mount: &Mounted, folder: &str) {
    shell::stdout(Command::new("ls").arg("-l").arg(mount.path(folder)));
}

#[test]
fn a_folder_that_is_looked_at_fills_the_desktops_cache_and_no_original_is_read() {
    let server = Server::start(Options::default()).unwrap();
    let names = ["a b.jpg", "Grüße;.png", "c#.jpeg"];
    for name in names {
        server.put(&format!("photos/{name}"), b"an original".to_vec());
        server.set_thumbnail(&format!("photos/{name}"), picture());
    }
    server.put("photos/notes.txt", b"text".to_vec());
    server.put("photos/broken.jpg", b"an original".to_vec());
    server.set_thumbnail("photos/broken.jpg", b"no picture".to_vec());

    let off = Mounted::new(&server, "cloudreve://my/", &[]);
    look(&off, "photos");
    let mount = Mounted::new(&server, "cloudreve://my/", &["--thumbnails"]);
    look(&mount, "photos");
    for size in ["normal", "large", "x-large"] {
        wait_until("the thumbnails are there", || {
            thumbnails(&mount, size).len() == names.len()
        });
    }
    wait_until("the broken one was asked for", || {
        server.count(Route::Thumb) == 4
    });
    assert_eq!(originals_read(&server), 0);
    assert!(thumbnails(&off, "large").is_empty());

    for (name, spelled) in [
        ("a b.jpg", "a%20b.jpg"),
        ("Grüße;.png", "Gr%C3%BC%C3%9Fe%3B.png"),
    ] {
        let original = mount.path("photos").canonicalize().unwrap().join(name);
        let uri = format!("file://{}/{spelled}", original.parent().unwrap().display());
        let found: Vec<_> = thumbnails(&mount, "large")
            .iter()
            .map(|path| read(path))
            .filter(|(_, texts)| texts.contains(&("Thumb::URI".into(), uri.clone())))
            .collect();
        assert_eq!(found.len(), 1, "{uri}");
        let (size, texts) = &found[0];
        let metadata = std::fs::metadata(&original).unwrap();
        let mtime = ("Thumb::MTime".to_owned(), metadata.mtime().to_string());
        let bytes = ("Thumb::Size".to_owned(), metadata.size().to_string());
        assert!(
            texts.contains(&mtime) && texts.contains(&bytes),
            "{texts:?}"
        );
        assert_eq!(*size, (256, 192));
    }

    // What is there is not asked for again, at the next mount either.
    let mut mount = mount;
    assert!(mount.end().success());
    server.reset_counters();
    let mount = mount.again(&server, "cloudreve://my/", &["--thumbnails"]);
    look(&mount, "photos");
    wait_until("what was no picture is asked for again", || {
        server.count(Route::Thumb) > 0
    });
    assert_eq!(server.count(Route::Thumb), 1);
}

#[test]
fn a_new_version_of_a_photo_gets_a_new_thumbnail_in_place_of_the_old_one() {
    let server = Server::start(Options::default()).unwrap();
    let mtime = |mount: &Mounted| {
        let found = thumbnails(mount, "normal");
        let texts = found.first().map(|path| read(path).1)?;
        let mtime = texts.into_iter().find(|(key, _)| key == "Thumb::MTime");
        mtime.map(|(_, mtime)| mtime)
    };
    let put = |seconds: u64| {
        server.put("photos/a.jpg", b"an original".to_vec());
        server.set_thumbnail("photos/a.jpg", picture());
        let updated = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        server.set_updated("photos/a.jpg", updated);
    };
    put(1_700_000_000);
    let mount = Mounted::new(
        &server,
        "cloudreve://my/",
        &["--thumbnails", "--metadata-ttl", "0s"],
    );
    look(&mount, "photos");
    wait_until("the first one is there", || {
        mtime(&mount).as_deref() == Some("1700000000")
    });
    put(1_700_000_777);
    look(&mount, "photos");
    wait_until("the second one is there", || {
        mtime(&mount).as_deref() == Some("1700000777")
    });
    assert_eq!(thumbnails(&mount, "normal").len(), 1);
    assert_eq!(originals_read(&server), 0);
}
