//! The log: to standard error, for people with a time, for the journal with a priority.

use std::io::Write;
use std::os::linux::fs::MetadataExt;

use log::Level;

use crate::config::environment::Environment;

/// Sends the log to standard error: warnings, with `-v` the mount's life, with `-vv` each request; `RUST_LOG` has the
/// last word. Where standard error is the journal, each line begins with its priority (→ sd-daemon(3)).
pub fn logging(verbosity: u8, environment: &Environment) {
    let default = match verbosity {
        0 => "warn",
        1 => "warn,cloudreve_fuse=info",
        _ => "info,cloudreve_fuse=debug",
    };
    let filters = environment
        .get("RUST_LOG")
        .and_then(|filters| filters.to_str());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filters.unwrap_or(default));
    // A second is long where two machines change the same files.
    builder.format_timestamp_millis();
    if is_journal(environment) {
        builder.format(|out, record| {
            // A line break would begin an entry of its own, without a priority.
            let words = record.args().to_string().replace('\n', "\\n");
            writeln!(
                out,
                "<{}>{}: {words}",
                priority(record.level()),
                record.target()
            )
        });
    }
    // Fails only where a logger is there already, which then serves as well.
    let _ = builder.try_init();
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is the stream that systemd named: what runs below a unit may write elsewhere.
fn is_journal(environment: &Environment) -> bool {
    let Some(stream) = environment.get("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|it| *stream == *format!("{}:{}", it.st_dev(), it.st_ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_systemd_named_is_the_journal() {
        let it = std::fs::metadata("/proc/self/fd/2").unwrap();
        let named = format!("{}:{}", it.st_dev(), it.st_ino());
        let environment = |stream: &str| Environment::new([("JOURNAL_STREAM", stream)], 0, 0);
        assert!(is_journal(&environment(&named)));
        assert!(!is_journal(&environment("1:2")));
        assert!(!is_journal(&Environment::default()));
    }
}
