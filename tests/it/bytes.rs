//! Every byte right, read through the kernel in every way that programs read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::dice;
use crate::support::map::Map;
use crate::support::mounted::Mounted;
use crate::support::shell::{self, wait_until};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes around what the kernel, our blocks and the first range are made of.
const SIZES: [u64; 8] = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1];

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    // Not assert_eq: a megabyte of numbers helps nobody.
    assert_eq!(found.len(), expected.len(), "{what}: length");
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!(
            "{what}: byte {at} is {} instead of {}",
            found[at], expected[at]
        );
    }
}

#[test]
fn files_of_every_size_read_whole_backwards_at_random_and_mapped_are_the_source() {
    let server = Server::start(Options::default()).unwrap();
    for size in SIZES {
        server.put_generated(&format!("{size}.bin"), size, size);
    }
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    for size in SIZES {
        let source = generated_bytes(size, 0..size);
        let path = mount.path(format!("{size}.bin"));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
        assert_same(
            &std::fs::read(&path).unwrap(),
            &source,
            &format!("{size} bytes, whole"),
        );
        let file = File::open(&path).unwrap();
        check_backwards(&file, &source);
        check_at_random(&file, &source, 200, size);
        if size > 0 {
            assert_same(
                &Map::of(&file, size as usize),
                &source,
                &format!("{size} bytes, mapped"),
            );
        }
        let mut beyond = [0; 8];
        assert_eq!(
            file.read_at(&mut beyond, size).unwrap(),
            0,
            "{size} bytes, at the end"
        );
        assert_eq!(
            file.read_at(&mut beyond, size + 4096).unwrap(),
            0,
            "{size} bytes, beyond"
        );
    }
    assert_eq!(server.hung_up_before_headers(), 0);
}

fn check_backwards(file: &File, source: &[u8]) {
    let piece = 10_007;
    let mut found = vec![0; source.len()];
    let mut end = source.len();
    while end > 0 {
        let start = end.saturating_sub(piece);
        file.read_exact_at(&mut found[start..end], start as u64)
            .unwrap();
        end = start;
    }
    assert_same(
        &found,
        source,
        &format!("{} bytes, backwards", source.len()),
    );
}

fn check_at_random(file: &File, source: &[u8], reads: usize, seed: u64) {
    let size = source.len() as u64;
    let mut dice = dice(seed + 1);
    for _ in 0..if size == 0 { 0 } else { reads } {
        let start = dice(size);
        let length = dice(100_000).min(size - start) as usize;
        let mut found = vec![0; length];
        file.read_exact_at(&mut found, start).unwrap();
        let expected = &source[start as usize..start as usize + length];
        assert_same(
            &found,
            expected,
            &format!("{size} bytes, {length} at {start}"),
        );
    }
}

#[test]
fn a_file_of_300_mib_is_the_source_read_in_order_and_by_eight_readers_at_once() {
    const SIZE: u64 = 300 * MIB;
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("big.bin", SIZE, 7);
    let mount = Mounted::new(&server, "cloudreve://my/", &[]);
    let path = mount.path("big.bin");

    let mut file = File::open(&path).unwrap();
    let mut piece = vec![0; MIB as usize];
    for start in (0..SIZE).step_by(MIB as usize) {
        file.read_exact(&mut piece).unwrap();
        assert_same(
            &piece,
            &generated_bytes(7, start..start + MIB),
            &format!("in order at {start}"),
        );
    }
    assert_eq!(file.read(&mut piece).unwrap(), 0);

    std::thread::scope(|scope| {
        for reader in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                let mut dice = dice(1000 + reader);
                for _ in 0..40 {
                    let length = 1 + dice(400 * KIB);
                    let start = dice(SIZE - length);
                    let mut found = vec![0; length as usize];
                    file.read_exact_at(&mut found, start).unwrap();
                    let expected = generated_bytes(7, start..start + length);
                    assert_same(
                        &found,
                        &expected,
                        &format!("reader {reader}, {length} at {start}"),
                    );
                }
            });
        }
    });
    assert_eq!(server.hung_up_before_headers(), 0);
}

fn pattern(length: u64, modulus: u64) -> Vec<u8> {
    (0..length).map(|i| (i % modulus) as u8).collect()
}

#[test]
fn a_reader_keeps_the_version_it_opened_and_the_next_open_sees_the_new_one() {
    let server = Server::start(Options::default()).unwrap();
    let (old, new) = (pattern(3 * MIB, 251), pattern(2 * MIB, 241));
    server.put("file.bin", old.clone());
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "0s"]);
    let path = mount.path("file.bin");

    let reader = File::open(&path).unwrap();
    let mut first = vec![0; 1000];
    reader.read_exact_at(&mut first, 0).unwrap();
    server.put("file.bin", new.clone());

    let mut rest = vec![0; old.len()];
    reader.read_exact_at(&mut rest, 0).unwrap();
    assert_same(&rest, &old, "the open handle");
    drop(reader);
    assert_same(&std::fs::read(&path).unwrap(), &new, "the next open");
}

/// What `program` makes of `path` when it copies it, archives it, and so on, as bytes.
fn run(program: &str, path: &Path) -> Vec<u8> {
    let mut command = Command::new("sh");
    command.args(["-euc", program, "sh"]).arg(path);
    let output = shell::output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    output.stdout
}

/// `path` holds `content`, whoever looks, however often.
#[track_caller]
fn check_whole(path: &Path, content: &[u8], what: &str) {
    let programs = [
        ("cat", r#"cat "$1""#),
        ("cp", r#"cp "$1" /dev/stdout | cat"#),
        (
            "tar",
            r#"cd "$(dirname "$1")"; tar -cf - "$(basename "$1")" | tar -xOf -"#,
        ),
        ("dd", r#"dd if="$1" bs=64k iflag=direct status=none"#),
    ];
    let length = std::fs::metadata(path).unwrap().len();
    assert_eq!(length, content.len() as u64, "{what}: stat");
    for (program, script) in programs {
        assert_same(&run(script, path), content, &format!("{what}: {program}"));
    }
    let file = File::open(path).unwrap();
    let mut direct = File::options();
    let direct = direct.read(true).custom_flags(libc::O_DIRECT);
    assert_eq!(file.metadata().unwrap().len(), length, "{what}: fstat");
    for map in [
        Map::of(&file, content.len()),
        Map::of(&direct.open(path).unwrap(), content.len()),
        Map::private(&file, content.len()).unwrap(),
    ] {
        let map = map.populate().unwrap();
        assert_same(&map, content, &format!("{what}: mapped"));
    }
}

/// An open version of a file: read in parts and mapped, so that the kernel has pages of it and asks for more.
struct Held {
    file: File,
    map: Map,
    content: Vec<u8>,
}

impl Held {
    fn open(path: &Path, content: &[u8]) -> Self {
        let file = File::open(path).unwrap();
        file.read_exact_at(&mut [0; 100], 0).unwrap();
        Self {
            map: Map::private(&file, content.len()).unwrap(),
            file,
            content: content.to_vec(),
        }
    }

    #[track_caller]
    fn check(&self) {
        let Self { file, content, .. } = self;
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
        let mut found = vec![0; content.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_same(&found, content, "the open handle");
        let beyond = file.read_at(&mut [0; 8], content.len() as u64);
        assert_eq!(beyond.unwrap(), 0, "beyond the open handle's version");
        assert_same(&self.map, content, "the map of the open handle");
    }
}

#[test]
fn each_version_of_a_file_is_whole_while_older_ones_are_open_and_mapped() {
    let contents = [
        pattern(2 * MIB, 251),
        pattern(3 * MIB + 5, 241),
        pattern(MIB + 7, 239),
        pattern(MIB + 7, 233),
    ];
    for ttl in ["0s", "1s"] {
        let server = Server::start(Options::default()).unwrap();
        let mut held: Vec<Held> = Vec::new();
        server.put("file.bin", contents[0].clone());
        let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", ttl]);
        let path = mount.path("file.bin");
        let mut numbers = HashSet::new();
        for (version, content) in contents.iter().enumerate() {
            // Not the first one again: its content would not tell the two apart.
            if version > 0 {
                server.put("file.bin", content.clone());
            }
            wait_until("the new version shows", || {
                std::fs::metadata(&path).unwrap().len() == content.len() as u64
                    && std::fs::read(&path).unwrap() == *content
            });
            check_whole(&path, content, &format!("beside {} open", held.len()));
            held.push(Held::open(&path, content));
            held.iter().for_each(Held::check);
            let number = std::fs::metadata(&path).unwrap().ino();
            assert!(numbers.insert(number), "two versions have one inode");
            let entry = std::fs::read_dir(mount.path("")).unwrap().next();
            assert_eq!(entry.unwrap().unwrap().ino(), number, "readdir(3)");
        }
        drop(held);
        check_whole(&path, &contents[3], "after all");
    }
}

#[test]
fn a_file_that_nobody_holds_open_keeps_its_inode_and_gets_it_back_once_nobody_does() {
    let server = Server::start(Options::default()).unwrap();
    let (old, new) = (pattern(5000, 251), pattern(9000, 241));
    server.put("file.bin", old.clone());
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "0s"]);
    let path = mount.path("file.bin");
    let number = || std::fs::metadata(&path).unwrap().ino();
    let own = number();
    server.put("file.bin", pattern(7000, 239));
    assert_eq!(number(), own, "nobody has it open");
    server.put("file.bin", old.clone());
    let held = Held::open(&path, &old);
    server.put("file.bin", new.clone());
    let other = number();
    assert_ne!(other, own);
    assert_eq!(held.file.metadata().unwrap().ino(), own);
    check_whole(&path, &new, "beside the old one");
    assert_eq!(number(), other, "it stays");
    drop(held);
    wait_until("its own number comes back", || {
        // 2: dentries and inodes, and not the pages of everybody's files (→ proc_sys_vm(5)).
        std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        number() == own
    });
    check_whole(&path, &new, "under its own number");
}

#[test]
fn a_version_that_the_kernel_has_not_heard_of_yet_is_opened_whole() {
    for is_held in [false, true] {
        let server = Server::start(Options::default()).unwrap();
        let (old, new) = (pattern(5000, 251), pattern(9000, 241));
        server.put("dir/file.bin", old.clone());
        let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "1h"]);
        let path = mount.path("dir/file.bin");
        assert_same(&std::fs::read(&path).unwrap(), &old, "before");
        let held = is_held.then(|| Held::open(&path, &old));
        server.put("dir/file.bin", new.clone());
        // So many names get the folder listed, which tells the daemon of the new version, and not the kernel.
        for name in 0..200 {
            let absent = std::fs::metadata(mount.path("dir").join(name.to_string()));
            assert!(absent.is_err());
        }
        assert_same(&std::fs::read(&path).unwrap(), &new, "opened");
        check_whole(&path, &new, "afterwards");
        held.iter().for_each(Held::check);
    }
}

#[test]
fn a_file_that_is_overwritten_all_the_time_is_one_version_for_each_reader() {
    const ROUNDS: u64 = 60;
    // The length tells which version it is.
    let version = |round: u64| pattern(20_000 + round * 4099 % 30_000, 200 + round % 50);
    let versions: HashMap<_, _> = (0..=ROUNDS)
        .map(version)
        .map(|content| (content.len() as u64, content))
        .collect();
    let server = Server::start(Options::default()).unwrap();
    server.put("file.bin", version(0));
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "0s"]);
    let path = mount.path("file.bin");
    let is_over = AtomicBool::new(false);
    let (opened, stale) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let (path, versions, is_over) = (&path, &versions, &is_over);
            let (opened, stale) = (&opened, &stale);
            scope.spawn(move || {
                let mut held: VecDeque<Held> = VecDeque::new();
                while !is_over.load(Relaxed) {
                    // Two versions that come between two steps of one open(2) are one too many for the kernel.
                    let file = match File::open(path) {
                        Err(err) if err.raw_os_error() == Some(libc::ESTALE) => {
                            stale.fetch_add(1, Relaxed);
                            continue;
                        }
                        file => file.unwrap(),
                    };
                    opened.fetch_add(1, Relaxed);
                    let content = &versions[&file.metadata().unwrap().len()];
                    let map = Map::private(&file, content.len()).unwrap();
                    let content = content.clone();
                    held.push_back(Held { file, map, content });
                    held.iter().for_each(Held::check);
                    if held.len() > reader {
                        held.pop_front();
                    }
                }
            });
        }
        for round in 1..=ROUNDS {
            server.put("file.bin", version(round));
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Relaxed);
    });
    let (opened, stale) = (opened.into_inner(), stale.into_inner());
    assert!(stale < opened, "{stale} of {opened} were not opened");
    check_whole(&path, &version(ROUNDS), "in the end");
}

#[test]
fn what_is_opened_through_an_open_file_is_the_version_that_is_open() {
    let server = Server::start(Options::default()).unwrap();
    let (old, new) = (pattern(5000, 251), pattern(9000, 241));
    server.put("file.bin", old.clone());
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "0s"]);
    let path = mount.path("file.bin");
    let held = Held::open(&path, &old);
    let through = format!("/proc/self/fd/{}", held.file.as_raw_fd());
    server.put("file.bin", new.clone());
    for _ in 0..3 {
        assert_same(&std::fs::read(&through).unwrap(), &old, "through it");
        assert_same(&std::fs::read(&path).unwrap(), &new, "by the name");
    }
}
