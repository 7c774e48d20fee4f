//! A disk that is full.

use std::process::Command;

use super::*;

/// Runs a test of this file in another process, with a small file system of its own in `dir`.
fn on_a_disk_of(size: &str, test: &str) {
    let world = World::new();
    let script = format!(
        "mount -t tmpfs -o size={size} none \"$DIR\" && exec \"$TEST\" --ignored --exact --nocapture staging::tests::full::{test}"
    );
    // The user's own namespace: root may do without, others may not mount elsewhere.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env("DIR", world.dir())
        .env("TEST", std::env::current_exe().unwrap())
        .output()
        .expect("this test needs unshare(1)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "this test needs user and mount namespaces, and a disk that behaves: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Fills the disk to the last byte.
fn fill(path: &Path) -> std::fs::File {
    use std::io::Write;
    let mut filler = std::fs::File::create(path).unwrap();
    for len in [1 << 20, 4096, 1] {
        while filler.write_all(&vec![1; len]).is_ok() {}
    }
    filler
}

fn is_full<T: std::fmt::Debug>(result: std::io::Result<T>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn a_full_disk_harms_nothing_that_was_accepted() {
    on_a_disk_of("40m", "small_disk");
}

#[test]
#[ignore = "runs on a file system that another test makes for it"]
fn small_disk() {
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let (staging, _) = open(&dir);
    let old = vec![7; 1 << 20];
    let mut accepted = Vec::new();
    for name in 0..40 {
        let base = (name % 2 == 0).then(|| base("e", old.len() as u64));
        let over = base.is_some();
        let local = staging
            .create(place(&name.to_string()), base, at(0))
            .unwrap();
        local.write(100, &[name as u8; 5000], at(1)).unwrap();
        let mut bytes = if over { old.clone() } else { vec![0; 5100] };
        bytes[100..5100].fill(name as u8);
        accepted.push((local, bytes));
    }
    let filler = fill(&dir.join("filler"));
    let check = |accepted: &[(Arc<Local>, Vec<u8>)]| {
        for (local, bytes) in accepted {
            assert!(all(local, &old) == *bytes);
        }
    };
    for (local, _) in &accepted {
        is_full(local.write(10_000, &[9; 100_000], at(2)));
        is_full(local.write(2 << 20, &[9; 100_000], at(2)));
        is_full(local.allocate(0..8 << 20, true, at(2)));
    }
    check(&accepted);
    // All that needs the journal goes on.
    for (local, _) in &accepted {
        local.stage(at(3)).unwrap();
    }
    for round in 0..30 {
        for (local, _) in &accepted {
            let name = local.place().name.to_string();
            local
                .relocate(
                    place(&format!("{}.{round}", name.split('.').next().unwrap())),
                    None,
                )
                .unwrap();
            let last_error = Some("x".repeat(300));
            local
                .set_delivery(Delivery {
                    last_error,
                    ..Delivery::default()
                })
                .unwrap();
        }
    }
    is_full(
        staging
            .create(place("more"), None, at(4))
            .and_then(|local| local.write(0, &[1; 5000], at(4))),
    );
    check(&accepted);
    let names: Vec<_> = accepted.iter().map(|(local, _)| local.place()).collect();
    let bytes: Vec<_> = accepted.into_iter().map(|(_, bytes)| bytes).collect();
    drop(staging);
    let (staging, owed) = open(&dir);
    let mut owed: Vec<_> = owed
        .into_iter()
        .filter(|local| local.size_bytes() > 0)
        .collect();
    owed.truncate(names.len());
    assert_eq!(
        owed.iter().map(|local| local.place()).collect::<Vec<_>>(),
        names
    );
    let accepted: Vec<_> = owed.into_iter().zip(bytes).collect();
    check(&accepted);
    for (local, _) in &accepted[..10] {
        local.unlink().unwrap();
    }
    // With room again, all goes on by itself.
    filler.set_len(0).unwrap();
    let local = staging.create(place("again"), None, at(5)).unwrap();
    local.write(0, &[1; 1 << 20], at(5)).unwrap();
    check(&accepted);
}

#[test]
fn where_the_file_system_has_no_attributes_a_file_beside_the_content_says_what_it_is() {
    // An attribute of this length fits in none.
    let world = World::new();
    let (staging, _) = world.open();
    let deep = |name: &str| {
        let folder_uri = (0..200).fold(FileUri::my(), |uri, _| {
            uri.child(ServerName::from_wire(vec![b'?'; 200]))
        });
        Place {
            folder_uri,
            ..place(name)
        }
    };
    let local = staging.create(deep("a"), None, at(0)).unwrap();
    local.write(0, b"deep", at(1)).unwrap();
    local.stage(at(1)).unwrap();
    assert!(world.content().iter().any(|name| name.ends_with(".about")));
    local.relocate(deep("b"), None).unwrap();
    let shallow = staging.create(place("s"), None, at(0)).unwrap();
    shallow.relocate(deep("t"), None).unwrap();
    shallow.relocate(place("u"), None).unwrap();
    drop((local, shallow, staging));
    std::fs::remove_file(world.slot().join("journal.sqlite")).unwrap();
    let (_staging, owed) = world.open();
    assert_eq!(owed[0].place(), deep("b"));
    assert_eq!(owed[1].place(), place("u"));
    owed.iter().for_each(|local| local.unlink().unwrap());
    drop(owed);
    assert_eq!(world.content(), [""; 0]);
}
