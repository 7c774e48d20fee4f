//! Folders that come to each other's names and places without the server.

use super::*;

#[tokio::test]
async fn folders_that_are_renamed_within_each_other_are_so_there() {
    let mounted = apart().await;
    mounted.mv("known/dir", "dir").await;
    mounted.mv("known", "dir/known").await;
    mounted.mv("other", "dir/known/other").await;
    mounted.mv("dir/inner", "dir/known/other/inner").await;
    mounted.mv("dir/known/a", "a").await;
    assert_eq!(mounted.names("").await, ["a", "dir"]);
    assert_eq!(mounted.names("dir").await, ["known"]);
    assert_eq!(mounted.names("dir/known").await, ["b", "other"]);
    assert_eq!(mounted.names("dir/known/other").await, ["inner"]);
    mounted.reunite().await;
    for _ in 0..3 {
        mounted.fs.be_heard(true).await;
    }
    assert_eq!(mounted.on_server(""), ["a", "dir"]);
    assert_eq!(mounted.on_server("dir"), ["known"]);
    assert_eq!(mounted.on_server("dir/known"), ["b", "other"]);
    assert_eq!(mounted.on_server("dir/known/other"), ["inner"]);
    assert_eq!(mounted.looked_at("dir/known/other").await, ["inner"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn folders_that_change_their_names_with_each_other_do_so_there() {
    let mut mounted = apart().await;
    mounted.mv("known", "aside").await;
    mounted.mv("other", "known").await;
    mounted.mv("aside", "other").await;
    let one = mounted.write("known/one", b"one").await;
    let two = mounted.write("other/two", b"two").await;
    assert_eq!(mounted.names("known").await, ["one"]);
    assert_eq!(mounted.names("other").await, ["a", "b", "dir", "two"]);
    mounted.reunite().await;
    mounted.deliver(&one).await;
    mounted.deliver(&two).await;
    assert_eq!(mounted.on_server(""), ["known", "other"]);
    assert_eq!(mounted.on_server("known"), ["one"]);
    assert_eq!(mounted.on_server("other"), ["a", "b", "dir", "two"]);
    assert_eq!(mounted.said("other/two").unwrap(), "two");
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_that_was_put_into_one_of_its_name_is_so_there() {
    let mut mounted = apart().await;
    mounted.mkdir("made").await.unwrap();
    mounted.mv("known", "made/known").await;
    mounted.mv("made", "known").await;
    let new = mounted.write("known/new", b"new").await;
    assert_eq!(mounted.names("known").await, ["known", "new"]);
    mounted.reunite().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server(""), ["known", "other"]);
    assert_eq!(mounted.on_server("known"), ["known", "new"]);
    assert_eq!(mounted.on_server("known/known"), ["a", "b", "dir"]);
    assert_eq!(mounted.looked_at("known/known").await, ["a", "b", "dir"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_and_one_in_it_that_change_their_places_do_so_there() {
    for inner in ["dir", "known"] {
        let mut mounted = apart().await;
        mounted.mv("known/dir", "aside").await;
        mounted.mv("known", &format!("aside/{inner}")).await;
        mounted.mv("aside", "known").await;
        let at = format!("known/{inner}");
        let mut both = [inner, "inner"];
        both.sort_unstable();
        let new = mounted.write(&format!("{at}/new"), b"new").await;
        assert_eq!(mounted.names("known").await, both);
        mounted.reunite().await;
        mounted.fs.be_heard(true).await;
        mounted.deliver(&new).await;
        assert_eq!(mounted.on_server(""), ["known", "other"], "{inner}");
        assert_eq!(mounted.on_server("known"), both, "{inner}");
        assert_eq!(mounted.on_server(&at), ["a", "b", "new"], "{inner}");
        assert_eq!(mounted.looked_at(&at).await, ["a", "b", "new"], "{inner}");
        mounted.is_at_peace().await;
    }
}

#[tokio::test]
async fn a_folder_goes_into_one_that_was_made_without_the_server() {
    let mounted = apart().await;
    mounted.mkdir("made").await.unwrap();
    mounted.mv("known/dir", "made/moved").await;
    mounted.mv("made", "other/made").await;
    assert_eq!(mounted.names("known").await, ["a", "b"]);
    assert_eq!(mounted.names("other/made/moved").await, ["inner"]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["a", "b"]);
    assert_eq!(mounted.on_server("other/made/moved"), ["inner"]);
    assert_eq!(mounted.looked_at("other/made/moved").await, ["inner"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_comes_to_the_old_name_of_a_folder_is_not_in_that() {
    let mut mounted = apart().await;
    let owed = mounted.write("known/owed", b"owed").await;
    mounted.mv("known", "moved").await;
    mounted.mkdir("known").await.unwrap();
    let new = mounted.write("known/a", b"new").await;
    assert_eq!(mounted.shown(&owed), "cloudreve://my/moved/owed");
    assert_eq!(mounted.shown(&new), "cloudreve://my/known/a");
    mounted.mv("known", "other/known").await;
    assert_eq!(mounted.shown(&owed), "cloudreve://my/moved/owed");
    assert_eq!(mounted.shown(&new), "cloudreve://my/other/known/a");
    mounted.mv("other/known", "known").await;
    mounted.reunite().await;
    mounted.deliver(&owed).await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server(""), ["known", "moved", "other"]);
    assert_eq!(mounted.on_server("known"), ["a"]);
    assert_eq!(mounted.on_server("moved"), ["a", "b", "dir", "owed"]);
    assert_eq!(mounted.said("known/a").unwrap(), "new");
    assert_eq!(mounted.said("moved/a").unwrap(), "content of a");
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_was_removed_in_a_folder_goes_though_one_of_its_old_name_is_renamed() {
    let mut mounted = apart().await;
    mounted.unlink("known/a").await.unwrap();
    mounted.mv("known", "moved").await;
    mounted.mkdir("known").await.unwrap();
    mounted.mv("moved/b", "known/b").await;
    mounted.mv("known", "other/known").await;
    let new = mounted.write("moved/a", b"new").await;
    mounted.meet().await;
    // It waits for what had its name.
    mounted.owing.uploader.deliver(&new).await.unwrap_err();
    assert_eq!(mounted.looked_at("other/known").await, ["b"]);
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("moved"), ["a", "dir"]);
    assert_eq!(mounted.said("moved/a").unwrap(), "new");
    assert_eq!(mounted.on_server("other/known"), ["b"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_is_removed_where_it_is_though_the_server_hears_of_one_above_meanwhile() {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.unlink("moved/dir/inner").await.unwrap();
    mounted.mkdir("known").await.unwrap();
    mounted.mkdir("known/dir").await.unwrap();
    mounted.meet().await;
    let began = std::time::Instant::now();
    while let Err(error) = mounted.rmdir("moved/dir").await {
        assert!(
            matches!(error, Error::Gone | Error::TimedOut(_)),
            "{error:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(4), "{error:?}");
    }
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("moved"), ["a", "b"]);
    assert_eq!(mounted.on_server("known"), ["dir"]);
    assert_eq!(mounted.looked_at("moved").await, ["a", "b"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_an_upload_left_of_a_file_in_a_folder_is_nothing_of_another_one_at_the_same_path() {
    let mut mounted = apart().await;
    mounted.meet().await;
    let old = mounted.write("known/new", b"old").await;
    let lost = Fault::on(Route::UploadChunk).truncate_after(0);
    mounted.server.fail(lost.times(1));
    mounted.server.fail(Fault::on(Route::Info).code(403, "no"));
    mounted.owing.uploader.deliver(&old).await.unwrap_err();
    mounted.cut_off();
    mounted.server.clear_faults();
    mounted.unlink("known/new").await.unwrap();
    mounted.mv("known", "moved").await;
    mounted.mkdir("known").await.unwrap();
    let new = mounted.write("known/new", b"newer").await;
    mounted.reunite().await;
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    mounted.fs.settle().await;
    assert_eq!(mounted.said("known/new").unwrap(), "newer");
    assert_ne!(mounted.said("moved/new").as_deref(), Some("newer"));
    assert_eq!(mounted.looked_at("moved").await, ["a", "b", "dir"]);
}

#[tokio::test]
async fn what_is_in_a_renamed_folder_is_there_though_one_above_was_moved_unheard() {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.mv("moved/dir", "moved/inner").await;
    mounted.meet_unheard(1).await;
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    assert_eq!(mounted.unheard(), 2);
    assert_eq!(mounted.looked_at("moved/inner").await, ["inner"]);
    mounted.mkdir("moved/inner/made").await.unwrap();
    mounted.unlink("moved/inner/inner").await.unwrap();
    assert_eq!(mounted.looked_at("moved/inner").await, ["made"]);
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    assert_eq!(mounted.on_server("moved"), ["a", "b", "inner"]);
    assert_eq!(mounted.on_server("moved/inner"), ["made"]);
    mounted.is_at_peace().await;
}
