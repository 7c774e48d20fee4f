//! `cache`: what is kept on disk of the content of files; shown, or dropped, and with it what is kept of folders.
//!
//! Looks at the directory itself, so that it works whether a mount runs or not. What is owed to the server lies in
//! another directory and is never touched.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::cache::{self, Cleared, Shown, SiteShown};
use crate::cli::values::{show_moment, show_size};
use crate::cli::{CacheArgs, CacheCommand};
use crate::commands::{print, print_json, table};
use crate::config;
use crate::config::environment::Environment;
use crate::failure::Failure;
use crate::metadata;

/// What `cache show --json` prints. Fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Report {
    dir: PathBuf,
    /// Bytes on disk, with what it takes to find them again.
    bytes: u64,
    entities: u64,
    complete: u64,
    sites: Vec<Site>,
}

#[derive(Debug, Serialize)]
struct Site {
    site: String,
    bytes: u64,
    entities: u64,
    complete: u64,
    oldest_use: Option<String>,
    newest_use: Option<String>,
}

pub(super) fn run(args: &CacheArgs, environment: &Environment) -> Result<(), Failure> {
    let flags = match &args.what {
        CacheCommand::Show(show) => &show.options.0,
        CacheCommand::Clear(clear) => &clear.options.0,
    };
    let dir = config::local(flags, environment)?.dirs.cache;
    let failed = |err| Failure::failed(format!("the cache directory {}: {err}", dir.display()));
    match &args.what {
        CacheCommand::Show(show) => {
            let report = report(&dir, cache::show(&dir).map_err(failed)?);
            match show.json {
                true => print_json(&report),
                false => print(&text(&report)),
            }
        }
        CacheCommand::Clear(_) => {
            let mut cleared = cache::clear(&dir).map_err(failed)?;
            cleared.bytes += metadata::clear(&dir).map_err(failed)?;
            print(&freed(&dir, cleared))
        }
    }
}

fn report(dir: &Path, shown: Shown) -> Report {
    let sites: Vec<Site> = shown.sites.into_iter().map(site).collect();
    Report {
        dir: dir.to_owned(),
        bytes: shown.disk_bytes,
        entities: sites.iter().map(|site| site.entities).sum(),
        complete: sites.iter().map(|site| site.complete).sum(),
        sites,
    }
}

fn site(shown: SiteShown) -> Site {
    let moment = |at: Option<SystemTime>| at.map(show_moment);
    Site {
        site: shown.site,
        bytes: shown.bytes,
        entities: shown.entities,
        complete: shown.complete,
        oldest_use: moment(shown.oldest_use),
        newest_use: moment(shown.newest_use),
    }
}

fn text(report: &Report) -> String {
    let dir = report.dir.display();
    if report.entities == 0 {
        return format!("Nothing is kept in {dir}.\n");
    }
    let head = ["site", "files", "complete", "size", "last used"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.sites.iter().map(|site| {
        vec![
            site.site.clone(),
            site.entities.to_string(),
            site.complete.to_string(),
            show_size(site.bytes),
            site.newest_use.clone().unwrap_or_default(),
        ]
    }));
    if report.sites.len() > 1 {
        rows.push(vec![
            "all".to_owned(),
            report.entities.to_string(),
            report.complete.to_string(),
            show_size(report.bytes),
        ]);
    }
    format!("{dir}\n{}", table(&rows))
}

fn freed(dir: &Path, cleared: Cleared) -> String {
    let dir = dir.display();
    let files = |count| match count {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    let mut text = match (cleared.entities, cleared.bytes) {
        (0, 0) if cleared.in_use > 0 => format!("Nothing was freed in {dir}"),
        (0, 0) => format!("Nothing was kept in {dir}"),
        (count, bytes) => format!("Freed {} in {dir}: {}", show_size(bytes), files(count)),
    };
    if cleared.in_use > 0 {
        let in_use = files(cleared.in_use);
        text += &format!("; open and kept: {in_use}, which the kernel reads by itself");
    }
    text + ".\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn site(site: &str, entities: u64) -> SiteShown {
        SiteShown {
            site: site.to_owned(),
            entities,
            complete: entities - 1,
            bytes: entities << 20,
            oldest_use: None,
            newest_use: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(entities)),
        }
    }

    fn shown(sites: &[SiteShown]) -> Report {
        let shown = Shown {
            disk_bytes: sites.iter().map(|site| site.bytes).sum(),
            sites: sites.to_vec(),
        };
        report(Path::new("/c"), shown)
    }

    #[test]
    fn what_is_kept_is_a_table_with_the_directory_above_and_the_sum_of_several_sites_below() {
        assert_eq!(text(&shown(&[])), "Nothing is kept in /c.\n");
        assert_eq!(
            text(&shown(&[site("a", 3)])),
            "/c\nsite  files  complete  size      last used\na     3      2         3.00 MiB  1970-01-01T00:00:03Z\n"
        );
        let two = text(&shown(&[site("a", 3), site("b", 9)]));
        let sum = two.lines().last().unwrap();
        assert_eq!(sum, "all   12     10        12.0 MiB");
    }

    #[test]
    fn json_has_the_directory_the_sums_and_the_sites() {
        let json = serde_json::to_value(shown(&[site("a", 3), site("b", 9)])).unwrap();
        assert_eq!(json["dir"], "/c");
        assert_eq!(
            (&json["entities"], &json["complete"], &json["bytes"]),
            (&12.into(), &10.into(), &(12 << 20).into())
        );
        assert_eq!(json["sites"][1]["site"], "b");
        assert_eq!(json["sites"][1]["newest_use"], "1970-01-01T00:00:09Z");
    }

    #[test]
    fn what_was_freed_is_said_with_the_directory_and_what_stays() {
        let said = |entities, bytes, in_use| {
            let cleared = Cleared {
                entities,
                bytes,
                in_use,
            };
            freed(Path::new("/c"), cleared)
        };
        assert_eq!(said(0, 0, 0), "Nothing was kept in /c.\n");
        assert_eq!(said(1, 1 << 20, 0), "Freed 1.00 MiB in /c: 1 file.\n");
        assert_eq!(said(7, 1 << 30, 0), "Freed 1.00 GiB in /c: 7 files.\n");
        let some = said(7, 1 << 30, 2);
        assert!(some.contains("7 files; open and kept: 2 files"), "{some}");
        assert!(said(0, 0, 1).starts_with("Nothing was freed in /c; open and kept: 1 file"));
    }
}
