//! Each moment between two steps, once on purpose: the daemon dies there, and the next one makes it good.
//!
//! A [`Deed`] says what a program does, and [`TABLE`] at which points the daemon dies under it. What the server has in the end
//! is what was acknowledged, or, where the call that died had not returned yet, what its end would have made; whole, once, with
//! no upload open and no copy that nobody caused. A point that is not in the table, or that the daemon does not come by, fails.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use cloudreve_fuse::crash::Point;
use cloudreve_fuse::names::{NamePolicy, Stored};
use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell::wait_until;

const KIB: u64 = 1 << 10;

/// What the server has: bytes by path, none of a folder.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// What a program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// A new file.
    New,
    /// A new file of several chunks, each large enough to be noted.
    Chunks,
    /// A new file that is empty.
    Empty,
    /// A new file, brought to the disk.
    Synced,
    /// A file gets other content.
    Over,
    /// The same where the old one is to be deleted first.
    DeleteOver,
    /// The same where somebody else changed it meanwhile.
    Conflict,
    /// A large one is copied to another folder, which the server does.
    Duplicate,
    /// One is copied within its folder.
    DuplicateBeside,
    /// What is only here gets another name.
    RenameStaged,
    /// What is only here goes over something else that is.
    StagedOverStaged,
    /// A file of the server's with content here goes over another one of the server's.
    ChangedOverKnown,
    /// What only the server has gets another name.
    Rename,
    /// It gets one of which the server stores a part.
    RenameLong,
    /// It goes to another folder, under another name, where both names are taken in both.
    Move,
    /// A large file of the server's goes over another one.
    Swap,
    /// A small one does.
    CopyOver,
    /// Two change their names.
    Exchange,
    /// A folder is made.
    MakeFolder,
    /// What only the server has is removed.
    Unlink,
    /// What is here in part, and the rest on the server, is removed.
    UnlinkChanged,
    /// Many are removed in a row.
    RemoveMany,
    /// The mount ends with something owed.
    Unmount,
}

use Deed::*;

/// At which points the daemon dies, the how manieth time it comes by.
const TABLE: &[(Deed, &[(Point, u32)])] = &[
    (
        New,
        &[
            (Point::Created, 1),
            (Point::Written, 1),
            (Point::Written, 2),
            (Point::Closing, 1),
            (Point::Closed, 1),
            (Point::SessionMeant, 1),
            (Point::SessionOpened, 1),
            (Point::SessionNoted, 1),
            (Point::AllSent, 1),
            (Point::Seen, 1),
            (Point::Undescribed, 1),
            (Point::Forgotten, 1),
        ],
    ),
    (
        Chunks,
        &[
            (Point::ChunkSent, 1),
            (Point::ChunkNoted, 1),
            (Point::ChunkSent, 2),
            (Point::ChunkNoted, 2),
            (Point::AllSent, 1),
        ],
    ),
    (
        Empty,
        &[
            (Point::EmptyMade, 1),
            (Point::Seen, 1),
            (Point::Undescribed, 1),
        ],
    ),
    (Synced, &[(Point::Closed, 1), (Point::Synced, 1)]),
    (
        Over,
        &[
            (Point::Written, 1),
            (Point::Closed, 1),
            (Point::SessionMeant, 1),
            (Point::SessionOpened, 1),
            (Point::SessionNoted, 1),
            (Point::AllSent, 1),
            (Point::Seen, 1),
            (Point::Undescribed, 1),
            (Point::Forgotten, 1),
            (Point::ReplacedDropped, 1),
        ],
    ),
    (
        DeleteOver,
        &[
            (Point::DeletingFirst, 1),
            (Point::DeletedFirst, 1),
            (Point::SessionOpened, 1),
            (Point::SessionNoted, 1),
            (Point::AllSent, 1),
            (Point::Seen, 1),
        ],
    ),
    (
        Conflict,
        &[
            (Point::BesideDecided, 1),
            (Point::SessionOpened, 1),
            (Point::SessionNoted, 1),
            (Point::AllSent, 1),
            (Point::Seen, 1),
            (Point::Undescribed, 1),
            (Point::Forgotten, 1),
        ],
    ),
    (
        Duplicate,
        &[
            (Point::CopyMeant, 1),
            (Point::Copied, 1),
            (Point::Seen, 1),
            (Point::Forgotten, 1),
        ],
    ),
    (
        DuplicateBeside,
        &[
            (Point::CopyMeant, 1),
            (Point::DetourNoted, 1),
            (Point::DetourTaken, 1),
            (Point::Copied, 1),
            (Point::Seen, 1),
        ],
    ),
    (RenameStaged, &[(Point::Described, 1)]),
    (
        StagedOverStaged,
        &[(Point::Described, 1), (Point::Replacing, 1)],
    ),
    (
        ChangedOverKnown,
        &[
            (Point::Deleted, 1),
            (Point::PutOntoDeleted, 1),
            (Point::Described, 1),
        ],
    ),
    (Rename, &[(Point::Moved, 1)]),
    (RenameLong, &[(Point::Foretold, 1), (Point::Moved, 1)]),
    (
        Move,
        &[
            (Point::StepsNoted, 1),
            (Point::StepsPrepared, 1),
            (Point::StepDone, 1),
            (Point::StepDone, 2),
            (Point::StepDone, 3),
            (Point::StepsForgotten, 1),
        ],
    ),
    (
        Swap,
        &[
            (Point::StepsNoted, 1),
            (Point::StepDone, 1),
            (Point::StepDone, 2),
            (Point::Deleted, 1),
            (Point::StepDone, 3),
        ],
    ),
    (
        CopyOver,
        &[
            (Point::StepsNoted, 1),
            (Point::Described, 1),
            (Point::StepsPrepared, 1),
            (Point::Deleted, 1),
            (Point::StepDone, 1),
            (Point::StepsForgotten, 1),
        ],
    ),
    (
        Exchange,
        &[
            (Point::StepsNoted, 1),
            (Point::StepDone, 1),
            (Point::StepDone, 2),
            (Point::StepDone, 3),
        ],
    ),
    (MakeFolder, &[(Point::FolderMade, 1)]),
    (Unlink, &[(Point::Deleted, 1)]),
    (
        UnlinkChanged,
        &[
            (Point::StepsNoted, 1),
            (Point::Deleted, 1),
            (Point::Undescribed, 1),
            (Point::Retired, 1),
        ],
    ),
    (
        RemoveMany,
        &[
            (Point::Deleted, 2),
            (Point::RemovalGathered, 1),
            (Point::RemovalGathered, 4),
            (Point::RemovalsSent, 1),
        ],
    ),
    (
        Unmount,
        &[(Point::Ending, 1), (Point::Seen, 1), (Point::Ended, 1)],
    ),
];

/// Content that nothing else has.
fn content(name: &str, size_bytes: u64) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte));
    generated_bytes(seed, 0..size_bytes)
}

/// What may be there in the end, by what the program knows.
struct May(Vec<Tree>);

impl May {
    /// A call is about to make `change`; what is there without it may be, too, until it returned.
    fn call<T>(
        &mut self,
        change: impl FnOnce(&mut Tree),
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut next = self.0.last().unwrap().clone();
        change(&mut next);
        self.0.push(next);
        let done = call()?;
        self.0.drain(..self.0.len() - 1);
        Ok(done)
    }
}

fn is(path: &str, content: Option<Vec<u8>>) -> impl FnOnce(&mut Tree) {
    let path = path.to_owned();
    move |tree| drop(tree.insert(path, content))
}

fn gone(path: &str) -> impl FnOnce(&mut Tree) {
    let path = path.to_owned();
    move |tree| drop(tree.remove(&path))
}

fn moved(from: &str, to: &str) -> impl FnOnce(&mut Tree) {
    let (from, to) = (from.to_owned(), to.to_owned());
    move |tree| {
        let content = tree.remove(&from).unwrap();
        tree.insert(to, content);
    }
}

fn rename(may: &mut May, root: &Path, from: &str, to: &str) -> io::Result<()> {
    may.call(moved(from, to), || {
        fs::rename(root.join(from), root.join(to))
    })
}

/// Makes a file in two writes, of whole pages where that is possible: the kernel may send what lies on two of them in two. What was written of a file that was not closed is owed as it is.
fn make(may: &mut May, root: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let mut file = may.call(is(path, Some(Vec::new())), || {
        File::create_new(root.join(path))
    })?;
    let (first, rest) = content.split_at(content.len() / 2);
    for (piece, end) in [(first, first.len()), (rest, content.len())] {
        if !piece.is_empty() {
            may.call(is(path, Some(content[..end].to_vec())), || {
                file.write_all(piece)
            })?;
        }
    }
    close(file)
}

/// Writes over the begin of a file.
fn patch(may: &mut May, root: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let change = |tree: &mut Tree| {
        let content = tree.get_mut(path).unwrap().as_mut().unwrap();
        content[..bytes.len()].copy_from_slice(bytes);
    };
    let file = OpenOptions::new().write(true).open(root.join(path))?;
    may.call(change, || file.write_all_at(bytes, 0))?;
    close(file)
}

/// close(2), whose error `drop` would not tell.
fn close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    #[expect(unsafe_code, reason = "std gives no error of close(2)")]
    // SAFETY: the descriptor is this file's alone, and used no more.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Deed {
    /// What is on the server before.
    fn before(self) -> Tree {
        let file = |name: &str, size| (name.to_owned(), Some(content(name, size)));
        let folder = |name: &str| (name.to_owned(), None);
        let files: Vec<_> = match self {
            New | Chunks | Empty | Synced | MakeFolder | RenameStaged | StagedOverStaged
            | Unmount => vec![],
            Over | DeleteOver | Conflict | Rename | RenameLong | Unlink | UnlinkChanged => {
                vec![file("f", 3000)]
            }
            ChangedOverKnown | CopyOver | Exchange => vec![file("f", 3000), file("g", 5000)],
            Move => vec![
                folder("a"),
                folder("b"),
                file("a/f", 3000),
                file("a/g", 10),
                file("b/f", 20),
            ],
            Duplicate => vec![folder("a"), folder("b"), file("a/f", 17 * 1024 * KIB)],
            DuplicateBeside => vec![file("f", 17 * 1024 * KIB)],
            // More than is copied rather than moved.
            Swap => vec![file("f", 2048 * KIB), file("g", 5000)],
            RemoveMany => {
                let many = (0..10).map(|number| file(&format!("a/{number}"), 10));
                many.chain([folder("a")]).collect()
            }
        };
        files.into_iter().collect()
    }

    /// Nothing is sent before somebody asks for it: whatever process is started meanwhile closes a copy of each open file.
    fn options(self) -> &'static [&'static str] {
        match self {
            DeleteOver => &["--upload-delay=1h", "--overwrite=delete"],
            // Nothing that counts as a second copy stays in the trash.
            CopyOver => &["--upload-delay=1h", "--delete=permanent"],
            _ => &["--upload-delay=1h"],
        }
    }

    /// Does it, until a call fails.
    fn run(self, may: &mut May, server: &Server, mount: &Mounted) -> io::Result<()> {
        let root = &*mount.path("");
        let at = |name: &str| root.join(name);
        match self {
            New => make(may, root, "n", &content("new", 8192)),
            Chunks => make(may, root, "n", &content("new", 13 * 1024 * KIB)),
            Empty => make(may, root, "n", &[]),
            Synced => {
                make(may, root, "n", &content("new", 8192))?;
                File::open(at("n"))?.sync_all()
            }
            Over | DeleteOver => patch(may, root, "f", &content("new", 3000)),
            Conflict => {
                patch(may, root, "f", &content("new", 3000))?;
                server.put("f", content("theirs", 4000));
                let ours = may.0.pop().unwrap().remove("f").unwrap();
                may.0 = vec![Tree::from([
                    ("f".into(), Some(content("theirs", 4000))),
                    (COPY.into(), ours),
                ])];
                Ok(())
            }
            Duplicate | DuplicateBeside => {
                let (from, to) = match self {
                    Duplicate => ("a/f", "b/f"),
                    _ => ("f", "g"),
                };
                let copied = is(to, may.0[0][from].clone());
                may.call(copied, || fs::copy(at(from), at(to)).map(drop))
            }
            RenameStaged => {
                make(may, root, "n", &content("new", 8192))?;
                rename(may, root, "n", "m")
            }
            StagedOverStaged => {
                make(may, root, "n", &content("new", 8192))?;
                make(may, root, "m", &content("old", 50))?;
                rename(may, root, "n", "m")
            }
            ChangedOverKnown => {
                patch(may, root, "f", &content("new", 100))?;
                rename(may, root, "f", "g")
            }
            Rename => rename(may, root, "f", "h"),
            RenameLong => {
                let long = "?".repeat(255);
                let stored = Stored::of(OsStr::new(&long), NamePolicy::Encode).unwrap();
                may.call(moved("f", &stored.name.to_string()), || {
                    fs::rename(at("f"), at(&long))
                })
            }
            Move => rename(may, root, "a/f", "b/g"),
            Swap | CopyOver => rename(may, root, "f", "g"),
            Exchange => {
                let change = |tree: &mut Tree| {
                    let (f, g) = (tree.remove("f").unwrap(), tree.remove("g").unwrap());
                    tree.extend([("f".to_owned(), g), ("g".to_owned(), f)]);
                };
                may.call(change, || exchange(&at("f"), &at("g")))
            }
            MakeFolder => may.call(is("d", None), || fs::create_dir(at("d"))),
            Unlink => may.call(gone("f"), || fs::remove_file(at("f"))),
            UnlinkChanged => {
                patch(may, root, "f", &content("new", 100))?;
                may.call(gone("f"), || fs::remove_file(at("f")))
            }
            RemoveMany => {
                for number in 0..10 {
                    let path = format!("a/{number}");
                    may.call(gone(&path), || fs::remove_file(at(&path)))?;
                }
                Ok(())
            }
            Unmount => make(may, root, "n", &content("new", 8192)),
        }
    }
}

/// The name of a conflict copy of `f`, whoever made it and when.
const COPY: &str = "f (conflict)";

/// RENAME_EXCHANGE.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let how = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, how)?;
    Ok(())
}

/// Lets one of the program's own commands ask the daemon, which dies over it.
fn ask(mount: &Mounted, command: &str) {
    let mut asking = mount.home.program();
    asking.arg(command).arg(mount.path(""));
    asking.stdout(Stdio::null()).stderr(Stdio::null());
    // How it fails is another test's matter.
    let _ = asking.status().unwrap();
}

/// What the server has.
fn tree(server: &Server) -> Tree {
    fn walk(server: &Server, folder: &str, tree: &mut Tree) {
        for name in server.names(folder).unwrap() {
            let path = match folder {
                "" => name.clone(),
                _ => format!("{folder}/{name}"),
            };
            let content = server.content(&path);
            if content.is_none() {
                walk(server, &path, tree);
            }
            let path = match path.find(" (conflict ") {
                Some(at) => format!("{} (conflict)", &path[..at]),
                None => path,
            };
            let before = tree.insert(path.clone(), content);
            assert!(before.is_none(), "{path} is there twice");
        }
    }
    let mut found = Tree::new();
    walk(server, "", &mut found);
    found
}

/// A tree as a message can have it.
fn sizes(tree: &Tree) -> BTreeMap<&str, Option<usize>> {
    tree.iter()
        .map(|(path, content)| (&**path, content.as_ref().map(Vec::len)))
        .collect()
}

/// The daemon dies at `point` under `deed`, and the next one makes it good.
fn dies(deed: Deed, point: Point, nth: u32) {
    let what = format!("{deed:?} at {}:{nth}", point.name());
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.chunk_size = 4 << 20);
    server.set_retention(true, 0);
    let before = deed.before();
    for (path, content) in &before {
        match content {
            Some(content) => drop(server.put(path, content.clone())),
            None => drop(server.mkdir(path)),
        }
    }
    let told = format!("{}:{nth}", point.name());
    let mut mount = Mounted::with(&server, "cloudreve://my/", deed.options(), |command| {
        command.env("CRASH_AT_POINT", told);
    });
    let mut may = May(vec![before]);
    // Where a call fails, that was the daemon's end.
    if deed.run(&mut may, &server, &mount).is_ok() {
        ask(&mount, if deed == Unmount { "umount" } else { "sync" });
    }
    let status = mount.wait();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{what}: {status}");
    let mount = mount.again(&server, "cloudreve://my/", deed.options());
    mount.sync();
    // Not owed to anybody, so nobody waits for it.
    wait_until("what copies went through is gone", || {
        let left = |name: &String| name.starts_with(".cloudreve-fuse-copy-");
        !server.names("").unwrap().iter().any(left)
    });
    let found = tree(&server);
    assert!(
        may.0.contains(&found),
        "{what}: {:?} is none of {:?}\n{}",
        sizes(&found),
        may.0.iter().map(sizes).collect::<Vec<_>>(),
        mount.log()
    );
    assert_eq!(server.open_uploads(), 0, "{what}: an upload is left");
    let all = server.contents();
    for (path, content) in &found {
        let Some(content) = content.as_ref().filter(|content| !content.is_empty()) else {
            continue;
        };
        let times = all.iter().filter(|one| *one == content).count();
        let wanted = found.values().flatten().filter(|one| *one == content);
        let wanted = wanted.count();
        assert_eq!(times, wanted, "{what}: {path} is there {times} times");
    }
    assert_eq!(mount.status()["owed"], serde_json::json!([]), "{what}");
}

/// All points of the table for `deeds`.
fn all_of(deeds: &[Deed]) {
    for (deed, points) in TABLE.iter().filter(|(deed, _)| deeds.contains(deed)) {
        for (point, nth) in *points {
            let began = std::time::Instant::now();
            dies(*deed, *point, *nth);
            println!("{deed:?} at {}:{nth}: {:?}", point.name(), began.elapsed());
        }
    }
}

#[test]
fn each_point_in_the_program_is_visited() {
    let visited: BTreeSet<_> = TABLE
        .iter()
        .flat_map(|(_, points)| points.iter().map(|(point, _)| point.name()))
        .collect();
    let all: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(visited, all);
}

#[test]
fn a_daemon_that_dies_while_a_new_file_is_made_or_sent_loses_nothing_of_it() {
    all_of(&[New, Chunks, Empty, Synced]);
}

#[test]
fn a_daemon_that_dies_while_a_file_is_replaced_loses_neither_version() {
    all_of(&[Over, DeleteOver, Conflict]);
}

#[test]
fn a_daemon_that_dies_while_the_server_copies_a_file_leaves_one_copy_and_nothing_else() {
    all_of(&[Duplicate, DuplicateBeside]);
}

#[test]
fn a_daemon_that_dies_in_a_rename_of_what_is_here_leaves_it_under_one_name() {
    all_of(&[RenameStaged, StagedOverStaged, ChangedOverKnown]);
}

#[test]
fn a_daemon_that_dies_in_a_rename_of_several_calls_leaves_it_done_or_undone() {
    all_of(&[Rename, RenameLong, Move, Swap, CopyOver, Exchange]);
}

#[test]
fn a_daemon_that_dies_while_names_come_and_go_leaves_them_there_or_gone() {
    all_of(&[MakeFolder, Unlink, UnlinkChanged, RemoveMany, Unmount]);
}
