//! One who works in a folder of his own while the network fails, and knows what must be there.
//!
//! Of a call that failed he does not know whether it was done: what it was about he leaves alone, and afterwards it must be
//! one of two.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloudreve_test_server::generated_bytes;

use super::watcher::{WaitsFor, Watcher};
use crate::support::dice;

/// Most entries of a worker's folder that he does not doubt.
const MOST: usize = 60;

/// What a name begins with that a file has while something takes its place.
const ASIDE: &str = ".cloudreve-fuse-";

/// Calls that are told of what is amiss.
const HISTORY: usize = 60;

/// What a program reads in a call.
const PIECE_BYTES: usize = 128 << 10;

/// A path below the worker's folder, and what is there: a file's bytes, or a folder.
pub(super) type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(Bytes),
}

/// Content, of which only the length is printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Arc<Vec<u8>>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} bytes", self.0.len())
    }
}

/// A call that failed, and the two trees that its paths may be by now: as before, and as if it had been done.
#[derive(Debug)]
struct Doubt {
    what: String,
    before: Tree,
    done: Tree,
    /// Where else it may be until the server is well: a rename may go by way of them.
    passing: Vec<String>,
}

/// A file that may have any content: writing to it was broken off.
type Unknown = BTreeSet<String>;

pub(super) struct Worker<'a> {
    pub(super) name: String,
    root: PathBuf,
    watcher: &'a Watcher,
    random: Box<dyn FnMut(u64) -> u64 + Send>,
    tree: Tree,
    doubts: Vec<Doubt>,
    unknown: Unknown,
    counter: u64,
    /// Every call: when, what, and whether it was done.
    history: Vec<String>,
    pub(super) done: u64,
    pub(super) failed: u64,
}

impl<'a> Worker<'a> {
    /// His folder must be there.
    pub(super) fn new(mount: &Path, name: String, watcher: &'a Watcher, seed: u64) -> Self {
        Self {
            root: mount.join(&name),
            name,
            watcher,
            random: Box::new(dice(seed)),
            tree: Tree::new(),
            doubts: Vec::new(),
            unknown: Unknown::new(),
            counter: 0,
            history: Vec::new(),
            done: 0,
            failed: 0,
        }
    }

    pub(super) fn run(mut self, until: Instant) -> Self {
        while Instant::now() < until {
            match (self.random)(16) {
                0..3 => self.write_new(),
                3 => self.overwrite(),
                4 => self.patch(),
                5 => self.save(),
                6 | 7 => self.read(),
                8 => self.list(),
                9 => self.rename_file(),
                10 => self.replace(),
                11 => self.unlink(),
                12 => self.mkdir(),
                13 => self.rename_folder(),
                14 => self.rmdir(),
                _ => self.look(),
            }
            // A program does something else, too.
            std::thread::sleep(Duration::from_millis((self.random)(20)));
        }
        self
    }

    fn fresh(&mut self, folder: &str, what: &str) -> String {
        self.counter += 1;
        join(folder, &format!("{what} {}", self.counter))
    }

    /// Folders of his, and the one that has no name.
    fn folder(&mut self) -> String {
        let mut folders: Vec<_> = self.all(|node| *node == Node::Folder);
        folders.push(String::new());
        self.one(folders)
    }

    fn all(&self, is_it: impl Fn(&Node) -> bool) -> Vec<String> {
        let all = self.tree.iter().filter(|(_, node)| is_it(node));
        all.map(|(path, _)| path.clone()).collect()
    }

    fn one(&mut self, mut all: Vec<String>) -> String {
        let which = (self.random)(all.len() as u64) as usize;
        all.swap_remove(which)
    }

    /// A file of his that he knows the content of.
    fn file(&mut self) -> Option<(String, Bytes)> {
        let files = self.all(|node| *node != Node::Folder);
        if files.is_empty() {
            return None;
        }
        let path = self.one(files);
        match &self.tree[&path] {
            Node::File(bytes) => Some((path.clone(), bytes.clone())),
            Node::Folder => None,
        }
    }

    fn bytes(&mut self) -> Bytes {
        let size = match (self.random)(12) {
            0 => 0,
            1 => (self.random)(3 << 20),
            _ => (self.random)(40_000),
        };
        let seed = (self.random)(1 << 30);
        Bytes(Arc::new(generated_bytes(seed, 0..size)))
    }

    /// Runs a call and notes how long it took; nothing where it failed as it may.
    fn call<T>(&mut self, what: &str, run: impl FnOnce(&Path) -> io::Result<T>) -> Option<T> {
        self.watched(what, WaitsFor::Answer, run)
    }

    fn watched<T>(
        &mut self,
        what: &str,
        waits_for: WaitsFor,
        run: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Option<T> {
        let root = self.root.clone();
        let began = self.watcher.age();
        let name = format!("{}: {what}", self.name);
        let came = self.watcher.call(&name, waits_for, || run(&root));
        let outcome = if came.is_some() { "done" } else { "failed" };
        let ended = self.watcher.age();
        self.history
            .push(format!("{began:.2?}-{ended:.2?} {what}: {outcome}"));
        match came {
            Some(_) => self.done += 1,
            None => self.failed += 1,
        }
        came
    }

    fn wrong(&self, what: &str) {
        self.watcher.wrong(format!("{}: {what}", self.name));
    }

    /// Leaves alone what the call `what` was about, which failed: `before` is taken out of what is known, and what it would
    /// be if it was done is `done`.
    fn doubt(&mut self, what: String, before: Tree, done: Tree) {
        for path in before.keys() {
            self.tree.remove(path);
        }
        let passing = Vec::new();
        self.doubts.push(Doubt {
            what,
            before,
            done,
            passing,
        });
    }

    /// Paths at which there may be one thing or another.
    fn doubtful(&self) -> impl Iterator<Item = &String> {
        let doubts = self.doubts.iter();
        doubts
            .flat_map(|doubt| {
                let ends = doubt.before.keys().chain(doubt.done.keys());
                ends.chain(&doubt.passing)
            })
            .chain(&self.unknown)
    }

    /// Whether something in a folder is doubtful: it is left where it is.
    fn has_doubtful(&self, folder: &str) -> bool {
        self.doubtful().any(|path| is_at_or_below(path, folder))
    }

    fn write(&mut self, path: &str, bytes: Bytes) {
        let what = format!("write {bytes:?} to {path}");
        let written = self.call(&what, |root| fs::write(root.join(path), &**bytes.0));
        match written {
            Some(()) => drop(self.tree.insert(path.to_owned(), Node::File(bytes))),
            None => {
                self.tree.remove(path);
                self.unknown.insert(path.to_owned());
            }
        }
    }

    fn write_new(&mut self) {
        if self.tree.len() < MOST {
            let folder = self.folder();
            let (path, bytes) = (self.fresh(&folder, "file"), self.bytes());
            self.write(&path, bytes);
        }
    }

    fn overwrite(&mut self) {
        if let Some((path, _)) = self.file() {
            let bytes = self.bytes();
            self.write(&path, bytes);
        }
    }

    /// Writes a few bytes in the middle, or behind the end.
    fn patch(&mut self) {
        let Some((path, before)) = self.file() else {
            return;
        };
        let at = (self.random)(before.0.len() as u64 + 100);
        let patch = generated_bytes((self.random)(1 << 30), 0..1 + (self.random)(5000));
        let mut after = before.0.to_vec();
        let end = at as usize + patch.len();
        after.resize(after.len().max(end), 0);
        after[at as usize..end].copy_from_slice(&patch);
        let what = format!("write {} bytes at {at} of {path}", patch.len());
        let patched = self.call(&what, |root| {
            let mut options = File::options();
            let file = options.read(true).write(true).open(root.join(&path))?;
            file.write_all_at(&patch, at)
        });
        match patched {
            Some(()) => drop(self.tree.insert(path, Node::File(Bytes(Arc::new(after))))),
            None => {
                self.tree.remove(&path);
                self.unknown.insert(path);
            }
        }
    }

    /// As editors do: a temporary file that is renamed over the old one.
    fn save(&mut self) {
        if let Some((path, _)) = self.file() {
            let temporary = self.fresh("", "temporary");
            let bytes = self.bytes();
            self.write(&temporary, bytes);
            self.rename(&temporary, &path);
        }
    }

    fn read(&mut self) {
        let Some((path, right)) = self.file() else {
            return;
        };
        if let Some(found) = self.content(&path)
            && found != **right.0
        {
            let at = found
                .iter()
                .zip(&**right.0)
                .position(|(one, other)| one != other);
            let (found, right) = (found.len(), right.0.len());
            self.wrong(&format!(
                "read {path}: {found} bytes, not the {right} that it has; they differ at {at:?}\n{}",
                self.history_of(&path)
            ));
        }
    }

    /// All of a file, in several calls.
    fn content(&mut self, path: &str) -> Option<Vec<u8>> {
        let file = self.call(&format!("open {path}"), |root| File::open(root.join(path)))?;
        let mut content = Vec::new();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let what = format!("read {path} from {}", content.len());
            let read = |_: &Path| file.read_at(&mut piece, content.len() as u64);
            let length = self.watched(&what, WaitsFor::Content, read)?;
            if length == 0 {
                return Some(content);
            }
            content.extend_from_slice(&piece[..length]);
        }
    }

    fn look(&mut self) {
        let Some((path, right)) = self.file() else {
            return;
        };
        let found = self.call(&format!("stat {path}"), |root| {
            fs::symlink_metadata(root.join(&path))
        });
        if let Some(found) = found
            && found.len() != right.0.len() as u64
        {
            let (found, right) = (found.len(), right.0.len());
            let history = self.history_of(&path);
            self.wrong(&format!(
                "stat {path}: {found} bytes, not {right}\n{history}"
            ));
        }
    }

    fn list(&mut self) {
        let folder = self.folder();
        let found = self.call(&format!("list {folder:?}"), |root| {
            let entries = fs::read_dir(root.join(&folder))?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<BTreeSet<_>>>()
        });
        let Some(found) = found else {
            return;
        };
        let found: BTreeSet<_> = found.iter().map(|name| join(&folder, name)).collect();
        let right = self.tree.keys().filter(|path| parent(path) == folder);
        let right: BTreeSet<_> = right.cloned().collect();
        let lost: Vec<_> = right.difference(&found).collect();
        let has_failed = !self.doubts.is_empty();
        let more = found.difference(&right);
        let more: Vec<_> = more
            .filter(|path| !self.doubtful().any(|doubtful| doubtful == *path))
            .filter(|path| !(has_failed && name(path).starts_with(ASIDE)))
            .collect();
        if !lost.is_empty() || !more.is_empty() {
            let amiss = lost.iter().chain(&more);
            let histories: Vec<_> = amiss.map(|path| self.history_of(path)).collect();
            self.wrong(&format!(
                "list {folder:?}: {lost:?} are missing, {more:?} are too many, of {}\n{}",
                found.len(),
                histories.join("\n")
            ));
        }
    }

    /// Renames, also over another one.
    fn rename(&mut self, from: &str, to: &str) {
        let below = |path: &str| -> Tree {
            let nodes = self.tree.iter();
            nodes
                .filter(|(at, _)| is_at_or_below(at, path))
                .map(|(at, node)| (at.clone(), node.clone()))
                .collect()
        };
        let (mut before, over) = (below(from), below(to));
        let done: Tree = before
            .iter()
            .map(|(path, node)| (format!("{to}{}", &path[from.len()..]), node.clone()))
            .collect();
        // Written only half, a temporary file is none of his any more.
        if before.is_empty() {
            return;
        }
        before.extend(over);
        let what = format!("rename {from} to {to}");
        let renamed = self.call(&what, |root| fs::rename(root.join(from), root.join(to)));
        match renamed {
            Some(()) => {
                for path in before.keys() {
                    self.tree.remove(path);
                }
                self.tree.extend(done);
            }
            None => {
                self.doubt(what, before, done);
                let passing = [join(parent(from), name(to)), join(parent(to), name(from))];
                let doubt = self.doubts.last_mut().expect("it was just pushed");
                doubt.passing.extend(passing);
            }
        }
    }

    fn rename_file(&mut self) {
        if let Some((from, _)) = self.file() {
            let folder = self.folder();
            let to = self.fresh(&folder, "renamed");
            self.rename(&from, &to);
        }
    }

    fn replace(&mut self) {
        if let (Some((from, _)), Some((to, _))) = (self.file(), self.file())
            && from != to
        {
            self.rename(&from, &to);
        }
    }

    fn rename_folder(&mut self) {
        let (from, to) = (self.folder(), self.folder());
        if !from.is_empty() && !is_at_or_below(&to, &from) && !self.has_doubtful(&from) {
            let to = self.fresh(&to, "moved");
            self.rename(&from, &to);
        }
    }

    fn unlink(&mut self) {
        let Some((path, bytes)) = self.file() else {
            return;
        };
        let what = format!("unlink {path}");
        let removed = self.call(&what, |root| fs::remove_file(root.join(&path)));
        match removed {
            Some(()) => drop(self.tree.remove(&path)),
            None => {
                let before = Tree::from([(path, Node::File(bytes))]);
                self.doubt(what, before, Tree::new());
            }
        }
    }

    fn mkdir(&mut self) {
        let folder = self.folder();
        // A few levels are enough.
        if folder.matches('/').count() > 2 || self.tree.len() >= MOST {
            return;
        }
        let path = self.fresh(&folder, "folder");
        let what = format!("mkdir {path}");
        let made = self.call(&what, |root| fs::create_dir(root.join(&path)));
        match made {
            Some(()) => drop(self.tree.insert(path, Node::Folder)),
            None => {
                let done = Tree::from([(path, Node::Folder)]);
                self.doubt(what, Tree::new(), done);
            }
        }
    }

    fn rmdir(&mut self) {
        let path = self.folder();
        let is_in = |other: &String| is_at_or_below(other, &path) && *other != path;
        if path.is_empty() || self.tree.keys().any(is_in) || self.has_doubtful(&path) {
            return;
        }
        let what = format!("rmdir {path}");
        let removed = self.call(&what, |root| fs::remove_dir(root.join(&path)));
        match removed {
            Some(()) => drop(self.tree.remove(&path)),
            None => {
                let before = Tree::from([(path, Node::Folder)]);
                self.doubt(what, before, Tree::new());
            }
        }
    }

    /// In what `found`, all that is in his folder afterwards, is not what it must be, with what was done to it.
    pub(super) fn amiss(&self, found: &Tree) -> Vec<String> {
        let mut found = found.clone();
        let mut amiss = Vec::new();
        let mut note = |path: &str, what: String| {
            amiss.push(format!("{what}\n{}", self.history_of(path)));
        };
        for (path, right) in &self.tree {
            let there = found.remove(path);
            if there.as_ref() != Some(right) {
                note(path, format!("{path} is {there:?} and must be {right:?}"));
            }
        }
        for path in &self.unknown {
            found.remove(path);
        }
        // What follows an earlier doubt is looked at first: a file in a folder that was renamed later, say.
        for doubt in self.doubts.iter().rev() {
            let paths: BTreeSet<_> = doubt.before.keys().chain(doubt.done.keys()).collect();
            let there: Tree = paths
                .iter()
                .filter_map(|path| found.remove_entry(*path))
                .collect();
            if there != doubt.before && there != doubt.done {
                let Doubt {
                    what, before, done, ..
                } = doubt;
                let first = paths.first().map_or("", |path| path);
                note(
                    first,
                    format!(
                        "after {what}, which failed, there is {there:?}, and not {before:?} or {done:?}"
                    ),
                );
            }
        }
        for (path, there) in &found {
            note(path, format!("nobody made {path}, which is {there:?}"));
        }
        amiss
    }

    /// The last calls in which the path's own name comes up, which nothing else has.
    fn history_of(&self, path: &str) -> String {
        let name = name(path);
        let is_of = |line: &&String| {
            line.match_indices(name).any(|(at, _)| {
                let after = line[at + name.len()..].chars().next();
                after.is_none_or(|after| !after.is_ascii_digit())
            })
        };
        let lines: Vec<_> = self.history.iter().filter(is_of).collect();
        let last = lines.len().saturating_sub(HISTORY);
        let lines = lines[last..].iter().map(|line| format!("    {line}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path == folder || (path.starts_with(folder) && path[folder.len()..].starts_with('/'))
}
