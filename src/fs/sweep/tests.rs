use std::time::SystemTime;

use super::*;
use crate::entry::{Tree, stable_hash};
use crate::model::{EntityId, FileId, FileKind};

const SIZE: u64 = 1000;

/// One folder, whose files are opened one after the other, a millisecond apart.
struct Watched {
    sweeps: Sweeps<Arc<()>>,
    folder: FileKey,
    listing: Arc<Listing>,
    now: Instant,
    /// Of each file so many bytes are read.
    read_bytes: Option<u64>,
}

fn entry(name: &str, kind: FileKind, size_bytes: u64) -> Arc<Entry> {
    Arc::new(Entry {
        id: FileId(name.into()),
        kind,
        name: OsStr::new(name).into(),
        segment: None,
        size_bytes,
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
        entity: EntityId(name.into()),
        owned: true,
        shared: false,
        unfinished: false,
        thumbless: false,
        shortcut: None,
    })
}

fn file(name: &str) -> Arc<Entry> {
    entry(name, FileKind::File, SIZE)
}

fn folder(id: &str) -> FileKey {
    FileKey {
        tree: Tree::MAIN,
        id: FileId(id.into()),
    }
}

/// So many files: `000`, `001`, …
fn numbered(count: usize) -> Vec<Arc<Entry>> {
    (0..count).map(|n| file(&format!("{n:03}"))).collect()
}

/// Numbers as the kernel would have them: in no order that a name shows.
fn number(entry: &Arc<Entry>) -> u64 {
    stable_hash([entry.id.0.as_bytes()])
}

impl Watched {
    fn new(entries: Vec<Arc<Entry>>) -> Self {
        Self {
            sweeps: Sweeps::new(),
            folder: folder("d"),
            listing: Arc::new(Listing::new(entries, 1, false)),
            now: Instant::now(),
            read_bytes: Some(SIZE),
        }
    }

    /// Opens a file and reads it; gives what is to be fetched ahead now, and what for.
    fn open(&mut self, name: &str) -> Option<(Arc<()>, Vec<Coming>)> {
        self.now += Duration::from_millis(1);
        let read_bytes = self.read_bytes.map(|bytes| Arc::new(bytes.into()));
        let opening = Opening {
            folder: &self.folder,
            listing: &self.listing,
            index: self.listing.index_of(OsStr::new(name)).expect(name),
            read_bytes,
            numbers: &number,
            now: self.now,
        };
        self.sweeps.opened(&opening, Arc::default)
    }

    /// Opens files; gives the names of those to fetch ahead at the last one.
    fn open_all(&mut self, names: &[&str]) -> Vec<String> {
        let coming = names.iter().map(|name| self.open(name)).last().flatten();
        let names = coming.into_iter().flat_map(|(_, coming)| coming);
        names
            .map(|coming| coming.entry.name.to_string_lossy().into_owned())
            .collect()
    }

    /// Opens files that are a sweep; what fetches ahead for it.
    #[track_caller]
    fn swept(&mut self, names: &[&str]) -> Arc<()> {
        let coming = names.iter().map(|name| self.open(name)).last().flatten();
        coming.expect("a sweep").0
    }

    fn relist(&mut self, entries: Vec<Arc<Entry>>, version: u64) {
        self.listing = Arc::new(Listing::new(entries, version, false));
    }
}

fn is_alive(ahead: &Arc<()>) -> bool {
    Arc::strong_count(ahead) > 1
}

#[test]
fn three_opens_in_the_order_shown_are_a_sweep_and_two_are_not() {
    let mut watched = Watched::new(numbered(200));
    assert!(watched.open("000").is_none());
    assert!(watched.open("001").is_none());
    let (_, coming) = watched.open("002").unwrap();
    assert_eq!(coming.len(), FIRST_HANDED);
    assert_eq!(*coming[0].entry.name, *"003");
    assert_eq!(coming[0].bytes, SIZE);
}

#[test]
fn each_file_is_given_once_and_all_of_them_before_they_are_opened() {
    let mut watched = Watched::new(numbered(500));
    let mut given = Vec::new();
    for number in 0..500 {
        let name = format!("{number:03}");
        assert!(number < 4 || given.contains(&name), "{name}");
        let coming = watched
            .open(&name)
            .into_iter()
            .flat_map(|(_, coming)| coming);
        given.extend(coming.map(|coming| coming.entry.name.to_string_lossy().into_owned()));
        assert!(given.len() <= number + 1 + HANDED);
    }
    let expected: Vec<_> = (3..500).map(|number| format!("{number:03}")).collect();
    assert_eq!(given, expected);
}

#[test]
fn the_order_of_inode_numbers_in_which_cp_reads_is_one() {
    let mut files = numbered(300);
    let mut watched = Watched::new(files.clone());
    files.sort_by_key(number);
    let names: Vec<&str> = files
        .iter()
        .map(|file| file.name.to_str().unwrap())
        .collect();
    assert_eq!(watched.open_all(&names[..3])[..5], names[3..8]);
}

#[test]
fn the_orders_of_names_are_ones_whatever_the_order_shown() {
    let names = ["h", "G", "f", "E", "d", "C", "b", "A"];
    let mut watched = Watched::new(names.map(file).to_vec());
    assert_eq!(
        watched.open_all(&["A", "C", "E"]),
        ["G", "b", "d", "f", "h"]
    );
    let mut watched = Watched::new(names.map(file).to_vec());
    assert_eq!(
        watched.open_all(&["A", "b", "C"]),
        ["d", "E", "f", "G", "h"]
    );
}

#[test]
fn opens_here_and_there_are_none() {
    let mut watched = Watched::new(numbered(1000));
    let mut seed = 1_u64;
    for _ in 0..300 {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let name = format!("{:03}", (seed >> 33) % 1000);
        assert!(watched.open(&name).is_none());
    }
}

#[test]
fn a_sweep_ends_with_an_open_elsewhere_in_its_folder_but_not_with_one_nearby() {
    let mut watched = Watched::new(numbered(200));
    let ahead = watched.swept(&["010", "011", "012"]);
    watched.open("011");
    watched.open("015");
    watched.open("015");
    assert!(is_alive(&ahead));
    watched.open("100");
    assert!(!is_alive(&ahead));
    let again = watched.swept(&["101", "102"]);
    watched.open("003");
    assert!(!is_alive(&again));
}

#[test]
fn a_sweep_ends_with_silence_and_needs_three_opens_again() {
    let mut watched = Watched::new(numbered(200));
    let ahead = watched.swept(&["010", "011", "012"]);
    watched.now += SILENCE + Duration::from_secs(1);
    assert!(watched.open("013").is_none());
    assert!(!is_alive(&ahead));
    assert!(watched.open("014").is_none());
    assert!(watched.open("015").is_some());
}

#[test]
fn a_kind_of_file_that_is_passed_over_is_not_fetched() {
    let names = (0..20).flat_map(|n| ["jpg", "xmp"].map(|kind| format!("{n:02}.{kind}")));
    let mut watched = Watched::new(names.map(|name| file(&name)).collect());
    let coming = watched.open_all(&["00.jpg", "01.jpg", "02.jpg"]);
    assert_eq!(coming[..2], ["03.jpg", "04.jpg"]);
    assert!(coming.iter().all(|name| name.ends_with("jpg")));
}

#[test]
fn no_file_is_fetched_that_comes_after_a_folder_into_which_the_program_goes_first() {
    let mut entries = numbered(40);
    entries.insert(6, entry("folder", FileKind::Folder, 0));
    let mut watched = Watched::new(entries);
    assert_eq!(
        watched.open_all(&["000", "001", "002"]),
        ["003", "004", "005"]
    );
    let after = watched.open_all(&["003", "004", "005", "006"]);
    assert_eq!(after[..2], ["007", "008"]);
}

#[test]
fn a_sweep_that_goes_on_into_another_folder_is_known_there_at_the_first_file() {
    let mut watched = Watched::new(numbered(10));
    let outer = watched.swept(&["000", "001", "002"]);
    watched.folder = folder("inner");
    assert_eq!(watched.open_all(&["000"])[..2], ["001", "002"]);
    assert!(is_alive(&outer), "it may come back");
    watched.folder = folder("third");
    assert!(watched.open("007").is_none(), "not where a program begins");
    watched.folder = folder("fourth");
    watched.now += RECURSION * 2;
    assert!(watched.open("000").is_none(), "that was somebody else");
}

#[test]
fn folders_are_swept_side_by_side_up_to_a_bound() {
    let mut watched = Watched::new(numbered(50));
    let mut aheads = Vec::new();
    for number in 0..FOLDERS.get() + 2 {
        watched.folder = folder(&number.to_string());
        aheads.push(watched.swept(&["010", "011", "012"]));
    }
    let alive = aheads.iter().filter(|ahead| is_alive(ahead)).count();
    assert_eq!(alive, FOLDERS.get());
}

#[test]
fn of_large_files_the_url_is_wanted_and_of_empty_ones_nothing() {
    let mut entries = numbered(3);
    entries.push(entry("large", FileKind::File, SMALL_BYTES + 1));
    entries.push(entry("none", FileKind::File, 0));
    entries.push(entry("small", FileKind::File, SMALL_BYTES));
    let mut watched = Watched::new(entries);
    for name in ["000", "001"] {
        watched.open(name);
    }
    let (_, coming) = watched.open("002").unwrap();
    let wanted: Vec<_> = coming.iter().map(|c| (&*c.entry.name, c.bytes)).collect();
    assert_eq!(
        wanted,
        [(OsStr::new("large"), 0), (OsStr::new("small"), SMALL_BYTES)]
    );
}

#[test]
fn as_much_is_expected_to_be_read_as_was_read_of_the_files_before() {
    let bytes = |read_bytes| {
        let mut watched = Watched::new(numbered(50));
        watched.read_bytes = read_bytes;
        let names = ["000", "001", "002"];
        let coming = names.map(|name| watched.open(name)).into_iter().last();
        coming.flatten().map(|(_, coming)| coming[0].bytes)
    };
    assert_eq!(bytes(Some(SIZE)), Some(SIZE));
    assert_eq!(bytes(Some(100)), Some(100));
    assert_eq!(bytes(Some(0)), None, "the kernel has the pages");
    assert_eq!(bytes(None), None);
}

#[test]
fn a_sweep_goes_on_when_the_folder_is_listed_anew() {
    let mut watched = Watched::new(numbered(50));
    let ahead = watched.swept(&["010", "011", "012"]);
    watched.relist(numbered(50), 1);
    watched.open("013");
    assert!(is_alive(&ahead));
    let mut fewer = numbered(50);
    fewer.drain(..8);
    watched.relist(fewer, 2);
    watched.open("014");
    assert!(is_alive(&ahead));
    watched.relist(numbered(5), 3);
    watched.open("000");
    assert!(!is_alive(&ahead), "where it was is no more");
}
