//! The desktop's thumbnail cache, as the freedesktop specification has it (version 0.9): names, validity, files.
//!
//! `…/thumbnails/SIZE/MD5 of the original's URI.png`, with facts of the original in the PNG's text. A file appears whole
//! or not at all, readable by its owner alone. `fail/` is left alone: what we cannot draw, the desktop may.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The sizes that are written. Each program looks in the one of the size it shows, so one of them alone is of no use.
pub(super) const SIZES: [Size; 3] = [
    Size {
        folder: "normal",
        edge: 128,
    },
    Size {
        folder: "large",
        edge: 256,
    },
    Size {
        folder: "x-large",
        edge: 512,
    },
];

const MTIME: &str = "Thumb::MTime";

/// What GLib's `g_filename_to_uri` leaves as it is in a path. Each other spelling is another name in the cache.
const BARE_IN_PATHS: AsciiSet = NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b':')
    .remove(b'=')
    .remove(b'@')
    .remove(b'_')
    .remove(b'~');

/// One of the sizes in which the cache has thumbnails.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Size {
    folder: &'static str,
    /// Longest edge, in pixels.
    pub(super) edge: u32,
}

/// A file of which there may be thumbnails.
pub(super) struct Original {
    /// `file://` and its path.
    pub(super) uri: String,
    /// When it was last changed, in seconds since 1970.
    pub(super) mtime: i64,
    /// Bytes.
    pub(super) size_bytes: u64,
    /// Its MIME type, where its extension says it.
    pub(super) kind: Option<&'static str>,
}

/// The cache of one user.
pub(super) struct Desktop {
    dir: PathBuf,
    mount_point: PathBuf,
}

impl Original {
    /// What its thumbnails tell of it.
    pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
        let mut texts = vec![
            ("Thumb::URI", self.uri.clone()),
            (MTIME, self.mtime.to_string()),
            ("Thumb::Size", self.size_bytes.to_string()),
        ];
        texts.extend(self.kind.map(|kind| ("Thumb::Mimetype", kind.to_owned())));
        texts.push(("Software", env!("CARGO_PKG_NAME").to_owned()));
        texts
    }

    fn file_name(&self) -> String {
        let digest = Md5::digest(&self.uri);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hex + ".png"
    }
}

impl Desktop {
    /// The cache in `dir`, of files below `mount_point`. Makes nothing yet.
    pub(super) fn new(dir: PathBuf, mount_point: PathBuf) -> Self {
        Self { dir, mount_point }
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The URI under which the desktop knows the file at `path` below the mount point.
    pub(super) fn uri(&self, path: &Path) -> String {
        let path = self.mount_point.join(path);
        let bytes = path.as_os_str().as_bytes();
        format!("file://{}", percent_encode(bytes, &BARE_IN_PATHS))
    }

    /// The sizes of which there is no valid thumbnail.
    pub(super) fn missing(&self, original: &Original) -> Vec<&'static Size> {
        let name = original.file_name();
        let missing = |size: &&Size| {
            mtime_of(&self.dir.join(size.folder).join(&name)) != Some(original.mtime)
        };
        SIZES.iter().filter(missing).collect()
    }

    /// Puts `png` in the place of a thumbnail.
    pub(super) fn write(&self, original: &Original, size: &Size, png: &[u8]) -> io::Result<()> {
        let folder = self.dir.join(size.folder);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        // Another mount may be at the same one, from another machine of the same home even.
        let number = getrandom::u64().map_err(|err| io::Error::other(err.to_string()))?;
        let name = format!(".cloudreve-fuse-{number:016x}");
        let unfinished = folder.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished);
        let outcome = file
            .and_then(|mut file| file.write_all(png))
            .and_then(|()| std::fs::rename(&unfinished, folder.join(original.file_name())));
        if outcome.is_err() {
            // The first error is the one to tell; what cannot be removed either is small.
            let _ = std::fs::remove_file(&unfinished);
        }
        outcome
    }
}

/// The time of the original that a thumbnail was made of; none where there is no readable one.
fn mtime_of(thumbnail: &Path) -> Option<i64> {
    let file = BufReader::new(File::open(thumbnail).ok()?);
    let reader = png::Decoder::new(file).read_info().ok()?;
    let texts = &reader.info().uncompressed_latin1_text;
    let mtime = texts.iter().find(|text| text.keyword == MTIME)?;
    mtime.text.parse().ok()
}

/// The MIME type of pictures with this extension, of those that are common.
pub(super) fn kind(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "svg" => "image/svg+xml",
        "heic" => "image/heic",
        "avif" => "image/avif",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thumbnails::picture;
    use std::ffi::OsStr;
    use std::os::unix::fs::PermissionsExt;

    fn original(uri: &str, mtime: i64) -> Original {
        Original {
            uri: uri.to_owned(),
            mtime,
            size_bytes: 12,
            kind: kind("jpg"),
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_name_is_the_one_of_the_specifications_example() {
        let desktop = Desktop::new("/c".into(), "/home/jens".into());
        let uri = desktop.uri(Path::new("photos/me.png"));
        assert_eq!(uri, "file:///home/jens/photos/me.png");
        assert_eq!(
            original(&uri, 0).file_name(),
            "c6ee772d9e49320e97ec29a7eb5b1697.png"
        );
    }

    #[test]
    fn paths_are_spelled_as_glib_spells_them() {
        let desktop = Desktop::new("/c".into(), "/m".into());
        for (path, spelled) in [
            ("a b", "a%20b"),
            ("Grüße", "Gr%C3%BC%C3%9Fe"),
            ("!$&'()*+,-.:=@_~", "!$&'()*+,-.:=@_~"),
            (";#%?[]", "%3B%23%25%3F%5B%5D"),
            ("\"<>\\^`{|}", "%22%3C%3E%5C%5E%60%7B%7C%7D"),
            ("\u{1}\u{7f}", "%01%7F"),
        ] {
            assert_eq!(desktop.uri(Path::new(path)), format!("file:///m/{spelled}"));
        }
        let odd = OsStr::from_bytes(b"\xff");
        assert_eq!(desktop.uri(Path::new(odd)), "file:///m/%FF");
    }

    #[test]
    fn what_is_written_is_private_tells_of_its_original_and_is_valid_until_that_changes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("thumbnails");
        let desktop = Desktop::new(cache.clone(), "/m".into());
        let photo = original("file:///m/a%20b.jpg", -3);
        assert_eq!(desktop.missing(&photo).len(), 3);
        let picture = image::DynamicImage::new_rgba8(300, 10);
        for size in &SIZES {
            let png = picture::png(&picture, size.edge, &photo.texts()).unwrap();
            desktop.write(&photo, size, &png).unwrap();
        }
        assert!(desktop.missing(&photo).is_empty());
        assert_eq!(desktop.missing(&original(&photo.uri, -2)).len(), 3);
        let path = cache.join("large").join(photo.file_name());
        assert_eq!(
            (mode(&cache), mode(&cache.join("large")), mode(&path)),
            (0o700, 0o700, 0o600)
        );
        let names = std::fs::read_dir(cache.join("large")).unwrap().count();
        assert_eq!(names, 1, "nothing unfinished is left");
        let reader = png::Decoder::new(BufReader::new(File::open(path).unwrap()))
            .read_info()
            .unwrap();
        let texts = &reader.info().uncompressed_latin1_text;
        let texts: Vec<_> = texts
            .iter()
            .map(|text| (&*text.keyword, text.text.clone()))
            .collect();
        assert_eq!(texts, photo.texts());
        assert_eq!((reader.info().width, reader.info().height), (256, 9));
    }

    #[test]
    fn a_thumbnail_that_cannot_be_read_is_missing_and_a_place_that_cannot_be_written_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let desktop = Desktop::new(dir.path().into(), "/m".into());
        let photo = original("file:///m/a.jpg", 1);
        desktop.write(&photo, &SIZES[1], b"no picture").unwrap();
        assert_eq!(desktop.missing(&photo).len(), 3);
        std::fs::write(dir.path().join("normal"), "").unwrap();
        assert!(desktop.write(&photo, &SIZES[0], b"").is_err());
    }
}
