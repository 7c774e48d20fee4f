//! The server's moments: RFC 3339 with up to nine digits of a second.

use std::time::{Duration, SystemTime};

/// Moments before this are the server's way to say "none" (its zero value is the year 1).
const EARLIEST_SECONDS: i64 = -2_208_988_800; // 1900-01-01

/// A moment of a file; the epoch where the text is none, or absurd.
pub(super) fn moment_or_epoch(text: &str) -> SystemTime {
    rfc3339(text).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Reads `2026-05-02T09:14:03.120934+08:00`. None where that is no moment since 1900.
pub(super) fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-')?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let local = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = local - offset_seconds(zone)?;
    let nanos = nanoseconds(fraction)?;
    if seconds < EARLIEST_SECONDS {
        return None;
    }
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole)?,
        false => SystemTime::UNIX_EPOCH.checked_add(whole)?,
    };
    base.checked_add(Duration::from_nanos(nanos))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<i64>().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn nanoseconds(fraction: &str) -> Option<u64> {
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Some(digits.fold(0, |number, digit| 10 * number + u64::from(digit - b'0')))
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes))
        .then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u64, nanos: u32) {
        let expected = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(rfc3339(text), Some(expected), "{text}");
    }

    #[test]
    fn every_spelling_of_the_server_is_read() {
        check("1970-01-01T00:00:00Z", 0, 0);
        check("2020-09-13T12:26:40.123Z", 1_600_000_000, 123_000_000);
        check(
            "2020-09-13T20:26:40.123456789+08:00",
            1_600_000_000,
            123_456_789,
        );
        check("2020-09-13T07:56:40-04:30", 1_600_000_000, 0);
        check("2024-02-29T23:59:59Z", 1_709_251_199, 0);
        check("2000-03-01T00:00:00.5Z", 951_868_800, 500_000_000);
    }

    #[test]
    fn moments_before_the_epoch_are_moments() {
        let moment = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339("1969-12-31T23:59:59Z"), Some(moment));
    }

    #[test]
    fn what_is_no_moment_becomes_the_epoch() {
        for text in [
            "",
            "soon",
            "0001-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T99:00:00Z",
            "2026-01-01T00:00:00.xZ",
            "20é6-01-01T00:00:00Z",
            "2026-01-01T00:00:00+é",
        ] {
            assert_eq!(moment_or_epoch(text), SystemTime::UNIX_EPOCH, "{text}");
        }
    }
}
