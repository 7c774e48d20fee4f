//! One of those who change and look at the same names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use cloudreve_test_server::Server;

use super::history::{Histories, Value, Who, content, number};
use super::{NAMES_IN_EACH, World, path};

/// What came of the actors' work.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) changes: AtomicU64,
    pub(super) looks: AtomicU64,
    /// Looks at what was changing just then that came to an error.
    pub(super) disturbed: AtomicU64,
}

pub(super) struct Actor<'a> {
    pub(super) who: Who,
    /// None of the client.
    pub(super) root: Option<PathBuf>,
    pub(super) world: &'a World,
}

impl Actor<'_> {
    /// One thing, chosen at random.
    pub(super) fn act(&self, dice: &mut impl FnMut(u64) -> u64) {
        let count = self.histories().count() as u64;
        let (name, other) = (dice(count) as usize, dice(count) as usize);
        let changed = match (self.root.is_some(), dice(20)) {
            (true, 0..8) => false,
            (true, 8..10) => {
                self.list(name / NAMES_IN_EACH);
                return;
            }
            (_, 10) | (false, 0) => self.remove(name),
            (_, 11..14) | (false, 1) => self.rename(name, other),
            (_, 14) => self.make_folder(name),
            (_, 15) => self.save(name),
            (false, 2..8) => return,
            _ => self.write(name),
        };
        match changed {
            true => drop(self.world.tally.changes.fetch_add(1, Relaxed)),
            false => self.look(name),
        }
    }

    fn histories(&self) -> &Histories {
        &self.world.histories
    }

    fn server(&self) -> &Server {
        &self.world.server
    }

    /// Runs a change, which nobody disturbs.
    fn must<T>(&self, what: &str, name: usize, came: io::Result<T>) -> Option<T> {
        came.map_err(|err| {
            let (who, path) = (self.who, path(name));
            self.world.wrong(format!(
                "{who:?}: {what} {path}: {err}{}",
                self.histories().told(name)
            ));
        })
        .ok()
    }

    fn done(&self, names: &[usize]) {
        for name in names {
            self.histories().done(*name, self.who != Who::Other);
        }
    }

    fn write(&self, name: usize) -> bool {
        let Some((_turn, Value::Absent | Value::File(_))) = self.histories().turn(name, self.who)
        else {
            return false;
        };
        let number = self.world.fresh();
        let begin = || self.histories().begin(name, Value::File(number), self.who);
        match &self.root {
            None => {
                begin();
                self.server().put(&path(name), content(number));
            }
            Some(root) => {
                let path = root.join(path(name));
                begin();
                self.must("write", name, fs::write(path, content(number)));
            }
        }
        self.done(&[name]);
        true
    }

    /// By a temporary file that is renamed over it.
    fn save(&self, name: usize) -> bool {
        let Some(root) = &self.root else {
            return false;
        };
        let Some((_turn, Value::Absent | Value::File(_))) = self.histories().turn(name, self.who)
        else {
            return false;
        };
        let number = self.world.fresh();
        let to = root.join(path(name));
        let from = to.with_extension(format!("temporary {number}"));
        let written = fs::write(&from, content(number));
        self.must("write beside", name, written);
        self.histories().begin(name, Value::File(number), self.who);
        self.must("rename onto", name, fs::rename(from, &to));
        self.settle(&[&to]);
        self.done(&[name]);
        true
    }

    fn make_folder(&self, name: usize) -> bool {
        let Some((_turn, Value::Absent)) = self.histories().turn(name, self.who) else {
            return false;
        };
        let number = self.world.fresh();
        self.histories().begin(name, Value::Empty, self.who);
        let inner = format!("{}/inner", path(name));
        match &self.root {
            None => {
                self.server().mkdir(&path(name));
                self.histories()
                    .begin(name, Value::Folder(number), self.who);
                self.server().put(&inner, content(number));
            }
            Some(root) => {
                self.must("mkdir", name, fs::create_dir(root.join(path(name))));
                self.histories()
                    .begin(name, Value::Folder(number), self.who);
                let written = fs::write(root.join(inner), content(number));
                self.must("write into", name, written);
            }
        }
        self.done(&[name]);
        true
    }

    fn remove(&self, name: usize) -> bool {
        let Some((_turn, value)) = self.histories().turn(name, self.who) else {
            return false;
        };
        if value == Value::Absent {
            return false;
        }
        let Some(root) = &self.root else {
            self.histories().begin(name, Value::Absent, self.who);
            self.server().remove(&path(name));
            self.done(&[name]);
            return true;
        };
        let path = root.join(path(name));
        if let Value::Folder(_) = value {
            self.histories().begin(name, Value::Empty, self.who);
            self.must("unlink in", name, fs::remove_file(path.join("inner")));
            self.histories().begin(name, Value::Absent, self.who);
            self.must("rmdir", name, fs::remove_dir(&path));
        } else {
            self.histories().begin(name, Value::Absent, self.who);
            self.must("unlink", name, fs::remove_file(&path));
        }
        self.settle(&[&path]);
        self.done(&[name]);
        true
    }

    fn rename(&self, from: usize, to: usize) -> bool {
        // In order, so that two who want each other's do not wait, and none does: a turn is had at once or not.
        if from == to {
            return false;
        }
        let (Some((_turn, value)), Some((_other_turn, over))) = (
            self.histories().turn(from, self.who),
            self.histories().turn(to, self.who),
        ) else {
            return false;
        };
        let is_file = |value| matches!(value, Value::File(_));
        if value == Value::Absent || !(over == Value::Absent || is_file(over) && is_file(value)) {
            return false;
        }
        let is_one_folder = from / NAMES_IN_EACH == to / NAMES_IN_EACH;
        if self.root.is_none() && (over != Value::Absent || !is_one_folder) {
            return false;
        }
        self.histories().begin(from, Value::Absent, self.who);
        self.histories().begin_from(from, to, value, self.who);
        match &self.root {
            None => {
                let new = path(to);
                let new = new.rsplit_once('/').expect("it is in a folder").1;
                self.server().rename(&path(from), new);
            }
            Some(root) => {
                let (from_path, to_path) = (root.join(path(from)), root.join(path(to)));
                let renamed = fs::rename(&from_path, &to_path);
                if self.must("rename", from, renamed).is_none() {
                    self.must::<()>("rename to", to, Err(io::ErrorKind::Other.into()));
                }
                self.settle(&[&from_path, &to_path]);
            }
        }
        self.done(&[from, to]);
        true
    }

    /// Has the server hear of what was removed and renamed there: of that fsync(2) of a folder is the word, and where a file took
    /// the place of another one, which may be done by its content, that of the file.
    fn settle(&self, paths: &[&Path]) {
        if self.who != Who::One {
            return;
        }
        for path in paths {
            let folder = path.parent().expect("it is in a folder");
            let files = [*path, folder].into_iter().filter(|path| path.exists());
            for path in files {
                if let Err(err) = File::open(path).and_then(|file| file.sync_all()) {
                    let path = path.display();
                    self.world.wrong(format!("fsync of {path}: {err}"));
                }
            }
        }
    }

    /// Looks at a name, of which nothing old may show.
    pub(super) fn look(&self, name: usize) {
        let Some(root) = &self.root else {
            return;
        };
        let began = Instant::now();
        self.world.tally.looks.fetch_add(1, Relaxed);
        let found = seen(&root.join(path(name)));
        let possible = self.histories().possible(name, self.who, began);
        let is_right = match &found {
            // A folder that goes away between the two calls of a look seems to be empty.
            Ok(Value::Empty) => possible.len() > 1,
            Ok(found) => possible.contains(found),
            Err(_) => {
                self.world.tally.disturbed.fetch_add(1, Relaxed);
                self.histories().is_moving(name, self.who, began)
            }
        };
        if !is_right {
            let (who, path, told) = (self.who, path(name), self.histories().told(name));
            self.world.wrong(format!(
                "{who:?} sees {found:?} of {path}, and must see one of {possible:?}{told}"
            ));
        }
    }

    /// Lists a folder, of which no name may be missing, and none too many.
    fn list(&self, folder: usize) {
        let Some(root) = &self.root else {
            return;
        };
        let began = Instant::now();
        self.world.tally.looks.fetch_add(1, Relaxed);
        let names = match names(&root.join(format!("f{folder}"))) {
            Ok(names) => names,
            Err(err) => {
                return self
                    .world
                    .wrong(format!("{:?}: list f{folder}: {err}", self.who));
            }
        };
        for name in folder * NAMES_IN_EACH..(folder + 1) * NAMES_IN_EACH {
            let possible = self.histories().possible(name, self.who, began);
            let (of_folder, is_there) =
                (path(name), possible.iter().any(|it| *it != Value::Absent));
            let is_absent = possible.contains(&Value::Absent);
            let last = of_folder.rsplit_once('/').expect("it is in a folder").1;
            let is_listed = names.iter().any(|name| name == last);
            if (is_listed && !is_there) || (!is_listed && !is_absent) {
                let (who, told) = (self.who, self.histories().told(name));
                self.world.wrong(format!(
                    "{who:?} lists {of_folder}: {is_listed}, and must see one of {possible:?}{told}"
                ));
            }
        }
    }
}

/// The names in a folder.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// What a path means, as a mount shows it. An error where it is none of what actors make.
pub(super) fn seen(path: &Path) -> io::Result<Value> {
    let found = match fs::read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Value::Absent),
        Err(err) if err.kind() == io::ErrorKind::IsADirectory => {
            return match fs::read(path.join("inner")) {
                // Also where the folder went meanwhile, which is for the next look to tell.
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Value::Empty),
                Err(err) => Err(err),
                Ok(found) => known(&found).map(Value::Folder),
            };
        }
        found => found?,
    };
    known(&found).map(Value::File)
}

fn known(found: &[u8]) -> io::Result<u64> {
    let told = || io::Error::other(format!("{} bytes that nobody wrote", found.len()));
    number(found).ok_or_else(told)
}
