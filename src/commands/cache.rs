//! `cache`: what is kept on disk of the content of files; shown, or dropped.
//!
//! Looks at the directory itself, so that it works whether a mount runs or not. What is owed to the server lies in
//! another directory and is never touched.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cache::{Cache, Cleared, Shown};
use crate::cli::values::show_size;
use crate::cli::{CacheArgs, CacheCommand};
use crate::commands::{print, print_json, table};
use crate::config;
use crate::config::environment::Environment;
use crate::failure::Failure;

/// What `cache show --json` prints. Fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Report {
    dir: PathBuf,
    entities: u64,
    complete_entities: u64,
    bytes: u64,
    #[serde(flatten)]
    shown: Shown,
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
            let report = report(&dir, Cache::show(&dir).map_err(failed)?);
            match show.json {
                true => print_json(&report),
                false => print(&text(&report)),
            }
        }
        CacheCommand::Clear(_) => print(&freed(&dir, Cache::clear(&dir).map_err(failed)?)),
    }
}

fn report(dir: &Path, shown: Shown) -> Report {
    let total = |of: fn(&crate::cache::Site) -> u64| shown.sites.iter().map(of).sum();
    Report {
        dir: dir.to_owned(),
        entities: total(|site| site.entities),
        complete_entities: total(|site| site.complete_entities),
        bytes: total(|site| site.bytes),
        shown,
    }
}

fn text(report: &Report) -> String {
    let dir = report.dir.display();
    if report.entities == 0 {
        return format!("Nothing is kept in {dir}.\n");
    }
    let row = |site: &str, entities: u64, complete: u64, bytes: u64| {
        let counts = [entities, complete].map(|count| count.to_string());
        let [entities, complete] = counts;
        vec![site.to_owned(), entities, complete, show_size(bytes)]
    };
    let head = ["site", "files", "complete", "size"].map(str::to_owned);
    let sites = report.shown.sites.iter().map(|site| {
        row(
            &site.instance_id,
            site.entities,
            site.complete_entities,
            site.bytes,
        )
    });
    let mut rows: Vec<Vec<String>> = [head.to_vec()].into_iter().chain(sites).collect();
    if report.shown.sites.len() > 1 {
        rows.push(row(
            "all",
            report.entities,
            report.complete_entities,
            report.bytes,
        ));
    }
    format!("{dir}\n{}", table(&rows))
}

fn freed(dir: &Path, cleared: Cleared) -> String {
    let dir = dir.display();
    match cleared {
        Cleared {
            entities: 0,
            bytes: 0,
        } => format!("Nothing was kept in {dir}.\n"),
        Cleared { entities: 1, bytes } => {
            format!("Freed {} in {dir}: 1 file.\n", show_size(bytes))
        }
        Cleared { entities, bytes } => {
            format!("Freed {} in {dir}: {entities} files.\n", show_size(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Site;

    fn site(instance_id: &str, entities: u64) -> Site {
        Site {
            instance_id: instance_id.to_owned(),
            entities,
            complete_entities: entities - 1,
            bytes: entities << 20,
        }
    }

    fn shown(sites: &[Site]) -> Report {
        let sites = sites.to_vec();
        report(Path::new("/c"), Shown { sites })
    }

    #[test]
    fn what_is_kept_is_a_table_with_the_directory_above_and_the_sum_of_several_sites_below() {
        assert_eq!(text(&shown(&[])), "Nothing is kept in /c.\n");
        assert_eq!(
            text(&shown(&[site("a", 3)])),
            "/c\nsite  files  complete  size\na     3      2         3.00 MiB\n"
        );
        let two = text(&shown(&[site("a", 3), site("b", 9)]));
        assert!(two.ends_with("all   12     10        12.0 MiB\n"), "{two}");
    }

    #[test]
    fn json_has_the_directory_the_sums_and_the_sites() {
        let json = serde_json::to_value(shown(&[site("a", 3), site("b", 9)])).unwrap();
        assert_eq!(json["dir"], "/c");
        assert_eq!(
            (
                &json["entities"],
                &json["complete_entities"],
                &json["bytes"]
            ),
            (&12.into(), &10.into(), &(12 << 20).into())
        );
        assert_eq!(json["sites"][1]["instance_id"], "b");
    }

    #[test]
    fn what_was_freed_is_said_with_the_directory() {
        let said = |entities, bytes| freed(Path::new("/c"), Cleared { entities, bytes });
        assert_eq!(said(0, 0), "Nothing was kept in /c.\n");
        assert_eq!(said(1, 1 << 20), "Freed 1.00 MiB in /c: 1 file.\n");
        assert_eq!(said(7, 1 << 30), "Freed 1.00 GiB in /c: 7 files.\n");
    }
}
