//! What stays on this machine by its name: `*.here` in these drives.

use super::*;

fn drive(server: &Server) {
    server.put("a/one.txt", "one");
    server.put("two.txt", "two");
    server.mkdir("tmp.here");
}

#[track_caller]
fn check(renamed: Result<(), Error>, is_refused: bool) {
    match renamed {
        Err(Error::CrossDevice) => assert!(is_refused, "another disk"),
        done => assert!(done.is_ok() && !is_refused, "{done:?}"),
    }
}

impl Mounted {
    fn stays(&self) -> usize {
        let all = self.owing.staging.owed();
        all.iter().filter(|local| local.is_local_only()).count()
    }

    fn is_owed(&self, local: &Arc<Local>) -> bool {
        let owed = self.owing.uploader.owed();
        owed.iter().any(|one| one.local.id() == local.id())
    }
}

#[tokio::test]
async fn what_stays_here_is_a_file_like_any_and_costs_no_request() {
    let mounted = Mounted::new(drive).await;
    mounted.names("a").await;
    mounted.server.reset_counters();
    let local = mounted.write("a/x.here", b"mine").await;
    assert_eq!(mounted.names("a").await, ["one.txt", "x.here"]);
    assert_eq!(mounted.find("a/x.here").await.unwrap().size_bytes, 4);
    // Nobody waits for what never comes.
    mounted.owing.uploader.deliver(&local).await.unwrap();
    assert!(!mounted.is_owed(&local) && mounted.owing.uploader.owed().is_empty());
    mounted.mv("a/x.here", "a/y.here").await;
    assert_eq!(mounted.names("a").await, ["one.txt", "y.here"]);
    assert_eq!(mounted.requests(), 0);
    drop(local);
    let mounted = mounted.again().await;
    assert_eq!(mounted.names("a").await, ["one.txt", "y.here"]);
    assert_eq!(
        (mounted.stays(), mounted.owing.uploader.owed().len()),
        (1, 0)
    );
    mounted.server.reset_counters();
    mounted.unlink("a/y.here").await.unwrap();
    assert_eq!(mounted.requests(), 0);
    assert_eq!(mounted.names("a").await, ["one.txt"]);
    assert_eq!(mounted.stays(), 0);
}

#[tokio::test]
async fn a_save_by_a_temporary_file_that_stays_here_is_one_upload_onto_the_same_file() {
    let mut mounted = Mounted::new(drive).await;
    let id = mounted.server.file_id("two.txt");
    let local = mounted.write("two.txt.here", b"newer").await;
    assert!(!mounted.is_owed(&local));
    mounted.mv("two.txt.here", "two.txt").await;
    assert!(mounted.is_owed(&local));
    mounted.deliver(&local).await;
    assert_eq!(mounted.server.content("two.txt").unwrap(), b"newer");
    assert_eq!(mounted.server.file_id("two.txt"), id);
    assert_eq!(mounted.on_server(""), ["a", "tmp.here", "two.txt"]);
}

#[tokio::test]
async fn what_the_server_has_not_heard_of_may_come_to_stay_here() {
    let mounted = Mounted::new(drive).await;
    let local = mounted.write("a/new.txt", b"mine").await;
    assert!(mounted.is_owed(&local));
    mounted.mv("a/new.txt", "a/new.here").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    assert!(!mounted.is_owed(&local));
    assert_eq!(mounted.on_server("a"), ["one.txt"]);
    assert_eq!(mounted.names("a").await, ["new.here", "one.txt"]);
}

#[tokio::test]
async fn what_the_server_has_does_not_leave_it_for_a_name_that_stays_here() {
    let mut mounted = Mounted::new(drive).await;
    check(
        mounted
            .rename("two.txt", "two.here", RenameHow::Replace)
            .await,
        true,
    );
    check(
        mounted.rename("a", "tmp.here/a", RenameHow::Replace).await,
        true,
    );
    mounted.write("b.here", b"mine").await;
    let exchanged = mounted.rename("two.txt", "b.here", RenameHow::Exchange);
    check(exchanged.await, true);
    let exchanged = mounted.rename("b.here", "two.txt", RenameHow::Exchange);
    check(exchanged.await, true);
    // Written to, and delivered a moment ago.
    let local = mounted.overwrite("two.txt", b"newer").await;
    check(
        mounted
            .rename("two.txt", "two.here", RenameHow::Replace)
            .await,
        true,
    );
    mounted.deliver(&local).await;
    check(
        mounted
            .rename("two.txt", "two.here", RenameHow::Replace)
            .await,
        true,
    );
    assert_eq!(mounted.on_server(""), ["a", "tmp.here", "two.txt"]);
    assert_eq!(mounted.server.content("two.txt").unwrap(), b"newer");
}

#[tokio::test]
async fn a_folder_in_which_something_stays_here_is_not_empty() {
    let mounted = Mounted::new(drive).await;
    mounted.mkdir("c").await.unwrap();
    mounted.write("c/x.here", b"mine").await;
    assert!(matches!(mounted.rmdir("c").await, Err(Error::NotEmpty)));
    mounted.unlink("c/x.here").await.unwrap();
    mounted.rmdir("c").await.unwrap();
    assert_eq!(mounted.on_server(""), ["a", "tmp.here", "two.txt"]);
}

#[tokio::test]
async fn a_folder_of_such_a_name_is_on_the_server_and_its_files_stay_here_until_it_has_another_one()
{
    let mut mounted = Mounted::new(drive).await;
    mounted.mkdir("tmp.here/sub").await.unwrap();
    let local = mounted.write("tmp.here/sub/x", b"mine").await;
    assert!(!mounted.is_owed(&local));
    assert_eq!(mounted.on_server("tmp.here"), ["sub"]);
    mounted.mv("tmp.here", "tmp").await;
    assert!(mounted.is_owed(&local));
    mounted.deliver(&local).await;
    assert_eq!(mounted.server.content("tmp/sub/x").unwrap(), b"mine");
    assert_eq!(mounted.names("tmp/sub").await, ["x"]);
}

#[tokio::test]
async fn what_is_written_over_a_file_of_the_servers_stays_here_and_goes_with_it() {
    let mounted = Mounted::new(|server| drop(server.put("log.here", "theirs"))).await;
    let local = mounted.overwrite("log.here", b"mine").await;
    mounted.owing.uploader.deliver(&local).await.unwrap();
    assert!(!mounted.is_owed(&local));
    assert_eq!(mounted.server.content("log.here").unwrap(), b"theirs");
    drop(local);
    let mounted = mounted.again().await;
    assert_eq!(mounted.find("log.here").await.unwrap().size_bytes, 4);
    mounted.unlink("log.here").await.unwrap();
    assert!(mounted.on_server("").is_empty());
    assert!(mounted.find("log.here").await.is_none());
}
