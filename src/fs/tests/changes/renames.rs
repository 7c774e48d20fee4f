//! Renamed, replaced, exchanged.

use std::collections::BTreeMap;
use std::pin::pin;

use super::*;
use crate::api;
use crate::fs::changes::Found;
use crate::fs::steps::{Plan, Step};

const REPLACE: RenameHow = RenameHow::Replace;
const EXCHANGE: RenameHow = RenameHow::Exchange;

fn drive(server: &Server) {
    server.put("a/one.txt", "one");
    server.put("b/two.txt", "twotwo");
}

/// A file that is too large to be copied, and one that it is to replace.
fn large(server: &Server) {
    server.put_generated("large.bin", 3 << 20, 1);
    server.put("two.txt", "two");
}

fn place(name: &str) -> FileUri {
    FileUri::parse(&format!("cloudreve://my/{name}")).unwrap()
}

impl Mounted {
    fn id(&self, path: &str) -> String {
        self.server.file_id(path)
    }

    fn content(&self, path: &str) -> Vec<u8> {
        self.server.content(path).expect(path)
    }

    fn is_all_done(&self) -> bool {
        self.owing.staging.unfinished().is_empty()
    }
}

#[tokio::test]
async fn on_its_way_to_another_folder_a_file_has_no_name_that_others_give_to_theirs() {
    for taken in ["a/new.txt", "b/one.txt"] {
        let mounted = Mounted::new(drive).await;
        for folder in ["a", "b"] {
            mounted.names(folder).await;
        }
        // Whichever call comes first.
        for route in [Route::Rename, Route::Move] {
            let slow = Fault::on(route).delay(Duration::from_secs(1));
            mounted.server.fail(slow.times(1));
        }
        let server = &mounted.server;
        let others = async {
            // Once it has left, and is not there yet.
            while server.content("a/one.txt").is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(server.content("b/new.txt").is_none());
            server.put(taken, "of somebody else");
        };
        tokio::join!(mounted.mv("a/one.txt", "b/new.txt"), others);
        assert_eq!(mounted.content("b/new.txt"), b"one");
        assert_eq!(mounted.content(taken), b"of somebody else");
    }
}

#[tokio::test]
async fn what_the_server_has_keeps_its_id_and_its_number_under_a_new_name_and_in_a_new_folder() {
    let mounted = Mounted::new(drive).await;
    for folder in ["a", "b"] {
        mounted.names(folder).await;
    }
    let id = mounted.id("a/one.txt");
    let ino = mounted.ino("a/one.txt").await;
    let mut at = "a/one.txt";
    for (to, calls) in [("a/1.txt", 2), ("b/1.txt", 2), ("a/other.md", 4)] {
        mounted.server.reset_counters();
        mounted.mv(at, to).await;
        assert_eq!(mounted.requests(), calls, "{at} to {to}");
        assert_eq!(mounted.id(to), id);
        assert_eq!(mounted.ino(to).await, ino);
        assert!(mounted.find(at).await.is_none(), "{at}");
        at = to;
    }
    assert_eq!(mounted.names("a").await, ["other.md"]);
    assert_eq!(mounted.names("b").await, ["two.txt"]);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_new_file_is_renamed_without_a_request_and_delivered_under_its_last_name() {
    let mut mounted = Mounted::new(drive).await;
    for folder in ["a", "b"] {
        mounted.names(folder).await;
    }
    let local = mounted.write("a/temp", b"new").await;
    let ino = mounted.ino("a/temp").await;
    mounted.server.reset_counters();
    mounted.mv("a/temp", "b/final").await;
    assert_eq!(mounted.requests(), 0);
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    assert_eq!(mounted.names("b").await, ["final", "two.txt"]);
    mounted.deliver(&local).await;
    assert_eq!(mounted.on_server("b"), ["final", "two.txt"]);
    assert_eq!(mounted.ino("b/final").await, ino);
}

#[tokio::test]
async fn a_save_by_temporary_file_and_rename_is_one_upload_onto_the_same_file() {
    let mut mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    let id = mounted.id("a/one.txt");
    let old = mounted.ino("a/one.txt").await;
    let local = mounted.write("a/.one.swp", b"saved").await;
    let new = mounted.ino("a/.one.swp").await;
    mounted.server.reset_counters();
    mounted.mv("a/.one.swp", "a/one.txt").await;
    assert_eq!(mounted.requests(), 0);
    let shown = mounted.find("a/one.txt").await.unwrap();
    assert_eq!((shown.ino, shown.size_bytes), (new, 5));
    assert_eq!(mounted.fs.attr(old).await.unwrap().attr.links, 0);
    mounted.deliver(&local).await;
    assert_eq!(mounted.id("a/one.txt"), id);
    assert_eq!(mounted.content("a/one.txt"), b"saved");
    assert_eq!(mounted.on_server("a"), ["one.txt"]);
    assert_eq!(mounted.ino("a/one.txt").await, new);
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    // And once more, over what is ours by now.
    let local = mounted.write("a/.one.swp", b"again").await;
    mounted.mv("a/.one.swp", "a/one.txt").await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.id("a/one.txt"), id);
    assert_eq!(mounted.content("a/one.txt"), b"again");
}

#[tokio::test]
async fn a_new_file_that_replaces_a_new_file_is_the_only_one_delivered() {
    let mut mounted = Mounted::new(drive).await;
    let first = mounted.write("first", b"1").await;
    let second = mounted.write("second", b"22").await;
    mounted.mv("second", "first").await;
    assert_eq!(first.state(), State::Unlinked);
    mounted.deliver(&second).await;
    assert_eq!(mounted.on_server(""), ["a", "b", "first"]);
    assert_eq!(mounted.content("first"), b"22");
}

#[tokio::test]
async fn what_was_overwritten_here_takes_its_content_along() {
    let mut mounted = Mounted::new(drive).await;
    let id = mounted.id("a/one.txt");
    let local = mounted.overwrite("a/one.txt", b"rewritten").await;
    let ino = mounted.ino("a/one.txt").await;
    mounted.mv("a/one.txt", "b/moved.txt").await;
    assert_eq!(mounted.id("b/moved.txt"), id);
    let shown = mounted.find("b/moved.txt").await.unwrap();
    assert_eq!((shown.ino, shown.size_bytes), (ino, 9));
    mounted.deliver(&local).await;
    assert_eq!(mounted.content("b/moved.txt"), b"rewritten");
    assert_eq!(mounted.id("b/moved.txt"), id);
    assert!(mounted.names("a").await.is_empty());
}

#[tokio::test]
async fn what_was_overwritten_here_replaces_another_file_whose_id_survives() {
    let mut mounted = Mounted::new(drive).await;
    let id = mounted.id("b/two.txt");
    let local = mounted.overwrite("a/one.txt", b"rewritten").await;
    let ino = mounted.ino("a/one.txt").await;
    mounted.mv("a/one.txt", "b/two.txt").await;
    assert!(mounted.on_server("a").is_empty());
    mounted.deliver(&local).await;
    assert_eq!(mounted.id("b/two.txt"), id);
    assert_eq!(mounted.content("b/two.txt"), b"rewritten");
    assert_eq!(mounted.ino("b/two.txt").await, ino);
}

#[tokio::test]
async fn a_small_file_of_the_servers_replaces_another_one_whose_id_survives() {
    let mut mounted = Mounted::new(drive).await;
    let id = mounted.id("b/two.txt");
    let ino = mounted.ino("a/one.txt").await;
    mounted.mv("a/one.txt", "b/two.txt").await;
    assert!(mounted.names("a").await.is_empty());
    let shown = mounted.find("b/two.txt").await.unwrap();
    assert_eq!((shown.ino, shown.size_bytes), (ino, 3));
    let owed = mounted.owing.staging.owed();
    mounted.deliver(&owed[0]).await;
    assert_eq!(mounted.id("b/two.txt"), id);
    assert_eq!(mounted.content("b/two.txt"), b"one");
    assert!(mounted.on_server("a").is_empty());
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn what_a_copy_would_have_replaced_is_owed_as_before_where_its_source_stays() {
    let mut mounted = Mounted::new(drive).await;
    let local = mounted.overwrite("b/two.txt", b"edited here").await;
    mounted
        .server
        .fail(Fault::on(Route::Delete).code(403, "no").times(1));
    let done = mounted.rename("a/one.txt", "b/two.txt", REPLACE).await;
    assert!(matches!(done, Err(Error::Denied(_))), "{done:?}");
    assert!(matches!(local.state(), State::Staged(_)));
    assert_eq!(mounted.owing.staging.owed().len(), 1);
    assert!(mounted.is_all_done());
    drop(local);
    mounted = mounted.again().await;
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    assert_eq!(mounted.find("b/two.txt").await.unwrap().size_bytes, 11);
    // What a start finds is delivered without being asked for.
    mounted.hear().await;
    assert_eq!(mounted.content("b/two.txt"), b"edited here");
    assert_eq!(mounted.content("a/one.txt"), b"one");
}

#[tokio::test]
async fn what_is_copied_is_the_version_that_is_deleted_though_somebody_saved_it_meanwhile() {
    let mut mounted = Mounted::new(drive).await;
    mounted.find("a/one.txt").await;
    mounted.find("b/two.txt").await;
    let (gone, theirs) = ("a/one.txt", "their newer one");
    mounted.server.put(gone, theirs);
    mounted.mv(gone, "b/two.txt").await;
    assert!(mounted.on_server("a").is_empty());
    let owed = mounted.owing.staging.owed();
    mounted.deliver(&owed[0]).await;
    assert_eq!(mounted.content("b/two.txt"), theirs.as_bytes());
}

/// What is at `path` goes to the folder `away`, and another file has its name.
fn supplant(server: &Server, path: &str) {
    server.mkdir("away");
    server.move_into(path, "away");
    server.put(path, "another one");
}

#[tokio::test]
async fn what_took_the_place_of_a_file_meanwhile_is_neither_deleted_nor_moved() {
    for edited in [false, true] {
        let mounted = Mounted::new(drive).await;
        for folder in ["a", "b", ""] {
            mounted.names(folder).await;
        }
        if edited {
            mounted.overwrite("a/one.txt", b"edited").await;
        }
        supplant(&mounted.server, "a/one.txt");
        let done = mounted.unlink("a/one.txt").await;
        assert_eq!(done.is_ok(), edited, "{done:?}");
        assert_eq!(mounted.content("a/one.txt"), b"another one");
        assert_eq!(mounted.content("away/one.txt"), b"one");
        assert_eq!(mounted.find("a/one.txt").await.unwrap().size_bytes, 11);
    }
}

#[tokio::test]
async fn what_was_edited_here_goes_to_its_new_name_alone_where_another_file_has_the_old_one() {
    for to in ["b/three.txt", "b/two.txt"] {
        let mut mounted = Mounted::new(drive).await;
        for folder in ["a", "b", ""] {
            mounted.names(folder).await;
        }
        let local = mounted.overwrite("a/one.txt", b"edited").await;
        supplant(&mounted.server, "a/one.txt");
        mounted.mv("a/one.txt", to).await;
        assert_eq!(mounted.content("a/one.txt"), b"another one");
        assert_eq!(mounted.find("a/one.txt").await.unwrap().size_bytes, 11);
        assert_eq!(mounted.find(to).await.unwrap().size_bytes, 6);
        mounted.deliver(&local).await;
        let all = mounted.server.contents();
        assert!(all.contains(&b"edited".to_vec()));
    }
}

#[tokio::test]
async fn a_version_that_somebody_saved_meanwhile_is_not_dropped_by_a_rename() {
    // The source was edited here, and elsewhere.
    let mounted = Mounted::new(drive).await;
    mounted.overwrite("a/one.txt", b"edited").await;
    mounted.server.put("a/one.txt", "theirs");
    mounted.mv("a/one.txt", "b/two.txt").await;
    assert_eq!(mounted.content("a/one.txt"), b"theirs");
    assert_eq!(mounted.find("b/two.txt").await.unwrap().size_bytes, 6);
    // The target of a swap.
    let mounted = Mounted::new(large).await;
    mounted.names("").await;
    mounted.server.put("two.txt", "theirs");
    let done = mounted.rename("large.bin", "two.txt", REPLACE).await;
    assert!(matches!(done, Err(Error::Busy(_))), "{done:?}");
    assert_eq!(mounted.content("two.txt"), b"theirs");
    mounted.mv("large.bin", "two.txt").await;
    assert_eq!(mounted.on_server(""), ["two.txt"]);
}

#[tokio::test]
async fn a_file_whose_base_somebody_deleted_is_renamed_and_made_anew() {
    let mut mounted = Mounted::new(drive).await;
    let local = mounted.overwrite("a/one.txt", b"edited").await;
    mounted.server.remove("a/one.txt");
    mounted.mv("a/one.txt", "b/three.txt").await;
    assert!(mounted.names("a").await.is_empty());
    mounted.deliver(&local).await;
    assert_eq!(mounted.content("b/three.txt"), b"edited");
}

#[tokio::test]
async fn a_name_that_somebody_took_meanwhile_is_replaced_like_one_that_was_known() {
    let mounted = Mounted::new(large).await;
    mounted.names("").await;
    let id = mounted.id("large.bin");
    mounted.server.put("new.bin", "theirs");
    mounted.mv("large.bin", "new.bin").await;
    assert_eq!(mounted.id("new.bin"), id);
    assert_eq!(mounted.on_server(""), ["new.bin", "two.txt"]);
}

#[tokio::test]
async fn a_swap_whose_deletion_may_have_happened_is_not_taken_back_and_is_finished_later() {
    let mounted = Mounted::new(large).await;
    let id = mounted.id("large.bin");
    mounted.server.fail(Fault::on(Route::Delete).status(502));
    mounted.mv("large.bin", "two.txt").await;
    assert_eq!(mounted.id("two.txt"), id);
    assert!(!mounted.is_all_done());
    mounted.server.clear_faults();
    let mounted = mounted.again().await;
    assert_eq!(mounted.on_server(""), ["two.txt"]);
    assert_eq!(mounted.id("two.txt"), id);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_move_that_was_done_and_not_answered_is_taken_back_with_those_before_it() {
    let mounted = Mounted::new(large).await;
    mounted.names("").await;
    let before = (mounted.id("large.bin"), mounted.id("two.txt"));
    let lost = Fault::on(Route::Rename).truncate_after(0);
    mounted.server.fail(lost.after(1).times(1));
    // The two looks before are answered, the one for what became of it is not.
    let unseen = Fault::on(Route::Info).code(403, "no");
    mounted.server.fail(unseen.after(2).times(1));
    let done = mounted.rename("large.bin", "two.txt", REPLACE).await;
    assert!(done.is_err(), "{done:?}");
    assert_eq!((mounted.id("large.bin"), mounted.id("two.txt")), before);
    assert_eq!(mounted.names("").await, ["large.bin", "two.txt"]);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn what_is_written_to_while_it_is_renamed_shows_under_the_new_name_alone() {
    let mut mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    let ino = mounted.ino("a/one.txt").await;
    let entry = mounted.fs.namespace.inodes.node(ino).unwrap().entry;
    let parent = mounted.ino("a").await;
    let fs = Arc::clone(&mounted.fs);
    let (from, _) = fs.end(parent, "one.txt".as_ref()).await.unwrap();
    let (to, _) = fs.end(parent, "other".as_ref()).await.unwrap();
    let local = mounted.overwrite("a/one.txt", b"edited").await;
    mounted.server.rename("a/one.txt", "other");
    fs.show_known(&from, &entry, &to, None).unwrap();
    assert_eq!(mounted.names("a").await, ["other"]);
    let shown = mounted.find("a/other").await.unwrap();
    assert_eq!((shown.ino, shown.size_bytes), (ino, 6));
    mounted.deliver(&local).await;
    assert_eq!(mounted.content("a/other"), b"edited");
    assert_eq!(mounted.names("a").await, ["other"]);
}

#[tokio::test]
async fn what_left_a_folder_meanwhile_does_not_follow_it() {
    let mounted = Mounted::new(drive).await;
    let local = mounted.write("elsewhere", b"x").await;
    let shown = mounted.fs.namespace.locals.all();
    mounted
        .fs
        .relocate_below(shown, &place("a/inner"), &place("b"));
    assert_eq!(local.place().uri(), place("elsewhere"));
}

#[tokio::test]
async fn what_lost_its_place_while_it_was_stopped_hands_nobody_elses_file_over() {
    for heard in [false, true] {
        let mut mounted = Mounted::new(drive).await;
        let local = mounted.overwrite("a/one.txt", b"edited").await;
        mounted.server.put("a/one.txt", "theirs");
        let (parent, name) = mounted.parent("a/one.txt").await;
        let (end, found) = mounted.fs.end(parent, name.as_ref()).await.unwrap();
        mounted.owing.uploader.deliver(&local).await.unwrap();
        if heard {
            mounted.hear().await;
        }
        let found = mounted.fs.again(&end, found.unwrap()).await;
        assert!(matches!(found, Err(Error::Busy(_))));
        assert_eq!(mounted.content("a/one.txt"), b"theirs");
    }
}

#[tokio::test]
async fn a_copy_that_was_not_finished_replaces_nothing_and_is_gone_at_the_next_start() {
    let mounted = Mounted::new(drive).await;
    let unreadable = Fault::on(Route::Url).code(403, "no");
    mounted.server.fail(unreadable);
    let done = mounted.rename("a/one.txt", "b/two.txt", REPLACE).await;
    assert!(done.is_err());
    assert!(mounted.owing.staging.owed().is_empty());
    let place = staging::Place {
        folder: mounted.fs.namespace.folder_key(Ino::ROOT).unwrap(),
        folder_uri: FileUri::my(),
        name: crate::fs::steps::aside(&FileId("x".into()), &ServerName::from_wire(*b"two.txt")),
        full: None,
    };
    let half = mounted.owing.staging.create(place, None, SystemTime::now());
    let half = half.unwrap();
    half.write(0, b"h", SystemTime::now()).unwrap();
    assert!(is_copy(&half), "it is not delivered at the end of a mount");
    drop(half);
    let mounted = mounted.again().await;
    assert!(mounted.owing.staging.owed().is_empty());
    assert_eq!(mounted.names("").await, ["a", "b"]);
    assert_eq!(mounted.on_server(""), ["a", "b"]);
    assert_eq!(mounted.content("b/two.txt"), b"twotwo");
}

#[tokio::test]
async fn a_large_file_of_the_servers_is_swapped_for_another_one() {
    let mounted = Mounted::new(large).await;
    let id = mounted.id("large.bin");
    let ino = mounted.ino("large.bin").await;
    mounted.mv("large.bin", "two.txt").await;
    assert_eq!(mounted.id("two.txt"), id);
    assert_eq!(mounted.on_server(""), ["two.txt"]);
    assert_eq!(mounted.ino("two.txt").await, ino);
    assert_eq!(mounted.names("").await, ["two.txt"]);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn an_upload_that_was_stopped_at_its_beginning_does_not_keep_its_file_from_being_swapped() {
    let mounted = Mounted::new(large).await;
    mounted.overwrite("two.txt", b"edited").await;
    // The empty version that stands there until the content follows.
    mounted.server.put("two.txt", "");
    let large = mounted.id("large.bin");
    mounted.mv("large.bin", "two.txt").await;
    assert_eq!(mounted.on_server(""), ["two.txt"], "nothing is left aside");
    assert_eq!(mounted.id("two.txt"), large);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_swap_that_is_refused_in_the_middle_is_taken_back() {
    let mounted = Mounted::new(large).await;
    let before = (mounted.id("large.bin"), mounted.id("two.txt"));
    let refused = Fault::on(Route::Rename).code(403, "no").after(1).times(1);
    mounted.server.fail(refused);
    let done = mounted.rename("large.bin", "two.txt", REPLACE).await;
    assert!(matches!(done, Err(Error::Denied(_))), "{done:?}");
    assert_eq!((mounted.id("large.bin"), mounted.id("two.txt")), before);
    assert_eq!(mounted.names("").await, ["large.bin", "two.txt"]);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_swap_that_could_neither_go_on_nor_back_is_undone_at_the_next_start() {
    let mounted = Mounted::new(large).await;
    let before = (mounted.id("large.bin"), mounted.id("two.txt"));
    mounted
        .server
        .fail(Fault::on(Route::Rename).code(403, "no").after(1));
    let done = mounted.rename("large.bin", "two.txt", REPLACE).await;
    assert!(done.is_err());
    assert!(!mounted.is_all_done());
    mounted.server.clear_faults();
    let mounted = mounted.again().await;
    assert_eq!((mounted.id("large.bin"), mounted.id("two.txt")), before);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn who_wants_all_of_it_done_waits_for_what_is_being_taken_back_by_another() {
    let mounted = Mounted::new(large).await;
    let before = (mounted.id("large.bin"), mounted.id("two.txt"));
    let refused = Fault::on(Route::Rename).code(403, "no").after(1);
    mounted.server.fail(refused);
    let done = mounted.rename("large.bin", "two.txt", REPLACE).await;
    assert!(done.is_err() && mounted.fs.has_late());
    mounted.server.clear_faults();
    mounted.server.fail(Fault::on(Route::Info).stall());
    let fs = Arc::clone(&mounted.fs);
    let other = tokio::spawn(async move { fs.settle().await });
    let server = Arc::clone(&mounted.server);
    let asked = tokio::task::spawn_blocking(move || server.wait_for_requests(1));
    asked.await.unwrap();
    let mut settled = pin!(mounted.fs.settle());
    assert!(futures_util::poll!(settled.as_mut()).is_pending());
    mounted.server.clear_faults();
    settled.await;
    assert_eq!((mounted.id("large.bin"), mounted.id("two.txt")), before);
    assert!(mounted.is_all_done());
    other.await.unwrap();
}

#[tokio::test]
async fn what_was_interrupted_in_a_name_of_a_new_file_is_taken_back_before_that_goes_there() {
    let mut mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    let before = mounted.id("a/one.txt");
    let local = mounted.write("new.txt", b"new").await;
    // The last of three calls is done, and neither that nor what it came to is answered; nothing can be taken back.
    let lost = Fault::on(Route::Rename).truncate_after(0);
    mounted.server.fail(lost.after(1));
    let refused = Fault::on(Route::Move).code(403, "no");
    mounted.server.fail(refused.after(1));
    let unseen = Fault::on(Route::Info).code(403, "no");
    mounted.server.fail(unseen.after(1));
    let done = mounted.rename("a/one.txt", "new.txt", REPLACE).await;
    assert!(done.is_err() && mounted.fs.has_late(), "{done:?}");
    assert_eq!(mounted.id("new.txt"), before, "it is still on its way");
    mounted.server.clear_faults();
    assert!(mounted.owing.uploader.deliver(&local).await.is_err());
    mounted.fs.settle().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.id("a/one.txt"), before);
    assert_eq!(mounted.server.content("new.txt").unwrap(), b"new");
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_way_back_that_is_cut_are_not_a_file_that_is_gone() {
    let mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    mounted.names("b").await;
    // Somebody took the name, and once that is found nothing goes back for now.
    mounted.server.put("b/new.txt", "theirs");
    let cut = Fault::on(Route::Rename).status(503);
    mounted.server.fail(cut.after(2));
    let done = mounted.rename("a/one.txt", "b/new.txt", REPLACE).await;
    assert!(matches!(done, Err(Error::TimedOut(_))), "{done:?}");
    mounted.server.clear_faults();
    mounted.fs.settle().await;
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    assert_eq!(mounted.server.content("b/new.txt").unwrap(), b"theirs");
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn content_goes_onto_what_its_targets_upload_brought_in_the_moment_in_which_that_was_replaced()
 {
    let mut mounted = Mounted::new(drive).await;
    let old = mounted.write("a/new.txt", b"old").await;
    let new = mounted.write("a/new.txt~", b"new").await;
    let parent = mounted.ino("a").await;
    let fs = Arc::clone(&mounted.fs);
    let (to, target) = fs.end(parent, "new.txt".as_ref()).await.unwrap();
    // Whoever renames has seen that the server has nothing there.
    let over = None;
    mounted.owing.uploader.deliver(&old).await.unwrap();
    fs.take_place(&new, &to, over, &target.unwrap()).unwrap();
    let landed = mounted.id("a/new.txt");
    assert_eq!(*new.base().unwrap().file.0, *landed);
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("a"), ["new.txt", "one.txt"]);
    assert_eq!(mounted.id("a/new.txt"), landed);
    assert_eq!(mounted.server.content("a/new.txt").unwrap(), b"new");
}

#[tokio::test]
async fn a_copy_goes_onto_what_its_targets_upload_brought_in_the_moment_in_which_that_was_replaced()
{
    let mut mounted = Mounted::new(drive).await;
    let old = mounted.overwrite("b/two.txt", b"edited").await;
    let (a, b) = (mounted.ino("a").await, mounted.ino("b").await);
    let fs = Arc::clone(&mounted.fs);
    let (from, source) = fs.end(a, "one.txt".as_ref()).await.unwrap();
    let (to, target) = fs.end(b, "two.txt".as_ref()).await.unwrap();
    let Some(Found::Known(source)) = source else {
        panic!("nothing of it is here");
    };
    // Whoever renames has seen the version before.
    let over = old.base().unwrap();
    mounted.owing.uploader.deliver(&old).await.unwrap();
    let target = target.unwrap();
    let copied = fs.copy_onto(&from, &source, &to, over, &target);
    copied.await.unwrap();
    for local in mounted.owing.staging.owed() {
        mounted.deliver(&local).await;
    }
    assert_eq!(mounted.on_server("a"), [""; 0]);
    assert_eq!(mounted.on_server("b"), ["two.txt"]);
    assert_eq!(mounted.content("b/two.txt"), b"one");
}

/// A swap of `new.txt` for `old.txt`, which is at `old` by now, noted and not done with.
async fn noted_swap(mounted: &Mounted, new: &str, old: &str) {
    let id = |name: &str| FileId(mounted.id(name).into());
    let (new, old) = (id(new), id(old));
    let parked = place("aside.txt");
    let plan = Plan {
        steps: vec![
            Step::shift(&old, &place("old.txt"), &parked),
            Step::shift(&new, &place("new.txt"), &place("old.txt")),
            Step::delete(&old, &parked, None),
        ],
        only_if: None,
    };
    let text = serde_json::to_string(&plan).unwrap();
    mounted.owing.staging.begin(text).await.unwrap();
}

#[tokio::test]
async fn a_swap_is_finished_from_wherever_it_was_when_the_process_was_killed() {
    for [new, old] in [
        ["new.txt", "old.txt"],
        ["new.txt", "aside.txt"],
        ["old.txt", "aside.txt"],
    ] {
        let mounted = Mounted::new(|server| {
            server.put(new, "new");
            server.put(old, "old");
        })
        .await;
        noted_swap(&mounted, new, old).await;
        let mounted = mounted.again().await;
        assert_eq!(mounted.on_server(""), ["old.txt"], "{new}, {old}");
        assert_eq!(mounted.content("old.txt"), b"new");
        assert!(mounted.is_all_done());
    }
}

#[tokio::test]
async fn what_a_copy_was_made_of_is_deleted_also_where_the_copy_was_delivered_first() {
    for is_killed in [false, true] {
        let mut mounted = Mounted::new(drive).await;
        for folder in ["a", "b"] {
            mounted.names(folder).await;
        }
        mounted.server.fail(Fault::on(Route::Delete).status(502));
        let two = mounted.id("b/two.txt");
        if is_killed {
            // Between the note and the deletion.
            let local = mounted.overwrite("b/two.txt", b"one").await;
            let one = FileId(mounted.id("a/one.txt").into());
            let plan = Plan {
                steps: vec![Step::delete(&one, &place("a/one.txt"), None)],
                only_if: Some((local.id().0, two.clone())),
            };
            let text = serde_json::to_string(&plan).unwrap();
            mounted.owing.staging.begin(text).await.unwrap();
            drop(local);
            mounted = mounted.again().await;
        } else {
            mounted.mv("a/one.txt", "b/two.txt").await;
        }
        for local in mounted.owing.staging.owed() {
            mounted.owing.uploader.deliver(&local).await.unwrap();
        }
        assert_eq!(mounted.content("b/two.txt"), b"one");
        assert!(!mounted.is_all_done());
        mounted.server.clear_faults();
        let mounted = mounted.again().await;
        assert_eq!(mounted.on_server("a"), Vec::<String>::new());
        assert_eq!(mounted.id("b/two.txt"), two);
        assert!(mounted.is_all_done());
    }
}

#[tokio::test]
async fn a_target_that_is_aside_comes_home_where_its_successor_went_elsewhere_meanwhile() {
    let mounted = Mounted::new(|server| {
        server.put("theirs.txt", "new");
        server.put("aside.txt", "old");
    })
    .await;
    noted_swap(&mounted, "theirs.txt", "aside.txt").await;
    let mounted = mounted.again().await;
    assert_eq!(mounted.on_server(""), ["old.txt", "theirs.txt"]);
    assert_eq!(mounted.content("old.txt"), b"old");
}

#[tokio::test]
async fn a_file_of_the_servers_replaces_one_that_is_only_here() {
    let mounted = Mounted::new(drive).await;
    let local = mounted.write("b/here", b"here").await;
    let id = mounted.id("a/one.txt");
    mounted.mv("a/one.txt", "b/here").await;
    assert_eq!(local.state(), State::Unlinked);
    assert_eq!(mounted.id("b/here"), id);
    assert_eq!(mounted.find("b/here").await.unwrap().size_bytes, 3);
    assert_eq!(mounted.names("b").await, ["here", "two.txt"]);
}

#[tokio::test]
async fn a_folder_takes_along_what_is_not_on_the_server_yet() {
    let mut mounted = Mounted::new(drive).await;
    mounted.mkdir("a/inner").await.unwrap();
    let new = mounted.write("a/inner/new", b"new").await;
    let old = mounted.overwrite("a/one.txt", b"rewritten").await;
    mounted.mv("a", "b/moved").await;
    assert_eq!(mounted.names("b/moved").await, ["inner", "one.txt"]);
    assert_eq!(mounted.names("b/moved/inner").await, ["new"]);
    assert_eq!(new.place().uri(), place("b/moved/inner/new"));
    mounted.deliver(&new).await;
    mounted.deliver(&old).await;
    assert_eq!(mounted.on_server(""), ["b"]);
    assert_eq!(mounted.content("b/moved/inner/new"), b"new");
    assert_eq!(mounted.content("b/moved/one.txt"), b"rewritten");
    // What is written just behind a rename goes where the folder is now.
    mounted.mv("b/moved", "c").await;
    let late = mounted.write("c/inner/late", b"late").await;
    mounted.deliver(&late).await;
    assert_eq!(mounted.on_server(""), ["b", "c"]);
    assert_eq!(mounted.on_server("c/inner"), ["late", "new"]);
}

#[tokio::test]
async fn what_is_sent_to_the_old_path_of_what_was_moved_makes_no_second_one() {
    let mounted = Mounted::new(drive).await;
    let (server, api) = (&mounted.server, &mounted.api);
    server.fail(Fault::on(Route::Rename).stall().times(1));
    let (from, name) = (place("a"), ServerName::from_wire(b"c".as_slice()));
    let moved = api.rename(&from, &name);
    let makes = async {
        while mounted.on_server("") != ["b", "c"] {
            tokio::task::yield_now().await;
        }
        let (uri, told) = (place("a/made"), BTreeMap::new());
        let mut made = pin!(api.create_folder(&uri, &told));
        assert!(futures_util::poll!(made.as_mut()).is_pending());
        server.clear_faults();
        made.await
    };
    let (moved, made) = tokio::join!(moved, makes);
    moved.unwrap();
    assert!(matches!(made, Err(api::Error::NotFound)), "{made:?}");
    let content = crate::api::Part::from(bytes::Bytes::from_static(b"content"));
    let put = api.put_content(&place("a/new"), None, content).await;
    assert!(matches!(put, Err(api::Error::NotFound)), "{put:?}");
    let session = crate::api::NewSession {
        uri: place("a/new"),
        size_bytes: 7,
        modified: SystemTime::now(),
        over: None,
        metadata: BTreeMap::new(),
    };
    let opened = api.open_session(&session).await;
    assert!(
        matches!(opened, Err(api::Error::NotFound)),
        "a session was opened"
    );
    let id = EntityId(server.entity_id("b/two.txt").as_str().into());
    let other = ServerName::from_wire(b"2.txt".as_slice());
    api.rename(&place("b/two.txt"), &other).await.unwrap();
    let onto_it = crate::api::NewSession {
        uri: place("b/two.txt"),
        over: Some(id),
        ..session
    };
    let opened = api.open_session(&onto_it).await;
    assert!(
        matches!(opened, Err(api::Error::NotFound)),
        "a session was opened"
    );
    assert_eq!(mounted.on_server("b"), ["2.txt"]);
    assert_eq!(mounted.on_server(""), ["b", "c"]);
    assert_eq!(mounted.on_server("c"), ["one.txt"]);
}

#[tokio::test]
async fn a_folder_replaces_an_empty_one_and_no_other() {
    let mounted = Mounted::new(|server| {
        drive(server);
        server.mkdir("empty");
    })
    .await;
    let id = mounted.id("a");
    let full = mounted.rename("a", "b", REPLACE).await;
    assert!(matches!(full, Err(Error::NotEmpty)), "{full:?}");
    mounted.mv("a", "empty").await;
    assert_eq!(mounted.id("empty"), id);
    assert_eq!(mounted.names("empty").await, ["one.txt"]);
    assert_eq!(mounted.on_server(""), ["b", "empty"]);
}

#[tokio::test]
async fn what_cannot_be_renamed_is_refused_before_anything_happens() {
    let mounted = Mounted::new(|server| {
        drive(server);
        server.mkdir("a/inner");
    })
    .await;
    let into_itself = mounted.rename("a", "a/inner/a", REPLACE).await;
    assert!(matches!(into_itself, Err(Error::Invalid)));
    let file_onto_folder = mounted.rename("a/one.txt", "b", REPLACE).await;
    assert!(matches!(file_onto_folder, Err(Error::IsAFolder)));
    let folder_onto_file = mounted.rename("a", "b/two.txt", REPLACE).await;
    assert!(matches!(folder_onto_file, Err(Error::NotAFolder)));
    let no_replace = RenameHow::NoReplace;
    let taken = mounted.rename("a/one.txt", "b/two.txt", no_replace).await;
    assert!(matches!(taken, Err(Error::Exists)));
    let absent = mounted.rename("a/none", "a/other", REPLACE).await;
    assert!(matches!(absent, Err(Error::NotFound)));
    let absent = mounted.rename("a/one.txt", "a/none", EXCHANGE).await;
    assert!(matches!(absent, Err(Error::NotFound)));
    mounted.mv("a/one.txt", "a/one.txt").await;
    for route in [Route::Rename, Route::Move, Route::Delete] {
        assert_eq!(mounted.server.count(route), 0);
    }
}

#[tokio::test]
async fn two_names_are_exchanged_whatever_is_behind_them() {
    let mut mounted = Mounted::new(drive).await;
    let (one, two) = (mounted.id("a/one.txt"), mounted.id("b/two.txt"));
    let done = mounted.rename("a/one.txt", "b/two.txt", EXCHANGE).await;
    done.unwrap();
    assert_eq!(
        (mounted.id("b/two.txt"), mounted.id("a/one.txt")),
        (one, two.clone())
    );
    assert_eq!(mounted.find("a/one.txt").await.unwrap().size_bytes, 6);
    let local = mounted.write("new", b"new").await;
    mounted.rename("new", "a/one.txt", EXCHANGE).await.unwrap();
    assert_eq!(mounted.find("a/one.txt").await.unwrap().size_bytes, 3);
    assert_eq!(mounted.id("new"), two);
    mounted.deliver(&local).await;
    assert_eq!(mounted.content("a/one.txt"), b"new");
    mounted.rename("a", "b", EXCHANGE).await.unwrap();
    assert_eq!(mounted.names("a").await, ["two.txt"]);
    assert_eq!(mounted.names("b").await, ["one.txt"]);
    assert!(mounted.is_all_done());
}

#[tokio::test]
async fn a_move_whose_answer_was_lost_is_looked_up() {
    let mounted = Mounted::new(drive).await;
    mounted.names("b").await;
    for route in [Route::Rename, Route::Move] {
        mounted
            .server
            .fail(Fault::on(route).truncate_after(0).times(1));
    }
    mounted.mv("a/one.txt", "a/1.txt").await;
    mounted.mv("a/1.txt", "b/1.txt").await;
    assert_eq!(mounted.on_server("b"), ["1.txt", "two.txt"]);
    assert_eq!(mounted.names("b").await, ["1.txt", "two.txt"]);
}

#[tokio::test]
async fn a_move_that_neither_it_nor_the_look_for_it_was_answered_is_done_where_it_is_found_done() {
    let mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    let ino = mounted.ino("a/one.txt").await;
    // The second look is that after the move.
    mounted
        .server
        .fail(Fault::on(Route::Rename).stall().times(1));
    mounted
        .server
        .fail(Fault::on(Route::Info).stall().after(1).times(1));
    let server = &mounted.server;
    server.reset_counters();
    let somebody_looks = async {
        while server.count(Route::Rename) == 0 {
            tokio::task::yield_now().await;
        }
        let metadata = &mounted.fs.namespace.metadata;
        metadata.others_changed_anything(std::time::Instant::now());
        assert_eq!(mounted.names("a").await, ["1.txt"]);
    };
    tokio::join!(mounted.mv("a/one.txt", "a/1.txt"), somebody_looks);
    assert_eq!(mounted.on_server("a"), ["1.txt"]);
    assert_eq!(mounted.names("a").await, ["1.txt"]);
    assert_eq!(mounted.ino("a/1.txt").await, ino);
}

#[tokio::test]
async fn what_is_renamed_before_the_news_of_its_delivery_keeps_the_new_name() {
    let mut mounted = Mounted::new(drive).await;
    mounted.names("").await;
    let local = mounted.write("new", b"new").await;
    let ino = mounted.ino("new").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.mv("new", "moved").await;
    mounted.hear().await;
    assert_eq!(mounted.names("").await, ["a", "b", "moved"]);
    assert_eq!(mounted.on_server(""), ["a", "b", "moved"]);
    assert_eq!(mounted.ino("moved").await, ino);
    // Once more, with another content owed already.
    mounted.overwrite("moved", b"second").await;
    let local = mounted.fs.local_of(ino);
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.fill(&local, b"the third");
    mounted.mv("moved", "a/moved.txt").await;
    mounted.hear().await;
    assert_eq!(mounted.find("a/moved.txt").await.unwrap().size_bytes, 9);
    mounted.deliver(&local).await;
    assert_eq!(mounted.content("a/moved.txt"), b"the third");
    assert_eq!(mounted.names("a").await, ["moved.txt", "one.txt"]);
    assert_eq!(mounted.names("").await, ["a", "b"]);
}

#[tokio::test]
async fn what_is_unlinked_or_replaced_before_the_news_of_its_delivery_is_gone() {
    let mut mounted = Mounted::new(drive).await;
    for replaced in [false, true] {
        let local = mounted.write("new", b"new").await;
        mounted.owing.uploader.deliver(&local).await.unwrap();
        if replaced {
            mounted.write("other", b"other").await;
            mounted.mv("other", "new").await;
        }
        mounted.unlink("new").await.unwrap();
        mounted.hear().await;
        assert_eq!(mounted.names("").await, ["a", "b"]);
        assert_eq!(mounted.on_server(""), ["a", "b"]);
    }
}

/// The upload of `b/new` came to `a/new`, which was its name then, and nobody heard of it. The server answers again.
async fn moved_unheard() -> (Mounted, Arc<Local>) {
    let mounted = Mounted::new(|server| {
        server.mkdir("a");
        server.mkdir("b");
    })
    .await;
    mounted.names("a").await;
    mounted.names("b").await;
    let local = mounted.write("a/new", b"content").await;
    mounted.lands_unheard("a/new", &local, b"content").await;
    mounted.mv("a/new", "b/new").await;
    mounted.server.clear_faults();
    mounted.is_back().await;
    assert_eq!(mounted.on_server("a"), ["new"]);
    (mounted, local)
}

#[tokio::test]
async fn what_an_unheard_upload_left_under_the_old_name_does_not_show_there() {
    let (mut mounted, local) = moved_unheard().await;
    let folder = mounted.ino("a").await;
    // The next try cannot look yet.
    mounted.server.fail(Fault::on(Route::Info).stall());
    let space = &mounted.fs.namespace;
    let folder = space.folder_key(folder).unwrap();
    space.metadata.doubt(&folder, OsStr::new("new"));
    assert_eq!(mounted.on_server("a"), ["new"]);
    assert_eq!(mounted.names("a").await, [""; 0]);
    mounted.server.clear_faults();
    mounted.deliver(&local).await;
    assert_eq!(mounted.names("a").await, [""; 0]);
    assert_eq!(mounted.on_server("a"), [""; 0]);
    assert_eq!(mounted.content("b/new"), b"content");
}

#[tokio::test]
async fn a_folder_is_empty_though_an_unheard_upload_of_what_was_in_it_left_something_there() {
    let (mut mounted, local) = moved_unheard().await;
    mounted.rmdir("a").await.unwrap();
    mounted.deliver(&local).await;
    assert_eq!(mounted.on_server(""), ["b"]);
    assert_eq!(mounted.content("b/new"), b"content");
}

#[tokio::test]
async fn a_version_that_may_be_ours_is_not_left_behind_by_who_puts_newer_content_elsewhere() {
    let mut mounted = Mounted::new(drive).await;
    let local = mounted.overwrite("a/one.txt", b"edited").await;
    let lost = Fault::on(Route::UploadChunk).truncate_after(0).times(1);
    mounted.server.fail(lost);
    // So that nobody can say whose it is.
    mounted
        .server
        .fail(Fault::on(Route::Content).reset_before_headers());
    mounted.owing.uploader.deliver(&local).await.unwrap_err();
    assert_eq!(mounted.content("a/one.txt"), b"edited");
    mounted.overwrite("a/one.txt", b"newer").await;
    let refused = mounted.rename("a/one.txt", "b/two.txt", REPLACE).await;
    assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    mounted.server.clear_faults();
    mounted.mv("a/one.txt", "b/two.txt").await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.on_server("a"), [""; 0]);
    assert_eq!(mounted.content("b/two.txt"), b"newer");
}

#[tokio::test]
async fn two_that_replace_one_file_at_once_do_so_one_after_the_other() {
    let mut mounted = Mounted::new(|server| {
        server.put("saved", "old");
    })
    .await;
    let first = mounted.overwrite("saved", b"first").await;
    mounted.write("second", b"second").await;
    let third = mounted.write("third", b"third").await;
    mounted.server.reset_counters();
    mounted.server.fail(Fault::on(Route::UploadChunk).stall());
    let (uploader, local) = (Arc::clone(&mounted.owing.uploader), Arc::clone(&first));
    tokio::spawn(async move { uploader.deliver(&local).await });
    while mounted.server.count(Route::UploadChunk) == 0 {
        tokio::task::yield_now().await;
    }
    {
        // As after a kill of the one who asks: the kernel lets the next one begin.
        let mut second = pin!(mounted.mv("second", "saved"));
        let mut last = pin!(mounted.mv("third", "saved"));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(futures_util::poll!(last.as_mut()).is_pending());
        mounted.server.clear_faults();
        tokio::join!(second, last);
    }
    assert_eq!(mounted.names("").await, ["saved"]);
    mounted.deliver(&third).await;
    assert!(mounted.owing.staging.owed().is_empty());
    assert_eq!(mounted.on_server(""), ["saved"]);
    assert_eq!(mounted.content("saved"), b"third");
}

#[tokio::test]
async fn who_looked_at_a_folder_before_that_was_moved_looks_once_more_where_it_is() {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    let folder = mounted.ino("a").await;
    let (before, _) = mounted.fs.end(folder, OsStr::new("x")).await.unwrap();
    assert!(mounted.fs.steady(&[&before]).await.is_ok());
    mounted.mv("a", "b").await;
    let late = mounted.fs.steady(&[&before]).await;
    assert!(matches!(late, Err(Error::Gone)), "{late:?}");
    let (now, _) = mounted.fs.end(folder, OsStr::new("x")).await.unwrap();
    assert!(mounted.fs.steady(&[&now]).await.is_ok());
}

#[tokio::test]
async fn a_folder_is_not_moved_while_a_change_of_several_calls_in_it_is_under_way() {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    let folder = mounted.ino("a").await;
    let (end, _) = mounted.fs.end(folder, OsStr::new("x")).await.unwrap();
    let steady = mounted.fs.steady(&[&end]).await.unwrap();
    let mut moves = pin!(mounted.mv("a", "b"));
    let others = async {
        for _ in 0..20 {
            mounted.fs.whats_at(&place("a")).await.unwrap();
        }
    };
    tokio::select! {
        () = &mut moves => panic!("it did not wait"),
        () = others => {}
    }
    drop(steady);
    moves.await;
    assert_eq!(mounted.on_server(""), ["b"]);
}

#[tokio::test]
async fn a_name_that_may_be_that_of_an_unheard_upload_of_ours_is_not_said_to_be_taken() {
    let mounted = Mounted::new(large).await;
    mounted.names("").await;
    for (path, is_unheard) in [("two.txt", false), ("new", true)] {
        if is_unheard {
            let local = mounted.write(path, b"content").await;
            mounted.lands_unheard(path, &local, b"content").await;
        }
        let (end, found) = mounted.fs.end(Ino::ROOT, path.as_ref()).await.unwrap();
        let stopped = mounted.fs.stop(&end, &found.unwrap(), None).await.unwrap();
        let unanswered = mounted.fs.removals.unsent();
        let outcome = stopped.outcome(Err(Error::Exists), unanswered);
        match is_unheard {
            true => assert!(matches!(outcome, Err(Error::TimedOut(_))), "{outcome:?}"),
            false => assert!(matches!(outcome, Err(Error::Exists)), "{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn what_an_unheard_upload_left_does_not_show_where_its_folder_was_moved_to() {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    mounted.names("a").await;
    let local = mounted.write("a/new", b"content").await;
    mounted.lands_unheard("a/new", &local, b"content").await;
    mounted.unlink("a/new").await.unwrap();
    mounted.server.clear_faults();
    mounted.is_back().await;
    mounted.mv("a", "b").await;
    assert_eq!(mounted.on_server("b"), ["new"]);
    let metadata = &mounted.fs.namespace.metadata;
    metadata.others_changed_anything(std::time::Instant::now());
    assert_eq!(mounted.names("b").await, [""; 0]);
}
