//! Names, attributes and folders, on a drive of a few lines.

mod changes;
mod others;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::folders::Folders;
use super::namespace::Namespace;
use super::*;
use crate::listing::pretend::{Drive, uri};
use crate::model::{EntityId, FileId};
use crate::names::ServerName;
use crate::reach::Reach;

const LONG: Duration = Duration::from_secs(3600);
const NEVER: Duration = Duration::ZERO;

struct World {
    space: Namespace,
    folders: Folders,
}

fn options(root: &str, metadata_ttl: Duration) -> Options {
    Options {
        root: uri(root),
        metadata_ttl,
        metadata_entries: 1_000_000,
        names: NamePolicy::Encode,
        order: Order::default(),
        hide_uploading: false,
        folder_size: false,
        uid: 1,
        gid: 2,
        file_mode: 0o644,
        dir_mode: 0o755,
        delete: Delete::Trash,
        timeout: LONG,
        durability: super::Durability::default(),
    }
}

async fn mount(drive: &Arc<Drive>, options: Options) -> Result<World, Error> {
    let space = Namespace::new(
        options,
        "instance",
        drive.source(),
        None,
        None,
        Reach::default(),
        None,
    )
    .await?;
    Ok(World {
        space,
        folders: Folders::new(),
    })
}

async fn world(drive: &Arc<Drive>, ttl: Duration) -> World {
    mount(drive, options("cloudreve://my/", ttl)).await.unwrap()
}

/// `docs` with `a.txt` and `deep`, and `b.txt` beside it.
fn drive() -> Arc<Drive> {
    let drive = Arc::new(Drive::default());
    drive.folder("cloudreve://my/docs");
    drive.file("cloudreve://my/docs/a.txt", 5);
    drive.folder("cloudreve://my/docs/deep");
    drive.file("cloudreve://my/b.txt", 7);
    drive
}

impl World {
    async fn find(&self, parent: Ino, name: &str) -> Option<Attr> {
        match self.space.lookup(parent, OsStr::new(name)).await.unwrap() {
            Lookup::Found(found) => Some(found.attr),
            Lookup::Absent { .. } => None,
        }
    }

    async fn ino(&self, parent: Ino, name: &str) -> Ino {
        self.find(parent, name).await.expect(name).ino
    }

    /// Nothing is believed any more of what lies in `folder`.
    fn forget(&self, folder: Ino) {
        let key = self.space.folder_key(folder).unwrap();
        self.space.metadata.forget(&key);
    }

    /// Reads a folder in pieces of so many entries, each counted as looked up.
    async fn read_by(&self, ino: Ino, piece: usize) -> Result<Vec<(String, Believed)>, Error> {
        let opened = self.folders.open(&self.space, ino).await?;
        let read = self.read_handle(opened.handle, piece).await;
        self.folders.release(opened.handle);
        read
    }

    async fn read_handle(
        &self,
        handle: HandleId,
        piece: usize,
    ) -> Result<Vec<(String, Believed)>, Error> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let (before, from) = (all.len(), offset);
            let mut take = |entry: FolderEntry<'_>| {
                if all.len() - before == piece {
                    return false;
                }
                offset = entry.next_offset;
                all.push((entry.name.to_string_lossy().into_owned(), entry.believed));
                true
            };
            self.folders
                .read(&self.space, handle, from, true, &mut take)
                .await?;
            if all.len() == before {
                return Ok(all.split_off(2));
            }
        }
    }

    async fn names(&self, ino: Ino) -> Vec<String> {
        let entries = self.read_by(ino, 100).await.unwrap().into_iter();
        entries.map(|(name, _)| name).collect()
    }
}

/// The answer of a question that memory must be able to answer.
#[track_caller]
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("memory did not answer"),
    }
}

#[tokio::test]
async fn a_walk_asks_for_each_page_once_and_for_no_file_alone() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let mut folders = vec![Ino::ROOT];
    let mut seen = Vec::new();
    while let Some(folder) = folders.pop() {
        for (name, believed) in world.read_by(folder, 2).await.unwrap() {
            let ino = world.ino(folder, &name).await;
            assert_eq!(ino, believed.attr.ino);
            assert_eq!(world.space.attr(ino).await.unwrap().attr, believed.attr);
            if believed.attr.kind == Kind::Folder {
                folders.push(ino);
            }
            seen.push(name);
        }
    }
    seen.sort();
    assert_eq!(seen, ["a.txt", "b.txt", "deep", "docs"]);
    assert_eq!(drive.requests(), (3, 0));
    assert!(world.find(Ino::ROOT, "nowhere").await.is_none());
    assert_eq!(drive.requests(), (3, 0), "what a listing lacks is absent");
}

#[tokio::test]
async fn what_memory_knows_is_answered_at_the_first_poll() {
    let world = world(&drive(), LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    world.names(docs).await;
    let found = at_once(world.space.lookup(docs, OsStr::new("a.txt"))).unwrap();
    let Lookup::Found(found) = found else {
        panic!("it is there")
    };
    at_once(world.space.attr(found.attr.ino)).unwrap();
    at_once(world.space.lookup(docs, OsStr::new("none"))).unwrap();
    let opened = at_once(world.folders.open(&world.space, docs)).unwrap();
    assert!(opened.keep_cache, "nothing changed since it was read");
    at_once(world.read_handle(opened.handle, 10)).unwrap();
}

#[tokio::test]
async fn a_single_name_is_asked_for_alone_and_its_absence_is_remembered() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    for _ in 0..3 {
        assert!(world.find(docs, "a.txt").await.is_some());
        assert!(world.find(docs, "none").await.is_none());
    }
    assert_eq!(drive.requests(), (1, 2));
    for _ in 0..3 {
        assert!(world.find(docs, &":".repeat(200)).await.is_none());
    }
    assert_eq!(drive.requests(), (1, 3), "a part of that name is asked for");
    for _ in 0..3 {
        assert!(world.find(docs, &"y".repeat(250)).await.is_none());
    }
    assert_eq!(drive.requests(), (1, 5), "it may be there in whole, too");
    let long = world.space.lookup(docs, OsStr::new(&"x".repeat(256))).await;
    assert!(matches!(long, Err(Error::NameTooLong)));
}

#[tokio::test]
async fn what_is_known_counts_where_the_server_is_in_trouble_though_others_had_their_answers() {
    let world = world(&drive(), NEVER).await;
    let key = world.space.folder_key(Ino::ROOT).unwrap();
    let trouble = |code| {
        let said = "in trouble".into();
        Err::<u8, _>(Error::Io(crate::api::Error::Trouble { code, said }))
    };
    let known = world.space.or_known(&key, trouble(503), |_| Some(7)).await;
    assert_eq!(known.unwrap(), 7);
    world.space.reach.set(true);
    // As often of a request that never can succeed.
    let known = world.space.or_known(&key, trouble(-1), |_| Some(7)).await;
    assert!(known.is_err(), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_folder_is_not_answered_by_another_one_that_got_its_name_meanwhile() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    let node = world.space.inodes.node(docs).unwrap();
    drive.state().delay = Duration::from_secs(2);
    let swapped = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drive.remove("cloudreve://my/docs/a.txt");
        drive.file("cloudreve://my/docs/a.txt", 9);
        drive.folder("cloudreve://my/moved");
        drive.file("cloudreve://my/moved/a.txt", 5);
        let moved = Entry {
            name: OsStr::new("moved").into(),
            ..Entry::clone(&node.entry)
        };
        let (key, moved) = (node.key(), Arc::new(moved));
        world.space.inodes.settle(&key, Ino::ROOT, &moved);
    };
    let (found, ()) = tokio::join!(world.find(docs, "a.txt"), swapped);
    assert_eq!(found.unwrap().size_bytes, 5);
}

#[tokio::test]
async fn trouble_makes_nothing_absent() {
    let drive = drive();
    let world = world(&drive, NEVER).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    let a = world.ino(docs, "a.txt").await;
    {
        let mut state = drive.state();
        state.failing_infos = true;
        state.failing_page = Some(state.pages);
    }
    // What is known counts, and of what is not nobody says that there is nothing.
    assert!(world.space.attr(a).await.is_ok());
    assert!(world.find(docs, "a.txt").await.is_some());
    let lookup = world.space.lookup(docs, OsStr::new("new.txt")).await;
    assert!(matches!(lookup, Err(Error::Io(_))), "{lookup:?}");
    assert!(world.read_by(docs, 10).await.is_err());
    {
        let mut state = drive.state();
        state.failing_infos = false;
        state.failing_page = None;
    }
    assert_eq!(world.names(docs).await, ["deep", "a.txt"]);
    assert!(world.space.attr(a).await.is_ok());
}

#[tokio::test]
async fn a_change_shows_once_the_belief_has_run_out() {
    let drive = drive();
    let world = world(&drive, NEVER).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    let a = world.ino(docs, "a.txt").await;
    drive.change("cloudreve://my/docs/a.txt", |file| {
        file.size_bytes = 50;
        file.entity = EntityId("new".into());
        true
    });
    assert_eq!(world.space.attr(a).await.unwrap().attr.size_bytes, 50);
    drive.remove("cloudreve://my/docs/a.txt");
    assert!(matches!(world.space.attr(a).await, Err(Error::Gone)));
    assert!(world.find(docs, "a.txt").await.is_none());
    assert_eq!(world.names(docs).await, ["deep"]);
    drive.remove("cloudreve://my/docs");
    let opened = world.folders.open(&world.space, docs).await;
    assert!(matches!(opened, Err(Error::Gone)), "{opened:?}");
    assert!(world.find(Ino::ROOT, "docs").await.is_none());
}

#[tokio::test]
async fn a_file_whose_name_another_one_has_by_now_is_gone_and_the_other_is_there() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    let a = world.ino(docs, "a.txt").await;
    drive.remove("cloudreve://my/docs/a.txt");
    drive.file("cloudreve://my/docs/a.txt", 9);
    world.forget(docs);
    assert!(matches!(world.space.attr(a).await, Err(Error::Gone)));
    let other = world.find(docs, "a.txt").await;
    assert_eq!(other.map(|attr| attr.size_bytes), Some(9));
}

#[tokio::test]
async fn a_name_of_the_trash_goes_over_to_the_next_file_that_had_it() {
    let drive = Arc::new(Drive::default());
    let place = |number| format!("cloudreve://trash/place{number}");
    for number in [1, 2] {
        drive.add(&place(number), FileKind::File, number, |file| {
            file.name = ServerName::from_wire(*b"a.txt");
        });
    }
    let options = options("cloudreve://trash", LONG);
    let world = mount(&drive, options).await.unwrap();
    let first = world.find(Ino::ROOT, "a.txt").await.unwrap();
    assert_eq!(first.size_bytes, 1);
    drive.remove(&place(1));
    world.forget(Ino::ROOT);
    let gone = world.space.attr(first.ino).await;
    assert!(matches!(gone, Err(Error::Gone)), "{gone:?}");
    let second = world.find(Ino::ROOT, "a.txt").await;
    assert_eq!(second.map(|attr| attr.size_bytes), Some(2));
}

#[tokio::test]
async fn while_a_version_is_read_its_inode_shows_its_size_and_the_name_leads_to_the_new_one() {
    let drive = drive();
    let world = world(&drive, NEVER).await;
    let inodes = &world.space.inodes;
    let b = world.ino(Ino::ROOT, "b.txt").await;
    let old = inodes.node(b).unwrap().entry;
    inodes.pin(b, &old).unwrap();
    assert_eq!(world.ino(Ino::ROOT, "b.txt").await, b);
    drive.change("cloudreve://my/b.txt", |file| {
        file.size_bytes = 3;
        file.entity = EntityId("new".into());
        true
    });
    let named = world.find(Ino::ROOT, "b.txt").await.unwrap();
    assert_ne!(named.ino, b);
    assert_eq!(named.size_bytes, 3);
    let read = world.read_by(Ino::ROOT, 10).await.unwrap();
    let shown = read.iter().find(|(name, _)| name == "b.txt").unwrap();
    assert_eq!(shown.1.attr, named);
    assert_eq!(world.space.attr(named.ino).await.unwrap().attr, named);
    drive.state().failing_infos = true;
    let shown = world.space.attr(b).await.expect("no server is needed");
    assert_eq!(shown.attr.size_bytes, 7);
    drive.state().failing_infos = false;
    inodes.unpin(b);
    assert_eq!(world.space.attr(b).await.unwrap().attr.size_bytes, 3);
    inodes.forget(named.ino, 2);
    assert_eq!(world.ino(Ino::ROOT, "b.txt").await, b);
}

#[tokio::test]
async fn what_a_shortcut_leads_to_is_open_in_one_version_under_one_number() {
    let drive = Arc::new(Drive::default());
    let target = "cloudreve://S@share/target.bin";
    drive.file(target, 7);
    add_shortcut(&drive, "cloudreve://my/short.bin", FileKind::File, target);
    let world = world(&drive, NEVER).await;
    let inodes = &world.space.inodes;
    let short = world.find(Ino::ROOT, "short.bin").await.unwrap();
    let entry = inodes.node(short.ino).unwrap().entry;
    let folder = world.space.folder_key(Ino::ROOT).unwrap();
    let shown = world.space.followed(&folder, &entry).await.unwrap();
    inodes.pin(short.ino, &shown).unwrap();
    assert_eq!(world.find(Ino::ROOT, "short.bin").await, Some(short));
    drive.change(target, |file| {
        file.size_bytes = 3;
        file.entity = EntityId("new".into());
        true
    });
    let named = world.find(Ino::ROOT, "short.bin").await.unwrap();
    assert_ne!(named.ino, short.ino);
    assert_eq!(named.size_bytes, 3);
    assert_eq!(world.space.attr(short.ino).await.unwrap().attr, short);
}

#[tokio::test]
async fn of_several_stale_files_of_one_folder_the_third_brings_them_all() {
    let drive = Arc::new(Drive::default());
    drive.folder("cloudreve://my/d");
    for file in 0..1000 {
        drive.file(&format!("cloudreve://my/d/{file}"), 1);
    }
    let world = world(&drive, NEVER).await;
    let d = world.ino(Ino::ROOT, "d").await;
    let entries = world.read_by(d, 100).await.unwrap();
    for (question, (pages, infos)) in [(0, (0, 1)), (1, (0, 1)), (2, (1, 0))] {
        let before = drive.requests();
        let ino = entries[question].1.attr.ino;
        world.space.attr(ino).await.unwrap();
        let after = drive.requests();
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (pages, infos),
            "{question}"
        );
    }
}

#[tokio::test]
async fn who_looks_for_many_names_in_a_folder_that_nobody_listed_gets_it_listed() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    for name in 0..200 {
        assert!(world.find(docs, &name.to_string()).await.is_none());
    }
    assert!(world.find(docs, "a.txt").await.is_some());
    assert_eq!(drive.requests(), (2, 15));
}

#[tokio::test]
async fn a_folder_is_read_to_its_end_in_pieces_of_any_size_and_paid_back() {
    let drive = Arc::new(Drive::default());
    for file in 0..50 {
        drive.file(&format!("cloudreve://my/{file:02}"), 1);
    }
    drive.state().page_max = Some(7);
    for piece in [1, 2, 3, 10, 1000] {
        let world = world(&drive, LONG).await;
        let entries = world.read_by(Ino::ROOT, piece).await.unwrap();
        let names: HashSet<_> = entries.iter().map(|(name, _)| name).collect();
        assert_eq!((entries.len(), names.len()), (50, 50));
        for (_, believed) in &entries {
            world.space.inodes.forget(believed.attr.ino, 1);
        }
        assert_eq!(world.space.inodes.len(), 1, "pieces of {piece}");
    }
}

#[tokio::test]
async fn an_error_in_a_later_page_reaches_the_reader_and_is_not_the_end() {
    let drive = Arc::new(Drive::default());
    drive.folder("cloudreve://my/d");
    for file in 0..9 {
        drive.file(&format!("cloudreve://my/d/{file}"), 1);
    }
    let world = world(&drive, LONG).await;
    let d = world.ino(Ino::ROOT, "d").await;
    drive.state().page_max = Some(3);
    let pages = drive.state().pages;
    drive.state().failing_page = Some(pages + 2);
    let read = world.read_by(d, 2).await;
    assert!(matches!(read, Err(Error::Io(_))), "{read:?}");
    assert_eq!(world.names(d).await.len(), 9);
}

/// A folder of `a`, `b` and `c`, each on a page of its own, of which the first may come.
async fn coming() -> (Arc<Drive>, World) {
    let drive = Drive::with_gate();
    for name in ["a", "b", "c"] {
        drive.file(&format!("cloudreve://my/{name}"), 1);
    }
    drive.state().page_max = Some(1);
    drive.gate.as_ref().unwrap().add_permits(1);
    let world = world(&drive, LONG).await;
    (drive, world)
}

#[tokio::test]
async fn a_folder_that_is_still_coming_is_not_shown_from_the_kernels_memory() {
    let (drive, world) = coming().await;
    let gate = drive.gate.as_ref().unwrap();
    let opened = world.folders.open(&world.space, Ino::ROOT).await.unwrap();
    assert!(!opened.keep_cache);
    gate.add_permits(10);
    let read = world.read_handle(opened.handle, 10).await.unwrap();
    assert_eq!(read.len(), 3);
}

#[tokio::test]
async fn a_folder_that_is_still_coming_does_not_end_where_all_that_came_is_gone_by_now() {
    let (drive, world) = coming().await;
    let gate = drive.gate.as_ref().unwrap();
    let opened = world.folders.open(&world.space, Ino::ROOT).await.unwrap();
    let (key, gone) = (super::root::root_key(), OsStr::new("a"));
    let now = Instant::now();
    world.space.metadata.change_name(&key, gone, None, now);
    let read = world.read_handle(opened.handle, 10);
    let come = async {
        // The reader waits by then.
        tokio::task::yield_now().await;
        gate.add_permits(10);
    };
    let (read, ()) = tokio::join!(read, come);
    assert_eq!(read.unwrap().len(), 2);
}

#[tokio::test]
async fn a_reader_that_rewinds_sees_what_is_there_by_then() {
    let drive = drive();
    let world = world(&drive, NEVER).await;
    let opened = world.folders.open(&world.space, Ino::ROOT).await.unwrap();
    let first = world.read_handle(opened.handle, 10).await.unwrap();
    drive.file("cloudreve://my/c.txt", 1);
    let second = world.read_handle(opened.handle, 10).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 3));
}

#[tokio::test]
async fn what_is_not_a_folder_is_not_mounted() {
    let drive = drive();
    let check = async |root: &str| {
        let Err(error) = mount(&drive, options(root, LONG)).await else {
            panic!("{root} was mounted");
        };
        error
    };
    let file = check("cloudreve://my/b.txt").await;
    assert!(matches!(file, Error::NotAFolder), "{file:?}");
    let nothing = check("cloudreve://my/nothing").await;
    assert!(matches!(nothing, Error::NotFound), "{nothing:?}");
    assert!(
        mount(&drive, options("cloudreve://my/docs", LONG))
            .await
            .is_ok()
    );
}

fn add_shortcut(drive: &Drive, place: &str, kind: FileKind, target: &str) -> FileId {
    drive.add(place, kind, 0, |file| {
        let metadata = file.metadata.get_or_insert_default();
        metadata.insert("sys:shared_redirect".into(), target.into());
    })
}

#[tokio::test]
async fn a_shortcut_to_a_folder_is_that_folder_and_a_broken_one_breaks_nothing() {
    let drive = drive();
    drive.file("cloudreve://S:pw@share/inner.txt", 9);
    add_shortcut(
        &drive,
        "cloudreve://my/short",
        FileKind::Folder,
        "cloudreve://S:pw@share",
    );
    add_shortcut(
        &drive,
        "cloudreve://my/broken",
        FileKind::Folder,
        "cloudreve://zz@share",
    );
    add_shortcut(&drive, "cloudreve://my/mad", FileKind::Folder, "no address");
    let world = world(&drive, LONG).await;
    assert_eq!(
        world.names(Ino::ROOT).await,
        ["broken", "docs", "mad", "short", "b.txt"]
    );
    let short = world.ino(Ino::ROOT, "short").await;
    assert_eq!(world.names(short).await, ["inner.txt"]);
    let inner = world.find(short, "inner.txt").await.unwrap();
    assert_eq!(inner.size_bytes, 9);
    let place = world.space.inodes.uri(inner.ino).unwrap();
    assert_eq!(place.to_wire(), "cloudreve://S:pw@share/inner.txt");
    for name in ["broken", "mad"] {
        let broken = world.ino(Ino::ROOT, name).await;
        let opened = world.folders.open(&world.space, broken).await;
        assert!(matches!(opened, Err(Error::NotFound)), "{name} {opened:?}");
    }
}

#[tokio::test]
async fn a_shortcut_to_a_file_shows_that_file_and_is_never_an_empty_one_in_passing() {
    let drive = drive();
    drive.file("cloudreve://F@share/shared.bin", 1234);
    drive
        .state()
        .single_file
        .insert("cloudreve://F@share".into());
    add_shortcut(
        &drive,
        "cloudreve://my/short.bin",
        FileKind::File,
        "cloudreve://F@share",
    );
    add_shortcut(
        &drive,
        "cloudreve://my/broken.bin",
        FileKind::File,
        "cloudreve://z@share",
    );
    let world = world(&drive, LONG).await;
    let read = world.read_by(Ino::ROOT, 100).await.unwrap();
    let (pages, trouble) = (drive.state().pages, "a file in trouble is no empty file");
    drive.state().failing_page = Some(pages);
    let found = world.space.lookup(Ino::ROOT, OsStr::new("short.bin")).await;
    assert!(matches!(found, Err(Error::Io(_))), "{trouble}: {found:?}");
    let passing = |name: &str| read.iter().find(|(found, _)| found == name).unwrap().1;
    assert_eq!(passing("short.bin").ttl, Duration::ZERO);
    let found = world.find(Ino::ROOT, "short.bin").await.unwrap();
    assert_eq!(found.size_bytes, 1234);
    assert_eq!(
        world.space.attr(found.ino).await.unwrap().attr.size_bytes,
        1234
    );
    let node = world.space.inodes.node(found.ino).unwrap();
    let folder = world.space.folder_key(Ino::ROOT).unwrap();
    let (_, place) = world
        .space
        .target(&folder, &node.entry)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(place.to_wire(), "cloudreve://F@share/shared.bin");
    let broken = world.find(Ino::ROOT, "broken.bin").await.unwrap();
    let node = world.space.inodes.node(broken.ino).unwrap();
    let target = world.space.target(&folder, &node.entry).await;
    assert!(matches!(target, Err(Error::NotFound)), "{target:?}");
}

#[tokio::test]
async fn the_trash_is_found_by_the_names_it_shows() {
    let drive = Arc::new(Drive::default());
    for (uuid, size) in [("u2", 1), ("u1", 2)] {
        drive.add(
            &format!("cloudreve://trash/{uuid}"),
            FileKind::File,
            size,
            |file| {
                file.name = ServerName::from_wire(*b"a.txt");
            },
        );
    }
    let world = mount(&drive, options("cloudreve://trash", NEVER))
        .await
        .unwrap();
    let (one, two) = ("a.txt", "a.txt (id000002)");
    assert_eq!(world.names(Ino::ROOT).await, [one, two]);
    assert_eq!(world.find(Ino::ROOT, one).await.unwrap().size_bytes, 1);
    let second = world.find(Ino::ROOT, two).await.unwrap();
    assert_eq!(second.size_bytes, 2);
    assert_eq!(
        world.space.attr(second.ino).await.unwrap().attr.size_bytes,
        2
    );
    let place = world.space.inodes.uri(second.ino).unwrap();
    assert_eq!(place.to_wire(), "cloudreve://trash/u1");
    assert!(world.find(Ino::ROOT, "u1").await.is_none());
}

#[tokio::test]
async fn a_share_of_a_single_file_is_a_folder_with_that_file() {
    let drive = Arc::new(Drive::default());
    drive.file("cloudreve://F@share/only.bin", 5);
    drive
        .state()
        .single_file
        .insert("cloudreve://F@share".into());
    let world = mount(&drive, options("cloudreve://F@share", LONG))
        .await
        .unwrap();
    assert_eq!(world.names(Ino::ROOT).await, ["only.bin"]);
    assert_eq!(
        world.find(Ino::ROOT, "only.bin").await.unwrap().size_bytes,
        5
    );
}

#[tokio::test(start_paused = true)]
async fn space_is_shown_even_if_the_server_never_answers() {
    use crate::listing::Asked;
    use crate::model::Capacity;
    let silent = space::Quota::new(Some(Arc::new(|| -> Asked<Capacity> {
        Box::pin(std::future::pending())
    })));
    let shown = silent.space().await;
    assert!(shown.free_bytes > 1 << 40, "{shown:?}");
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let full = space::Quota::new(Some(Arc::new(move || -> Asked<Capacity> {
        counter.fetch_add(1, SeqCst);
        Box::pin(async {
            Ok(Capacity {
                total_bytes: 10,
                used_bytes: 12,
            })
        })
    })));
    let shown = full.space().await;
    assert_eq!((shown.total_bytes, shown.free_bytes), (12, 0));
    let questions = asked.load(SeqCst);
    for _ in 0..3 {
        assert_eq!(at_once(full.space()), shown);
        tokio::task::yield_now().await;
    }
    assert_eq!(asked.load(SeqCst), questions, "it was told just now");
    let nobodys = space::Quota::new(None);
    assert!(at_once(nobodys.space()).free_bytes > 1 << 40);
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_folder_is_asked_for_by_stat_alone_and_once() {
    use crate::listing::Asked;
    use crate::model::FolderSummary;
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let sizes = FolderSizes::new(Arc::new(move |_| -> Asked<FolderSummary> {
        let first = counter.fetch_add(1, SeqCst) == 0;
        Box::pin(async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Ok(FolderSummary {
                size_bytes: 77,
                files: 1,
                folders: 0,
                completed: true,
            })
        })
    }));
    let drive = drive();
    let options = options("cloudreve://my/", LONG);
    let space = Namespace::new(
        options,
        "instance",
        drive.source(),
        Some(sizes),
        None,
        Reach::default(),
        None,
    )
    .await;
    let world = World {
        space: space.unwrap(),
        folders: Folders::new(),
    };
    let read = world.read_by(Ino::ROOT, 10).await.unwrap();
    assert_eq!((&*read[0].0, read[0].1.ttl), ("docs", Duration::ZERO));
    assert_eq!(asked.load(SeqCst), 0);
    let docs = world.ino(Ino::ROOT, "docs").await;
    for _ in 0..2 {
        let shown = world.space.attr(docs).await.unwrap();
        assert_eq!(shown.attr.size_bytes, 77);
    }
    assert_eq!(asked.load(SeqCst), 1);
    let deep = world.ino(docs, "deep").await;
    let shown = world.space.attr(deep).await.unwrap();
    assert_eq!(
        shown.attr.size_bytes, 0,
        "a server that never answers holds nobody up"
    );
}
