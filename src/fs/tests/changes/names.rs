//! Made, removed, shown.

use super::*;

#[tokio::test]
async fn a_new_file_shows_at_once_as_it_is_here_and_costs_no_request_before_it_is_delivered() {
    let mut mounted = Mounted::new(|server| drop(server.mkdir("docs"))).await;
    mounted.names("docs").await;
    mounted.server.reset_counters();
    let local = mounted.write("docs/new", b"four").await;
    let shown = mounted.find("docs/new").await.unwrap();
    assert_eq!(shown.size_bytes, 4);
    assert_eq!(mounted.names("docs").await, ["new"]);
    local.write(4, b"!", SystemTime::now()).unwrap();
    assert_eq!(mounted.find("docs/new").await.unwrap().size_bytes, 5);
    assert_eq!(mounted.requests(), 0);
    mounted.fill(&local, b"all");
    mounted.deliver(&local).await;
    let after = mounted.find("docs/new").await.unwrap();
    assert_eq!((after.ino, after.size_bytes), (shown.ino, 3));
    assert_eq!(mounted.names("docs").await, ["new"]);
    assert_eq!(
        mounted.server.count(Route::List),
        0,
        "what we put there is known to be there"
    );
    assert_eq!(mounted.server.content("docs/new").unwrap(), b"all");
    assert_eq!(mounted.fs.namespace.locals.all().len(), 0);
}

#[tokio::test]
async fn a_file_that_is_made_and_removed_before_its_upload_costs_no_request() {
    let mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.server.reset_counters();
    let local = mounted.write("temp", b"x").await;
    let ino = mounted.ino("temp").await;
    mounted.unlink("temp").await.unwrap();
    assert!(mounted.find("temp").await.is_none());
    assert_eq!(mounted.requests(), 0);
    assert_eq!(local.state(), State::Unlinked);
    let open = mounted.fs.attr(ino).await.unwrap().attr;
    assert_eq!((open.size_bytes, open.links), (1, 0), "while it is open");
}

#[tokio::test]
async fn what_is_there_is_not_made_again() {
    let mounted = Mounted::new(|server| {
        server.put("file", "x");
        server.mkdir("dir");
    })
    .await;
    let fs = &mounted.fs;
    for name in ["file", "dir"] {
        let made = fs
            .create(
                Ino::ROOT,
                name.as_ref(),
                Maker::of_tests(FileKind::File),
                None,
            )
            .await;
        assert!(matches!(made, Err(Error::Exists)), "{name}");
        let made = mounted.mkdir(name).await;
        assert!(matches!(made, Err(Error::Exists)), "{name}");
    }
    mounted.write("here", b"x").await;
    assert!(matches!(mounted.mkdir("here").await, Err(Error::Exists)));
    let made = fs
        .create(
            Ino::ROOT,
            OsStr::new(&"n".repeat(256)),
            Maker::of_tests(FileKind::File),
            None,
        )
        .await;
    assert!(matches!(made, Err(Error::NameTooLong)));
}

#[tokio::test]
async fn a_new_folder_is_known_to_be_empty_and_stays_in_a_listing_that_was_read_before() {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.mkdir("z");
    })
    .await;
    mounted.names("").await;
    // With the second one it is known that the server tells names apart.
    mounted.mkdir("b").await.unwrap();
    mounted.mkdir("c").await.unwrap();
    mounted.server.reset_counters();
    let made = mounted.mkdir("m").await.unwrap();
    assert_eq!(made.attr.kind, Kind::Folder);
    assert!(mounted.find("m/nothing").await.is_none());
    assert_eq!(mounted.names("").await, ["a", "b", "c", "m", "z"]);
    assert_eq!(mounted.requests(), 1);
    assert_eq!(mounted.on_server(""), ["a", "b", "c", "m", "z"]);
}

#[tokio::test]
async fn a_folder_whose_making_was_answered_by_nothing_is_there_all_the_same() {
    let mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    let lost = Fault::on(Route::Create).truncate_after(0).times(1);
    mounted.server.fail(lost);
    mounted.mkdir("m").await.unwrap();
    assert_eq!(mounted.on_server(""), ["m"]);
}

#[tokio::test]
async fn a_folder_that_somebody_deleted_is_not_made_again_by_what_is_made_in_it() {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    let a = mounted.ino("a").await;
    mounted.server.remove("a");
    let root = mounted.fs.namespace.folder_key(Ino::ROOT).unwrap();
    mounted.fs.namespace.metadata.forget(&root);
    let made = mounted
        .fs
        .make_folder(a, "b".as_ref(), Maker::of_tests(FileKind::Folder))
        .await;
    assert!(matches!(made, Err(Error::NotFound)), "{made:?}");
    assert_eq!(mounted.server.names("a"), None);
}

#[tokio::test]
async fn what_is_unlinked_goes_to_the_trash_and_shows_no_more() {
    let mounted = Mounted::new(|server| {
        server.put("a", "x");
        server.put("b", "y");
    })
    .await;
    mounted.names("").await;
    mounted.server.reset_counters();
    mounted.unlink("a").await.unwrap();
    assert!(mounted.find("a").await.is_none());
    assert_eq!(mounted.names("").await, ["b"]);
    assert_eq!(mounted.requests(), 2, "a look, and the deletion");
    assert_eq!(mounted.on_server(""), ["b"]);
    assert!(matches!(mounted.unlink("a").await, Err(Error::NotFound)));
}

#[tokio::test]
async fn what_was_overwritten_here_is_removed_there_too_and_never_delivered() {
    let mounted = Mounted::new(|server| drop(server.put("a", "old"))).await;
    let local = mounted.overwrite("a", b"new").await;
    mounted.unlink("a").await.unwrap();
    assert_eq!(local.state(), State::Unlinked);
    assert!(mounted.on_server("").is_empty());
    assert!(mounted.find("a").await.is_none());
}

#[tokio::test]
async fn what_is_written_to_after_it_was_unlinked_stays_here() {
    let mounted = Mounted::new(|server| drop(server.put("a", "old"))).await;
    let ino = mounted.ino("a").await;
    let node = mounted.fs.namespace.inodes.node(ino).unwrap();
    mounted.unlink("a").await.unwrap();
    let entity = crate::entity::Entity {
        id: node.entry.entity.clone(),
        size_bytes: 3,
    };
    let local = mounted.fs.write_over(ino, entity, SystemTime::now());
    let local = local.unwrap();
    mounted.fill(&local, b"more");
    mounted.fs.changed(ino, &local);
    assert_eq!(local.state(), State::Unlinked);
    let shown = mounted.fs.attr(ino).await.unwrap().attr;
    assert_eq!((shown.size_bytes, shown.links), (4, 0));
    assert!(mounted.find("a").await.is_none());
    assert!(mounted.names("").await.is_empty());
}

#[tokio::test]
async fn only_an_empty_folder_is_removed() {
    let mounted = Mounted::new(|server| {
        server.mkdir("empty");
        server.put("full/file", "x");
    })
    .await;
    mounted.write("empty/here", b"x").await;
    assert!(matches!(mounted.rmdir("empty").await, Err(Error::NotEmpty)));
    assert!(matches!(mounted.rmdir("full").await, Err(Error::NotEmpty)));
    let file = mounted.unlink("full").await;
    assert!(matches!(file, Err(Error::IsAFolder)), "{file:?}");
    let folder = mounted.rmdir("full/file").await;
    assert!(matches!(folder, Err(Error::NotAFolder)), "{folder:?}");
    mounted.unlink("empty/here").await.unwrap();
    mounted.rmdir("empty").await.unwrap();
    assert_eq!(mounted.on_server(""), ["full"]);
    assert_eq!(mounted.names("").await, ["full"]);
}

#[tokio::test]
async fn somebodys_new_file_in_a_folder_that_was_seen_empty_keeps_it() {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    assert!(mounted.names("a").await.is_empty());
    mounted.server.put("a/new", "x");
    assert!(matches!(mounted.rmdir("a").await, Err(Error::NotEmpty)));
    assert_eq!(mounted.on_server("a"), ["new"]);
}

#[tokio::test]
async fn a_folder_that_is_being_read_loses_what_is_removed_and_gets_what_is_new_once() {
    let mounted = Mounted::new(|server| {
        for name in ["a", "b", "c", "d", "e", "f"] {
            server.put(name, "x");
        }
    })
    .await;
    let opened = mounted.fs.open_folder(Ino::ROOT).await.unwrap();
    let mut offset = 0;
    let mut begun = Vec::new();
    let mut take = |entry: FolderEntry<'_>| {
        if begun.len() == 4 {
            return false;
        }
        offset = entry.next_offset;
        begun.push(entry.name.to_string_lossy().into_owned());
        true
    };
    let fs = &mounted.fs;
    fs.read_folder(opened.handle, 0, false, &mut take)
        .await
        .unwrap();
    assert_eq!(begun, [".", "..", "a", "b"]);
    mounted.unlink("d").await.unwrap();
    mounted.overwrite("e", b"more").await;
    mounted.write("new", b"x").await;
    mounted.mkdir("folder").await.unwrap();
    let rest = mounted.read_on(opened.handle, offset).await;
    assert_eq!(rest, ["c", "e", "f", "folder", "new"]);
}

#[tokio::test]
async fn what_was_owed_shows_at_the_next_start_in_folders_nobody_has_looked_at() {
    let mounted = Mounted::new(|server| drop(server.put("a/b/old", "x"))).await;
    mounted.write("a/b/new", b"four").await;
    mounted.overwrite("a/b/old", b"longer").await;
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("a/b").await, ["new", "old"]);
    assert_eq!(mounted.find("a/b/old").await.unwrap().size_bytes, 6);
    let new = mounted.find("a/b/new").await.unwrap();
    assert_eq!(new.size_bytes, 4);
    for _ in 0..2 {
        mounted.hear().await;
    }
    assert_eq!(mounted.ino("a/b/new").await, new.ino);
    assert_eq!(mounted.server.content("a/b/old").unwrap(), b"longer");
    assert_eq!(mounted.names("a/b").await, ["new", "old"]);
}

#[tokio::test]
async fn what_lost_to_somebody_elses_version_shows_beside_it() {
    let mut mounted = Mounted::new(|server| drop(server.put("a.txt", "old"))).await;
    let local = mounted.overwrite("a.txt", b"ours").await;
    let ino = mounted.ino("a.txt").await;
    mounted.server.put("a.txt", "theirs");
    mounted.deliver(&local).await;
    let names = mounted.names("").await;
    assert_eq!(names.len(), 2, "{names:?}");
    let conflict = names.iter().find(|name| name.contains("conflict")).unwrap();
    assert_eq!(mounted.server.content(conflict).unwrap(), b"ours");
    assert_eq!(mounted.ino(conflict).await, ino, "it is what we wrote");
    let theirs = mounted.find("a.txt").await.unwrap();
    assert_eq!(theirs.size_bytes, 6);
    assert_ne!(theirs.ino, ino);
}

#[tokio::test]
async fn many_removals_are_few_requests_and_what_comes_next_finds_them_done() {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.add_many("a", 2500);
    })
    .await;
    let names = mounted.names("a").await;
    mounted.server.reset_counters();
    for name in &names {
        mounted.unlink(&format!("a/{name}")).await.unwrap();
    }
    assert!(mounted.names("a").await.is_empty());
    assert!(mounted.find(&format!("a/{}", names[9])).await.is_none());
    mounted.rmdir("a").await.unwrap();
    assert!(mounted.on_server("").is_empty());
    let requests = mounted.requests();
    assert!(requests <= 15, "{requests}");
}

#[tokio::test]
async fn a_name_that_was_removed_with_many_is_free_at_once() {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.add_many("a", 8);
    })
    .await;
    let names = mounted.names("a").await;
    for name in &names {
        mounted.unlink(&format!("a/{name}")).await.unwrap();
    }
    let again = format!("a/{}", names[7]);
    mounted.mkdir(&again).await.unwrap();
    assert_eq!(mounted.on_server("a"), names[7..]);
}

#[tokio::test]
async fn what_the_server_does_not_delete_shows_again() {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.add_many("a", 8);
    })
    .await;
    let names = mounted.names("a").await;
    for name in &names[..3] {
        mounted.unlink(&format!("a/{name}")).await.unwrap();
    }
    mounted
        .server
        .fail(Fault::on(Route::Delete).code(403, "no"));
    for name in &names[3..6] {
        mounted.unlink(&format!("a/{name}")).await.unwrap();
    }
    mounted.fs.settle().await;
    assert_eq!(mounted.names("a").await, names[3..]);
}

#[tokio::test]
async fn who_reads_a_folder_on_sees_what_was_delivered_and_doubted_since_he_began() {
    let mut mounted = Mounted::new(|server| drop(server.mkdir("d"))).await;
    assert_eq!(mounted.names("d").await, [""; 0]);
    let local = mounted.write("d/new", b"new").await;
    let folder = mounted.ino("d").await;
    let opened = mounted.fs.open_folder(folder).await.unwrap();
    mounted.deliver(&local).await;
    // As after a change of several calls: others may have seen, and changed, anything.
    let metadata = &mounted.fs.namespace.metadata;
    metadata.others_changed_anything(std::time::Instant::now());
    assert_eq!(mounted.read_on(opened.handle, 2).await, ["new"]);
}
