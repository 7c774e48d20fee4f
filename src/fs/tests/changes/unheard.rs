//! Folders that are made while the server cannot be reached, and what it hears of them when it can.

use std::pin::pin;

use super::*;
use crate::fs::changes::Found;

mod folders;
mod tangled;
mod tried;

impl Mounted {
    /// The server cannot be reached any more, as is known.
    fn cut_off(&self) {
        self.server.stop();
        self.api.reach().set(false);
    }

    /// It can be, and has not heard of anything yet.
    async fn meet(&self) {
        self.server.restart().unwrap();
        self.is_back().await;
    }

    /// It can be, and has heard all that it can hear.
    async fn reunite(&self) {
        self.meet().await;
        self.fs.settle().await;
    }

    /// What is written over the file at `path` is delivered, and the server is gone before anybody here hears of that.
    async fn delivered_unheard(&self, path: &str, content: &[u8]) -> Arc<Local> {
        let local = self.overwrite(path, content).await;
        self.owing.uploader.deliver(&local).await.unwrap();
        self.cut_off();
        local
    }

    /// What shows in `folder` once the server was asked again.
    async fn looked_at(&self, folder: &str) -> Vec<String> {
        let metadata = &self.fs.namespace.metadata;
        metadata.others_changed_anything(std::time::Instant::now());
        self.names(folder).await
    }

    /// Where what is owed of `local` shows.
    fn shown(&self, local: &Local) -> String {
        self.fs.shown_at(&local.place()).to_wire()
    }

    /// Nothing is owed, nothing waits, and nobody was faster.
    async fn is_at_peace(&self) {
        self.fs.be_heard(true).await;
        assert_eq!((self.unheard(), self.fs.astray().0), (0, 0));
        assert!(self.owing.staging.unfinished().is_empty());
    }

    /// It can be, and has given what it heard of first its new name, of which nobody heard: neither the answer got through nor the
    /// look after it, but so many `looks` before.
    async fn meet_unheard(&self, looks: u64) {
        self.meet().await;
        let lost = Fault::on(Route::Rename).truncate_after(0);
        self.server.fail(lost.times(1));
        let unseen = Fault::on(Route::Info).code(403, "no");
        self.server.fail(unseen.after(looks));
        self.fs.be_heard(true).await;
        self.server.clear_faults();
    }

    /// How many changes the server has not heard of.
    fn unheard(&self) -> usize {
        self.fs.namespace.unheard.pending().len()
    }
}

#[tokio::test]
async fn a_folder_made_without_the_server_is_there_with_all_in_it_and_keeps_its_number() {
    let mut mounted = Mounted::new(|server| {
        server.mkdir("known");
    })
    .await;
    mounted.names("").await;
    mounted.names("known").await;
    mounted.cut_off();
    mounted.mkdir("known/made").await.unwrap();
    mounted.mkdir("known/made/inner").await.unwrap();
    let local = mounted.write("known/made/inner/file", b"content").await;
    assert!(matches!(
        mounted.mkdir("known/made").await,
        Err(Error::Exists)
    ));
    assert_eq!(mounted.names("known").await, ["made"]);
    assert_eq!(mounted.names("known/made").await, ["inner"]);
    assert_eq!(mounted.names("known/made/inner").await, ["file"]);
    assert_eq!(mounted.find("known/made/absent").await, None);
    assert!(matches!(
        mounted.rmdir("known/made").await,
        Err(Error::NotEmpty)
    ));
    let paths = ["known/made", "known/made/inner", "known/made/inner/file"];
    let mut numbers = Vec::new();
    for path in paths {
        numbers.push(mounted.ino(path).await);
    }
    assert_eq!(mounted.unheard(), 2);
    mounted.reunite().await;
    assert_eq!(mounted.unheard(), 0);
    mounted.deliver(&local).await;
    assert_eq!(
        mounted.server.content("known/made/inner/file").unwrap(),
        b"content"
    );
    for (path, number) in paths.into_iter().zip(numbers) {
        assert_eq!(mounted.ino(path).await, number, "{path}");
    }
    assert_eq!(mounted.names("known/made/inner").await, ["file"]);
    mounted.mkdir("known/made/inner/later").await.unwrap();
    assert_eq!(
        mounted.on_server("known/made/inner"),
        ["file", "later"].map(str::to_owned)
    );
}

#[tokio::test]
async fn a_folder_made_and_removed_without_the_server_is_none() {
    let mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.cut_off();
    mounted.mkdir("made").await.unwrap();
    mounted.rmdir("made").await.unwrap();
    assert_eq!(mounted.find("made").await, None);
    assert_eq!(mounted.unheard(), 0);
    mounted.reunite().await;
    assert_eq!(mounted.on_server(""), [""; 0]);
    assert!(mounted.owing.staging.unfinished().is_empty());
}

/// `made` was made by the server, and nobody heard of it.
async fn made_unheard() -> Mounted {
    let mounted = Mounted::new(|server| {
        server.mkdir("known");
    })
    .await;
    mounted.names("").await;
    mounted.names("known").await;
    mounted
        .server
        .fail(Fault::on(Route::Create).truncate_after(0));
    mounted
        .server
        .fail(Fault::on(Route::Info).reset_before_headers().after(1));
    mounted.mkdir("made").await.unwrap();
    assert_eq!(mounted.on_server(""), ["known", "made"]);
    mounted
}

#[tokio::test]
async fn a_folder_that_the_server_made_unheard_is_renamed_there() {
    let mounted = made_unheard().await;
    let refused = mounted
        .rename("made", "known/last", RenameHow::Replace)
        .await;
    assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
    mounted.server.clear_faults();
    mounted.is_back().await;
    mounted.mv("made", "known/last").await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["known"]);
    assert_eq!(mounted.on_server("known"), ["last"]);
}

#[tokio::test]
async fn a_folder_that_the_server_made_unheard_is_removed_there() {
    let mounted = made_unheard().await;
    let refused = mounted.rmdir("made").await;
    assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
    mounted.server.clear_faults();
    mounted.is_back().await;
    mounted.rmdir("made").await.unwrap();
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["known"]);
}

#[tokio::test]
async fn a_folder_that_somebody_made_meanwhile_is_the_one_that_was_made_here() {
    let mut mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.cut_off();
    mounted.mkdir("made").await.unwrap();
    let local = mounted.write("made/ours", b"ours").await;
    mounted.server.put("made/theirs", b"theirs".to_vec());
    mounted.reunite().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.names("made").await, ["ours", "theirs"]);
    assert_eq!(
        mounted.on_server("made"),
        ["ours", "theirs"].map(str::to_owned)
    );
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn a_folder_whose_name_somebody_gave_to_a_file_meanwhile_goes_beside_that_with_all_in_it() {
    let mut mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.cut_off();
    mounted.mkdir("made").await.unwrap();
    let local = mounted.write("made/ours", b"ours").await;
    mounted.server.put("made", b"theirs".to_vec());
    mounted.reunite().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.server.content("made").unwrap(), b"theirs");
    let names = mounted.names("").await;
    let beside = names.iter().find(|name| name.starts_with("made (conflict"));
    let ours = format!("{}/ours", beside.expect("beside it"));
    assert_eq!(mounted.server.content(&ours).unwrap(), b"ours");
    let (count, told) = mounted.fs.astray();
    assert_eq!(count, 1);
    assert!(told[0].words.contains("kept beside it"), "{told:?}");
    let name = told[0].uri.name().unwrap().to_string();
    assert!(name.starts_with("made (conflict"), "{told:?}");
}

#[tokio::test]
async fn what_was_told_of_a_folder_made_without_the_server_goes_with_it() {
    let mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.cut_off();
    let made = mounted.mkdir("made").await.unwrap();
    let ino = made.attr.ino;
    mounted
        .fs
        .set_xattr(ino, OsStr::new("user.color"), b"red", 0)
        .await
        .unwrap();
    mounted.reunite().await;
    let told = mounted.server.metadata("made", crate::attributes::KEY);
    assert!(told.unwrap().contains("user.color"));
    let shown = mounted.fs.xattr(ino, OsStr::new("user.color")).await;
    assert_eq!(shown.unwrap(), b"red");
}

#[tokio::test]
async fn a_folder_made_without_the_server_survives_the_end_of_the_process() {
    let mounted = Mounted::new(|_| {}).await;
    mounted.names("").await;
    mounted.cut_off();
    mounted.mkdir("made").await.unwrap();
    mounted.mkdir("made/inner").await.unwrap();
    mounted.write("made/inner/file", b"content").await;
    mounted.server.restart().unwrap();
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("made/inner").await, ["file"]);
    let locals = mounted.owing.staging.owed();
    mounted.fs.settle().await;
    mounted.deliver(&locals[0]).await;
    assert_eq!(
        mounted.server.content("made/inner/file").unwrap(),
        b"content"
    );
    assert_eq!(mounted.names("made/inner").await, ["file"]);
    // Once more nothing is left to do.
    mounted.fs.settle().await;
    assert!(mounted.owing.staging.unfinished().is_empty());
}

/// A drive of the folder `known` with the files `a` and `b`, the folder `known/dir` with the file `inner`, and the empty folder
/// `other`, all of which is known.
async fn known() -> Mounted {
    let mounted = Mounted::new(|server| {
        for name in ["a", "b", "dir/inner"] {
            server.put(&format!("known/{name}"), format!("content of {name}"));
        }
        server.mkdir("other");
    })
    .await;
    for folder in ["", "known", "known/dir", "other"] {
        mounted.names(folder).await;
    }
    mounted
}

/// The same, which cannot be reached.
async fn apart() -> Mounted {
    let mounted = known().await;
    mounted.cut_off();
    mounted
}

impl Mounted {
    /// What the server has at `path`.
    fn said(&self, path: &str) -> Option<String> {
        let content = self.server.content(path)?;
        Some(String::from_utf8(content).unwrap())
    }

    /// The only name beside `name` in `folder` that tells of a conflict.
    async fn beside(&self, folder: &str, name: &str) -> String {
        let mut names = self.names(folder).await;
        names.retain(|other| other.starts_with(&format!("{name} (conflict")));
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(self.fs.astray().0, 1);
        names.remove(0)
    }
}

#[tokio::test]
async fn a_file_renamed_twice_without_the_server_goes_there_in_one_way_and_is_the_same_file() {
    let mounted = apart().await;
    let (id, ino) = (
        mounted.server.file_id("known/a"),
        mounted.ino("known/a").await,
    );
    mounted.mv("known/a", "known/c").await;
    mounted.mv("known/c", "other/d").await;
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
    assert_eq!(mounted.names("other").await, ["d"]);
    assert_eq!(mounted.ino("other/d").await, ino);
    assert_eq!(mounted.find("known/a").await, None);
    assert_eq!(mounted.unheard(), 1);
    mounted.reunite().await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.server.file_id("other/d"), id);
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.names("other").await, ["d"]);
    assert_eq!(mounted.ino("other/d").await, ino);
    assert!(mounted.owing.staging.unfinished().is_empty());
}

#[tokio::test]
async fn a_file_that_comes_home_without_the_server_was_never_gone() {
    let mounted = apart().await;
    mounted.mv("known/a", "other/d").await;
    mounted.mv("other/d", "known/a").await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    assert_eq!(mounted.names("other").await, [""; 0]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
    assert!(mounted.owing.staging.unfinished().is_empty());
}

#[tokio::test]
async fn a_file_renamed_and_then_deleted_without_the_server_is_deleted_there() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/c").await;
    mounted.unlink("known/c").await.unwrap();
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
    assert_eq!(mounted.unheard(), 0);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
}

#[tokio::test]
async fn a_file_that_replaces_another_one_without_the_server_does_so_there() {
    let mounted = apart().await;
    let id = mounted.server.file_id("known/a");
    mounted.mv("known/a", "known/b").await;
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.said("known/b").unwrap(), "content of a");
    assert_eq!(mounted.server.file_id("known/b"), id);
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn what_somebody_else_wrote_to_a_file_that_was_replaced_here_stays_and_ours_goes_beside_it() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/b").await;
    mounted.server.put("known/b", b"theirs".to_vec());
    mounted.reunite().await;
    assert_eq!(mounted.said("known/b").unwrap(), "theirs");
    let beside = mounted.beside("known", "b").await;
    let ours = mounted.said(&format!("known/{beside}"));
    assert_eq!(ours.unwrap(), "content of a");
    assert_eq!(mounted.names("known").await.len(), 3);
}

#[tokio::test]
async fn what_an_upload_left_unheard_of_a_file_that_was_replaced_is_not_somebody_elses() {
    let mounted = Mounted::new(|server| drop(server.put("known/a", "content of a"))).await;
    mounted.names("known").await;
    let local = mounted.write("known/new", b"new").await;
    mounted.lands_unheard("known/new", &local, b"new").await;
    mounted.api.reach().set(false);
    mounted.mv("known/a", "known/new").await;
    drop(local);
    mounted.server.clear_faults();
    // It is still there when the server hears of the name.
    let refused = Fault::on(Route::Delete).status(503).times(1);
    mounted.server.fail(refused);
    mounted.is_back().await;
    let heard = async {
        while mounted.unheard() > 0 {
            mounted.fs.settle().await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), heard);
    heard.await.expect("the server hears of it");
    assert_eq!(mounted.on_server("known"), ["new"]);
    assert_eq!(mounted.said("known/new").unwrap(), "content of a");
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn names_that_go_round_without_the_server_go_round_there() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/between").await;
    mounted.mv("known/b", "known/a").await;
    mounted.mv("known/between", "known/b").await;
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
    assert_eq!(mounted.said("known/a").unwrap(), "content of b");
    assert_eq!(mounted.said("known/b").unwrap(), "content of a");
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn an_editor_that_sets_the_old_file_aside_saves_without_the_server() {
    let mut mounted = apart().await;
    mounted.mv("known/a", "known/a~").await;
    let local = mounted.write("known/a", b"new").await;
    mounted.unlink("known/a~").await.unwrap();
    assert_eq!(mounted.names("known").await, ["a", "b", "dir"]);
    mounted.reunite().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.said("known/a").unwrap(), "new");
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
}

#[tokio::test]
async fn a_file_set_aside_without_the_server_is_there_beside_what_was_made_of_its_name() {
    let mut mounted = apart().await;
    let id = mounted.server.file_id("known/a");
    mounted.mv("known/a", "known/a~").await;
    let local = mounted.write("known/a", b"new").await;
    mounted.reunite().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.said("known/a").unwrap(), "new");
    assert_eq!(mounted.server.file_id("known/a~"), id);
    assert_eq!(mounted.names("known").await, ["a", "a~", "b", "dir"]);
}

#[tokio::test]
async fn what_was_written_to_a_file_goes_where_that_was_renamed_without_the_server() {
    let mut mounted = apart().await;
    let id = mounted.server.file_id("known/a");
    let before = mounted.overwrite("known/a", b"written before").await;
    mounted.mv("known/a", "other/d").await;
    mounted.mv("known/b", "known/c").await;
    let after = mounted.overwrite("known/c", b"written after").await;
    assert_eq!(mounted.names("known").await, ["c", "dir"]);
    mounted.reunite().await;
    for local in [before, after] {
        mounted.deliver(&local).await;
    }
    assert_eq!(mounted.said("other/d").unwrap(), "written before");
    assert_eq!(mounted.server.file_id("other/d"), id);
    assert_eq!(mounted.said("known/c").unwrap(), "written after");
    assert_eq!(mounted.on_server("known"), ["c", "dir"]);
    assert_eq!(mounted.names("known").await, ["c", "dir"]);
    assert_eq!(mounted.names("other").await, ["d"]);
}

#[tokio::test]
async fn a_folder_that_was_emptied_without_the_server_goes_once_that_is_there() {
    let mounted = apart().await;
    mounted.mv("known/dir/inner", "other/inner").await;
    for name in ["a", "b"] {
        mounted.unlink(&format!("known/{name}")).await.unwrap();
    }
    mounted.meet().await;
    mounted.rmdir("known/dir").await.unwrap();
    mounted.rmdir("known").await.unwrap();
    assert_eq!(mounted.on_server(""), ["other"]);
    assert_eq!(mounted.on_server("other"), ["inner"]);
}

/// All of `known` is removed, with that, while the server cannot be reached.
async fn removed() -> Mounted {
    let mounted = apart().await;
    let full = mounted.rmdir("known").await;
    assert!(matches!(full, Err(Error::NotEmpty)), "{full:?}");
    mounted.mv("known/dir/inner", "other/inner").await;
    for name in ["a", "b"] {
        mounted.unlink(&format!("known/{name}")).await.unwrap();
    }
    mounted.rmdir("known/dir").await.unwrap();
    mounted.rmdir("known").await.unwrap();
    assert_eq!(mounted.names("").await, ["other"]);
    mounted
}

#[tokio::test]
async fn a_tree_that_was_removed_without_the_server_is_gone_there() {
    let mounted = removed().await;
    mounted.mkdir("known").await.unwrap();
    mounted.reunite().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["known", "other"]);
    assert!(mounted.on_server("known").is_empty());
    assert_eq!(mounted.on_server("other"), ["inner"]);
    assert_eq!(mounted.names("").await, ["known", "other"]);
}

#[tokio::test]
async fn a_tree_that_was_removed_without_the_server_is_gone_there_after_the_end_of_the_process() {
    let mounted = removed().await;
    mounted.server.restart().unwrap();
    let mounted = mounted.again().await;
    mounted.fs.settle().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server(""), ["other"]);
    assert_eq!(mounted.names("").await, ["other"]);
}

#[tokio::test]
async fn a_file_does_not_get_the_name_of_its_folder_before_the_server_has_removed_that() {
    let mounted = apart().await;
    mounted.mv("known/dir/inner", "known/inner").await;
    mounted.rmdir("known/dir").await.unwrap();
    let refused = mounted
        .rename("known/inner", "known/dir", RenameHow::Replace)
        .await;
    assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
    mounted.reunite().await;
    mounted.fs.settle().await;
    mounted.mv("known/inner", "known/dir").await;
    assert_eq!(mounted.on_server("known"), ["a", "b", "dir"]);
    assert_eq!(mounted.said("known/dir").unwrap(), "content of dir/inner");
}

#[tokio::test]
async fn a_folder_in_which_somebody_put_something_while_it_was_removed_here_stays_with_that() {
    let mounted = removed().await;
    mounted.server.put("known/dir/theirs", "theirs");
    mounted.reunite().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("known"), ["dir"]);
    assert_eq!(mounted.said("known/dir/theirs").unwrap(), "theirs");
    assert_eq!(mounted.names("known").await, ["dir"]);
    assert_eq!(mounted.names("known/dir").await, ["theirs"]);
}

#[tokio::test]
async fn a_folder_of_which_nobody_knows_what_is_in_it_is_not_removed_without_the_server() {
    let mounted = Mounted::new(|server| {
        server.put("known/a", "a");
    })
    .await;
    mounted.names("").await;
    mounted.cut_off();
    let refused = mounted.rmdir("known").await;
    assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
}

#[tokio::test]
async fn a_folder_made_and_renamed_without_the_server_is_there_under_its_last_name() {
    let mut mounted = apart().await;
    mounted.mkdir("made").await.unwrap();
    let local = mounted.write("made/new", b"new").await;
    mounted.mv("known/a", "made/a").await;
    mounted.mv("made", "known/last").await;
    assert_eq!(mounted.names("known/last").await, ["a", "new"]);
    mounted.reunite().await;
    mounted.deliver(&local).await;
    assert_eq!(mounted.on_server(""), ["known", "other"]);
    assert_eq!(mounted.on_server("known/last"), ["a", "new"]);
    assert_eq!(mounted.names("known/last").await, ["a", "new"]);
}

#[tokio::test]
async fn a_name_that_somebody_else_gave_meanwhile_stays_theirs_and_ours_goes_beside_it() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/c").await;
    mounted.server.put("known/c", b"theirs".to_vec());
    mounted.reunite().await;
    assert_eq!(mounted.said("known/c").unwrap(), "theirs");
    let beside = mounted.beside("known", "c").await;
    let ours = mounted.said(&format!("known/{beside}"));
    assert_eq!(ours.unwrap(), "content of a");
}

#[tokio::test]
async fn what_somebody_else_wrote_to_a_renamed_file_meanwhile_is_in_it_under_its_new_name() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/c").await;
    mounted.server.put("known/a", b"theirs and longer".to_vec());
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "c", "dir"]);
    assert_eq!(mounted.said("known/c").unwrap(), "theirs and longer");
    let shown = mounted.find("known/c").await.unwrap();
    assert_eq!(shown.size_bytes, 17);
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn a_file_that_somebody_else_moved_or_deleted_meanwhile_is_where_they_put_it_and_that_is_told()
 {
    let mounted = apart().await;
    mounted.mv("known/a", "known/c").await;
    mounted.mv("known/b", "known/d").await;
    mounted.server.rename("known/a", "theirs");
    mounted.server.trash("known/b");
    mounted.reunite().await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.on_server("known"), ["dir", "theirs"]);
    assert_eq!(mounted.names("known").await, ["dir", "theirs"]);
    let (count, told) = mounted.fs.astray();
    assert_eq!(count, 2);
    assert!(told[0].words.contains("another place"), "{told:?}");
    assert!(told[1].words.contains("deleted it"), "{told:?}");
}

#[tokio::test]
async fn names_given_without_the_server_survive_the_end_of_the_process() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/dir/a").await;
    mounted.mv("known/b", "known/a").await;
    mounted.mkdir("made").await.unwrap();
    mounted.mv("known/a", "made/last").await;
    mounted.server.restart().unwrap();
    let mounted = mounted.again().await;
    assert_eq!(mounted.unheard(), 3);
    assert_eq!(mounted.names("known/dir").await, ["a", "inner"]);
    assert_eq!(mounted.names("made").await, ["last"]);
    assert_eq!(mounted.names("known").await, ["dir"]);
    mounted.fs.settle().await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.said("known/dir/a").unwrap(), "content of a");
    assert_eq!(mounted.said("made/last").unwrap(), "content of b");
    assert_eq!(mounted.on_server("known"), ["dir"]);
    assert_eq!(mounted.names("known/dir").await, ["a", "inner"]);
}

#[tokio::test]
async fn what_waits_in_a_folder_that_the_server_made_finds_it_after_two_ends_of_the_process() {
    let mounted = apart().await;
    mounted.mkdir("made").await.unwrap();
    mounted.mv("known/a", "made/a").await;
    mounted.write("made/new", b"new").await;
    mounted.server.restart().unwrap();
    // The process ends in the moment in which it has noted that the server made the folder.
    let there = mounted.server.mkdir("made");
    let staging = &mounted.owing.staging;
    let (noted, text) = staging.unfinished().remove(0);
    let mut note: serde_json::Value = serde_json::from_str(&text).unwrap();
    note["became"] = there.into();
    staging.go_on(noted, note.to_string()).await.unwrap();
    mounted.server.fail(Fault::on(Route::Move).status(502));
    let mounted = mounted.again().await;
    mounted.fs.settle().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.owing.staging.unfinished().len(), 1);
    let mut mounted = mounted.again().await;
    assert_eq!(mounted.names("made").await, ["a", "new"]);
    mounted.server.clear_faults();
    mounted.fs.settle().await;
    assert_eq!(mounted.unheard(), 0);
    for local in mounted.owing.staging.owed() {
        // It is sent from the first moment on.
        mounted.deliver(&local).await;
    }
    assert_eq!(mounted.on_server("made"), ["a", "new"]);
    assert_eq!(mounted.on_server(""), ["known", "made", "other"]);
}

#[tokio::test]
async fn a_new_name_that_the_server_gave_is_heard_of_though_it_does_not_tell_how_that_looks() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/x").await;
    mounted.meet().await;
    // By its path; the two before, of it and of its folder, go by ids.
    let by_path = Fault::on(Route::Info).code(403, "no").after(2);
    mounted.server.fail(by_path);
    mounted.fs.be_heard(true).await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.on_server("known"), ["b", "dir", "x"]);
    assert_eq!(mounted.names("known").await, ["b", "dir", "x"]);
}

#[tokio::test]
async fn what_was_removed_without_the_server_goes_though_its_folder_was_moved_since() {
    let mounted = apart().await;
    mounted.unlink("known/a").await.unwrap();
    mounted.mv("known/b", "known/c").await;
    mounted.mv("known/dir/inner", "known/c").await;
    mounted.server.rename("known", "moved");
    mounted.reunite().await;
    mounted.fs.settle().await;
    assert_eq!(mounted.on_server("moved"), ["c", "dir"]);
    assert_eq!(mounted.said("moved/c").unwrap(), "content of dir/inner");
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn a_version_that_is_heard_of_after_its_file_was_renamed_shows_under_the_new_name() {
    let mut mounted = Mounted::new(|server| {
        server.put("known/a", "old");
        server.mkdir("other");
    })
    .await;
    for folder in ["", "known", "other"] {
        mounted.names(folder).await;
    }
    let local = mounted.overwrite("known/a", b"a longer one").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.cut_off();
    mounted.mv("known/a", "other/x").await;
    while local.state() != State::Delivered || !mounted.news.is_empty() {
        mounted.hear().await;
    }
    assert_eq!(mounted.find("other/x").await.unwrap().size_bytes, 12);
    assert_eq!(mounted.names("known").await, [""; 0]);
    assert_eq!(mounted.names("other").await, ["x"]);
    mounted.reunite().await;
    assert_eq!(mounted.said("other/x").unwrap(), "a longer one");
    assert_eq!(mounted.names("other").await, ["x"]);
    assert_eq!(mounted.on_server("known"), [""; 0]);
}

impl Mounted {
    /// What the news of a delivery onto the file at `path`, of which `before` was known, tell of it.
    fn delivered_onto(&self, path: &str, before: &Entry) -> Entry {
        self.server.put(path, "newer");
        Entry {
            entity: EntityId(self.server.entity_id(path).as_str().into()),
            ..before.clone()
        }
    }
}

#[tokio::test]
async fn what_was_delivered_onto_a_file_in_the_moment_in_which_that_is_unlinked_goes_with_it() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/x").await;
    let known = mounted.ino("known").await;
    let (end, found) = mounted.fs.end(known, "x".as_ref()).await.unwrap();
    let found = found.unwrap();
    let Found::Known(entry) = &found else {
        panic!("nothing of it is here");
    };
    let newer = mounted.delivered_onto("known/a", entry);
    mounted.fs.renamed_here(&newer).unwrap();
    assert!(mounted.fs.unlink_renamed(&end, &found).await.unwrap());
    mounted.reunite().await;
    assert_eq!(mounted.on_server("known"), ["b", "dir"]);
    assert_eq!(mounted.names("known").await, ["b", "dir"]);
}

#[tokio::test]
async fn what_was_delivered_onto_a_file_in_the_moment_in_which_that_is_renamed_is_known_of_it() {
    let mounted = apart().await;
    mounted.mv("known/a", "known/x").await;
    mounted.meet().await;
    let (known, other) = (mounted.ino("known").await, mounted.ino("other").await);
    let (_, found) = mounted.fs.end(known, "x".as_ref()).await.unwrap();
    let Some(Found::Known(entry)) = found else {
        panic!("nothing of it is here");
    };
    let space = &mounted.fs.namespace;
    let folder = space.folder_key(other).unwrap();
    space.metadata.doubt(&folder, OsStr::new("y"));
    mounted.server.fail(Fault::on(Route::Info).stall());
    let newer = {
        let renamed = mounted
            .fs
            .rename_here((known, "x".as_ref()), (other, "y".as_ref()));
        let mut renamed = pin!(renamed);
        assert!(futures_util::poll!(renamed.as_mut()).is_pending());
        let newer = mounted.delivered_onto("known/a", &entry);
        mounted.fs.renamed_here(&newer).unwrap();
        mounted.server.clear_faults();
        renamed.await.unwrap();
        newer
    };
    let (_, found) = mounted.fs.end(other, "y".as_ref()).await.unwrap();
    let Some(Found::Known(now)) = found else {
        panic!("nothing of it is here");
    };
    assert_eq!(now.entity, newer.entity);
}

#[tokio::test]
async fn what_was_delivered_in_the_moment_in_which_its_folder_was_moved_is_known_without_the_server()
 {
    let mut mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    mounted.names("").await;
    mounted.names("a").await;
    let local = mounted.write("a/new", b"new").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.mv("a", "c").await;
    mounted.cut_off();
    mounted.hear().await;
    assert_eq!(mounted.names("c").await, ["new"]);
    assert!(mounted.find("c/new").await.is_some());
}

/// `c/new` is here, and noted in `a`, which `c` was: as where it was made just before the move, and noted just after.
async fn noted_before_the_move() -> (Mounted, Arc<Local>) {
    let mounted = Mounted::new(|server| drop(server.mkdir("a"))).await;
    mounted.names("").await;
    let local = mounted.write("a/new", b"new").await;
    let before = local.place();
    mounted.mv("a", "c").await;
    local.relocate_from(|_| Some(before)).unwrap();
    (mounted, local)
}

#[tokio::test]
async fn what_was_delivered_to_a_folder_of_which_only_an_older_place_was_noted_is_known_without_the_server()
 {
    let (mut mounted, local) = noted_before_the_move().await;
    mounted.names("c").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.cut_off();
    mounted.hear().await;
    assert_eq!(mounted.names("c").await, ["new"]);
    assert!(mounted.find("c/new").await.is_some());
}

#[tokio::test]
async fn what_replaces_a_renamed_file_whose_delivery_was_just_told_under_its_old_name_meets_nobody()
{
    let mut mounted = Mounted::new(|server| {
        server.put("a", "content of a");
        server.put("b", "content of b");
    })
    .await;
    mounted.names("").await;
    mounted.delivered_unheard("a", b"newer").await;
    mounted.unlink("b").await.unwrap();
    mounted.mv("a", "b").await;
    mounted.meet().await;
    let last = mounted.write("temporary", b"last").await;
    mounted.mv("temporary", "b").await;
    mounted.hear().await;
    mounted.fs.settle().await;
    mounted.deliver(&last).await;
    assert_eq!(mounted.on_server(""), ["b"]);
    assert_eq!(mounted.said("b").unwrap(), "last");
    assert_eq!(mounted.fs.astray().0, 0);
}

#[tokio::test]
async fn what_was_delivered_while_its_folder_is_listed_shows_though_only_an_older_place_was_noted()
{
    let (mut mounted, local) = noted_before_the_move().await;
    mounted.server.fail(Fault::on(Route::List).stall());
    let folder = mounted.fs.namespace.folder(mounted.ino("c").await).unwrap();
    let listing = mounted.fs.namespace.listings.list(&folder.key, &folder.uri);
    let lists = || mounted.server.count(Route::List);
    let began = lists();
    while lists() == began {
        tokio::task::yield_now().await;
    }
    mounted.owing.uploader.deliver(&local).await.unwrap();
    mounted.hear().await;
    mounted.server.clear_faults();
    listing.complete(Duration::from_secs(10)).await.unwrap();
    assert_eq!(mounted.names("c").await, ["new"]);
}

#[tokio::test]
async fn what_is_renamed_is_known_in_the_version_that_was_delivered_though_nobody_heard_of_that() {
    let mounted = Mounted::new(|server| drop(server.put("a", "content of a"))).await;
    mounted.names("").await;
    let delivered = mounted.delivered_unheard("a", b"newer").await;
    mounted.mv("a", "b").await;
    let version = delivered.base().unwrap().entity.id;
    let root = mounted.fs.namespace.folder_key(Ino::ROOT).unwrap();
    let renamed = mounted.fs.namespace.unheard.named(&root, OsStr::new("b"));
    assert_eq!(renamed.unwrap().entity, version);
}

#[tokio::test]
async fn what_was_delivered_and_renamed_twice_does_not_show_under_the_name_in_between() {
    let mut mounted = Mounted::new(|server| {
        server.put("a", "content of a");
        server.mkdir("d");
    })
    .await;
    mounted.names("").await;
    mounted.names("d").await;
    mounted.delivered_unheard("a", b"newer").await;
    mounted.mv("a", "d/b").await;
    mounted.hear().await;
    assert_eq!(mounted.names("d").await, ["b"]);
    mounted.mv("d/b", "c").await;
    assert_eq!(mounted.names("d").await, [""; 0]);
    assert_eq!(mounted.find("d/b").await, None);
    assert_eq!(mounted.names("").await, ["c", "d"]);
}

#[tokio::test]
async fn a_folder_goes_once_the_server_has_heard_of_what_was_renamed_out_of_it() {
    let mounted = apart().await;
    mounted.mv("known/dir/inner", "other/last").await;
    mounted.meet().await;
    assert_eq!(mounted.unheard(), 1);
    mounted.mv("known/dir", "known/moved").await;
    assert_eq!(mounted.unheard(), 0);
    assert_eq!(mounted.said("other/last").unwrap(), "content of dir/inner");
    assert_eq!(mounted.on_server("known/moved"), [""; 0]);
    assert_eq!(mounted.fs.astray().0, 0);
}
