use super::*;

#[test]
fn a_written_byte_covers_the_base_and_nothing_else() {
    let world = World::new();
    let (staging, _) = world.open();
    let old = vec![7; 100];
    let local = staging
        .create(place("a"), Some(base("e", 100)), at(0))
        .unwrap();
    assert_eq!(local.missing(), Some(0..100));
    local.write(10, b"new", at(1)).unwrap();
    assert_eq!(
        local.pieces(0..20),
        [Piece::Base(0..10), Piece::Here(10..13), Piece::Base(13..20)]
    );
    assert!(local.read(9..12).is_err());
    let mut expected = old.clone();
    expected[10..13].copy_from_slice(b"new");
    assert_eq!(all(&local, &old), expected);
    // What is filled in does not cover what was written.
    local.fill(0, &[7; 50]).unwrap();
    assert_eq!(local.missing(), Some(50..100));
    local.fill(50, &[7; 500]).unwrap();
    assert_eq!(local.missing(), None);
    assert_eq!(all(&local, &[]), expected);
}

#[test]
fn what_was_cut_off_by_truncation_does_not_come_back_from_the_base() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging
        .create(place("a"), Some(base("e", 100)), at(0))
        .unwrap();
    local.truncate(40, at(1)).unwrap();
    local.truncate(80, at(2)).unwrap();
    let mut expected = vec![7; 40];
    expected.resize(80, 0);
    assert_eq!(all(&local, &[7; 100]), expected);
    drop((local, staging));
    let (_staging, locals) = world.open();
    assert_eq!(all(&locals[0], &[7; 100]), expected);
    assert_eq!(locals[0].base().unwrap().visible_bytes, 40);
}

/// A file as it ought to be, and what was done to it.
struct Model {
    bytes: Vec<u8>,
    mtime: SystemTime,
    generation: u64,
}

fn step(local: &Local, model: &mut Model, old: &[u8], dice: &mut Dice, now: SystemTime) {
    const MOST: u64 = 3000;
    let range = dice.range(MOST);
    let bytes: Vec<u8> = range.clone().map(|_| dice.below(256) as u8).collect();
    let (start, end) = (range.start as usize, range.end as usize);
    let mut is_change = !range.is_empty();
    match dice.below(9) {
        0..=2 => {
            local.write(range.start, &bytes, now).unwrap();
            if is_change {
                model.bytes.resize(model.bytes.len().max(end), 0);
                model.bytes[start..end].copy_from_slice(&bytes);
            }
        }
        3 => {
            local.truncate(range.start, now).unwrap();
            model.bytes.resize(start, 0);
            is_change = true;
        }
        4 => {
            local.zero(range.clone(), now).unwrap();
            let end = end.min(model.bytes.len());
            is_change = start < end;
            if is_change {
                model.bytes[start..end].fill(0);
            }
        }
        5 if is_change => {
            let grow = dice.below(2) == 0;
            local.allocate(range.clone(), grow, now).unwrap();
            is_change = grow && end > model.bytes.len();
            if is_change {
                model.bytes.resize(end, 0);
            }
        }
        6 => {
            local.set_mtime(now).unwrap();
            is_change = true;
        }
        7 => {
            local.stage(now).unwrap();
            is_change = false;
        }
        _ => {
            let end = end.min(old.len());
            local.fill(range.start, &old[start.min(end)..end]).unwrap();
            is_change = false;
        }
    }
    if is_change {
        model.mtime = now;
        assert!(local.generation() > model.generation);
    }
    model.generation = local.generation();
}

#[test]
fn any_calls_leave_what_a_list_of_bytes_has_and_a_restart_finds_it() {
    let mut dice = Dice::new();
    let world = World::new();
    let old: Vec<u8> = (0..2000).map(|_| dice.below(256) as u8).collect();
    for round in 0..60 {
        let (staging, _) = world.open();
        let is_over = dice.below(3) > 0;
        let base = is_over.then(|| base("e", old.len() as u64));
        let local = staging.create(place("a"), base, at(0)).unwrap();
        let mut model = Model {
            bytes: if is_over { old.clone() } else { Vec::new() },
            mtime: at(0),
            generation: local.generation(),
        };
        for turn in 0..dice.below(25) {
            step(&local, &mut model, &old, &mut dice, at(turn + 1));
            assert_eq!(all(&local, &old), model.bytes, "round {round}");
            assert_eq!(local.mtime(), model.mtime);
            if dice.below(8) == 0 {
                local.close_files();
            }
        }
        local.stage(at(100)).unwrap();
        drop((local, staging));
        let (_staging, locals) = world.open();
        let local = locals.last().unwrap();
        assert_eq!(local.mtime(), model.mtime, "round {round}");
        assert_eq!(all(local, &old), model.bytes, "round {round}");
        assert!(matches!(local.state(), State::Staged(_)));
        for turn in 0..dice.below(10) {
            step(local, &mut model, &old, &mut dice, at(turn + 200));
            assert_eq!(all(local, &old), model.bytes, "round {round}");
        }
        local.unlink().unwrap();
    }
    assert_eq!(world.content(), [""; 0]);
}

#[test]
fn sizes_that_no_file_can_have_are_refused() {
    let world = World::new();
    let (staging, _) = world.open();
    let local = staging.create(place("a"), None, at(0)).unwrap();
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EFBIG));
    };
    refused(local.write(u64::MAX, b"x", at(1)));
    refused(local.write(i64::MAX as u64, b"x", at(1)));
    refused(local.truncate(u64::MAX, at(1)));
    refused(local.allocate(0..u64::MAX, true, at(1)));
    assert_eq!(local.size_bytes(), 0);
}
