//! Folders that the server has, renamed while it cannot be reached: all that is below them goes along.

use std::path::PathBuf;

use super::*;

#[tokio::test]
async fn a_folder_renamed_without_the_server_shows_with_all_in_it_and_goes_there() {
    let mut mounted = apart().await;
    let paths = ["moved", "moved/a", "moved/dir", "moved/dir/inner"];
    let before = paths.map(|path| path.replace("moved", "known"));
    let mut numbers = Vec::new();
    for path in &before {
        numbers.push(mounted.ino(path).await);
    }
    mounted.mv("known", "moved").await;
    let new = mounted.write("moved/dir/new", b"new").await;
    mounted.mkdir("moved/made").await.unwrap();
    let inner = mounted.write("moved/made/inner", b"inner").await;
    assert_eq!(mounted.find("known").await, None);
    assert_eq!(mounted.names("").await, ["moved", "other"]);
    let all = ["a", "b", "dir", "made"];
    assert_eq!(mounted.names("moved").await, all);
    assert_eq!(mounted.names("moved/dir").await, ["inner", "new"]);
    assert_eq!(mounted.shown(&new), "cloudreve://my/moved/dir/new");
    assert_eq!(mounted.shown(&inner), "cloudreve://my/moved/made/inner");
    mounted.reunite().await;
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    mounted.deliver(&new).await;
    mounted.deliver(&inner).await;
    for (path, number) in paths.into_iter().zip(numbers) {
        assert_eq!(mounted.ino(path).await, number, "{path}");
    }
    assert_eq!(mounted.looked_at("moved").await, all);
    assert_eq!(mounted.on_server("moved"), all);
    assert_eq!(mounted.said("moved/dir/new").unwrap(), "new");
    assert_eq!(mounted.said("moved/made/inner").unwrap(), "inner");
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_renamed_without_the_server_survives_the_end_of_the_process() {
    let mounted = apart().await;
    mounted.mv("known", "other/moved").await;
    mounted.write("other/moved/dir/new", b"new").await;
    mounted.mv("other/moved/a", "other/moved/c").await;
    mounted.unlink("other/moved/b").await.unwrap();
    mounted.server.restart().unwrap();
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("").await, ["other"]);
    assert_eq!(mounted.names("other/moved").await, ["c", "dir"]);
    assert_eq!(mounted.names("other/moved/dir").await, ["inner", "new"]);
    mounted.fs.settle().await;
    let new = mounted
        .fs
        .local_of(mounted.ino("other/moved/dir/new").await);
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server(""), ["other"]);
    assert_eq!(mounted.on_server("other/moved"), ["c", "dir"]);
    assert_eq!(mounted.on_server("other/moved/dir"), ["inner", "new"]);
    assert_eq!(mounted.said("other/moved/c").unwrap(), "content of a");
    assert_eq!(mounted.looked_at("other/moved").await, ["c", "dir"]);
    mounted.is_at_peace().await;
}

/// `known` was renamed to `moved`, which the server did, and nobody heard of.
async fn folder_renamed_unheard() -> Mounted {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.meet_unheard(1).await;
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    assert_eq!(mounted.unheard(), 1);
    mounted
}

#[tokio::test]
async fn what_lies_in_a_folder_that_the_server_moved_unheard_is_there_all_the_while() {
    let mounted = folder_renamed_unheard().await;
    assert_eq!(mounted.looked_at("moved").await, ["a", "b", "dir"]);
    assert_eq!(mounted.looked_at("moved/dir").await, ["inner"]);
    assert_eq!(mounted.looked_at("").await, ["moved", "other"]);
    assert!(mounted.find("moved/dir/inner").await.is_some());
    assert_eq!(mounted.find("moved/dir/absent").await, None);
    assert_eq!(mounted.unheard(), 1);
    mounted.fs.settle().await;
    assert_eq!(mounted.looked_at("moved").await, ["a", "b", "dir"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_is_changed_in_a_folder_that_the_server_moved_unheard_is_changed_there() {
    let mounted = folder_renamed_unheard().await;
    mounted.unlink("moved/a").await.unwrap();
    mounted.mv("moved/b", "moved/c").await;
    mounted.mv("moved/dir/inner", "other/inner").await;
    mounted.rmdir("moved/dir").await.unwrap();
    mounted.mkdir("moved/made").await.unwrap();
    assert_eq!(mounted.names("moved").await, ["c", "made"]);
    for _ in 0..2 {
        mounted.fs.settle().await;
    }
    assert_eq!(mounted.on_server("moved"), ["c", "made"]);
    assert_eq!(mounted.on_server("other"), ["inner"]);
    assert_eq!(mounted.said("moved/c").unwrap(), "content of b");
    assert_eq!(mounted.looked_at("moved").await, ["c", "made"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_that_the_server_moved_unheard_goes_on_from_there() {
    let mounted = folder_renamed_unheard().await;
    mounted.cut_off();
    mounted.mv("moved", "other/last").await;
    mounted.mkdir("moved").await.unwrap();
    assert_eq!(mounted.names("other/last").await, ["a", "b", "dir"]);
    assert_eq!(mounted.names("moved").await, [""; 0]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server(""), ["moved", "other"]);
    assert_eq!(mounted.on_server("other/last"), ["a", "b", "dir"]);
    assert!(mounted.on_server("moved").is_empty());
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_that_comes_home_without_the_server_was_never_gone() {
    let mounted = apart().await;
    mounted.mv("known", "other/moved").await;
    mounted.mv("other/moved", "known").await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_tree_that_was_renamed_and_removed_without_the_server_is_gone_there() {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    for file in ["a", "b", "dir/inner"] {
        mounted.unlink(&format!("moved/{file}")).await.unwrap();
    }
    mounted.rmdir("moved/dir").await.unwrap();
    mounted.rmdir("moved").await.unwrap();
    assert_eq!(mounted.names("").await, ["other"]);
    assert_eq!(mounted.find("known").await, None);
    mounted.reunite().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["other"]);
    assert_eq!(mounted.looked_at("").await, ["other"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_whose_new_name_somebody_took_meanwhile_goes_beside_that_with_all_in_it() {
    let mut mounted = apart().await;
    mounted.mv("known", "moved").await;
    let new = mounted.write("moved/new", b"new").await;
    mounted.server.put("moved/theirs", "theirs");
    mounted.reunite().await;
    let beside = mounted.beside("", "moved").await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("moved"), ["theirs"]);
    assert_eq!(mounted.on_server(&beside), ["a", "b", "dir", "new"]);
    assert_eq!(mounted.looked_at(&beside).await, ["a", "b", "dir", "new"]);
}

#[tokio::test]
async fn a_folder_that_somebody_else_moved_meanwhile_is_where_they_put_it_with_all_that_is_owed() {
    let mut mounted = apart().await;
    mounted.mv("known", "moved").await;
    let new = mounted.write("moved/dir/new", b"new").await;
    mounted.server.move_into("known", "other");
    mounted.reunite().await;
    assert_eq!(mounted.fs.astray().0, 1);
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server(""), ["other"]);
    assert_eq!(mounted.on_server("other/known/dir"), ["inner", "new"]);
    assert_eq!(mounted.looked_at("").await, ["other"]);
    assert_eq!(mounted.looked_at("other/known/dir").await, ["inner", "new"]);
    assert_eq!(mounted.shown(&new), "cloudreve://my/other/known/dir/new");
}

#[tokio::test]
async fn what_is_removed_in_a_renamed_folder_keeps_new_files_from_its_name_there() {
    let mut mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.unlink("moved/a").await.unwrap();
    let new = mounted.write("moved/a", b"new").await;
    mounted.reunite().await;
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("moved"), ["a", "b", "dir"]);
    assert_eq!(mounted.said("moved/a").unwrap(), "new");
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_is_in_a_folder_whose_new_name_the_server_refuses_is_changed_there_all_the_same() {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.meet().await;
    mounted
        .server
        .fail(Fault::on(Route::Rename).code(403, "no"));
    mounted.fs.be_heard(true).await;
    assert_eq!(mounted.unheard(), 1);
    assert_eq!(mounted.looked_at("moved").await, ["a", "b", "dir"]);
    mounted.unlink("moved/a").await.unwrap();
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    mounted.server.clear_faults();
    mounted.fs.be_heard(true).await;
    assert_eq!(mounted.on_server("moved"), ["b", "dir"]);
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn a_folder_that_somebody_else_deleted_meanwhile_is_gone_and_what_is_owed_in_it_is_kept() {
    let mut mounted = apart().await;
    mounted.mv("known", "other/moved").await;
    let new = mounted.write("other/moved/dir/new", b"new").await;
    mounted.server.remove("known");
    mounted.reunite().await;
    assert_eq!(mounted.fs.astray().0, 1);
    mounted.deliver(&new).await;
    // In the nearest folder that is there, above where it showed.
    assert_eq!(mounted.on_server("other"), ["new"]);
    assert_eq!(mounted.said("other/new").unwrap(), "new");
    assert_eq!(mounted.looked_at("other").await, ["new"]);
}

#[tokio::test]
async fn what_others_change_in_a_renamed_folder_is_told_of_what_is_in_it() {
    let mounted = apart().await;
    mounted.mv("known", "moved").await;
    mounted.mv("moved/dir", "dir").await;
    let told = |path: &str| {
        let uri = FileUri::parse_wire(&format!("cloudreve://my/{path}")).unwrap();
        let (folder, name) = mounted.fs.namespace.place_of(&uri).unwrap();
        (folder.id, name.into_string().unwrap())
    };
    let id = |path: &str| FileId(mounted.server.file_id(path).as_str().into());
    assert_eq!(told("known/new"), (id("known"), "new".to_owned()));
    assert_eq!(told("known/dir/new"), (id("known/dir"), "new".to_owned()));
    assert_eq!(told("other/new"), (id("other"), "new".to_owned()));
    // The server may have done so by now.
    assert_eq!(told("moved/new"), (id("known"), "new".to_owned()));
    assert_eq!(told("dir/new"), (id("known/dir"), "new".to_owned()));
}

#[tokio::test]
async fn what_was_removed_in_a_folder_that_the_server_moved_unheard_keeps_its_name_from_new_files()
{
    let mut mounted = folder_renamed_unheard().await;
    mounted.unlink("moved/a").await.unwrap();
    let new = mounted.write("moved/a", b"new").await;
    mounted.owing.uploader.deliver(&new).await.unwrap_err();
    mounted.fs.settle().await;
    mounted.deliver(&new).await;
    assert_eq!(mounted.on_server("moved"), ["a", "b", "dir"]);
    assert_eq!(mounted.said("moved/a").unwrap(), "new");
    mounted.is_at_peace().await;
}

#[tokio::test]
async fn what_is_to_be_kept_of_a_renamed_folder_is_all_that_shows_in_it() {
    let mounted = apart().await;
    mounted.mv("known", "other/moved").await;
    mounted.mv("other/moved/a", "other/moved/c").await;
    mounted.mkdir("other/moved/made").await.unwrap();
    mounted.mv("other/moved/b", "other/moved/made/b").await;
    let below = mounted.fs.files_below("other".as_ref()).await.unwrap();
    let mut paths: Vec<_> = below.files.iter().map(|file| file.path.clone()).collect();
    paths.sort();
    let all = ["c", "dir/inner", "made/b"];
    assert_eq!(
        paths,
        all.map(|path| PathBuf::from("other/moved").join(path))
    );
    mounted.meet().await;
    let place = async |path: &str| {
        let id = FileId(mounted.server.file_id(path).as_str().into());
        mounted.fs.place_of(&id).await.unwrap().unwrap()
    };
    assert_eq!(place("known").await, PathBuf::from("other/moved"));
    assert_eq!(place("known/a").await, PathBuf::from("other/moved/c"));
    assert_eq!(place("known/b").await, PathBuf::from("other/moved/made/b"));
    assert_eq!(
        place("known/dir/inner").await,
        PathBuf::from("other/moved/dir/inner")
    );
    mounted.fs.settle().await;
    assert_eq!(place("other/moved/c").await, PathBuf::from("other/moved/c"));
}
