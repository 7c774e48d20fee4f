//! What others change shows as soon as it is told, however long answers are believed.

use super::*;
use crate::api::{Change, ChangeKind};
use crate::model::FileId;
use crate::watch::{Gap, Happening};

fn change(kind: ChangeKind, id: &FileId, from: &str, to: Option<&str>) -> Happening {
    let place = |path: &str| uri(&format!("cloudreve://my/{path}"));
    Happening::Changes(vec![Change {
        kind,
        id: id.clone(),
        from: place(from),
        to: to.map(place),
    }])
}

#[tokio::test]
async fn a_file_of_another_shows_when_it_is_told_and_not_before() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    assert_eq!(world.names(docs).await.len(), 2);
    let id = drive.file("cloudreve://my/docs/new.txt", 3);
    assert!(
        world.find(docs, "new.txt").await.is_none(),
        "it is believed"
    );
    let told = change(ChangeKind::Created, &id, "docs/new.txt", None);
    world.space.others_changed(&told);
    assert!(world.find(docs, "new.txt").await.is_some());
    assert_eq!(world.names(docs).await.len(), 3);
}

#[tokio::test]
async fn what_is_told_of_one_folder_leaves_the_others_believed() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    world.names(Ino::ROOT).await;
    world.names(docs).await;
    let before = drive.requests();
    let told = change(ChangeKind::Created, &FileId("none".into()), "b2.txt", None);
    world.space.others_changed(&told);
    world.names(docs).await;
    assert_eq!(drive.requests(), before);
    let told = change(ChangeKind::Created, &FileId("none".into()), "far/off", None);
    world.space.others_changed(&told);
    world.names(docs).await;
    assert_eq!(drive.requests(), before, "nobody has met that folder");
}

#[tokio::test]
async fn a_change_counts_by_its_id_where_its_path_says_nothing() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    world.names(docs).await;
    let ino = world.ino(docs, "a.txt").await;
    let id = world.space.inodes.node(ino).unwrap().entry.id.clone();
    drive.change("cloudreve://my/docs/a.txt", |info| {
        info.size_bytes = 9;
        true
    });
    let told = change(ChangeKind::Modified, &id, "never/seen", None);
    world.space.others_changed(&told);
    assert_eq!(world.space.attr(ino).await.unwrap().attr.size_bytes, 9);
}

#[tokio::test]
async fn a_gap_makes_every_folder_be_looked_at_again_once() {
    let drive = drive();
    let world = world(&drive, LONG).await;
    let docs = world.ino(Ino::ROOT, "docs").await;
    world.names(Ino::ROOT).await;
    world.names(docs).await;
    drive.file("cloudreve://my/docs/new.txt", 3);
    drive.remove("cloudreve://my/b.txt");
    world.space.others_changed(&Happening::Gap(Gap::Crowd));
    assert_eq!(world.names(docs).await.len(), 3);
    assert_eq!(world.names(Ino::ROOT).await, ["docs"]);
    let after = drive.requests();
    world.names(Ino::ROOT).await;
    world.names(docs).await;
    assert_eq!(drive.requests(), after);
}
