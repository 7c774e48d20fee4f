//! Files that are open while their names come to stand for something else.

use super::*;

impl Mounted {
    async fn open(&self, ino: Ino) -> HandleId {
        self.fs.open_to_write(ino, false).await.unwrap().handle
    }

    async fn read(&self, handle: HandleId) -> Vec<u8> {
        self.fs.read(handle, 0, 100).await.unwrap().to_vec()
    }

    /// What was written over a newer version, and then what was written over an older one.
    async fn deliver_both(&mut self) {
        let owed = self.owing.staging.owed();
        assert_eq!(owed.len(), 2);
        for size_bytes in [15, 12] {
            let local = owed.iter().find(|local| local.size_bytes() == size_bytes);
            self.deliver(local.unwrap()).await;
        }
    }

    /// Somebody else's change is seen.
    fn look_again(&self) {
        let key = self.fs.namespace.folder_key(Ino::ROOT).unwrap();
        self.fs.namespace.metadata.forget(&key);
    }
}

#[tokio::test]
async fn what_is_written_over_an_old_version_never_mixes_with_what_is_written_over_a_new_one() {
    let mut mounted = Mounted::new(|server| drop(server.put("a", "the old one"))).await;
    let old = mounted.ino("a").await;
    let p = mounted.open(old).await;
    mounted.server.put("a", "a newer version");
    mounted.look_again();
    let new = mounted.ino("a").await;
    assert_ne!(new, old);
    let q = mounted.open(new).await;
    let fs = Arc::clone(&mounted.fs);
    fs.write(q, 0, b"A", false).unwrap();
    let size = async |ino| fs.attr(ino).await.unwrap().attr.size_bytes;
    assert_eq!(size(old).await, 11, "nothing was written to that");
    assert_eq!(mounted.read(p).await, b"the old one");
    fs.write(p, 0, b"T", false).unwrap();
    fs.write(p, 11, b"!", false).unwrap();
    assert_eq!(mounted.read(p).await, b"The old one!");
    assert_eq!(mounted.read(q).await, b"A newer version");
    assert_eq!((size(old).await, size(new).await), (12, 15));
    let named = mounted.find("a").await.unwrap();
    assert_eq!((named.ino, named.size_bytes), (new, 15));
    for (handle, content) in [(q, &b"A NEWER VERSION"[..]), (p, b"THE OLD ONE!")] {
        fs.write(handle, 0, content, false).unwrap();
        fs.flush(handle).await.unwrap();
    }
    mounted.deliver_both().await;
    assert_eq!(mounted.server.content("a").unwrap(), b"A NEWER VERSION");
    let names = mounted.on_server("");
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(mounted.names("").await, names, "it shows at once");
    let beside = names.iter().find(|name| *name != "a").unwrap();
    assert_eq!(mounted.server.content(beside).unwrap(), b"THE OLD ONE!");
    assert_eq!(mounted.find("a").await.unwrap().size_bytes, 15);
}

#[tokio::test]
async fn a_first_write_to_what_was_removed_leaves_the_new_file_of_that_name_alone() {
    let mut mounted = Mounted::new(|server| drop(server.put("f", "old"))).await;
    let ino = mounted.ino("f").await;
    let open = mounted.open(ino).await;
    mounted.unlink("f").await.unwrap();
    let new = mounted.write("f", b"the new one").await;
    let fs = Arc::clone(&mounted.fs);
    fs.write(open, 0, b"lost", false).unwrap();
    assert_eq!(mounted.find("f").await.unwrap().size_bytes, 11);
    assert_eq!(mounted.names("").await, ["f"]);
    let shown = fs.attr(ino).await.unwrap().attr;
    assert_eq!((shown.size_bytes, shown.links), (4, 0));
    assert_eq!(mounted.read(open).await, b"lost");
    fs.flush(open).await.unwrap();
    fs.release(open);
    assert_eq!(mounted.owing.staging.owed().len(), 1);
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server(""), ["f"]);
    assert_eq!(mounted.server.content("f").unwrap(), b"the new one");
}

#[tokio::test]
async fn a_write_to_what_somebody_else_removed_leaves_the_new_file_of_that_name_alone() {
    let mounted = Mounted::new(|server| drop(server.put("f", "old"))).await;
    let ino = mounted.ino("f").await;
    let open = mounted.open(ino).await;
    mounted.server.remove("f");
    mounted.look_again();
    assert!(mounted.find("f").await.is_none());
    mounted.write("f", b"the new one").await;
    mounted.fs.write(open, 0, b"more", false).unwrap();
    assert_eq!(mounted.find("f").await.unwrap().size_bytes, 11);
    assert_eq!(mounted.fs.attr(ino).await.unwrap().attr.size_bytes, 4);
    mounted.fs.flush(open).await.unwrap();
    assert_eq!(mounted.owing.staging.owed().len(), 2, "both are owed");
}

#[tokio::test]
async fn what_is_written_to_while_its_name_changes_shows_under_the_new_one_alone() {
    let mut mounted = Mounted::new(|server| drop(server.put("a", "old"))).await;
    assert_eq!(mounted.names("").await, ["a"]);
    let open = mounted.open(mounted.ino("a").await).await;
    mounted.server.set_latency(Duration::from_millis(20));
    let write = async {
        while mounted.server.count(Route::Rename) == 0 {
            tokio::task::yield_now().await;
        }
        mounted.fs.write(open, 0, b"newer", false).unwrap();
    };
    let rename = mounted.rename("a", "b", RenameHow::Replace);
    let (renamed, ()) = tokio::join!(rename, write);
    renamed.unwrap();
    assert_eq!(mounted.names("").await, ["b"]);
    assert!(mounted.find("a").await.is_none());
    assert_eq!(mounted.find("b").await.unwrap().size_bytes, 5);
    mounted.fs.flush(open).await.unwrap();
    let owed = mounted.owing.staging.owed();
    mounted.deliver(&owed[0]).await;
    assert_eq!(mounted.on_server(""), ["b"]);
    assert_eq!(mounted.server.content("b").unwrap(), b"newer");
}

#[tokio::test]
async fn a_file_that_was_made_and_not_opened_is_owed() {
    let mut mounted = Mounted::new(|_| {}).await;
    let fs = Arc::clone(&mounted.fs);
    let (made, local) = fs
        .create(
            Ino::ROOT,
            "a".as_ref(),
            Maker::of_tests(FileKind::File),
            None,
        )
        .await
        .unwrap();
    fs.leave(&local);
    fs.forget(made.attr.ino, 1);
    mounted.deliver(&local).await;
    assert_eq!(mounted.on_server(""), ["a"]);
}

#[tokio::test]
async fn what_was_written_over_two_versions_is_delivered_after_a_restart_too() {
    let mounted = Mounted::new(|server| drop(server.put("a", "the old one"))).await;
    let p = mounted.open(mounted.ino("a").await).await;
    mounted.server.put("a", "a newer version");
    mounted.look_again();
    let q = mounted.open(mounted.ino("a").await).await;
    for (handle, content) in [(q, &b"A NEWER VERSION"[..]), (p, b"THE OLD ONE!")] {
        mounted.fs.write(handle, 0, content, false).unwrap();
        mounted.fs.flush(handle).await.unwrap();
    }
    // A start delivers what it finds without being asked for: not before it was looked at.
    let refusal = Fault::on(Route::UploadCreate).status(503);
    mounted.server.fail(refusal);
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("").await, ["a"]);
    assert_eq!(mounted.owing.staging.owed().len(), 2);
    mounted.server.clear_faults();
    mounted.owing.uploader.wake();
    for _ in 0..2 {
        mounted.hear().await;
    }
    assert_eq!(mounted.server.content("a").unwrap(), b"A NEWER VERSION");
    let names = mounted.on_server("");
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(mounted.names("").await, names);
}

#[tokio::test]
async fn late_news_of_an_older_content_does_not_show_that_once_a_newer_one_is_delivered() {
    let mut mounted = Mounted::new(|server| drop(server.put("a", "the old one"))).await;
    let fs = Arc::clone(&mounted.fs);
    let ino = mounted.ino("a").await;
    let open = mounted.open(ino).await;
    let uploader = Arc::clone(&mounted.owing.uploader);
    for content in [&b"short"[..], b"much longer than it was"] {
        fs.write(open, 0, content, false).unwrap();
        fs.truncate(open, content.len() as u64).await.unwrap();
        fs.flush(open).await.unwrap();
        // It is there, and the news of it waits.
        let local = fs.local_of(ino);
        uploader.deliver(&local).await.unwrap();
    }
    for heard in 0..2 {
        let shown = fs.attr(ino).await.unwrap().attr;
        assert_eq!(shown.size_bytes, 23, "after {heard} news");
        assert_eq!(mounted.find("a").await.unwrap().size_bytes, 23);
        mounted.hear().await;
    }
    assert_eq!(fs.attr(ino).await.unwrap().attr.size_bytes, 23);
    assert_eq!(
        fs.read(open, 0, 100).await.unwrap(),
        "much longer than it was"
    );
    fs.release(open);
    assert_eq!(mounted.find("a").await.unwrap().size_bytes, 23);
    assert_eq!(mounted.on_server(""), ["a"]);
}

#[tokio::test]
async fn what_is_saved_and_delivered_while_older_news_is_applied_shows_on() {
    let mut mounted = Mounted::new(|server| drop(server.put("a", "the old one"))).await;
    let fs = Arc::clone(&mounted.fs);
    let ino = mounted.ino("a").await;
    let open = mounted.open(ino).await;
    let uploader = Arc::clone(&mounted.owing.uploader);
    let mut first = None;
    for content in [&b"short"[..], b"much longer than it was"] {
        fs.write(open, 0, content, false).unwrap();
        fs.truncate(open, content.len() as u64).await.unwrap();
        fs.flush(open).await.unwrap();
        let local = fs.local_of(ino);
        let generation = local.generation();
        uploader.deliver(&local).await.unwrap();
        let info = fs
            .whats_at(&FileUri::parse("cloudreve://my/a").unwrap())
            .await
            .unwrap()
            .unwrap();
        first.get_or_insert((info, generation));
    }
    // As far as the news of the first one got before the second was written.
    let local = fs.local_of(ino);
    let (shown, at) = fs.namespace.locals.numbered(local.id()).unwrap();
    let (info, generation) = first.unwrap();
    let above = info.uri.parent();
    let entry = Arc::new(fs.namespace.entry(info).unwrap());
    fs.is_clean(shown, at, entry, above, Some(generation));
    assert_eq!(fs.attr(ino).await.unwrap().attr.size_bytes, 23);
    assert_eq!(mounted.find("a").await.unwrap().size_bytes, 23);
    for _ in 0..2 {
        mounted.hear().await;
        assert_eq!(fs.attr(ino).await.unwrap().attr.size_bytes, 23);
    }
    fs.release(open);
    assert_eq!(mounted.find("a").await.unwrap().size_bytes, 23);
    assert!(fs.namespace.locals.all().is_empty());
}

#[tokio::test]
async fn who_looks_at_a_file_while_it_becomes_clean_sees_its_newest_version() {
    let mut mounted = Mounted::new(|server| drop(server.put("a", "the old one"))).await;
    let fs = Arc::clone(&mounted.fs);
    let space = &fs.namespace;
    let ino = mounted.ino("a").await;
    let open = mounted.open(ino).await;
    fs.write(open, 0, b"much longer than it was", false)
        .unwrap();
    fs.flush(open).await.unwrap();
    let local = fs.local_of(ino);
    mounted.owing.uploader.deliver(&local).await.unwrap();
    // As far as stat(2) got before the news was applied.
    let before = space.inodes.node(ino).unwrap();
    mounted.hear().await;
    let (now, local) = space.local_since(ino, before).unwrap();
    assert_eq!(now.entry.size_bytes, 23);
    assert_eq!(local.unwrap().local.size_bytes(), 23);
    fs.release(open);
}

#[tokio::test]
async fn who_looked_at_a_new_file_just_before_it_was_delivered_opens_what_the_server_has() {
    let mut mounted = Mounted::new(|_| {}).await;
    let local = mounted.write("new", b"content").await;
    let ino = mounted.ino("new").await;
    let before = mounted.fs.namespace.inodes.node(ino).unwrap();
    mounted.deliver(&local).await;
    drop(local);
    let belief = mounted.fs.namespace.current(ino, &before).await.unwrap();
    let id = mounted.server.file_id("new");
    assert_eq!(belief.what.id.0.to_string(), id);
    assert!(!is_here(&belief.what.entity));
    let opened = mounted.fs.open(ino).await.unwrap();
    let read = mounted.fs.read(opened.handle, 0, 100).await.unwrap();
    assert_eq!(&read[..], b"content");
}

#[tokio::test]
async fn who_opens_a_file_by_a_name_that_others_took_from_it_is_sent_back_to_that_name() {
    let mounted = Mounted::new(|server| drop(server.put("a", "of a"))).await;
    let ino = mounted.ino("a").await;
    mounted.server.rename("a", "b");
    mounted.server.put("b", "of b, which nobody has seen here");
    mounted.look_again();
    // As readdir(3) without attributes: it is known where it is now, and the kernel has heard of no other name.
    let folder = mounted.fs.open_folder(Ino::ROOT).await.unwrap().handle;
    let mut names = Vec::new();
    let mut take = |entry: FolderEntry<'_>| {
        names.push(entry.name.to_owned());
        true
    };
    let read = mounted.fs.read_folder(folder, 0, false, &mut take).await;
    read.unwrap();
    assert_eq!(names, [".", "..", "b"]);
    let opened = mounted.fs.open_to_write(ino, false).await;
    assert!(matches!(opened, Err(Error::Gone)), "{opened:?}");
    assert!(mounted.find("a").await.is_none());
    assert_eq!(mounted.ino("b").await, ino);
    mounted.open(ino).await;
}

#[tokio::test]
async fn the_kernel_hears_of_names_that_others_took_from_a_file_and_what_was_known_of_them_is_doubted()
 {
    let seed = |server: &Server| {
        server.put("f/a", "of a");
        server.mkdir("g");
    };
    let mounted = Mounted::new(seed).await;
    let mut left = mounted.fs.left_names().unwrap();
    let (f, ino) = (mounted.ino("f").await, mounted.ino("f/a").await);
    mounted.names("f").await;
    mounted.mv("f/a", "f/b").await;
    mounted.mv("f/b", "f/a").await;
    assert!(left.try_recv().is_err(), "the kernel knows what it did");
    mounted.server.move_into("f/a", "g");
    assert_eq!(mounted.ino("g/a").await, ino);
    let told = left.try_recv().unwrap();
    assert_eq!((told.folder, told.name.to_str()), (f, Some("a")));
    assert!(mounted.find("f/a").await.is_some(), "it is believed");
    mounted.fs.doubt_left(&told);
    assert!(mounted.find("f/a").await.is_none());
}
