//! Files written through a mount, by the calls that programs use, and what the server has of them afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cloudreve_test_server::{Options, Route, Server, generated_bytes};

use crate::support::drop_pages;
use crate::support::map::MapMut;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};
use crate::support::xattr;

const MIB: u64 = 1 << 20;

/// A delay that no test outlasts: what is closed stays owed.
const NEVER: &[&str] = &["--upload-delay", "1h"];

/// No delay: what is closed is uploaded.
const NOW: &[&str] = &["--upload-delay", "0s"];

fn server() -> Server {
    Server::start(Options::default()).unwrap()
}

fn mount(server: &Server, options: &[&str]) -> Mounted {
    Mounted::new(server, "cloudreve://my/", options)
}

/// Waits until the server has `content` at `path`.
#[track_caller]
fn arrives(server: &Server, mount: &Mounted, path: &str, content: &[u8]) {
    let began = std::time::Instant::now();
    while server.content(path).as_deref() != Some(content) {
        if began.elapsed() > Duration::from_secs(30) {
            let found = server.content(path).map(|found| found.len());
            panic!(
                "{path} is not {} bytes but {found:?}; {}; {}",
                content.len(),
                mount.status()["owed"],
                mount.log()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn sh(mount: &Mounted, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(mount.path(""));
    shell::stdout(&mut command)
}

#[test]
fn a_new_file_is_there_at_once_and_on_the_server_after_it_was_closed() {
    let server = server();
    let mount = mount(&server, NOW);
    let mut file = File::create(mount.path("new.txt")).unwrap();
    file.write_all(b"hello ").unwrap();
    assert_eq!(fs::metadata(mount.path("new.txt")).unwrap().len(), 6);
    assert_eq!(server.content("new.txt"), None);
    file.write_all(b"world").unwrap();
    let ino = file.metadata().unwrap().ino();
    drop(file);
    assert_eq!(sh(&mount, "ls"), "new.txt\n");
    arrives(&server, &mount, "new.txt", b"hello world");
    assert_eq!(fs::read(mount.path("new.txt")).unwrap(), b"hello world");
    assert_eq!(fs::metadata(mount.path("new.txt")).unwrap().ino(), ino);
    assert_eq!(sh(&mount, "ls"), "new.txt\n");
}

#[test]
fn an_overwritten_file_keeps_its_id_and_what_was_not_written() {
    let server = server();
    let mut content = generated_bytes(5, 0..3 * MIB);
    server.put_generated("big.bin", 3 * MIB, 5);
    let id = server.file_id("big.bin");
    let mount = mount(&server, NOW);
    let file = open(&mount.path("big.bin"));
    file.write_all_at(b"in the middle", MIB + 17).unwrap();
    content[MIB as usize + 17..][..13].copy_from_slice(b"in the middle");
    drop(file);
    assert!(fs::read(mount.path("big.bin")).unwrap() == content);
    arrives(&server, &mount, "big.bin", &content);
    assert_eq!(server.file_id("big.bin"), id);
    assert!(fs::read(mount.path("big.bin")).unwrap() == content);
}

#[test]
fn one_byte_of_a_large_file_is_written_without_fetching_it() {
    let server = server();
    server.put_generated("large.bin", 64 * MIB, 5);
    let mount = mount(&server, NEVER);
    let file = open(&mount.path("large.bin"));
    file.write_all_at(b"x", 0).unwrap();
    file.write_all_at(b"y", 64 * MIB - 1).unwrap();
    drop(file);
    assert_eq!(
        fs::metadata(mount.path("large.bin")).unwrap().len(),
        64 * MIB
    );
    assert!(
        server.content_bytes_sent() < MIB,
        "{}",
        server.content_bytes_sent()
    );
}

#[test]
fn appended_lines_come_one_after_the_other_whoever_appends() {
    let server = server();
    server.put("log", b"first\n".to_vec());
    let mount = mount(&server, NOW);
    sh(&mount, "echo second >> log; echo third >> log");
    let append = || {
        OpenOptions::new()
            .append(true)
            .open(mount.path("log"))
            .unwrap()
    };
    let (mut one, mut other) = (append(), append());
    one.write_all(b"one\n").unwrap();
    other.write_all(b"other\n").unwrap();
    one.write_all(b"one again\n").unwrap();
    drop((one, other));
    let all = b"first\nsecond\nthird\none\nother\none again\n";
    assert_eq!(fs::read(mount.path("log")).unwrap(), all);
    arrives(&server, &mount, "log", all);
}

#[test]
fn truncated_files_lose_their_end_and_grow_by_zeros_and_nothing_is_fetched_that_goes_anyway() {
    let server = server();
    server.put_generated("cut", 4 * MIB, 5);
    server.put_generated("emptied", 4 * MIB, 6);
    server.put_generated("by-path", 100_000, 7);
    let mount = mount(&server, NOW);
    let file = open(&mount.path("cut"));
    file.set_len(10).unwrap();
    file.set_len(20).unwrap();
    drop(file);
    let mut cut = generated_bytes(5, 0..10);
    cut.resize(20, 0);
    assert_eq!(fs::read(mount.path("cut")).unwrap(), cut);
    arrives(&server, &mount, "cut", &cut);
    fs::write(mount.path("emptied"), b"new").unwrap();
    arrives(&server, &mount, "emptied", b"new");
    assert!(server.content_bytes_sent() < MIB);
    sh(&mount, "truncate -s 5 by-path");
    arrives(&server, &mount, "by-path", &generated_bytes(7, 0..5));
    assert_eq!(fs::metadata(mount.path("by-path")).unwrap().len(), 5);
}

#[test]
fn what_one_handle_writes_all_others_read_at_once() {
    let server = server();
    server.put_generated("file", 100_000, 5);
    let mount = mount(&server, NEVER);
    let mut reader = File::open(mount.path("file")).unwrap();
    let mut before = [0; 10];
    reader.read_exact(&mut before).unwrap();
    assert_eq!(before[..], generated_bytes(5, 0..10));
    let (one, other) = (open(&mount.path("file")), open(&mount.path("file")));
    one.write_all_at(b"from one", 0).unwrap();
    other.write_all_at(b"from other", 50_000).unwrap();
    let read = |file: &File, at, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    for file in [&reader, &one, &other] {
        assert_eq!(read(file, 0, 8), b"from one");
        assert_eq!(read(file, 50_000, 10), b"from other");
        assert_eq!(read(file, 99_990, 10), generated_bytes(5, 99_990..100_000));
    }
    one.set_len(9).unwrap();
    reader.seek(SeekFrom::Start(0)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 9);
}

#[test]
fn who_follows_a_file_sees_it_grow_also_after_it_was_delivered() {
    let server = server();
    server.put("log", b"begin\n".to_vec());
    let mount = mount(&server, NOW);
    let mut reader = File::open(mount.path("log")).unwrap();
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    for line in 0..5 {
        sh(&mount, &format!("echo {line} >> log"));
        let mut new = String::new();
        reader.read_to_string(&mut new).unwrap();
        assert_eq!(new, format!("{line}\n"));
        seen += &new;
        arrives(&server, &mount, "log", seen.as_bytes());
        wait_until("it is delivered", || {
            mount.status()["owed"].as_array().is_none_or(Vec::is_empty)
        });
    }
}

#[test]
fn a_mapping_that_is_written_to_is_what_others_read_and_the_server_gets() {
    let server = server();
    server.put_generated("mapped", 50_000, 5);
    let mount = mount(&server, NOW);
    let mut content = generated_bytes(5, 0..50_000);
    let file = open(&mount.path("mapped"));
    let mut map = MapMut::new(&file, 50_000);
    map.bytes()[40_000..40_006].copy_from_slice(b"mapped");
    content[40_000..40_006].copy_from_slice(b"mapped");
    // The mapping outlives the handle.
    drop(file);
    assert!(fs::read(mount.path("mapped")).unwrap() == content);
    drop(map);
    arrives(&server, &mount, "mapped", &content);
}

#[test]
fn a_save_by_a_new_file_that_takes_the_name_keeps_the_files_id() {
    let server = server();
    server.put("docs/text.txt", b"old".to_vec());
    let id = server.file_id("docs/text.txt");
    let mount = mount(&server, &["--upload-delay", "200ms"]);
    let reader = File::open(mount.path("docs/text.txt")).unwrap();
    sh(
        &mount,
        "cd docs; echo new > .text.txt.swp; sync .text.txt.swp; mv .text.txt.swp text.txt",
    );
    let mut old = [0; 3];
    reader.read_exact_at(&mut old, 0).unwrap();
    assert_eq!(&old, b"old", "who has it open reads on");
    assert_eq!(fs::read(mount.path("docs/text.txt")).unwrap(), b"new\n");
    arrives(&server, &mount, "docs/text.txt", b"new\n");
    assert_eq!(server.file_id("docs/text.txt"), id);
    assert_eq!(server.names("docs").unwrap(), ["text.txt"]);
    assert_eq!(sh(&mount, "ls -A docs"), "text.txt\n");
}

#[test]
fn a_save_that_puts_the_old_file_aside_first_ends_with_the_new_one() {
    let server = server();
    server.put("text.txt", b"old".to_vec());
    let mount = mount(&server, NOW);
    sh(
        &mount,
        "mv text.txt text.txt~; echo new > text.txt; sync text.txt; rm text.txt~",
    );
    arrives(&server, &mount, "text.txt", b"new\n");
    wait_until("the old one is gone", || {
        server.names("").unwrap() == ["text.txt"]
    });
    assert_eq!(sh(&mount, "ls -A"), "text.txt\n");
}

#[test]
fn what_was_closed_outlives_the_daemon_and_is_delivered_by_the_next() {
    let server = server();
    server.put_generated("edited", 2 * MIB, 5);
    let mut first = mount(&server, NEVER);
    fs::write(first.path("new"), b"owed").unwrap();
    let file = open(&first.path("edited"));
    file.write_all_at(b"edit", MIB).unwrap();
    drop(file);
    let open = File::create(first.path("open")).unwrap();
    open.write_all_at(b"written, not closed", 0).unwrap();
    shell::kill(first.pid(), libc::SIGKILL);
    first.wait();
    drop(open);
    let second = first.again(&server, "cloudreve://my/", NOW);
    assert_eq!(fs::read(second.path("new")).unwrap(), b"owed");
    let mut edited = generated_bytes(5, 0..2 * MIB);
    edited[MIB as usize..][..4].copy_from_slice(b"edit");
    assert!(fs::read(second.path("edited")).unwrap() == edited);
    arrives(&server, &second, "new", b"owed");
    arrives(&server, &second, "edited", &edited);
    arrives(&server, &second, "open", b"written, not closed");
}

#[test]
fn removed_files_go_and_one_that_was_never_uploaded_costs_no_request() {
    let server = server();
    server.put("old", b"x".to_vec());
    let mount = mount(&server, NEVER);
    sh(&mount, "echo temp > temp; ls > /dev/null");
    let before = server.count_all();
    sh(&mount, "rm temp");
    assert_eq!(server.count_all(), before);
    sh(&mount, "rm old; test ! -e old; test ! -e temp");
    wait_until("it is gone", || server.content("old").is_none());
    assert_eq!(sh(&mount, "ls -A"), "");
}

#[test]
fn a_file_that_is_removed_while_it_is_open_lives_on_for_who_has_it_open() {
    let server = server();
    server.put_generated("clean", 100_000, 5);
    let mount = mount(&server, NOW);
    let mut new = File::create_new(mount.path("new")).unwrap();
    new.write_all(b"still ").unwrap();
    let clean = open(&mount.path("clean"));
    sh(&mount, "rm new clean");
    new.write_all(b"here").unwrap();
    let mut bytes = [0; 10];
    new.read_at(&mut bytes, 0).unwrap();
    clean.write_all_at(b"written", 5).unwrap();
    let mut read = vec![0; 100_000];
    clean.read_exact_at(&mut read, 0).unwrap();
    let mut expected = generated_bytes(5, 0..100_000);
    expected[5..12].copy_from_slice(b"written");
    assert!(read == expected);
    drop((new, clean));
    assert_eq!(sh(&mount, "ls -A"), "");
    sh(&mount, "echo marker > marker");
    arrives(&server, &mount, "marker", b"marker\n");
    assert_eq!(server.names("").unwrap(), ["marker"]);
}

#[test]
fn folders_are_made_moved_and_removed_with_what_is_in_them() {
    let server = server();
    let mount = mount(&server, NOW);
    sh(
        &mount,
        "mkdir -p a/b; echo x > a/b/file; mv a c; mkdir d; mv c/b d/b; rmdir c; ! rmdir d 2>/dev/null",
    );
    arrives(&server, &mount, "d/b/file", b"x\n");
    assert_eq!(server.names("").unwrap(), ["d"]);
    assert_eq!(sh(&mount, "find . -type f"), "./d/b/file\n");
    sh(&mount, "rm -r d");
    wait_until("it is gone", || server.names("").unwrap().is_empty());
}

#[test]
fn holes_and_reserved_room_read_as_zeros() {
    let server = server();
    server.put_generated("file", 100_000, 5);
    let mount = mount(&server, NOW);
    sh(
        &mount,
        "fallocate -p -o 10 -l 20 file
         fallocate -z -o 99990 -l 20 file
         fallocate -n -o 0 -l 200000 file
         fallocate -l 100100 file
         dd if=/dev/zero of=sparse bs=1 count=1 seek=300000 2>/dev/null
         test $(stat -c %s sparse) = 300001",
    );
    let mut expected = generated_bytes(5, 0..100_000);
    expected[10..30].fill(0);
    expected[99_990..].fill(0);
    expected.resize(100_100, 0);
    assert!(fs::read(mount.path("file")).unwrap() == expected);
    arrives(&server, &mount, "file", &expected);
    arrives(&server, &mount, "sparse", &vec![0; 300_001]);
    let refused = shell::output(
        Command::new("fallocate")
            .args(["-c", "-o", "0", "-l", "4096"])
            .arg(mount.path("file")),
    );
    assert!(!refused.status.success());
}

#[test]
fn times_and_modes_stay_as_the_writer_set_them() {
    let server = server();
    let mount = mount(&server, &["--upload-delay", "300ms"]);
    sh(
        &mount,
        "echo x > file; touch -d @1000000000 file; chmod 600 file; chown $(id -u) file",
    );
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let modified = || {
        fs::metadata(mount.path("file"))
            .unwrap()
            .modified()
            .unwrap()
    };
    assert_eq!(modified(), when);
    arrives(&server, &mount, "file", b"x\n");
    wait_until("it is delivered", || {
        mount.status()["owed"].as_array().is_none_or(Vec::is_empty)
    });
    assert_eq!(modified(), when);
    let shown = fs::metadata(mount.path("file")).unwrap();
    assert_eq!(shown.mode() & 0o777, 0o600);
}

#[test]
fn an_exclusive_create_meets_what_is_there_and_hard_links_and_devices_are_refused() {
    let server = server();
    server.put("there", b"x".to_vec());
    let mount = mount(&server, NEVER);
    let kind = |err: std::io::Error| err.raw_os_error().unwrap();
    let exists = File::create_new(mount.path("there")).unwrap_err();
    assert_eq!(kind(exists), libc::EEXIST);
    let linked = fs::hard_link(mount.path("there"), mount.path("link")).unwrap_err();
    assert_eq!(kind(linked), libc::EPERM);
    let device = shell::output(
        Command::new("mknod")
            .arg(mount.path("null"))
            .args(["c", "1", "3"]),
    );
    assert!(!device.status.success());
    let name = fs::write(mount.path("x".repeat(256)), b"").unwrap_err();
    assert_eq!(kind(name), libc::ENAMETOOLONG);
}

#[test]
fn direct_io_and_files_larger_than_the_kernel_writes_at_once_arrive_whole() {
    let server = server();
    let mount = mount(&server, NOW);
    let content = generated_bytes(9, 0..5 * MIB + 123);
    fs::write(mount.path("big"), &content).unwrap();
    let direct = OpenOptions::new()
        .write(true)
        .create(true)
        .custom_flags(libc::O_DIRECT)
        .open(mount.path("direct"))
        .unwrap();
    // FUSE asks for no alignment of its own.
    direct
        .write_all_at(&content[..2 * MIB as usize], 0)
        .unwrap();
    drop(direct);
    assert!(fs::read(mount.path("big")).unwrap() == content);
    arrives(&server, &mount, "big", &content);
    arrives(&server, &mount, "direct", &content[..2 * MIB as usize]);
}

#[test]
fn with_durability_server_a_closed_file_is_on_the_server() {
    let server = server();
    let mount = mount(&server, &["--durability", "server", "--upload-delay", "1h"]);
    fs::write(mount.path("file"), b"at once").unwrap();
    assert_eq!(server.content("file").as_deref(), Some(&b"at once"[..]));
    let mut file = open(&mount.path("file"));
    file.write_all(b"AT").unwrap();
    file.sync_all().unwrap();
    assert_eq!(server.content("file").as_deref(), Some(&b"AT once"[..]));
}

#[test]
fn ten_saves_in_a_second_are_one_upload() {
    let server = server();
    server.put("file", b"0".to_vec());
    let mount = mount(&server, &["--upload-delay", "500ms"]);
    for save in 1..=10 {
        fs::write(mount.path("file"), format!("save {save}")).unwrap();
    }
    arrives(&server, &mount, "file", b"save 10");
    assert_eq!(
        server.count(Route::UploadCreate) + server.count(Route::PutContent),
        1
    );
}

#[test]
fn what_was_delivered_is_not_fetched_again() {
    let server = server();
    let mount = mount(&server, NOW);
    let content = generated_bytes(3, 0..MIB + 5);
    fs::write(mount.path("file"), &content).unwrap();
    arrives(&server, &mount, "file", &content);
    let path = mount.path("file");
    wait_until("it is in the cache", || {
        let cached = xattr::get(&path, "user.cloudreve.cached");
        cached.is_ok_and(|cached| cached == b"100%")
    });
    let file = File::open(&path).unwrap();
    drop_pages(&file);
    assert!(fs::read(&path).unwrap() == content);
    assert_eq!(server.count(Route::Content), 0);
}

/// copy_file_range(2).
fn copy_range(source: &File, mut from: i64, target: &File, mut to: i64, len: usize) -> isize {
    use std::os::fd::AsRawFd;
    let (source, target) = (source.as_raw_fd(), target.as_raw_fd());
    #[expect(unsafe_code, reason = "std has no copy_file_range(2) with offsets")]
    // SAFETY: both are open, and the offsets live as long as the call.
    unsafe {
        libc::copy_file_range(source, &mut from, target, &mut to, len, 0)
    }
}

#[test]
fn a_copy_within_the_mount_has_the_bytes_of_its_source_whatever_became_of_that_here() {
    let server = server();
    server.put_generated("a/clean", 3 * MIB + 5, 1);
    server.put_generated("a/edited", 3 * MIB + 5, 2);
    let mount = mount(&server, NOW);
    let clean = generated_bytes(1, 0..3 * MIB + 5);
    // copy_file_range(2), as `cp` does it.
    fs::copy(mount.path("a/clean"), mount.path("copy")).unwrap();
    arrives(&server, &mount, "copy", &clean);
    assert_ne!(server.file_id("copy"), server.file_id("a/clean"));
    // While it is open and half of it only on the server.
    let mut edited = generated_bytes(2, 0..3 * MIB + 5);
    edited[1_000_000..1_000_004].copy_from_slice(b"EDIT");
    let file = open(&mount.path("a/edited"));
    file.write_all_at(b"EDIT", 1_000_000).unwrap();
    fs::copy(mount.path("a/edited"), mount.path("a/copy")).unwrap();
    arrives(&server, &mount, "a/copy", &edited);
    // A part, to another place.
    let target = open(&mount.path("copy"));
    let copied = copy_range(&file, 999_990, &target, 10, 100);
    assert_eq!(copied, 100);
    drop((file, target));
    let mut expected = clean;
    expected[10..110].copy_from_slice(&edited[999_990..1_000_090]);
    arrives(&server, &mount, "copy", &expected);
    let refused = shell::output(
        Command::new("cp")
            .arg("--reflink=always")
            .args([mount.path("copy"), mount.path("clone")]),
    );
    assert!(!refused.status.success());
}

#[test]
fn what_was_delivered_while_it_is_open_is_written_to_under_the_name_that_it_is_renamed_over() {
    let server = server();
    // Where the kernel writes by itself nothing is delivered while somebody may write to it.
    let mount = mount(&server, &[NOW, &["--passthrough", "off"]].concat());
    fs::write(mount.path("old.txt"), "old").unwrap();
    arrives(&server, &mount, "old.txt", b"old");
    let first = File::create(mount.path("new.txt")).unwrap();
    first.write_all_at(b"delivered", 0).unwrap();
    let open = open(&mount.path("new.txt"));
    drop(first);
    arrives(&server, &mount, "new.txt", b"delivered");
    mount.sync();
    fs::rename(mount.path("new.txt"), mount.path("old.txt")).unwrap();
    open.write_all_at(b"DELIVER", 0).unwrap();
    assert_eq!(fs::read(mount.path("old.txt")).unwrap(), b"DELIVERed");
    drop(open);
    assert_eq!(sh(&mount, "ls"), "old.txt\n");
    arrives(&server, &mount, "old.txt", b"DELIVERed");
    assert_eq!(server.names("").unwrap(), ["old.txt"]);
}

#[test]
fn a_rename_while_the_first_content_of_an_empty_file_is_sent_leaves_no_empty_file_behind() {
    const SIZE: u64 = 256 << 10;
    let server = server();
    let mount = mount(&server, &[NOW, &["--limit-up", "64K"]].concat());
    fs::write(mount.path("old.txt"), "old").unwrap();
    arrives(&server, &mount, "old.txt", b"old");
    File::create(mount.path("new.txt")).unwrap();
    arrives(&server, &mount, "new.txt", b"");
    mount.sync();
    let made = server.entity_id("new.txt");
    open(&mount.path("new.txt")).set_len(SIZE).unwrap();
    // An upload puts an empty version there before it begins, and takes seconds.
    wait_until("the upload has begun", || server.open_uploads() == 1);
    assert_ne!(server.entity_id("new.txt"), made);
    fs::rename(mount.path("new.txt"), mount.path("old.txt")).unwrap();
    assert_eq!(server.names("").unwrap(), ["old.txt"]);
    assert_eq!(sh(&mount, "ls"), "old.txt\n");
    arrives(&server, &mount, "old.txt", &[0; SIZE as usize]);
}
