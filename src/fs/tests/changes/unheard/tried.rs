//! Names given without the server that it may have given unheard: it was asked for them, and the answer was lost.

use super::*;

/// `known/a` was renamed to `other/x`, and is half way there.
async fn renamed_half_way() -> Mounted {
    let mounted = apart().await;
    mounted.mv("known/a", "other/x").await;
    mounted.meet().await;
    mounted.server.fail(Fault::on(Route::Move).code(403, "no"));
    mounted.fs.be_heard(true).await;
    mounted.server.clear_faults();
    assert_eq!(mounted.unheard(), 1);
    assert!(!mounted.on_server("known").contains(&"a".to_owned()));
    assert!(mounted.on_server("other").is_empty());
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
    mounted
}

#[tokio::test]
async fn a_file_that_is_half_way_to_its_new_name_goes_on_from_there() {
    let mounted = renamed_half_way().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.on_server("other"), ["x"]);
}

#[tokio::test]
async fn a_file_that_is_half_way_to_its_new_name_and_deleted_does_not_come_back() {
    let mounted = renamed_half_way().await;
    mounted.unlink("other/x").await.unwrap();
    assert_eq!(mounted.looked_at("known").await, ["b", "dir"]);
    assert_eq!(mounted.looked_at("other").await, [""; 0]);
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert!(mounted.on_server("other").is_empty());
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
}

#[tokio::test]
async fn a_file_that_is_half_way_to_its_new_name_and_gets_back_its_old_one_is_there_under_that() {
    let mounted = renamed_half_way().await;
    mounted.cut_off();
    mounted.mv("other/x", "known/a").await;
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    assert_eq!(mounted.unheard(), 0);
}

/// `known/a` was renamed to `known/x`, which the server did, and nobody heard of.
async fn renamed_unheard() -> Mounted {
    let mounted = apart().await;
    mounted.mv("known/a", "known/x").await;
    mounted.meet_unheard(2).await;
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.unheard(), 1);
    mounted
}

#[tokio::test]
async fn a_file_whose_new_name_the_server_gave_unheard_is_deleted_there() {
    let mounted = renamed_unheard().await;
    mounted.unlink("known/x").await.unwrap();
    assert_eq!(mounted.looked_at("known").await, ["b", "dir"]);
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
}

#[tokio::test]
async fn a_file_whose_new_name_the_server_gave_unheard_is_deleted_after_the_end_of_the_process() {
    let mounted = renamed_unheard().await;
    mounted.cut_off();
    mounted.unlink("known/x").await.unwrap();
    assert_eq!(mounted.looked_at("known").await, ["b", "dir"]);
    mounted.mv("known/b", "known/x").await;
    mounted.server.restart().unwrap();
    let mounted = mounted.again().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("known"), ["dir", "x"]);
    assert_eq!(mounted.said("known/x").unwrap(), "content of b");
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn a_file_whose_new_name_the_server_gave_unheard_keeps_it() {
    let mounted = apart().await;
    mounted.mv("known/a", "other/x").await;
    mounted.meet().await;
    // The last of three steps is done, and neither answered nor seen.
    let lost = Fault::on(Route::Rename).truncate_after(0);
    mounted.server.fail(lost.after(1).times(1));
    let unseen = Fault::on(Route::Info).code(403, "no");
    mounted.server.fail(unseen.after(2));
    mounted.fs.be_heard(true).await;
    mounted.server.clear_faults();
    assert_eq!(mounted.on_server("other"), ["x"]);
    for _ in 0..2 {
        mounted.fs.settle().await;
        assert_eq!(mounted.unheard(), 0);
        assert_eq!(mounted.on_server("other"), ["x"]);
        assert_eq!(mounted.names("other").await, ["x"]);
    }
}

#[tokio::test]
async fn a_file_whose_new_name_the_server_gave_unheard_goes_on_from_there_to_another_one() {
    let mounted = renamed_unheard().await;
    mounted.cut_off();
    mounted.mv("known/x", "other/y").await;
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.on_server("other"), ["y"]);
    assert_eq!((mounted.unheard(), mounted.fs.astray().0), (0, 0));
}

/// As `renamed_unheard`, of a rename that was sent, and then done without the server.
async fn sent_unheard() -> Mounted {
    let mounted = known().await;
    let lost = Fault::on(Route::Rename).stall();
    mounted.server.fail(lost.times(1));
    mounted.server.fail(Fault::on(Route::Info).stall().after(1));
    mounted.mv("known/a", "known/x").await;
    mounted.server.clear_faults();
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.unheard(), 1);
    mounted
}

/// `known/a`, which the server may have as `known/x`, goes on to `other/y`, and a new file gets the name in between.
async fn goes_on_and_leaves_its_name_in_between(mut mounted: Mounted) {
    mounted.cut_off();
    mounted.mv("known/x", "other/y").await;
    mounted.meet().await;
    assert_eq!(mounted.looked_at("known").await, ["b", "dir"]);
    mounted.cut_off();
    let new = mounted.write("known/x", b"new").await;
    mounted.meet().await;
    mounted.owing.uploader.deliver(&new).await.unwrap_err();
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.names("known").await, ["b", "dir", "x"]);
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.on_server("other"), ["y"]);
    assert_eq!(mounted.said("known/x").unwrap(), "new");
    assert_eq!(mounted.said("other/y").unwrap(), "content of a");
    assert_eq!((mounted.unheard(), mounted.fs.astray().0), (0, 0));
}

#[tokio::test]
async fn a_name_that_the_server_gave_unheard_does_not_show_and_is_free() {
    goes_on_and_leaves_its_name_in_between(renamed_unheard().await).await;
}

#[tokio::test]
async fn a_name_that_was_asked_for_before_the_server_was_gone_does_not_show_and_is_free() {
    goes_on_and_leaves_its_name_in_between(sent_unheard().await).await;
}

#[tokio::test]
async fn a_name_that_the_server_gave_unheard_is_free_after_the_end_of_the_process() {
    let mounted = renamed_unheard().await;
    mounted.cut_off();
    mounted.mv("known/x", "other/y").await;
    mounted.server.restart().unwrap();
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
    let new = mounted.write("known/x", b"new").await;
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.on_server("other"), ["y"]);
    assert_eq!(mounted.said("known/x").unwrap(), "new");
    assert_eq!((mounted.unheard(), mounted.fs.astray().0), (0, 0));
}

#[tokio::test]
async fn names_that_the_server_gave_unheard_go_round_there() {
    let mounted = renamed_unheard().await;
    mounted.cut_off();
    mounted.mv("known/x", "known/c").await;
    mounted.mv("known/b", "known/x").await;
    mounted.mv("known/c", "known/b").await;
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.said("known/b").unwrap(), "content of a");
    assert_eq!(mounted.said("known/x").unwrap(), "content of b");
    assert_eq!((mounted.unheard(), mounted.fs.astray().0), (0, 0));
}

#[tokio::test]
async fn what_somebody_else_moved_shows_where_they_put_it_once_that_is_known() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/x").await;
    mounted.server.move_into("known/a", "other");
    mounted.server.rename("other/a", "theirs");
    mounted.meet().await;
    assert_eq!(mounted.looked_at("other").await, [""; 0]);
    mounted.fs.settle().await;
    assert_eq!(mounted.fs.astray().0, 1);
    assert_eq!(mounted.names("other").await, ["theirs"]);
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
}

/// `known/a`, which the server may have as `known/x`, is renamed to `other/y` and deleted while somebody writes to it.
#[tokio::test]
async fn what_somebody_wrote_to_a_deleted_file_shows_where_the_server_had_brought_it_unheard() {
    let mounted = renamed_unheard().await;
    mounted.cut_off();
    mounted.mv("known/x", "other/y").await;
    mounted.unlink("other/y").await.unwrap();
    mounted.server.put("known/x", "newer");
    mounted.meet().await;
    assert_eq!(mounted.looked_at("known").await, ["b", "dir"]);
    mounted.fs.settle().await;
    assert_eq!(mounted.names("known").await, ["b", "dir", "x"]);
    assert_eq!(mounted.said("known/x").unwrap(), "newer");
}
