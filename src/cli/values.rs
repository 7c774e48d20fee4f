//! Values as people write them: sizes, durations, yes and no, permission bits.
//!
//! Each parser answers with the value, or with words that say how it is written; who calls names the place.

use std::time::{Duration, SystemTime};

/// Bytes: a whole number with `K`, `M`, `G` or `T` (powers of 1024; `KiB` and `KB` mean the same) or none behind it.
pub fn size(text: &str) -> Result<u64, String> {
    let complaint =
        || format!("'{text}' is not a size; write bytes, or a number with K, M or G, as 128M");
    let (number, unit) = split_number(text.trim());
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(complaint()),
    };
    let number: u64 = number.parse().map_err(|_| complaint())?;
    number.checked_mul(1 << shift).ok_or_else(complaint)
}

/// A length of time: numbers with `ms`, `s`, `m`, `h` or `d`, one behind the other (`1h30m`); or `0`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let complaint =
        || format!("'{text}' is not a duration; write a number with ms, s, m, h or d, as 30s");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, behind) = split_number(rest);
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return Err(complaint()),
        };
        let number: u64 = number.parse().map_err(|_| complaint())?;
        let part = number.checked_mul(unit_ms).ok_or_else(complaint)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(complaint)?;
        rest = behind;
    }
    match total.is_zero() && text.trim().is_empty() {
        true => Err(complaint()),
        false => Ok(total),
    }
}

/// `yes`, `true`, `on`, `1`, or their opposites.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

/// Permission bits in octal, as chmod(1) takes them.
pub fn mode(text: &str) -> Result<u64, String> {
    let digits = text.trim().trim_start_matches("0o");
    match u64::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!(
            "'{text}' is not a mode; write permission bits in octal, as 022"
        )),
    }
}

/// A duration as [`duration`] reads it, in its largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ] {
        if ms != 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    match ms {
        0 => "0".to_owned(),
        _ => format!("{ms}ms"),
    }
}

/// Bytes for people: three digits and a unit of powers of 1024.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        v if v < 9.995 => format!("{v:.2} {}", UNITS[unit]),
        v if v < 99.95 => format!("{v:.1} {}", UNITS[unit]),
        v => format!("{v:.0} {}", UNITS[unit]),
    }
}

/// A moment as RFC 3339 writes it: `YYYY-MM-DDTHH:MM:SSZ`. Those before 1970 are shown as 1970.
pub fn show_moment(moment: SystemTime) -> String {
    let seconds = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// Year, month and day of a number of days after 1970-01-01, by the Gregorian calendar: counted from 0000-03-01, so
/// that leap days come last in their year and 400 years are 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        let at = |seconds| show_moment(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(
            show_moment(SystemTime::UNIX_EPOCH - Duration::from_secs(9)),
            at(0)
        );
    }

    #[test]
    fn sizes_take_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4K", 4096),
            ("128M", 128 << 20),
            ("20g", 20 << 30),
            ("1 GiB", 1 << 30),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "lots", "M", "-1", "1.5G", "12Q", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_take_units_and_combinations_of_them() {
        for (text, ms) in [
            ("0", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            " ",
            "30",
            "soon",
            "5 parsecs",
            "s",
            "-1s",
            "1h30",
            "99999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal_and_flags_are_words() {
        assert_eq!(mode("022"), Ok(0o22));
        assert_eq!(mode("0640"), Ok(0o640));
        assert!(mode("888").is_err() && mode("7777").is_err() && mode("rwx").is_err());
        assert_eq!((flag("Yes"), flag("off")), (Ok(true), Ok(false)));
        assert!(flag("maybe").is_err());
    }

    #[test]
    fn sizes_and_durations_are_shown_short() {
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.50 KiB");
        assert_eq!(show_size((10 << 30) + 1), "10.0 GiB");
        assert_eq!(show_duration(Duration::from_secs(5400)), "90m");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
    }
}
