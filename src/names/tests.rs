//! Promises of names: those that can be read, and those that hold for all names there are.

use std::collections::HashMap;

use super::made_up::MadeUp;
use super::*;

fn local(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn encoded(bytes: &[u8]) -> Result<ServerName, NameError> {
    ServerName::from_local(local(bytes), NamePolicy::Encode)
}

/// A seed that is printed, for who wants to see a failure again: `SEED=…`.
fn made_up() -> MadeUp {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().unwrap());
    println!("SEED={seed}");
    MadeUp(seed)
}

#[track_caller]
fn check(bytes: &[u8], stored: &str) {
    let name = encoded(bytes).unwrap();
    assert_eq!(name.to_string(), stored);
    assert_eq!(name.to_local(NamePolicy::Encode).as_bytes(), bytes);
    assert_eq!(
        name.local_of(None, NamePolicy::Encode).as_deref(),
        Some(local(bytes))
    );
}

#[test]
fn a_refused_character_is_stored_as_its_look_alike_and_comes_back() {
    check(
        b"12:30 \\ \"why\"? <a|b>*",
        "12：30 ＼ ＂why＂？ ＜a｜b＞＊",
    );
}

#[test]
fn a_look_alike_of_ones_own_comes_back_as_itself() {
    check("a：b".as_bytes(), "a‛：b");
    check("‛".as_bytes(), "‛‛");
    check("‛：‛‛".as_bytes(), "‛‛‛：‛‛‛‛");
}

#[test]
fn ordinary_names_are_stored_as_they_are() {
    for name in [
        "a b#1.txt",
        "100%",
        " x. ",
        "Inc.",
        "...",
        "ä",
        "a\u{308}",
        "~t",
        "…",
        "\n",
        "␀",
        "．",
    ] {
        check(name.as_bytes(), name);
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_stored_as_digits_and_come_back() {
    check(b"a\xff:b", "a‛FF：b");
    check(b"\xed\xa0\x80", "‛ED‛A0‛80");
    check(b"\xe2\x80x", "‛E2‛80x");
    check("‛FF".as_bytes(), "‛‛FF");
    check(b"\xe2\x80\x9b\xff41", "‛‛‛FF41");
}

/// Made by rclone's own encoder, with the local one of Linux before it, as `rclone copy` does.
#[test]
fn rclone_stores_names_the_same() {
    check(b"what? 12:30 <a|b>.txt", "what？ 12：30 ＜a｜b＞.txt");
    check("a：b".as_bytes(), "a‛：b");
    check(b"latin\xe9 \xf0\x9f\x98", "latin‛E9 ‛F0‛9F‛98");
    check("／ ． ␀ \u{fffd}".as_bytes(), "／ ． ␀ \u{fffd}");
}

#[test]
fn what_the_encoder_cannot_have_made_has_no_name_of_its_own() {
    for stored in [
        "‛".as_bytes(),
        "‛a".as_bytes(),
        "‛ff".as_bytes(),
        "‛41".as_bytes(),
        "‛2F".as_bytes(),
        "‛00".as_bytes(),
        "‛C3‛A4".as_bytes(),
        "a:b".as_bytes(),
        b"a\xffb",
        b"..",
        b"a/b",
        b"a\0b",
        b"",
        "‛~0123456789abcdef0123456789abcdef".as_bytes(),
    ] {
        let name = ServerName::from_wire(stored);
        assert_eq!(name.local_of(None, NamePolicy::Encode), None, "{name}");
        assert!(
            is_local(name.to_local(NamePolicy::Encode).as_bytes()),
            "{name}"
        );
    }
}

#[test]
fn dots_and_what_is_too_long_once_stored_are_refused() {
    assert_eq!(encoded(b"."), Err(NameError::Refused));
    assert_eq!(encoded(b".."), Err(NameError::Refused));
    assert_eq!(encoded(b"a/b"), Err(NameError::Refused));
    assert_eq!(encoded(&[b'a'; 256]), Err(NameError::TooLong));
    assert_eq!(encoded(&[b':'; 86]), Err(NameError::TooLong));
    assert!(encoded(&[b':'; 85]).is_ok());
    assert_eq!(encoded(&[0xff; 52]), Err(NameError::TooLong));
    assert!(encoded(&[0xff; 51]).is_ok());
}

#[test]
fn under_reject_what_the_server_refuses_is_refused_and_look_alikes_are_left_alone() {
    for refused in [b"a:b".as_slice(), b"a\xffb", b"..", b"\\"] {
        assert_eq!(
            ServerName::from_local(local(refused), NamePolicy::Reject),
            Err(NameError::Refused)
        );
    }
    let stored = ServerName::from_wire("a：b‛FF".as_bytes());
    assert_eq!(stored.to_local(NamePolicy::Reject), "a：b‛FF");
    assert_eq!(
        stored.local_of(None, NamePolicy::Reject).unwrap(),
        "a：b‛FF"
    );
}

#[test]
fn a_hostile_name_cannot_leave_its_folder() {
    for (hostile, local) in [
        ("..", "．．"),
        (".", "．"),
        ("", "_"),
        ("../../etc", ".._.._etc"),
        ("a\0b", "a_b"),
        ("‛2E‛2E", "‛2E‛2E"),
    ] {
        assert_eq!(
            ServerName::from_wire(hostile.as_bytes()).to_local(NamePolicy::Encode),
            local
        );
    }
}

/// The form is looked for in drives that exist: it is the same in all versions.
#[test]
fn a_name_that_is_too_long_is_stored_by_its_beginning_a_mark_and_its_ending() {
    let name = [&[b':'; 100], b".tar.gz".as_slice()].concat();
    let stored = Stored::of(local(&name), NamePolicy::Encode).unwrap();
    assert_eq!(
        stored.name.to_string(),
        // The first half of the SHA-256 of the full name, computed by another program.
        "：".repeat(50) + "‛~da3116dbd1efff8bd6861845ce382672.gz"
    );
    assert_eq!(stored.full, Some("：".repeat(100) + ".tar.gz"));
}

#[test]
fn what_was_kept_is_believed_of_the_name_that_was_made_of_it_and_of_no_other() {
    let long =
        |last: &str| Stored::of(OsStr::new(&(":".repeat(99) + last)), NamePolicy::Encode).unwrap();
    let (a, b) = (long("a.txt"), long("b.txt"));
    let kept = a.full.as_deref();
    assert_ne!(a.name, b.name);
    assert!(a.name.local_of(kept, NamePolicy::Encode).is_some());
    assert_eq!(a.name.local_of(None, NamePolicy::Encode), None);
    // Where names are what they are, so is this one.
    let as_it_is = a.name.local_of(kept, NamePolicy::Reject).unwrap();
    assert_eq!(as_it_is.as_bytes(), a.name.as_bytes());
    assert_eq!(b.name.local_of(kept, NamePolicy::Encode), None);
    let text = a.name.to_string();
    for changed in [
        text.replace("txt", "pdf"),
        text.replacen('：', "", 1),
        text + "x",
    ] {
        let changed = ServerName::from_wire(changed.into_bytes());
        assert_eq!(
            changed.local_of(kept, NamePolicy::Encode),
            None,
            "{changed}"
        );
    }
    // Somebody gave it another name altogether.
    let renamed = ServerName::from_wire(*b"report.txt");
    assert_eq!(
        renamed.local_of(kept, NamePolicy::Encode).unwrap(),
        "report.txt"
    );
    // What fits is never had from elsewhere: a name that is free stays free.
    let short = shortened::shortened(b"report.txt", "report.txt");
    let short = ServerName::from_wire(short.into_bytes());
    assert_eq!(short.local_of(Some("report.txt"), NamePolicy::Encode), None);
}

#[test]
fn every_name_is_stored_as_the_server_takes_it_and_comes_back_the_same() {
    let mut made_up = made_up();
    let mut before: HashMap<ServerName, Vec<u8>> = HashMap::new();
    let (mut whole, mut in_part) = (0, 0);
    for _ in 0..40_000 {
        let name = made_up.name();
        let Stored { name: stored, full } = Stored::of(local(&name), NamePolicy::Encode).unwrap();
        let said = format!("{name:?} as {stored:?}");
        let text = std::str::from_utf8(stored.as_bytes()).expect(&said);
        assert!((1..=255).contains(&text.len()), "{said}");
        assert!(
            !text.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|', '\0']),
            "{said}"
        );
        assert!(text != "." && text != "..", "{said}");

        let back = stored.local_of(full.as_deref(), NamePolicy::Encode);
        assert_eq!(back.as_deref(), Some(local(&name)), "{said}");
        match &full {
            None => {
                whole += 1;
                assert_eq!(encoded(&name).as_ref(), Ok(&stored), "{said}");
                assert_eq!(
                    stored.to_local(NamePolicy::Encode).as_bytes(),
                    name,
                    "{said}"
                );
            }
            Some(full) => {
                in_part += 1;
                assert!(full.len() > 255 && text.len() <= 230, "{said}");
                assert_eq!(encoded(&name), Err(NameError::TooLong), "{said}");
                assert_eq!(stored.local_of(None, NamePolicy::Encode), None, "{said}");
            }
        }
        if let Some(other) = before.insert(stored, name.clone()) {
            assert_eq!(other, name, "two names are stored as one");
        }
    }
    assert!(whole > 1000 && in_part > 1000, "{whole} {in_part}");
}

#[test]
fn under_reject_every_name_is_stored_as_it_is_or_refused() {
    let mut made_up = made_up();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let name = made_up.name();
        let text = std::str::from_utf8(&name);
        let is_good =
            text.is_ok_and(|text| !text.contains(['\\', ':', '*', '?', '"', '<', '>', '|']));
        match ServerName::from_local(local(&name), NamePolicy::Reject) {
            Ok(stored) => {
                taken += 1;
                assert!(is_good, "{name:?}");
                assert_eq!(stored.as_bytes(), name);
                assert_eq!(
                    stored
                        .local_of(None, NamePolicy::Reject)
                        .unwrap()
                        .as_bytes(),
                    name
                );
            }
            Err(error) => {
                refused += 1;
                assert!(!is_good && error == NameError::Refused, "{name:?}");
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}

#[test]
fn whatever_a_server_sends_gets_a_name_and_one_of_its_own_only_if_it_is_stored_for_that() {
    let mut made_up = made_up();
    let (mut own, mut none) = (0, 0);
    for _ in 0..40_000 {
        let stored = ServerName::from_wire(made_up.bytes());
        let kept = String::from_utf8_lossy(&made_up.bytes()).repeat(1 + made_up.below(4));
        for policy in [NamePolicy::Encode, NamePolicy::Reject] {
            assert!(is_local(stored.to_local(policy).as_bytes()) || stored.as_bytes().len() > 255);
            for kept in [None, Some(kept.as_str())] {
                let Some(name) = stored.local_of(kept, policy) else {
                    none += 1;
                    continue;
                };
                own += 1;
                assert!(is_local(name.as_bytes()), "{name:?}");
                let again = Stored::of(&name, policy).map(|again| again.name);
                assert_eq!(again.as_ref(), Ok(&stored), "{name:?}");
            }
        }
        if stored.is_plain() {
            for policy in [NamePolicy::Encode, NamePolicy::Reject] {
                assert_eq!(stored.to_local(policy).as_bytes(), stored.as_bytes());
                assert_eq!(
                    ServerName::from_local(&stored.to_local(policy), policy),
                    Ok(stored.clone())
                );
            }
        }
    }
    assert!(own > 1000 && none > 1000, "{own} {none}");
}
