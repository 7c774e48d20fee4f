//! What a file or folder of the mount is now, for `why`.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::control::{Answer, BelowPoint, OwedFile, Why};
use crate::entry::Kind;
use crate::failure::chain;
use crate::fs::{self, Found, Fs};
use crate::inodes::Ino;
use crate::mount::debts::{Debts, next};

/// Answers for what lies at `path` below the mount point, which is shown as `shown`. What is owed is told also where the
/// server cannot be asked.
pub(super) async fn why(
    fs: &Arc<Fs>,
    debts: Option<&Debts>,
    shown: &Path,
    path: &BelowPoint,
) -> Answer {
    let path = path.0.as_path();
    let owed = debts.and_then(|debts| debts.at(path));
    let found = fs.find(path).await;
    let failed = |why: String| Answer::Failed { why };
    let (attributes, trouble) = match found {
        Ok(held) => (look(fs, &held).await, None),
        Err(fs::Error::NotFound) if owed.is_none() => {
            return failed("there is no such file or folder".to_owned());
        }
        Err(fs::Error::NotAFolder) if owed.is_none() => {
            return failed("it lies below a file".to_owned());
        }
        Err(err) if owed.is_none() => return failed(chain(&err)),
        Err(err) => (Why::default(), Some(chain(&err))),
    };
    let below = debts.map_or(0, |debts| debts.count_below(path));
    let stays = debts.is_some_and(|debts| debts.is_local_only(path));
    let (state, next) = match stays {
        true => (
            "local_only",
            "nothing: what has such a name stays on this machine (--local-only)".to_owned(),
        ),
        false => stands(owed.as_ref(), attributes.kind.as_deref(), below),
    };
    Answer::Why(Box::new(Why {
        path: shown.display().to_string(),
        state: state.to_owned(),
        next,
        owed,
        trouble,
        // The server has no such place, or another file there.
        uri: attributes.uri.clone().filter(|_| !stays),
        ..attributes
    }))
}

/// Where its content is, and what happens next; of a folder, `below` files are owed.
fn stands(owed: Option<&OwedFile>, kind: Option<&str>, below: usize) -> (&'static str, String) {
    match owed {
        Some(file) if file.state == "open" => ("open", next(file)),
        Some(file) => ("owed", next(file)),
        None if kind == Some("folder") => {
            let next = match below {
                0 => "nothing: no file below it is owed".to_owned(),
                1 => "1 file below it is delivered ('cloudreve-fuse status')".to_owned(),
                n => format!("{n} files below it are delivered ('cloudreve-fuse status')"),
            };
            ("on_server", next)
        }
        None => (
            "on_server",
            "nothing: the server has all of it that was closed here".to_owned(),
        ),
    }
}

/// What the filesystem knows of it. What it cannot tell is left out.
async fn look(fs: &Fs, held: &Found<'_>) -> Why {
    let believed = fs.attr(held.ino).await.ok();
    let kind = believed.map(|believed| believed.attr.kind);
    let word = match kind {
        Some(Kind::File) => Some("file"),
        Some(Kind::Folder) => Some("folder"),
        Some(Kind::Symlink) => Some("symbolic link"),
        Some(Kind::Fifo) => Some("named pipe"),
        Some(Kind::Socket) => Some("socket"),
        None => None,
    };
    let of_file = kind == Some(Kind::File);
    let entity = attribute(fs, held.ino, "user.cloudreve.entity").await;
    let cached = match entity {
        Some(_) => attribute(fs, held.ino, "user.cloudreve.cached").await,
        None => None,
    };
    Why {
        kind: word.map(str::to_owned),
        size_bytes: believed
            .filter(|_| of_file)
            .map(|believed| believed.attr.size_bytes),
        uri: attribute(fs, held.ino, "user.cloudreve.uri").await,
        file_id: attribute(fs, held.ino, "user.cloudreve.id").await,
        entity,
        cached,
        ..Why::default()
    }
}

async fn attribute(fs: &Fs, ino: Ino, name: &str) -> Option<String> {
    let value = fs.xattr(ino, OsStr::new(name)).await.ok()?;
    let value = String::from_utf8_lossy(&value).into_owned();
    // What only exists here has names of our own for it, which tell nobody anything.
    (!value.starts_with("local:")).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_told_apart_from_what_is_on_the_server() {
        let owed = |state: &str| OwedFile {
            state: state.to_owned(),
            ..OwedFile::default()
        };
        let state = |owed: Option<&OwedFile>| stands(owed, Some("file"), 0).0;
        assert_eq!(state(None), "on_server");
        assert_eq!(state(Some(&owed("open"))), "open");
        for word in ["waiting", "uploading", "retrying", "blocked"] {
            assert_eq!(state(Some(&owed(word))), "owed", "{word}");
        }
        let folder = |below| stands(None, Some("folder"), below).1;
        assert!(folder(0).starts_with("nothing") && folder(3).starts_with("3 files"));
    }
}
