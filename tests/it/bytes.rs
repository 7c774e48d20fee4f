//! Every byte right, read through the kernel in every way that programs read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use cloudreve_test_server::{Options, Server, generated_bytes};

use crate::support::dice;
use crate::support::map::Map;
use crate::support::mounted::Mounted;

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

#[test]
fn a_reader_keeps_the_version_it_opened_and_the_next_open_sees_the_new_one() {
    let server = Server::start(Options::default()).unwrap();
    let old: Vec<u8> = (0..3 * MIB).map(|i| (i % 251) as u8).collect();
    let new: Vec<u8> = (0..2 * MIB).map(|i| (i % 241) as u8).collect();
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

#[test]
fn what_is_mapped_of_a_new_version_never_shows_in_the_old_one() {
    let server = Server::start(Options::default()).unwrap();
    let old: Vec<u8> = (0..MIB).map(|i| (i % 251) as u8).collect();
    let new: Vec<u8> = (0..MIB).map(|i| (i % 241) as u8).collect();
    server.put("file.bin", old.clone());
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "0s"]);
    let path = mount.path("file.bin");

    let reader = File::open(&path).unwrap();
    server.put("file.bin", new.clone());
    let other = File::open(&path).unwrap();
    // Asks for the pages of the whole file, which the two versions would share.
    let pages = Map::private(&other, new.len()).and_then(|map| map.populate());
    if let Ok(pages) = pages {
        assert_same(&pages, &new, "the mapped version");
    }
    let mut found = vec![0; old.len()];
    reader.read_exact_at(&mut found, 0).unwrap();
    assert_same(&found, &old, "the open handle");
    other.read_exact_at(&mut found, 0).unwrap();
    assert_same(&found, &new, "the new version, read");
    drop((reader, other));
    let file = File::open(&path).unwrap();
    assert_same(&Map::of(&file, new.len()), &new, "mapped by itself");
}
