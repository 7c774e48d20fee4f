//! What is owed, put in words and in order: arithmetic and sentences, no room is asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::pace::Rate;
use crate::cli::values::{show_moment, show_size};
use crate::control::{OwedFile, OwedSum};
use crate::fs::{Pending, Unremoved};
use crate::names::{NamePolicy, ServerName, Stored};
use crate::staging::{Delivery, LocalId, Place};
use crate::uri::FileUri;

/// Files listed at most, so that a line on the control socket and the memory for it stay bounded.
pub(super) const LISTED_MAX: usize = 10_000;

/// How a file with content of its own stands. In the order in which they are listed: those first that want somebody to do
/// something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stand {
    Blocked,
    Retrying,
    Uploading,
    Waiting,
    /// Written to and not closed.
    Open,
}

impl Stand {
    /// As `upload` calls it.
    pub(super) fn of(state: &str) -> Self {
        match state {
            "blocked" => Self::Blocked,
            "retrying" => Self::Retrying,
            "uploading" => Self::Uploading,
            _ => Self::Waiting,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Retrying => "retrying",
            Self::Uploading => "uploading",
            Self::Waiting => "waiting",
            Self::Open => "open",
        }
    }
}

/// One such file in numbers: all that is looked at twice a second, however many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brief {
    pub(super) local: LocalId,
    pub(super) stand: Stand,
    pub(super) size_bytes: u64,
    pub(super) sent_bytes: u64,
}

/// One such file, as the rooms tell of it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) brief: Brief,
    pub(super) place: Place,
    pub(super) since: Option<SystemTime>,
    pub(super) next_try: Option<SystemTime>,
    pub(super) base_entity: Option<String>,
    pub(super) delivery: Delivery,
}

impl Brief {
    /// What is still to be sent of it.
    fn left_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.sent_bytes)
    }
}

/// How paths are shown.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) point: PathBuf,
    pub(super) root: FileUri,
    pub(super) names: NamePolicy,
    /// Where what belongs in a place shows.
    pub(super) at: Arc<dyn Fn(&Place) -> FileUri + Send + Sync>,
}

impl Shown {
    /// Where what belongs in `place` shows.
    pub(super) fn uri(&self, place: &Place) -> FileUri {
        (self.at)(place)
    }

    /// The names of `uri` below the mount point; none where it lies elsewhere, as behind a shortcut.
    fn below<'a>(&self, uri: &'a FileUri) -> Option<&'a [ServerName]> {
        let names = uri.names().strip_prefix(self.root.names())?;
        (uri.file_system() == self.root.file_system()).then_some(names)
    }

    /// Where it is, for a person: never with a password in it. Of a folder whose name is stored in part it says that part.
    pub(super) fn path(&self, uri: &FileUri) -> String {
        self.path_as(uri, None)
    }

    /// As [`Shown::path`] of its URI, with all of its own name.
    pub(super) fn path_of(&self, place: &Place) -> String {
        self.path_as(&self.uri(place), Some(place.local_name(self.names)))
    }

    fn path_as(&self, uri: &FileUri, name: Option<OsString>) -> String {
        let Some(below) = self.below(uri) else {
            return uri.to_string();
        };
        let mut path = self.point.clone();
        path.extend(below.iter().map(|name| name.to_local(self.names)));
        if let Some(name) = name.filter(|_| !below.is_empty()) {
            path.set_file_name(name);
        }
        path.display().to_string()
    }

    /// Whether it lies at or below `path`, which is below the mount point. What lies elsewhere belongs to the whole
    /// mount alone.
    pub(super) fn is_within(&self, uri: &FileUri, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.below_path(uri, path).is_some()
    }

    /// Whether it lies at `path`, which is below the mount point.
    pub(super) fn is_at(&self, uri: &FileUri, path: &Path) -> bool {
        self.below_path(uri, path).is_some_and(<[_]>::is_empty)
    }

    /// The names of `uri` below `path`, which is below the mount point; none where it lies elsewhere. A path says all of
    /// each name, and a URI may not.
    fn below_path<'a>(&self, uri: &'a FileUri, path: &Path) -> Option<&'a [ServerName]> {
        let mut names = self.below(uri)?;
        for part in path {
            let (name, below) = names.split_first()?;
            let stored = Stored::of(part, self.names);
            let is_it = stored.is_ok_and(|stored| stored.is(name));
            if !is_it && name.to_local(self.names) != part {
                return None;
            }
            names = below;
        }
        Some(names)
    }
}

/// Puts those first that want somebody to do something; within them the oldest, as they came.
pub(super) fn in_order(mut files: Vec<Seen>) -> Vec<Seen> {
    files.sort_by_key(|file| file.brief.stand);
    files
}

/// Files that are [`in_order`] as they are told, [`LISTED_MAX`] at most. Each is expected when those before it are
/// there, too: exact it is not, since several go side by side.
pub(super) fn list(files: &[Seen], shown: &Shown, rate: Option<Rate>) -> Vec<OwedFile> {
    let (mut ahead_files, mut ahead_bytes) = (0, 0);
    files
        .iter()
        .take(LISTED_MAX)
        .map(|file| {
            let mut told = tell(file, shown);
            if matches!(
                file.brief.stand,
                Stand::Uploading | Stand::Waiting | Stand::Retrying
            ) {
                ahead_files += 1;
                ahead_bytes += file.brief.left_bytes();
                told.eta_seconds = rate.map(|rate| rate.seconds(ahead_files, ahead_bytes));
            }
            told
        })
        .collect()
}

/// A file as it is told, without when it is expected.
pub(super) fn tell(file: &Seen, shown: &Shown) -> OwedFile {
    let (brief, delivery) = (&file.brief, &file.delivery);
    OwedFile {
        path: shown.path_of(&file.place),
        state: brief.stand.word().to_owned(),
        size_bytes: brief.size_bytes,
        sent_bytes: brief.sent_bytes.min(brief.size_bytes),
        tries: delivery.tries,
        last_reason: delivery.last_error.clone(),
        next_step: delivery.blocked.clone(),
        next_try: file.next_try.map(show_moment),
        owed_since: file.since.map(show_moment),
        eta_seconds: None,
        base_entity: file.base_entity.clone(),
        kept_as: delivery.conflict.clone(),
        renamed_from: None,
    }
}

/// A file that is deleted here and not on the server.
pub(super) fn deleted(file: &Unremoved, shown: &Shown) -> OwedFile {
    OwedFile {
        path: shown.path_of(&file.place),
        state: "deleted".to_owned(),
        tries: file.tries,
        last_reason: file.why.clone(),
        next_try: file.next_try.map(show_moment),
        ..OwedFile::default()
    }
}

/// What the server has not heard of, in a word.
pub(super) fn unheard_word(one: &Pending) -> &'static str {
    match one.home {
        Some(_) => "renamed",
        None => "made",
    }
}

/// A folder that is made here, or what is renamed here, and not on the server.
pub(super) fn unheard(one: &Pending, shown: &Shown) -> OwedFile {
    OwedFile {
        path: shown.path_of(&one.place),
        state: unheard_word(one).to_owned(),
        tries: one.tries,
        last_reason: one.why.clone(),
        next_try: one.next_try.map(show_moment),
        renamed_from: one.home.as_ref().map(|home| shown.path_of(home)),
        ..OwedFile::default()
    }
}

/// All of them in numbers.
pub(super) fn sum(files: impl Iterator<Item = Brief>, rate: Option<Rate>) -> OwedSum {
    let mut sum = OwedSum::default();
    let (mut left_files, mut left_bytes) = (0, 0);
    for file in files {
        if file.stand == Stand::Open {
            sum.open += 1;
            continue;
        }
        sum.files += 1;
        sum.bytes += file.size_bytes;
        sum.sent_bytes += file.sent_bytes.min(file.size_bytes);
        match file.stand {
            Stand::Blocked => sum.blocked += 1,
            _ => {
                left_files += 1;
                left_bytes += file.left_bytes();
            }
        }
    }
    sum.eta_seconds = rate
        .filter(|_| left_files > 0)
        .map(|rate| rate.seconds(left_files, left_bytes));
    sum
}

/// What is owed in a few words, for the service manager and the log; none where nothing is.
pub(super) fn in_short(sum: &OwedSum) -> Option<String> {
    let files = match sum.files {
        0 if sum.untold > 0 => return Some(untold(sum.untold)),
        0 if sum.undeleted > 0 => return Some(undeleted(sum.undeleted)),
        0 if sum.unheard > 0 => return Some(unheard_sum(sum.unheard)),
        0 => return None,
        1 => "1 file is".to_owned(),
        n => format!("{n} files are"),
    };
    let blocked = match sum.blocked {
        0 => String::new(),
        n => format!(", {n} of them until somebody does something"),
    };
    let bytes = show_size(sum.bytes);
    Some(format!("{files} owed to the server, {bytes}{blocked}"))
}

/// How many files there are that the server is to delete.
fn undeleted(files: u64) -> String {
    match files {
        1 => "1 file that was deleted is still on the server".to_owned(),
        n => format!("{n} files that were deleted are still on the server"),
    }
}

/// How many changes there are of which the server is to hear.
fn unheard_sum(changes: u64) -> String {
    match changes {
        1 => "1 file or folder is made or renamed here and not on the server".to_owned(),
        n => format!("{n} files and folders are made or renamed here and not on the server"),
    }
}

/// How many files there are of which the server is to hear.
fn untold(files: u64) -> String {
    match files {
        1 => "mode, owner, times or the like of 1 file are owed to the server".to_owned(),
        n => format!("mode, owner, times or the like of {n} files are owed to the server"),
    }
}

/// What a person should do about files that cannot be delivered: one line for each thing to do, whatever the number of
/// files.
pub(super) fn next_steps(files: &[Seen], shown: &Shown) -> Vec<String> {
    let mut steps: Vec<(&str, &Seen, u64)> = Vec::new();
    let blocked = files
        .iter()
        .filter(|file| file.brief.stand == Stand::Blocked);
    for file in blocked {
        let step = file.delivery.blocked.as_deref();
        let step = step.or(file.delivery.last_error.as_deref());
        let step = step.unwrap_or("it cannot be delivered");
        // Reasons with names in them differ file by file; the list of what is owed has them all.
        let is_full = steps.len() == STEPS_MAX;
        match steps.iter_mut().find(|(known, ..)| *known == step) {
            Some((.., more)) => *more += 1,
            None if is_full => {}
            None => steps.push((step, file, 0)),
        }
    }
    let line = |(step, first, more): &(&str, &Seen, u64)| {
        let more = match more {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        format!("{}{more} waits: {step}", shown.path_of(&first.place))
    };
    steps.iter().map(line).collect()
}

/// Different things to do that are shown.
const STEPS_MAX: usize = 5;

/// What happens next with a file that is told so.
pub(in crate::mount) fn next(file: &OwedFile) -> String {
    match file.state.as_str() {
        "open" => {
            "it is owed to the server when the last program that has it open closes it".to_owned()
        }
        "blocked" => match (&file.next_step, &file.last_reason) {
            (Some(step), _) => format!("it stays here: {step}"),
            (None, Some(reason)) => format!("it stays here: {reason}"),
            (None, None) => "it stays here until somebody does something".to_owned(),
        },
        "uploading" => format!(
            "it is being sent: {} of {} are there",
            show_size(file.sent_bytes),
            show_size(file.size_bytes)
        ),
        state => {
            let what = match state {
                "retrying" => "it is tried again",
                _ => "its upload begins",
            };
            match &file.next_try {
                Some(at) => format!("{what} at {at}"),
                None => format!("{what} as soon as others have gone"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{FileKey, Tree};
    use crate::model::FileId;
    use crate::mount::debts::pace::Pace;
    use std::time::{Duration, Instant};

    const MIB: u64 = 1 << 20;

    fn shown(root: &str) -> Shown {
        Shown {
            point: "/mnt/drive".into(),
            root: FileUri::parse_wire(root).unwrap(),
            names: NamePolicy::Encode,
            at: Arc::new(Place::uri),
        }
    }

    fn uri(text: &str) -> FileUri {
        FileUri::parse_wire(text).unwrap()
    }

    fn seen(name: &str, stand: Stand, size_bytes: u64) -> Seen {
        Seen {
            brief: Brief {
                local: LocalId(0),
                stand,
                size_bytes,
                sent_bytes: 0,
            },
            place: Place {
                folder: FileKey {
                    tree: Tree::MAIN,
                    id: FileId("".into()),
                },
                folder_uri: uri("cloudreve://my/"),
                name: ServerName::from_wire(name.as_bytes()),
                full: None,
            },
            since: Some(SystemTime::UNIX_EPOCH),
            next_try: None,
            base_entity: None,
            delivery: Delivery::default(),
        }
    }

    fn blocked(name: &str, step: &str) -> Seen {
        let mut file = seen(name, Stand::Blocked, 1);
        file.delivery.blocked = Some(step.to_owned());
        file
    }

    fn one_mib_a_second() -> Rate {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..=4 {
            let now = start + Duration::from_secs(second);
            pace.look([(LocalId(1), second * MIB)].into_iter(), now);
        }
        pace.rate(start + Duration::from_secs(4)).unwrap()
    }

    #[test]
    fn a_file_is_shown_where_programs_see_it() {
        let shown = shown("cloudreve://my/Photos");
        assert_eq!(
            shown.path(&uri("cloudreve://my/Photos/a/what%EF%BC%9F.txt")),
            "/mnt/drive/a/what?.txt"
        );
        assert_eq!(shown.path(&uri("cloudreve://my/Photos")), "/mnt/drive");
        for elsewhere in ["cloudreve://my/Photos2/x", "cloudreve://AbCd@share/x"] {
            assert_eq!(shown.path(&uri(elsewhere)), elsewhere);
        }
        let secret = shown.path(&uri("cloudreve://AbCd:hunter2@share/x"));
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn what_lies_below_a_path_is_told_by_whole_names() {
        let shown = shown("cloudreve://my");
        let file = uri("cloudreve://my/a/b.txt");
        for (path, within) in [("", true), ("a", true), ("a/b.txt", true), ("a/b", false)] {
            assert_eq!(shown.is_within(&file, Path::new(path)), within, "{path}");
        }
        let elsewhere = uri("cloudreve://AbCd@share/a");
        assert!(shown.is_within(&elsewhere, Path::new("")));
        assert!(!shown.is_within(&elsewhere, Path::new("a")));
    }

    #[test]
    fn those_come_first_that_want_somebody_to_do_something() {
        let files = in_order(vec![
            seen("waits", Stand::Waiting, 1),
            seen("open", Stand::Open, 1),
            seen("goes", Stand::Uploading, 1),
            blocked("stuck", "free some space"),
            seen("waits2", Stand::Waiting, 1),
        ]);
        let told = list(&files, &shown("cloudreve://my"), None);
        let paths: Vec<_> = told.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["stuck", "goes", "waits", "waits2", "open"].map(|name| format!("/mnt/drive/{name}"))
        );
        assert_eq!(told[0].next_step.as_deref(), Some("free some space"));
        assert_eq!(told[0].owed_since.as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_file_is_expected_behind_those_before_it_and_a_blocked_one_never() {
        let mut files = [
            blocked("stuck", "x"),
            seen("goes", Stand::Uploading, 10 * MIB),
            seen("waits", Stand::Waiting, 5 * MIB),
            seen("open", Stand::Open, MIB),
        ];
        files[1].brief.sent_bytes = 6 * MIB;
        let rate = Some(one_mib_a_second());
        let told = list(&files, &shown("cloudreve://my"), rate);
        let expected: Vec<_> = told.iter().map(|file| file.eta_seconds).collect();
        assert_eq!(expected, [None, Some(5), Some(10), None]);
        let sum = sum(files.iter().map(|file| file.brief), rate);
        assert_eq!(
            (sum.files, sum.blocked, sum.open, sum.eta_seconds),
            (3, 1, 1, Some(10))
        );
        assert_eq!((sum.bytes, sum.sent_bytes), (15 * MIB + 1, 6 * MIB));
    }

    #[test]
    fn the_list_is_bounded_and_the_sum_counts_all() {
        let files = vec![seen("x", Stand::Waiting, 1); LISTED_MAX + 5];
        let told = list(&files, &shown("cloudreve://my"), None);
        assert_eq!(told.len(), LISTED_MAX);
        let sum = sum(files.iter().map(|file| file.brief), None);
        assert_eq!(sum.files, LISTED_MAX as u64 + 5);
    }

    #[test]
    fn many_files_with_one_remedy_are_one_line() {
        let mut files = vec![
            blocked("a", "free some space"),
            blocked("b", "free some space"),
        ];
        assert_eq!(
            next_steps(&files, &shown("cloudreve://my")),
            ["/mnt/drive/a (and 1 more) waits: free some space"]
        );
        files.extend((0..50).map(|n| blocked("c", &format!("reason {n}"))));
        assert_eq!(
            next_steps(&files, &shown("cloudreve://my")).len(),
            STEPS_MAX
        );
        assert_eq!(next_steps(&[], &shown("cloudreve://my")), [""; 0]);
    }

    #[test]
    fn what_is_owed_is_said_in_short() {
        let of = |files, blocked| {
            in_short(&OwedSum {
                files,
                blocked,
                bytes: MIB,
                ..OwedSum::default()
            })
        };
        assert_eq!(of(0, 0), None);
        let told = in_short(&OwedSum {
            untold: 2,
            ..OwedSum::default()
        });
        assert!(told.unwrap().contains("of 2 files are owed"));
        let told = in_short(&OwedSum {
            undeleted: 1,
            ..OwedSum::default()
        });
        assert!(told.unwrap().starts_with("1 file that was deleted"));
        assert_eq!(of(1, 0).unwrap(), "1 file is owed to the server, 1.00 MiB");
        assert!(
            of(3, 2)
                .unwrap()
                .ends_with(", 2 of them until somebody does something")
        );
    }

    #[test]
    fn each_state_has_its_next() {
        let told = |stand| tell(&seen("x", stand, MIB), &shown("cloudreve://my"));
        assert!(next(&told(Stand::Open)).contains("closes it"));
        assert!(next(&told(Stand::Uploading)).contains("0 B of 1.00 MiB"));
        assert!(next(&told(Stand::Waiting)).contains("begins as soon"));
        let at = Some("2026-01-01T00:00:00Z".to_owned());
        let retrying = OwedFile {
            next_try: at,
            ..told(Stand::Retrying)
        };
        assert_eq!(next(&retrying), "it is tried again at 2026-01-01T00:00:00Z");
        let stuck = tell(&blocked("x", "rename it"), &shown("cloudreve://my"));
        assert_eq!(next(&stuck), "it stays here: rename it");
    }
}
