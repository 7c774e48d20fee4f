//! The name of a file that is kept beside another version of itself.
//!
//! `name (conflict HOST YYYY-MM-DD HHMMSS).ext`, in UTC: sorted beside the other one, of the same type, and telling which
//! machine wrote it and when.

use std::ffi::OsStr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::outcome::LONGEST_NAME_BYTES;
use crate::names::{NamePolicy, ServerName};

/// Longest name made here.
const LONGEST_BYTES: usize = LONGEST_NAME_BYTES;
/// Longest ending that is taken for one: `.tar.gz` is `.gz`, and a sentence with a full stop in it has none.
const LONGEST_ENDING_BYTES: usize = 16;
/// Most bytes that one character or byte of a name is exchanged for.
const PIECE_BYTES: usize = 6;
/// Longest host in a name.
const LONGEST_HOST_BYTES: usize = 40;

/// The name for `name`, written by `host` and in conflict since `now`. `nth` counts from 1 and tells those of one second
/// apart.
pub(super) fn name(
    name: &ServerName,
    host: &str,
    now: SystemTime,
    nth: u32,
    names: NamePolicy,
) -> ServerName {
    let host = cut(host.as_bytes(), LONGEST_HOST_BYTES);
    let mut mark = format!(
        " (conflict {} {}",
        legal(&String::from_utf8_lossy(host), names),
        moment(now)
    );
    if nth > 1 {
        mark += &format!(" {nth}");
    }
    mark.push(')');
    let (stem, ending) = split(name.as_bytes());
    let made =
        |most: usize| ServerName::from_wire([cut(stem, most), mark.as_bytes(), ending].concat());
    let most = LONGEST_BYTES.saturating_sub(mark.len() + ending.len());
    // What one character was exchanged for is not cut in two, for such a name would be none of ours.
    (0..=PIECE_BYTES)
        .map(|less| made(most.saturating_sub(less)))
        .find(|made| made.local_of(None, names).is_some())
        .unwrap_or_else(|| made(most))
}

/// What the server takes of a text, with look-alikes for what it does not.
fn legal(text: &str, names: NamePolicy) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .collect();
    match ServerName::from_local(OsStr::new(&plain), names) {
        Ok(name) => name.to_string(),
        Err(_) => "this computer".to_owned(),
    }
}

/// The ending, with its dot, of a name that has one; a name's first dot begins none.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && (2..=LONGEST_ENDING_BYTES).contains(&(name.len() - dot)) => {
            name.split_at(dot)
        }
        _ => (name, b""),
    }
}

/// No more than `most` bytes of it, and no half of a character at the end.
fn cut(text: &[u8], most: usize) -> &[u8] {
    if text.len() <= most {
        return text;
    }
    let is_inside = |at: &usize| text[*at] & 0xc0 == 0x80;
    let end = (0..=most).rev().find(|at| !is_inside(at)).unwrap_or(0);
    &text[..end]
}

/// `YYYY-MM-DD HHMMSS` in UTC.
fn moment(now: SystemTime) -> String {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}{:02}{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The date that is `days` after 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const AT: Duration = Duration::from_secs(1_772_323_199);

    #[track_caller]
    fn check(original: &str, host: &str, nth: u32, expected: &str) {
        let original = ServerName::from_wire(original.as_bytes());
        let made = name(&original, host, UNIX_EPOCH + AT, nth, NamePolicy::Encode);
        assert_eq!(made.to_string(), expected);
    }

    #[test]
    fn a_conflict_copy_tells_host_and_moment_and_keeps_its_type() {
        check(
            "report.odt",
            "anna-pc",
            1,
            "report (conflict anna-pc 2026-02-28 235959).odt",
        );
        check(
            "a.tar.gz",
            "h",
            2,
            "a.tar (conflict h 2026-02-28 235959 2).gz",
        );
        check(
            ".profile",
            "h",
            1,
            ".profile (conflict h 2026-02-28 235959)",
        );
        check("ends.", "h", 1, "ends. (conflict h 2026-02-28 235959)");
        let sentence = "no ending. but a sentence with a dot";
        check(
            sentence,
            "h",
            1,
            &format!("{sentence} (conflict h 2026-02-28 235959)"),
        );
    }

    #[test]
    fn a_host_whose_name_the_server_would_refuse_is_spelled_so_that_it_takes_it() {
        check("a", "x:/y\n", 1, "a (conflict x：_y_ 2026-02-28 235959)");
        check("a", "..", 1, "a (conflict this computer 2026-02-28 235959)");
        check("a", "", 1, "a (conflict this computer 2026-02-28 235959)");
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters_and_before_the_bracket() {
        for shift in 0..4 {
            let long = format!("{}{}.txt", "a".repeat(shift), "字".repeat(83));
            let original = ServerName::from_wire(long.as_bytes());
            let made = name(
                &original,
                &"é".repeat(50),
                UNIX_EPOCH + AT,
                12,
                NamePolicy::Encode,
            );
            let text = std::str::from_utf8(made.as_bytes()).expect("whole characters");
            assert!(text.ends_with(" 2026-02-28 235959 12).txt"), "{text}");
            assert!(made.as_bytes().len() <= LONGEST_BYTES, "{}", text.len());
            assert!(made.as_bytes().len() > LONGEST_BYTES - 4, "{}", text.len());
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let original = ServerName::from_wire(*b"a\xff.b");
        let made = name(&original, "h", UNIX_EPOCH + AT, 1, NamePolicy::Encode);
        assert!(made.as_bytes().starts_with(b"a\xff (conflict h "));
        assert!(made.as_bytes().ends_with(b").b"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(moment(UNIX_EPOCH), "1970-01-01 000000");
        let day = |days| civil(days);
        assert_eq!(day(59), (1970, 3, 1));
        assert_eq!(day(11_016), (2000, 2, 29));
        assert_eq!(day(20_512), (2026, 2, 28));
        assert_eq!(day(47_540), (2100, 2, 28));
        assert_eq!(day(47_541), (2100, 3, 1));
    }

    #[test]
    fn what_a_character_was_exchanged_for_is_not_cut_in_two() {
        for length in 180..215 {
            for piece in ["‛：", "‛FF", "‛‛"] {
                let long = "n".repeat(length) + &piece.repeat(10);
                let original = ServerName::from_wire(long.as_bytes());
                let made = name(&original, "h", UNIX_EPOCH + AT, 1, NamePolicy::Encode);
                assert!(made.local_of(None, NamePolicy::Encode).is_some(), "{made}");
            }
        }
    }
}
