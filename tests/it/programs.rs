//! Programs that save in their own ways, on a mount: what they wrote is what the server has in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell;

/// A server with one file, if any, and its mount with a short delay.
fn world(file: Option<(&str, &str)>) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    if let Some((path, content)) = file {
        server.put(path, content.as_bytes().to_vec());
    }
    let mount = Mounted::new(&server, "cloudreve://my/", &["--upload-delay", "100ms"]);
    (server, mount)
}

fn sh(mount: &Mounted, script: &str) -> String {
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .env("HOME", mount.home.path(""))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(mount.path(""));
    shell::stdout(&mut command)
}

/// All files below `dir`, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// All files of the server below `folder`, by path.
fn on_server(server: &Server, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let at = |name: &str| {
            [folder, &below, name]
                .iter()
                .filter(|part| !part.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join("/")
        };
        for name in server.names(&at("")).unwrap_or_default() {
            let path = match below.is_empty() {
                true => name.clone(),
                false => format!("{below}/{name}"),
            };
            match server.names(&at(&name)) {
                Some(_) => folders.push(path),
                None => drop(found.insert(path, server.content(&at(&name)).unwrap_or_default())),
            }
        }
    }
    found
}

/// Waits until the server has what the mount shows, and nothing else.
#[track_caller]
fn settles(server: &Server, mount: &Mounted) -> BTreeMap<String, Vec<u8>> {
    let shown = files(&mount.path(""));
    let began = Instant::now();
    loop {
        let there = on_server(server, "");
        if there == shown {
            return shown;
        }
        if began.elapsed() > Duration::from_secs(60) {
            let names = |files: &BTreeMap<String, Vec<u8>>| {
                files
                    .iter()
                    .map(|(name, bytes)| format!("{name} ({})", bytes.len()))
                    .collect::<Vec<_>>()
            };
            panic!(
                "here {:?}, there {:?}: {}",
                names(&shown),
                names(&there),
                mount.log()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs vim, git, sqlite3 and rsync; .ci/run installs them and runs this"]
fn vim_saves_in_each_of_its_ways() {
    let (server, mount) = world(Some(("text.txt", "old\n")));
    for (at, backup) in [
        "nobackup | set nowritebackup",
        "backup | set backupcopy=yes",
        "nobackup | set backupcopy=no",
    ]
    .iter()
    .enumerate()
    {
        let script = format!(
            "vim -N -u NONE -i NONE -n -es -c 'set {backup}' -c 'normal oline {at}' -c 'wq' text.txt </dev/null || true; rm -f text.txt~"
        );
        sh(&mount, &script);
    }
    let shown = settles(&server, &mount);
    assert_eq!(shown["text.txt"], b"old\nline 0\nline 1\nline 2\n");
    assert_eq!(shown.len(), 1, "{:?}", shown.keys());
}

#[test]
#[ignore = "needs vim, git, sqlite3 and rsync; .ci/run installs them and runs this"]
fn git_makes_a_repository_commits_and_finds_it_whole() {
    let (server, mount) = world(None);
    sh(
        &mount,
        "git init -q repo; cd repo; git config user.email a@example.com; git config user.name a
         for n in 1 2 3 4 5; do echo $n > file$n; done; mkdir sub; echo deep > sub/deep
         git add .; git commit -qm first; echo more >> file1; git commit -qam second
         git checkout -qb other HEAD~1; git merge -q master 2>/dev/null || git merge -q main
         git gc -q; git fsck --full; git status --porcelain; git log --oneline | wc -l",
    );
    settles(&server, &mount);
}

#[test]
#[ignore = "needs vim, git, sqlite3 and rsync; .ci/run installs them and runs this"]
fn sqlite_keeps_its_database_with_a_journal_and_with_a_log() {
    let (server, mount) = world(None);
    for mode in ["delete", "truncate", "persist", "wal"] {
        let script = format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t(a,b);' >/dev/null
             for n in 1 2 3 4 5 6 7 8; do sqlite3 {mode}.db \"insert into t values($n, randomblob(3000)); update t set b=randomblob(5000) where a=$n/2;\"; done
             sqlite3 {mode}.db 'pragma integrity_check; select count(*) from t; vacuum;'"
        );
        assert_eq!(sh(&mount, &script), "ok\n8\n");
    }
    settles(&server, &mount);
}

#[test]
#[ignore = "needs vim, git, sqlite3 and rsync; .ci/run installs them and runs this"]
fn rsync_cp_and_tar_copy_a_tree_with_its_times() {
    let (server, mount) = world(None);
    let source = mount.home.path("source");
    std::fs::create_dir_all(source.join("deep/deeper")).unwrap();
    // None of them empty: the server takes no time for a file without content.
    for (n, size) in [1u64, 4096, 100_000, 3_000_000].into_iter().enumerate() {
        std::fs::write(
            source.join(format!("file {n} ü")),
            generated_bytes(n as u64, 0..size),
        )
        .unwrap();
        std::fs::write(
            source.join(format!("deep/deeper/{n}.bin")),
            generated_bytes(9, 0..size),
        )
        .unwrap();
    }
    let script = "find ../source -type f -exec touch -d @1234567890 {} +
        cp -a ../source copied
        rsync -rt ../source/ synced
        tar -C ../source -cf - . | (mkdir untarred; tar -C untarred -xf -)
        rsync -rtOin ../source/ synced
        diff -r ../source copied; diff -r ../source synced; diff -r ../source untarred
        stat -c %Y copied/deep/deeper/1.bin synced/deep/deeper/1.bin untarred/deep/deeper/1.bin";
    assert_eq!(sh(&mount, script), "1234567890\n1234567890\n1234567890\n");
    let shown = settles(&server, &mount);
    assert_eq!(shown.len(), 24);
    let changed = "printf changed | dd of=../source/deep/deeper/3.bin bs=1 seek=1000000 conv=notrunc 2>/dev/null
        rsync -rt --inplace --no-whole-file ../source/ synced; diff -r ../source synced";
    sh(&mount, changed);
    settles(&server, &mount);
}

#[test]
fn an_office_saves_by_lock_file_backup_and_rename() {
    let (server, mount) = world(Some(("letter.odt", "first version")));
    let id = server.file_id("letter.odt");
    sh(
        &mount,
        "echo me > .~lock.letter.odt#
         echo 'second version' > lu123.tmp; sync lu123.tmp
         mv letter.odt letter.odt.bak; mv lu123.tmp letter.odt; rm letter.odt.bak
         echo 'third version' > .letter.odt.new; mv -f .letter.odt.new letter.odt
         rm .~lock.letter.odt#",
    );
    let shown = settles(&server, &mount);
    assert_eq!(shown["letter.odt"], b"third version\n");
    assert_eq!(shown.len(), 1);
    // The first one was moved away, and with it its id.
    assert_ne!(server.file_id("letter.odt"), id);
}
