//! pjdfstest, a suite of some 400 cases of what POSIX asks of a file system, beside a plain ext4, which is the referee.
//!
//! A case that passes on ext4 passes on the mount, save those that `pjdfstest.txt` names, each with its reason. That list is
//! exact: a case that fails and is not in it fails the test, and so does one that is in it and passes by now.
//! `PJDFSTEST_WRITE_LIST=1` writes it anew; the reasons that are known stay.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Server};

use crate::support::disk::Disk;
use crate::support::mounted::{Home, Mounted};
use crate::support::{shell, tools};

const MIB: u64 = 1 << 20;

/// Longest that the suite may take on one file system; it takes some seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// What begins the reason of a case that nobody gave one.
const UNEXPLAINED: &str = "why? ";

/// What each case did: nothing where it passed, else the first line of what it said.
type Outcomes = BTreeMap<String, Option<String>>;

/// The features of Linux that the suite does not take for granted, and people that every Linux has. The naps are longer than
/// a tick of the kernel's coarse clock, by which ext4 stamps.
fn configuration(home: &Home, remount: bool) -> PathBuf {
    let path = home.path("pjdfstest.toml");
    let text = format!(
        r#"[features]
        posix_fallocate = {{}}
        rename_ctime = {{}}
        stat_st_birthtime = {{}}
        utime_now = {{}}
        utimensat = {{}}
        [settings]
        naptime = 0.02
        allow_remount = {remount}
        [dummy_auth]
        entries = [["daemon", "daemon"], ["bin", "bin"]]"#
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A folder in `dir` whose path has a length with which the suite can make its longest path: where 255 / 2 divides what is
/// left of 4095 after the folders that it makes itself, it overflows.
fn workplace(dir: &Path) -> PathBuf {
    let own_folders = "/.tmp123456/.tmp123456".len();
    let mut work = dir.join("w");
    if (4095 - work.as_os_str().len() - own_folders).is_multiple_of(127) {
        work = dir.join("ww");
    }
    std::fs::create_dir(&work).unwrap();
    work
}

/// Runs the whole suite in `dir`. The cases that mount it anew and read-only run apart from the others, for some of those leave
/// files open, upon which a file system is busy.
fn run(home: &Home, dir: &Path) -> Outcomes {
    let work = workplace(dir);
    let mut outcomes = run_part(home, &work, false);
    outcomes.retain(|name, _| !name.contains("::erofs"));
    let read_only = run_part(home, &work, true);
    assert!(read_only.len() > 10, "{read_only:?}");
    outcomes.extend(read_only);
    let left: Vec<_> = std::fs::read_dir(&work).unwrap().collect();
    assert!(left.is_empty(), "the suite left {left:?}");
    outcomes
}

fn run_part(home: &Home, work: &Path, read_only: bool) -> Outcomes {
    let (out, err) = (home.path("pjdfstest.out"), home.path("pjdfstest.err"));
    // The suite mounts anew by calling mount(8), which would ask mount.fuse3 to do it for a FUSE file system, and that knows no
    // remount. It is the kernel that is tried here.
    let (bin, mount) = (home.path("bin"), home.path("bin/mount"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(&mount, "#!/bin/sh\nPATH=${PATH#*:} exec mount -i \"$@\"\n").unwrap();
    std::fs::set_permissions(&mount, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    // The suite lets others into its folders by what is left of the mask.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"umask 022; exec "$@""#, "sh"])
        .arg(tools::installed("pjdfstest", "0.2.2"))
        .arg("-c")
        .arg(configuration(home, read_only))
        .arg("-p")
        .arg(work)
        // Another file system than the one that is tried.
        .arg("-s")
        .arg(home.path("run"))
        .args(read_only.then_some("::erofs"))
        .env("RUST_BACKTRACE", "0")
        .env("NO_COLOR", "1")
        .env("PATH", format!("{}:{path}", bin.display()))
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    let ended = shell::wait_at_most(&mut child, PATIENCE);
    let said = std::fs::read_to_string(&out).unwrap();
    let complained = std::fs::read_to_string(&err).unwrap();
    let last = said.lines().rev().take(5).collect::<Vec<_>>();
    assert!(ended.is_some(), "it hangs after {last:?}");
    let summary = said.lines().find_map(|line| line.strip_prefix("Summary: "));
    let summary = summary.unwrap_or_else(|| panic!("{ended:?} after {last:?}: {complained}"));
    let outcomes = parse(&said);
    let total = format!(" {} total", outcomes.len());
    assert!(summary.ends_with(&total), "{summary}, but read{total}");
    outcomes
}

/// The suite prints a line for each case, its name and its outcome, and below it what it has to say.
fn parse(said: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, outcome)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let outcome = outcome.trim();
        if name.contains("::") && ["ok", "FAILED", "skipped"].contains(&outcome) {
            let mut said = Vec::new();
            while let Some(more) = lines.next_if(|next| next.starts_with(char::is_whitespace)) {
                said.push(more.trim());
            }
            let failure = (outcome != "ok").then(|| format!("{outcome}: {}", said.join(" ")));
            outcomes.insert(name.to_owned(), failure);
        }
    }
    outcomes
}

/// The list that stands beside this file.
fn list_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pjdfstest.txt")
}

/// Reasons by case.
fn listed() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(list_path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once('\t').expect("a name, a tab, a reason");
            (name.to_owned(), reason.to_owned())
        })
        .collect()
}

#[test]
#[ignore = "needs pjdfstest, root, mkfs.ext4 and a loop device; .ci/run installs it and runs this"]
fn what_passes_of_pjdfstest_on_ext4_passes_on_the_mount_save_what_is_listed() {
    let home = Home::new();
    std::fs::create_dir(home.path("ext")).unwrap();
    let (image, plain) = (home.path("image"), home.path("ext"));
    // nosuid and nodev, as FUSE mounts it.
    let disk = Disk::make(&image, 256 * MIB, &plain, "nosuid,nodev");
    let began = Instant::now();
    let referee = run(&home, &plain);
    let passes = |outcomes: &Outcomes| outcomes.values().filter(|said| said.is_none()).count();
    println!(
        "ext4: {} of {} pass, {:?}",
        passes(&referee),
        referee.len(),
        began.elapsed()
    );
    for (name, failure) in &referee {
        if let Some(failure) = failure {
            println!("not even ext4: {name}: {failure}");
        }
    }
    assert!(passes(&referee) > 370, "the referee knows its rules");
    drop(disk);

    let server = Server::start(Options::default()).unwrap();
    let mut mount = Mounted::new(&server, "cloudreve://my/", &["--allow-other"]);
    let began = Instant::now();
    let tried = run(&home, &mount.path(""));
    println!(
        "the mount: {} of {} pass, {:?}",
        passes(&tried),
        tried.len(),
        began.elapsed()
    );
    assert!(mount.end().success(), "{}", mount.log());

    assert!(referee.keys().eq(tried.keys()), "the same cases on both");
    compare(&referee, &tried);
}

fn compare(referee: &Outcomes, tried: &Outcomes) {
    let listed = listed();
    let failing: BTreeMap<_, _> = tried
        .iter()
        .filter(|(name, _)| referee[*name].is_none())
        .filter_map(|(name, said)| Some((name, said.as_ref()?)))
        .collect();
    let reason = |name: &str, said: &str| match listed.get(name) {
        Some(known) => known.clone(),
        None => format!("{UNEXPLAINED}{said}"),
    };
    let lines = failing
        .iter()
        .map(|(name, said)| format!("{name}\t{}\n", reason(name, said)));
    let list: String = lines.collect();
    if std::env::var_os("PJDFSTEST_WRITE_LIST").is_some() {
        std::fs::write(list_path(), &list).unwrap();
    }
    let unexpected = failing
        .iter()
        .filter(|(name, _)| !listed.contains_key(**name));
    let unexpected: Vec<_> = unexpected
        .map(|(name, said)| format!("{name}: {said}"))
        .collect();
    let passing = listed.keys().filter(|name| !failing.contains_key(name));
    let passing: Vec<_> = passing.cloned().collect();
    let unexplained = listed
        .iter()
        .filter(|(_, reason)| reason.trim().is_empty() || reason.starts_with(UNEXPLAINED));
    let unexplained: Vec<_> = unexplained.map(|(name, _)| name.clone()).collect();
    assert!(
        unexpected.is_empty() && passing.is_empty() && unexplained.is_empty(),
        "fail and are not in the list:\n{}\n\nare in the list and pass by now:\n{}\n\nare in the list without a reason:\n{}\n\n\
         the list should be (PJDFSTEST_WRITE_LIST=1 writes it):\n{list}",
        unexpected.join("\n"),
        passing.join("\n"),
        unexplained.join("\n"),
    );
}
