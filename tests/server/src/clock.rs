//! The server's clock: real time, plus what the test put on top of it.
//!
//! Expiries of tokens and signatures, timestamps of files and the `Date` header all come from here, so that a test
//! can let an hour pass in no time. Latency and bandwidth do not: they are felt by the client in real time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NANOS: i128 = 1_000_000_000;

/// A moment, in nanoseconds since 1970; wide enough for the year 9999 and for Go's zero time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) i128);

impl Time {
    /// Go's zero time, 0001-01-01: what the server sends where there is none.
    pub(crate) const ZERO: Self = Self(-62_135_596_800 * NANOS);

    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(i128::from(millis) * 1_000_000)
    }

    pub(crate) fn plus(self, length: Duration) -> Self {
        Self(self.0 + length.as_nanos() as i128)
    }

    pub(crate) fn unix_seconds(self) -> i64 {
        self.0.div_euclid(NANOS) as i64
    }

    /// RFC 3339 in UTC, zeros at the end of the fraction trimmed, as Go writes it (→ api part 1 §6.1).
    pub(crate) fn rfc3339(self) -> String {
        let (year, month, day) = civil(self.unix_seconds().div_euclid(86_400));
        let second = self.unix_seconds().rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let fraction = self.0.rem_euclid(NANOS);
        if fraction > 0 {
            text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
        }
        text + "Z"
    }

    /// Reads back what [`Time::rfc3339`] wrote, as in page tokens; nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
        let (hour, minute, second) = (
            clock.next()?.ok()?,
            clock.next()?.ok()?,
            clock.next()?.ok()?,
        );
        let nanos: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self(i128::from(seconds) * NANOS + nanos))
    }

    /// The form of the `Date` header.
    pub(crate) fn http_date(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let day_number = self.unix_seconds().div_euclid(86_400);
        let (year, month, day) = civil(day_number);
        let second = self.unix_seconds().rem_euclid(86_400);
        format!(
            "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            DAYS[day_number.rem_euclid(7) as usize],
            MONTHS[(month - 1) as usize],
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Real time, plus an offset that only grows.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_nanos: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Time {
        let real = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time(real.as_nanos() as i128 + i128::from(self.offset_nanos.load(Ordering::Relaxed)))
    }

    pub(crate) fn advance(&self, length: Duration) {
        self.offset_nanos
            .fetch_add(length.as_nanos() as i64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_server_writes_them_and_read_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_600_000_000_123, "2020-09-13T12:26:40.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Time::from_millis(millis).rfc3339(), text);
            assert_eq!(Time::parse(text), Some(Time::from_millis(millis)));
        }
        assert_eq!(Time::ZERO.rfc3339(), "0001-01-01T00:00:00Z");
        assert_eq!(
            Time::from_millis(784_111_777_000).http_date(),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn an_advanced_clock_is_ahead_and_stays_ahead() {
        let clock = Clock::default();
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() >= before.plus(Duration::from_secs(3600)));
    }
}
