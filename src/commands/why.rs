//! `why`: what a file or folder of a mount is now.

use std::time::Duration;

use crate::cli::WhyArgs;
use crate::cli::values::show_size;
use crate::commands::mounts::{place_of, points};
use crate::commands::{print, print_json, table};
use crate::config;
use crate::config::environment::Environment;
use crate::control::{self, Answer, BelowPoint, Request, Why};
use crate::failure::Failure;

/// Longest wait: the daemon may ask the server, for each folder on the way, and gives up by its own timeout.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(args: &WhyArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let control_dir = local.dirs.control.as_path();
    let (point, below) = place_of(&args.path, &points(control_dir)?)?;
    let socket = control::socket_path(control_dir, &point);
    let request = Request::Why {
        path: BelowPoint(below),
    };
    let shown = args.path.display();
    match control::ask(&socket, &request, PATIENCE) {
        Ok(Answer::Why(why)) if args.json => print_json(&why),
        Ok(Answer::Why(why)) => print(&text(&why)),
        Ok(Answer::Failed { why }) => Err(Failure::failed(format!("{shown}: {why}"))),
        Ok(_) => Err(Failure::failed(format!(
            "{shown}: its daemon answered another question"
        ))),
        Err(err) => Err(Failure::failed(format!(
            "{shown}: the daemon of {} does not answer ({err}); see 'cloudreve-fuse status'",
            point.display()
        ))),
    }
}

fn text(why: &Why) -> String {
    let rows: Vec<Vec<String>> = rows(why)
        .into_iter()
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    format!("{}\n{}", why.path, table(&rows))
}

fn rows(why: &Why) -> Vec<(&'static str, String)> {
    let kind = why.kind.as_deref().unwrap_or("file");
    let state = match why.state.as_str() {
        "on_server" => "on the server",
        "owed" => "here, owed to the server",
        "open" => "here, written to and still open",
        "local_only" => "on this machine alone",
        other => other,
    };
    let size = why
        .size_bytes
        .map(|bytes| format!(", {}", show_size(bytes)));
    let is = format!("a {kind}{}, {state}", size.unwrap_or_default());
    let mut rows = vec![("is", is)];
    let mut row = |name, value: &Option<String>| {
        rows.extend(value.iter().map(|value| (name, value.clone())));
    };
    row("place", &why.uri);
    row("file id", &why.file_id);
    row("version", &why.entity);
    row("cached", &why.cached);
    if let Some(owed) = &why.owed {
        row("written over", &owed.base_entity);
        row("owed since", &owed.owed_since);
        row("kept as", &owed.kept_as);
        let tries = (owed.tries > 0).then(|| owed.tries.to_string());
        row("failed tries", &tries);
        row("last error", &owed.last_reason);
    }
    row("trouble", &why.trouble);
    row("next", &Some(why.next.clone()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::OwedFile;

    fn lines(why: &Why, lines: &[&str]) {
        let shown = text(why);
        assert_eq!(shown.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_file_on_the_server_is_told_by_what_the_server_knows() {
        let why = Why {
            path: "/m/a".into(),
            kind: Some("file".into()),
            state: "on_server".into(),
            size_bytes: Some(1 << 20),
            uri: Some("cloudreve://my/a".into()),
            file_id: Some("kqsa".into()),
            entity: Some("e1".into()),
            cached: Some("100%".into()),
            next: "nothing".into(),
            ..Why::default()
        };
        lines(
            &why,
            &[
                "/m/a",
                "  is       a file, 1.00 MiB, on the server",
                "  place    cloudreve://my/a",
                "  file id  kqsa",
                "  version  e1",
                "  cached   100%",
                "  next     nothing",
            ],
        );
    }

    #[test]
    fn an_owed_file_is_told_with_its_base_its_error_and_what_comes_next() {
        let why = Why {
            path: "/m/a".into(),
            state: "owed".into(),
            trouble: Some("no answer in time".into()),
            owed: Some(OwedFile {
                base_entity: Some("e0".into()),
                owed_since: Some("2026-01-01T00:00:00Z".into()),
                tries: 2,
                last_reason: Some("no answer within 30s".into()),
                ..OwedFile::default()
            }),
            next: "it is tried again".into(),
            ..Why::default()
        };
        lines(
            &why,
            &[
                "/m/a",
                "  is            a file, here, owed to the server",
                "  written over  e0",
                "  owed since    2026-01-01T00:00:00Z",
                "  failed tries  2",
                "  last error    no answer within 30s",
                "  trouble       no answer in time",
                "  next          it is tried again",
            ],
        );
    }
}
