//! How far a wait is, on standard error: a bar that is drawn anew on a terminal, a plain line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cli::values::show_size;
use crate::config::environment::Environment;
use crate::control::Progress;

/// Marks in a full bar.
const WIDTH: u64 = 20;

/// How often a plain line is written: often enough to see that it goes on, seldom enough for a log.
const PLAIN_PERIOD: Duration = Duration::from_secs(10);

/// How long nothing is written: what is done by then needs no words.
const QUIET: Duration = Duration::from_secs(2);

/// Shows progress until it is dropped; then a bar is taken away.
pub(super) struct Shown {
    on_terminal: bool,
    /// Nothing is written where there is no terminal.
    is_quiet: bool,
    drawn: bool,
    began: Instant,
    /// The last plain line, and when.
    said: Option<(Instant, Progress)>,
}

impl Shown {
    pub(super) fn new(environment: &Environment) -> Self {
        let dumb = environment.get("TERM").is_none_or(|term| term == "dumb");
        Self {
            on_terminal: io::stderr().is_terminal() && !dumb,
            is_quiet: false,
            drawn: false,
            began: Instant::now(),
            said: None,
        }
    }

    /// As [`Shown::new`], but for a terminal only.
    pub(super) fn on_terminal(environment: &Environment) -> Self {
        Self {
            is_quiet: true,
            ..Self::new(environment)
        }
    }

    /// Shows it, unless nothing is waited for any more.
    pub(super) fn show(&mut self, progress: &Progress, now: Instant) {
        let is_quiet = self.is_quiet && !self.on_terminal;
        if is_quiet || progress.files_done >= progress.files {
            return;
        }
        let text = match (self.on_terminal, self.is_due(progress, now)) {
            // Behind the text is what was left of a longer one.
            (true, _) => format!("\r{} {}\x1b[K", bar(progress), words(progress)),
            (false, true) => format!("{}\n", words(progress)),
            (false, false) => return,
        };
        self.drawn = self.on_terminal;
        write(&text);
    }

    fn is_due(&mut self, progress: &Progress, now: Instant) -> bool {
        let due = match self.said {
            None => now.saturating_duration_since(self.began) >= QUIET,
            Some((at, before)) => {
                before != *progress && now.saturating_duration_since(at) >= PLAIN_PERIOD
            }
        };
        if due {
            self.said = Some((now, *progress));
        }
        due
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.drawn {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    // A closed standard error must not end the command.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

fn bar(progress: &Progress) -> String {
    // A file counts as much as its bytes may, so that empty ones move the bar, too.
    let whole = progress.bytes + progress.files;
    let done = (progress.bytes_done + progress.files_done).min(whole);
    let marks = u128::from(done) * u128::from(WIDTH);
    let marks = marks.checked_div(u128::from(whole)).unwrap_or(0) as usize;
    format!("[{:-<width$}]", "#".repeat(marks), width = WIDTH as usize)
}

fn words(progress: &Progress) -> String {
    let mut text = format!(
        "{} of {} files, {} of {}",
        progress.files_done,
        progress.files,
        show_size(progress.bytes_done),
        show_size(progress.bytes)
    );
    if progress.bytes_per_second > 0 {
        text += &format!(", {}/s", show_size(progress.bytes_per_second));
    }
    if let Some(seconds) = progress.eta_seconds {
        text += &format!(", {} left", show_seconds(seconds));
    }
    text
}

/// A time that is a guess, in one unit.
pub(super) fn show_seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(files_done: u64, bytes_done: u64) -> Progress {
        Progress {
            files: 4,
            files_done,
            bytes: 4 << 20,
            bytes_done,
            ..Progress::default()
        }
    }

    #[test]
    fn a_bar_is_full_when_all_is_there_and_not_before() {
        assert_eq!(bar(&progress(0, 0)), "[--------------------]");
        assert_eq!(bar(&progress(2, 2 << 20)), "[##########----------]");
        assert_eq!(bar(&progress(3, 4 << 20)), "[###################-]");
        assert_eq!(bar(&progress(4, 4 << 20)), "[####################]");
        assert_eq!(bar(&Progress::default()), "[--------------------]");
    }

    #[test]
    fn words_say_what_is_known() {
        assert_eq!(
            words(&progress(1, 1 << 20)),
            "1 of 4 files, 1.00 MiB of 4.00 MiB"
        );
        let fast = Progress {
            bytes_per_second: 1 << 20,
            eta_seconds: Some(3),
            ..progress(1, 1 << 20)
        };
        assert!(words(&fast).ends_with(", 1.00 MiB/s, 3 s left"));
        for (seconds, shown) in [
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(show_seconds(seconds), shown);
        }
    }

    #[test]
    fn plain_lines_come_now_and_then_and_say_something_new() {
        let start = Instant::now();
        let mut shown = Shown {
            on_terminal: false,
            is_quiet: false,
            drawn: false,
            began: start,
            said: None,
        };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!shown.is_due(&progress(0, 0), at(1)), "it may be over soon");
        assert!(shown.is_due(&progress(0, 0), at(2)));
        assert!(!shown.is_due(&progress(1, 0), at(3)), "too soon");
        assert!(!shown.is_due(&progress(0, 0), at(20)), "nothing new");
        assert!(shown.is_due(&progress(1, 0), at(21)));
    }
}
