use std::os::unix::fs::PermissionsExt;

use super::*;

fn leave(staging: &Arc<Staging>, name: &str) {
    let local = staging.create(place(name), None, at(0)).unwrap();
    local.write(0, name.as_bytes(), at(1)).unwrap();
    local.stage(at(1)).unwrap();
}

fn names(owed: &[Arc<Local>]) -> Vec<String> {
    let mut names: Vec<_> = owed
        .iter()
        .map(|local| local.place().name.to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn mounts_of_one_drive_have_a_slot_each_and_what_one_leaves_another_takes_over() {
    let world = World::new();
    let (one, _) = world.open();
    let (two, owed) = world.open();
    assert!(owed.is_empty());
    leave(&one, "one");
    leave(&two, "two");
    drop(two);
    let (two, owed) = world.open();
    assert_eq!(names(&owed), ["two"], "what lives is left alone");
    drop((one, two, owed));
    let (all_of_it, owed) = world.open();
    assert_eq!(names(&owed), ["one", "two"]);
    let ids: std::collections::BTreeSet<_> = owed.iter().map(|local| local.id()).collect();
    assert_eq!(ids.len(), 2, "numbers of two slots differ");
    owed.iter().for_each(|local| local.unlink().unwrap());
    drop((all_of_it, owed));
    assert!(world.open().1.is_empty());
}

#[tokio::test]
async fn steps_of_a_slot_that_was_left_are_finished_there() {
    let world = World::new();
    let (one, _) = world.open();
    let (two, _) = world.open();
    two.begin("half done".into()).await.unwrap();
    drop((one, two));
    let (one, _) = world.open();
    let left = one.unfinished();
    assert_eq!(left.len(), 1);
    one.go_on(left[0].0, "nearly done".into()).await.unwrap();
    one.done(left[0].0).await.unwrap();
    drop(one);
    assert!(world.open().0.unfinished().is_empty());
}

#[test]
fn drives_know_nothing_of_each_other() {
    let world = World::new();
    let (one, _) = world.open();
    leave(&one, "one");
    drop(one);
    let other = Options {
        drive: "another".into(),
        ..options(world.dir())
    };
    assert!(Staging::open(other).unwrap().1.is_empty());
    assert_eq!(world.open().1.len(), 1);
}

#[test]
fn nobody_else_may_look_into_it() {
    let world = World::new();
    let dir = world.dir().join("state");
    let (staging, _) = open(&dir);
    leave(&staging, "one");
    let mut looked_at = 0;
    let mut folders = vec![dir];
    while let Some(folder) = folders.pop() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    assert_eq!(mode(&path), 0o600, "{}", path.display());
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at >= 5);
}

#[test]
fn a_value_that_outlives_the_staging_keeps_its_slot_from_others() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    drop(staging);
    local.write(0, b"late", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    assert!(world.open().1.is_empty());
    drop(local);
    assert_eq!(all(&world.open().1[0], &[]), b"late");
}

#[test]
fn many_more_files_than_a_process_may_open_are_no_trouble() {
    let world = World::new();
    let (staging, _) = world.open();
    for name in 0..600 {
        leave(&staging, &name.to_string());
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 500, "{open}");
    for local in staging.owed() {
        assert_eq!(all(&local, &[]), local.place().name.as_bytes());
    }
}
