//! One of those who change and look at the same names.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use cloudreve_test_server::Server;

use super::history::{Deed, Histories, Value, Who, content, number};
use super::{NAMES_IN_EACH, SLACK, World, path};

/// What came of the actors' work.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) changes: AtomicU64,
    pub(super) looks: AtomicU64,
    /// Looks at an old name that came to what the file was by then.
    pub(super) heirs: AtomicU64,
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

    /// Runs a change of `names`, which nobody disturbs.
    fn must<T>(
        &self,
        what: &str,
        names: &[usize],
        value: Value,
        change: impl FnOnce() -> io::Result<T>,
    ) {
        let paths: Vec<_> = names.iter().map(|name| path(*name)).collect();
        let what = format!("{what} {} ({value:?})", paths.join(" "));
        let came = self.noted(&what, names, Some(value), change);
        if let Err(err) = came {
            let told = self.histories().told(names[0], Some(value));
            self.world
                .wrong(format!("{:?}: {what}: {err}{told}", self.who));
        }
    }

    /// Runs something, of which who reads of a failure is told.
    fn noted<T>(
        &self,
        what: &str,
        names: &[usize],
        value: Option<Value>,
        run: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let (began, since) = (SystemTime::now(), Instant::now());
        let came = run();
        let how = came
            .as_ref()
            .map_or_else(|err| format!(": {err}"), |_| String::new());
        self.histories().note(Deed {
            who: self.who,
            names: names.to_vec(),
            what: format!("{what}{how}"),
            value,
            began,
            took: since.elapsed(),
        });
        came
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
                self.must("write", &[name], Value::File(number), || {
                    Ok(self.server().put(&path(name), content(number)))
                });
            }
            Some(root) => {
                let path = root.join(path(name));
                begin();
                self.must("write", &[name], Value::File(number), || {
                    fs::write(path, content(number))
                });
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
        let value = Value::File(number);
        self.must("write beside", &[name], value, || {
            fs::write(&from, content(number))
        });
        self.histories().begin(name, value, self.who);
        self.must("rename onto", &[name], value, || fs::rename(from, &to));
        self.settle(&[name]);
        self.done(&[name]);
        true
    }

    fn make_folder(&self, name: usize) -> bool {
        let Some((_turn, Value::Absent)) = self.histories().turn(name, self.who) else {
            return false;
        };
        let number = self.world.fresh();
        let value = Value::Folder(number);
        self.histories().begin(name, Value::Empty, self.who);
        let inner = format!("{}/inner", path(name));
        match &self.root {
            None => {
                self.must("mkdir", &[name], Value::Empty, || {
                    Ok(self.server().mkdir(&path(name)))
                });
                self.histories().begin(name, value, self.who);
                self.must("write into", &[name], value, || {
                    Ok(self.server().put(&inner, content(number)))
                });
            }
            Some(root) => {
                self.must("mkdir", &[name], Value::Empty, || {
                    fs::create_dir(root.join(path(name)))
                });
                self.histories().begin(name, value, self.who);
                self.must("write into", &[name], value, || {
                    fs::write(root.join(inner), content(number))
                });
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
            self.must("remove", &[name], value, || {
                self.server().remove(&path(name));
                Ok(())
            });
            self.done(&[name]);
            return true;
        };
        let path = root.join(path(name));
        if let Value::Folder(_) = value {
            self.histories().begin(name, Value::Empty, self.who);
            self.must("unlink in", &[name], value, || {
                fs::remove_file(path.join("inner"))
            });
            self.histories().begin(name, Value::Absent, self.who);
            self.must("rmdir", &[name], value, || fs::remove_dir(&path));
        } else {
            self.histories().begin(name, Value::Absent, self.who);
            self.must("unlink", &[name], value, || fs::remove_file(&path));
        }
        self.settle(&[name]);
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
        self.histories().begin_rename(from, to, value, self.who);
        match &self.root {
            None => {
                let new = path(to);
                let new = new.rsplit_once('/').expect("it is in a folder").1;
                self.must("rename", &[from, to], value, || {
                    self.server().rename(&path(from), new);
                    Ok(())
                });
            }
            Some(root) => {
                let (from_path, to_path) = (root.join(path(from)), root.join(path(to)));
                self.must("rename", &[from, to], value, || {
                    fs::rename(&from_path, &to_path)
                });
                self.settle(&[from, to]);
            }
        }
        self.done(&[from, to]);
        true
    }

    /// Has the server hear of what was removed and renamed there: of that fsync(2) of a folder is the word, and where a file took
    /// the place of another one, which may be done by its content, that of the file.
    fn settle(&self, names: &[usize]) {
        let (Who::One, Some(root)) = (self.who, &self.root) else {
            return;
        };
        for name in names {
            let path = root.join(path(*name));
            let folder = path.parent().expect("it is in a folder");
            for path in [&path, folder].into_iter().filter(|path| path.exists()) {
                let synced = self.noted("fsync", &[*name], None, || File::open(path)?.sync_all());
                if let Err(err) = synced {
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
        let mut began = Instant::now();
        self.world.tally.looks.fetch_add(1, Relaxed);
        let mut found = self.noted_look(root, name);
        // A mount that has just met a file where others brought it has the kernel forget its old name in that moment.
        let since = Instant::now();
        while found
            .as_ref()
            .is_ok_and(|found| self.is_heir(*found, name, began))
            && since.elapsed() < SLACK
        {
            self.world.tally.heirs.fetch_add(1, Relaxed);
            began = Instant::now();
            found = self.noted_look(root, name);
        }
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
            let told = self.histories().told(name, found.as_ref().ok().copied());
            let (who, path) = (self.who, path(name));
            self.world.wrong(format!(
                "{who:?} sees {found:?} of {path}, and must see one of {possible:?}{told}"
            ));
        }
    }

    /// Whether `found`, which was not at `name`, is what became of a file that was.
    fn is_heir(&self, found: Value, name: usize, began: Instant) -> bool {
        let histories = self.histories();
        !histories.possible(name, self.who, began).contains(&found)
            && histories.heirs(name, self.who, began).contains(&found)
    }

    fn noted_look(&self, root: &Path, name: usize) -> io::Result<Value> {
        let (began, since) = (SystemTime::now(), Instant::now());
        let found = seen(&root.join(path(name)));
        self.histories().note(Deed {
            who: self.who,
            names: vec![name],
            what: format!("sees {found:?} of {}", path(name)),
            value: found.as_ref().ok().copied(),
            began,
            took: since.elapsed(),
        });
        found
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
                let (who, told) = (self.who, self.histories().told(name, None));
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
