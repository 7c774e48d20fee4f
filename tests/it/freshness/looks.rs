//! Folders whose names change, and looks at them that are compared with what is right.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::drive::Drive;
use super::history::{History, Value};
use crate::support::mounted::Mounted;

/// Folders for each hand that changes them: the first of all are in use, the others are looked at now and then.
const FOLDERS: usize = 32;
const IN_USE: usize = 2;
const NAMES: usize = 40;

/// The files that are there at first have numbers of their own.
const FIRST_FILE: usize = 1_000_000;

/// How long nobody looks at a folder that is not in use: twice the time for which an answer is believed, since one may have
/// been asked for in the background as long as that after the last use.
const UNUSED: Duration = Duration::from_secs(31);
/// From one look at what is in use to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Files that are read in a look.
const READ: usize = 5;

/// Faults that are told; more of them say nothing new.
const NOTED: usize = 10;

/// A folder.
pub(super) struct Place {
    name: String,
    pub(super) history: History,
}

impl Place {
    /// The folder, as the other client knows it.
    pub(super) fn folder(&self) -> String {
        format!("folders/{}", self.name)
    }

    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }
}

/// What came of the looks.
#[derive(Default)]
pub(super) struct Tally {
    looks: AtomicU64,
    oldest_millis: AtomicU64,
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let oldest = Duration::from_millis(self.oldest_millis.load(Relaxed));
        let looks = self.looks.load(Relaxed);
        write!(f, "{looks} looks, what was seen at most {oldest:.1?} old")
    }
}

/// A mount, and all that is there.
pub(super) struct World {
    mount: Mounted,
    pub(super) places: Vec<Place>,
    /// Of each file.
    pub(super) contents: History,
    wrong: Mutex<Vec<String>>,
    /// The last, so that nothing is mounted of what it removes.
    pub(super) drive: Drive,
}

impl World {
    /// The folders, with every other name taken.
    pub(super) fn new(drive: Drive) -> Self {
        drive.folder("folders");
        let contents = History::default();
        let places = (0..FOLDERS).map(|folder| {
            let place = Place {
                name: format!("f{folder}"),
                history: History::default(),
            };
            drive.folder(&place.folder());
            for number in 0..NAMES {
                let name = format!("n{number}");
                place.history.begin(&name, Value::Absent);
                place.history.done(&name);
                if number % 2 == 0 {
                    let file = FIRST_FILE + folder * NAMES + number;
                    place.history.begin(&name, Value::File(file as u64));
                    contents.begin(&file.to_string(), Value::File(0));
                    drive.put(&place.at(&name), &format!("{file} 0"));
                    contents.done(&file.to_string());
                    place.history.done(&name);
                }
            }
            place
        });
        let places = places.collect();
        Self {
            mount: drive.mount("folders"),
            places,
            contents,
            wrong: Mutex::default(),
            drive,
        }
    }

    pub(super) fn in_use(&self) -> &[Place] {
        &self.places[..IN_USE]
    }

    /// Looks at a folder, and at some of what is in it.
    pub(super) fn look(&self, place: &Place, deadline: Duration, tally: &Tally) {
        let folder = self.mount.path(&place.name);
        let began = Instant::now();
        let listed = super::names(&folder);
        let moments = (began, Instant::now());
        let names: Vec<_> = place.history.newest();
        let known: BTreeSet<_> = names.iter().map(|(name, _)| name).collect();
        for stray in listed.iter().filter(|name| !known.contains(name)) {
            self.wrong(format!("{}/{stray} was never there", place.name));
        }
        for (name, _) in &names {
            let is_listed = listed.contains(name);
            let age = place
                .history
                .age(name, |value| value.is_there() == is_listed, moments);
            let (what, seen) = (
                format!("{}/{name}", place.name),
                format!("listed: {is_listed}"),
            );
            self.judge(&what, &seen, age, (deadline, tally), || {
                place.history.told(name, began)
            });
        }
        let first = tally.looks.fetch_add(1, Relaxed) as usize * READ;
        for (name, _) in names.iter().cycle().skip(first % NAMES).take(READ) {
            self.read(place, name, &folder.join(name), began, (deadline, tally));
        }
    }

    /// Reads a file in a look that began at `began`: what is asked for once in a look may answer for all of it.
    fn read(
        &self,
        place: &Place,
        name: &str,
        path: &Path,
        began: Instant,
        (deadline, tally): (Duration, &Tally),
    ) {
        let seen = loop {
            match std::fs::read_to_string(path) {
                // It went between the two calls that an open is.
                Err(err) if err.raw_os_error() == Some(libc::ESTALE) => {}
                seen => break seen,
            }
        };
        let moments = (began, Instant::now());
        let (value, version) = match seen {
            Ok(text) if text.is_empty() => (Value::Empty, None),
            Ok(text) => {
                let (file, version) = text.split_once(' ').expect("a whole content");
                let version = Value::File(version.parse().unwrap());
                (
                    Value::File(file.parse().unwrap()),
                    Some((file.to_owned(), version)),
                )
            }
            Err(err) if err.kind() == ErrorKind::NotFound => (Value::Absent, None),
            Err(err) => return self.wrong(format!("{}/{name}: {err}", place.name)),
        };
        let age = place.history.age(name, |meant| meant == value, moments);
        let what = format!("{}/{name}", place.name);
        self.judge(&what, &format!("{value:?}"), age, (deadline, tally), || {
            place.history.told(name, moments.0)
        });
        if let Some((file, version)) = version {
            let age = self.contents.age(&file, |was| was == version, moments);
            let what = format!("{what}, which is {file},");
            self.judge(
                &what,
                &format!("{version:?}"),
                age,
                (deadline, tally),
                || self.contents.told(&file, moments.0),
            );
        }
    }

    /// `what` was seen to be `seen`, which was `age` old.
    fn judge(
        &self,
        what: &str,
        seen: &str,
        age: Option<Duration>,
        (deadline, tally): (Duration, &Tally),
        told: impl FnOnce() -> String,
    ) {
        if let Some(age) = age {
            let millis = age.as_millis() as u64;
            tally.oldest_millis.fetch_max(millis, Relaxed);
        }
        if age.is_none_or(|age| age > deadline) {
            self.wrong(format!("{what} is {seen}, {age:.1?} old: {}", told()));
        }
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < NOTED {
            wrong.push(what);
        }
    }

    /// Uses `place` all the time.
    pub(super) fn use_until(
        &self,
        place: &Place,
        deadline: Duration,
        tally: &Tally,
        is_over: &AtomicBool,
    ) {
        while !is_over.load(Relaxed) {
            self.look(place, deadline, tally);
            // Not a synchronisation: how often somebody looks.
            std::thread::sleep(PAUSE);
        }
    }

    /// Looks at each of the others as soon as nobody has used it for a time, and sees what is right.
    pub(super) fn look_now_and_then_until(&self, tally: &Tally, is_over: &AtomicBool) {
        let others = &self.places[IN_USE..];
        let mut last = vec![Instant::now(); others.len()];
        for turn in (0..others.len()).cycle() {
            // Not a synchronisation: nobody is to look meanwhile.
            std::thread::sleep((last[turn] + UNUSED).saturating_duration_since(Instant::now()));
            if is_over.load(Relaxed) {
                break;
            }
            self.look(&others[turn], Duration::ZERO, tally);
            last[turn] = Instant::now();
        }
    }

    /// Nothing was seen that was too old, or never there.
    pub(super) fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
