//! Folders that are made while the server cannot be reached, and what it hears of them when it can.

use super::*;

impl Mounted {
    /// The server cannot be reached any more, as is known.
    fn cut_off(&self) {
        self.server.stop();
        self.api.reach().set(false);
    }

    /// It can be, and has heard all that it can hear.
    async fn reunite(&self) {
        self.server.restart().unwrap();
        while self.fs.namespace.is_down() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.fs.settle().await;
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
