//! `status`: what is mounted, as whom, and how it is doing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::StatusArgs;
use crate::cli::values::show_size;
use crate::commands::mounts::{mount_of, points};
use crate::commands::progress::show_seconds;
use crate::commands::{print, print_json, table};
use crate::config;
use crate::config::environment::Environment;
use crate::control::{
    self, Answer, CacheStatus, Changes, Deletions, OwedFile, OwedSum, PinStatus, ReadingStatus,
    Request, ServerStatus, Status, StaysHere,
};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// Longest wait for a daemon to tell of itself: it answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mount, or what is left of one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Mount {
    Alive(Box<Status>),
    Other(Silent),
}

/// A mount whose daemon does not tell of itself. Fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Silent {
    mount_point: PathBuf,
    /// `dead`, `silent` (it lives and does not answer), `foreign` (somebody else's).
    state: &'static str,
    next_steps: Vec<String>,
}

pub(super) fn run(args: &StatusArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let control_dir = local.dirs.control.as_path();
    let all = points(control_dir)?;
    let points = match &args.dir {
        None => all,
        Some(dir) => vec![mount_of(dir, &all)?],
    };
    // Side by side: one that does not answer keeps the others waiting no longer than it must.
    let mounts: Vec<Mount> = std::thread::scope(|scope| {
        let asked: Vec<_> = points
            .iter()
            .map(|point| scope.spawn(|| ask(control_dir, point)))
            .collect();
        asked
            .into_iter()
            .filter_map(|mount| mount.join().ok().flatten())
            .collect()
    });
    match args.json {
        true => print_json(&mounts),
        false if mounts.is_empty() => {
            print("Nothing is mounted; 'cloudreve-fuse mount URI DIR' mounts a drive.\n")
        }
        false => print(&mounts.iter().map(text).collect::<Vec<_>>().join("\n")),
    }
}

fn ask(control_dir: &Path, point: &Path) -> Option<Mount> {
    let socket = control::socket_path(control_dir, point);
    let err = match control::ask(&socket, &Request::Status, PATIENCE) {
        Ok(Answer::Status(status)) => return Some(Mount::Alive(status)),
        Ok(_) => std::io::ErrorKind::InvalidData.into(),
        Err(err) => err,
    };
    log::debug!("{}: {err}", socket.display());
    let condition = mountpoint::condition(point).unwrap_or(Condition::Unmounted);
    let command = format!("cloudreve-fuse umount {}", point.display());
    let (state, next_step) = match (condition, err.kind()) {
        // A socket that a killed daemon left, and nothing mounted: nothing to tell.
        (Condition::Unmounted | Condition::Other(_) | Condition::StaleOther(_), _) => return None,
        (Condition::Stale(_), _) => (
            "dead",
            format!(
                "its daemon died; '{command}' frees the directory, and so does mounting there again"
            ),
        ),
        (
            Condition::Ours(_),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied,
        ) => (
            "foreign",
            "another user mounted it, or with another --control; ask there".to_owned(),
        ),
        (Condition::Ours(_), _) => (
            "silent",
            format!("its daemon does not answer; '{command} --force' detaches it"),
        ),
    };
    Some(Mount::Other(Silent {
        mount_point: point.to_owned(),
        state,
        next_steps: vec![next_step],
    }))
}

fn text(mount: &Mount) -> String {
    let (point, rows) = match mount {
        Mount::Alive(status) => (&status.mount_point, rows(status)),
        Mount::Other(silent) => (&silent.mount_point, silent_rows(silent)),
    };
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    format!("{}\n{}", point.display(), table(&rows))
}

fn silent_rows(silent: &Silent) -> Vec<(&'static str, String)> {
    let mut rows = vec![("state", silent.state.to_owned())];
    rows.extend(silent.next_steps.iter().map(|step| ("next", step.clone())));
    rows
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let account = &status.account;
    let mut rows = vec![
        ("shows", format!("{} on {}", status.uri, status.address)),
        ("writing", writing(status)),
        ("account", account_text(status)),
    ];
    if let (Some(used), Some(total)) = (account.used_bytes, account.total_bytes) {
        let space = format!("{} of {} used", show_size(used), show_size(total));
        rows.push(("space", space));
    }
    rows.extend(server_rows(&status.server));
    let share = status.share.iter().filter(|share| *share != "there");
    rows.extend(share.map(|share| ("share", share.clone())));
    rows.extend(cache_rows(&status.cache));
    rows.extend(status.reading.iter().flat_map(reading_rows));
    let daemon = format!(
        "{}, pid {}, since {}, {} open",
        status.version, status.pid, status.mounted_since, status.open_handles
    );
    rows.push(("daemon", daemon));
    rows.extend(owed_rows(status));
    rows.extend(deletion_rows(&status.deletions));
    rows.extend(change_rows(&status.changes));
    rows.extend(local_only(&status.local_only));
    rows.extend(status.pins.iter().map(|pin| ("pinned", pinned(pin))));
    let each = |title, texts: &[String]| {
        let texts = texts.iter().cloned();
        texts.map(move |text| (title, text)).collect::<Vec<_>>()
    };
    rows.extend(each("conflict", &status.conflicts));
    rows.extend(each("next", &status.next_steps));
    rows
}

/// Files named one by one; --json lists the others, too.
const FILES_SHOWN: usize = 50;

fn owed_rows(status: &Status) -> Vec<(&'static str, String)> {
    let mut rows = vec![("owed", owed_sum(&status.owed_sum))];
    let files = status.owed_files.iter();
    rows.extend(
        files
            .take(FILES_SHOWN)
            .map(|file| ("file", owed_file(file))),
    );
    let all = status.owed_sum.files + status.owed_sum.open;
    let more = all.saturating_sub(FILES_SHOWN as u64);
    if more > 0 {
        rows.push(("file", format!("… and {more} more (--json lists them)")));
    }
    rows
}

/// Deletions named one by one; --json lists more.
const DELETIONS_SHOWN: usize = 5;

fn deletion_rows(deletions: &Deletions) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if deletions.waiting > 0 {
        let sum = match deletions.waiting {
            1 => "1 file that the server still has".to_owned(),
            n => format!("{n} files that the server still has"),
        };
        rows.push(("deleted", sum));
    }
    let waiting = deletions.files.iter().take(DELETIONS_SHOWN);
    rows.extend(waiting.map(|file| ("file", deleted_file(file))));
    let more = deletions.waiting.saturating_sub(DELETIONS_SHOWN as u64);
    if more > 0 {
        rows.push(("file", format!("… and {more} more")));
    }
    let refused = deletions.refused_files.iter().rev().take(DELETIONS_SHOWN);
    rows.extend(refused.map(|file| {
        let why = file.last_reason.as_deref().unwrap_or_default();
        let text = format!(
            "{} shows again, for the server refused to delete it: {why}",
            file.path
        );
        ("refused", text)
    }));
    rows
}

fn change_rows(changes: &Changes) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if changes.waiting > 0 {
        let sum = match changes.waiting {
            1 => "1 file or folder of which the server has not heard".to_owned(),
            n => format!("{n} files and folders of which the server has not heard"),
        };
        rows.push(("changed", sum));
    }
    let waiting = changes.files.iter().take(DELETIONS_SHOWN);
    rows.extend(waiting.map(|file| ("file", changed_file(file))));
    let more = changes.waiting.saturating_sub(DELETIONS_SHOWN as u64);
    if more > 0 {
        rows.push(("file", format!("… and {more} more")));
    }
    rows
}

fn changed_file(file: &OwedFile) -> String {
    let mut text = match &file.renamed_from {
        Some(from) => format!("{}: renamed here from {from}", file.path),
        None => format!("{}: made here", file.path),
    };
    if let Some(why) = &file.last_reason {
        text = format!("{text}, {why}");
    }
    if let Some(at) = &file.next_try {
        text = format!("{text}, next try at {at}");
    }
    text
}

fn deleted_file(file: &OwedFile) -> String {
    let mut text = format!("{}: deleted when the server is back", file.path);
    if file.tries > 0 {
        let why = file.last_reason.as_deref().unwrap_or_default();
        text = format!("{}: not deleted for now, {why}", file.path);
    }
    if let Some(at) = &file.next_try {
        text += &format!(", next try at {at}");
    }
    text
}

fn files(n: u64) -> String {
    match n {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    }
}

/// What stays on this machine; none where nothing does.
fn local_only(stays: &StaysHere) -> Option<(&'static str, String)> {
    let text = format!(
        "{}, {}, on this machine alone by --local-only and not owed",
        files(stays.files),
        show_size(stays.bytes)
    );
    (stays.files > 0).then_some(("here", text))
}

/// What is pinned, in a line: how much of it is here, and why not all.
fn pinned(pin: &PinStatus) -> String {
    let all = format!("{}, {}", files(pin.files), show_size(pin.bytes));
    let mut text = match pin.files_here == pin.files {
        true => format!("{}: {all}, all here", pin.path),
        false => format!(
            "{}: {all}, of them {} and {} here",
            pin.path,
            files(pin.files_here),
            show_size(pin.bytes_here)
        ),
    };
    if let Some(reason) = &pin.reason {
        text += &format!("; {reason}");
    }
    text
}

fn owed_sum(sum: &OwedSum) -> String {
    let open = match sum.open {
        0 => String::new(),
        n => format!("; {} written to and still open", files(n)),
    };
    let open = match sum.untold {
        0 => open,
        n => format!("{open}; mode, owner, times or the like of {}", files(n)),
    };
    if sum.files == 0 {
        return format!("nothing{open}");
    }
    let mut text = format!("{}, {}", files(sum.files), show_size(sum.bytes));
    if sum.sent_bytes > 0 {
        text += &format!(", {} of them sent", show_size(sum.sent_bytes));
    }
    if let Some(seconds) = sum.eta_seconds {
        text += &format!(", {} left", show_seconds(seconds));
    }
    match sum.blocked {
        0 => {}
        1 => text += "; 1 file waits for somebody to do something",
        n => text += &format!("; {n} files wait for somebody to do something"),
    }
    text + &open
}

/// A file in a line: where, how it stands, and what comes next.
fn owed_file(file: &OwedFile) -> String {
    let mut text = format!("{}: {}", file.path, file.state);
    match file.state.as_str() {
        "uploading" => {
            let (sent, size) = (show_size(file.sent_bytes), show_size(file.size_bytes));
            text += &format!(", {sent} of {size}");
        }
        _ => text += &format!(", {}", show_size(file.size_bytes)),
    }
    let since = file.owed_since.iter().map(|at| format!("owed since {at}"));
    let tries = match file.tries {
        0 => None,
        1 => Some("1 try failed".to_owned()),
        n => Some(format!("{n} tries failed")),
    };
    let reason = file.last_reason.iter().cloned();
    // What is to be done may be said by the reason already.
    let step = file.next_step.iter();
    let step = step.filter(|step| file.last_reason.as_ref() != Some(step));
    let step = step.map(|step| format!("next: {step}"));
    let again = file.next_try.iter().map(|at| format!("next try at {at}"));
    let left = file.eta_seconds.map(show_seconds);
    let left = left.map(|left| format!("{left} left"));
    let kept = file.kept_as.iter().map(|name| format!("kept as {name}"));
    for part in since
        .chain(tries)
        .chain(reason)
        .chain(step)
        .chain(again)
        .chain(left)
        .chain(kept)
    {
        text += &format!(", {part}");
    }
    text
}

fn server_rows(server: &ServerStatus) -> Vec<(&'static str, String)> {
    let version = server.version.as_ref();
    let version = version.map_or_else(String::new, |version| format!(", Cloudreve {version}"));
    let since = server.since.as_ref();
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    let state = format!(
        "{}{since}{version}, {} requests",
        server.state, server.requests
    );
    let mut rows = vec![("server", state)];
    let skew = server.clock_skew_seconds;
    if skew.abs() > 1 {
        let side = if skew > 0 { "ahead of" } else { "behind" };
        rows.push((
            "clock",
            format!("the server's is {} s {side} ours", skew.abs()),
        ));
    }
    rows.extend(
        server
            .last_error
            .iter()
            .map(|err| ("last error", err.clone())),
    );
    rows.push(("events", server.event_stream.clone()));
    rows
}

fn cache_rows(cache: &CacheStatus) -> Vec<(&'static str, String)> {
    let memory = format!(
        "{} files and folders known, {} of {} in memory",
        cache.known_entries,
        show_size(cache.memory_bytes),
        show_size(cache.memory_budget_bytes)
    );
    let mut rows = vec![("cache", memory), ("on disk", disk_text(cache))];
    // A daemon of an older version says nothing of it.
    if let Some(why) = &cache.passthrough_off_reason {
        rows.push(("kernel", format!("reads no cached file by itself: {why}")));
    } else if cache.passthrough == "on" {
        let now = match cache.passthrough_files {
            0 => String::new(),
            n => format!(", {n} now"),
        };
        rows.push((
            "kernel",
            format!("reads complete cached files by itself{now}"),
        ));
    }
    rows
}

fn reading_rows(reading: &ReadingStatus) -> Vec<(&'static str, String)> {
    let size = show_size;
    let read = format!(
        "{}: {} from memory, {} from disk, {} from the network",
        size(reading.asked_bytes),
        size(reading.memory_bytes),
        size(reading.disk_bytes),
        size(reading.network_bytes)
    );
    let mut fetched = size(reading.fetched_bytes);
    if reading.swept_bytes > 0 {
        let swept = size(reading.swept_bytes);
        fetched += &format!(", {swept} of them ahead of programs that read whole folders");
    }
    // Most of what sweeps give up is counted among all that left memory unread, too.
    let in_vain = reading.wasted_ahead_bytes.max(reading.swept_wasted_bytes);
    if in_vain > 0 {
        fetched += &format!(", {} in vain", size(in_vain));
    }
    vec![("read", read), ("fetched", fetched)]
}

fn disk_text(cache: &CacheStatus) -> String {
    if cache.disk_limit_bytes == 0 {
        return "nothing is kept".to_owned();
    }
    let mut text = format!(
        "{} of {} in {}",
        show_size(cache.disk_bytes),
        show_size(cache.disk_limit_bytes),
        cache.dir.display()
    );
    match cache.damaged_blocks {
        0 => {}
        1 => text += ", 1 damaged block fetched again",
        n => text += &format!(", {n} damaged blocks fetched again"),
    }
    if cache.unkept_bytes > 0 {
        let unkept = show_size(cache.unkept_bytes);
        text += &format!(", {unkept} not kept (disk full, failing or slow)");
    }
    text
}

fn writing(status: &Status) -> String {
    match status.read_only {
        true if status.read_only_reason.is_empty() => "read-only".to_owned(),
        true => format!("read-only: {}", status.read_only_reason),
        false => "yes".to_owned(),
    }
}

fn account_text(status: &Status) -> String {
    let account = &status.account;
    let who = account.user.clone().unwrap_or_else(|| "nobody".to_owned());
    let profile = account
        .profile
        .as_ref()
        .map_or_else(String::new, |profile| format!(", profile {profile}"));
    match account.state.as_str() {
        "anonymous" => "nobody (anonymous)".to_owned(),
        state => format!("{who}{profile}, {}", state.replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AccountStatus, CacheStatus, ServerStatus};

    fn status() -> Status {
        Status {
            mount_point: "/mnt/a".into(),
            uri: "cloudreve://my/".into(),
            address: "https://h".into(),
            version: "0.1.0".into(),
            pid: 7,
            mounted_since: "2026-01-01T00:00:00Z".into(),
            ending: false,
            read_only: true,
            read_only_reason: "writing is not there yet".into(),
            account: AccountStatus {
                profile: Some("home".into()),
                user: Some("me@example.com".into()),
                state: "signed_in".into(),
                total_bytes: Some(1 << 30),
                used_bytes: Some(1 << 20),
            },
            server: ServerStatus {
                state: "online".into(),
                since: None,
                version: Some("4.18.0".into()),
                last_error: None,
                clock_skew_seconds: -40,
                event_stream: "none".into(),
                requests: 12,
            },
            share: None,
            cache: CacheStatus {
                known_entries: 3,
                inodes: 2,
                memory_bytes: 0,
                memory_budget_bytes: 128 << 20,
                dir: "/var/cache/cloudreve-fuse".into(),
                disk_bytes: 3 << 20,
                disk_limit_bytes: 20 << 30,
                damaged_blocks: 1,
                unkept_bytes: 0,
                passthrough: "off".into(),
                passthrough_files: 0,
                passthrough_off_reason: Some("the kernel allows it to root alone".into()),
            },
            reading: Some(ReadingStatus {
                asked_bytes: 4 << 20,
                memory_bytes: 1 << 20,
                disk_bytes: 1 << 20,
                network_bytes: 2 << 20,
                fetched_bytes: 3 << 20,
                wasted_ahead_bytes: 3072,
                swept_bytes: 1 << 20,
                swept_wasted_bytes: 1024,
            }),
            open_handles: 1,
            owed: Vec::new(),
            owed_files: Vec::new(),
            owed_sum: OwedSum::default(),
            deletions: Deletions::default(),
            changes: Changes::default(),
            local_only: StaysHere::default(),
            pins: Vec::new(),
            conflicts: Vec::new(),
            next_steps: vec!["do this".into()],
        }
    }

    #[test]
    fn a_mount_is_shown_in_aligned_lines() {
        let shown = text(&Mount::Alive(Box::new(status())));
        for line in [
            "/mnt/a",
            "  shows    cloudreve://my/ on https://h",
            "  writing  read-only: writing is not there yet",
            "  account  me@example.com, profile home, signed in",
            "  space    1.00 MiB of 1.00 GiB used",
            "  server   online, Cloudreve 4.18.0, 12 requests",
            "  clock    the server's is 40 s behind ours",
            "  on disk  3.00 MiB of 20.0 GiB in /var/cache/cloudreve-fuse, 1 damaged block fetched again",
            "  kernel   reads no cached file by itself: the kernel allows it to root alone",
            "  read     4.00 MiB: 1.00 MiB from memory, 1.00 MiB from disk, 2.00 MiB from the network",
            "  fetched  3.00 MiB, 1.00 MiB of them ahead of programs that read whole folders, 3.00 KiB in vain",
            "  owed     nothing",
            "  next     do this",
        ] {
            assert!(
                shown.lines().any(|shown| shown == line),
                "'{line}' is not in:\n{shown}"
            );
        }
    }

    fn with_owed(files: Vec<OwedFile>, owed_sum: OwedSum) -> String {
        let status = Status {
            owed: files.iter().map(|file| file.path.clone()).collect(),
            owed_files: files,
            owed_sum,
            ..status()
        };
        text(&Mount::Alive(Box::new(status)))
    }

    #[test]
    fn each_owed_file_has_a_line_with_its_reason_and_what_comes_next() {
        let stuck = OwedFile {
            path: "/mnt/a/x.iso".into(),
            state: "blocked".into(),
            size_bytes: 3 << 20,
            tries: 2,
            last_reason: Some("the account's storage is full".into()),
            next_step: Some("free some space".into()),
            owed_since: Some("2026-01-01T00:00:00Z".into()),
            ..OwedFile::default()
        };
        let goes = OwedFile {
            path: "/mnt/a/y".into(),
            state: "uploading".into(),
            size_bytes: 2 << 20,
            sent_bytes: 1 << 20,
            eta_seconds: Some(3),
            ..OwedFile::default()
        };
        let sum = OwedSum {
            files: 2,
            bytes: 5 << 20,
            sent_bytes: 1 << 20,
            blocked: 1,
            open: 1,
            eta_seconds: Some(3),
            ..OwedSum::default()
        };
        let shown = with_owed(vec![stuck, goes], sum);
        for line in [
            "  owed     2 files, 5.00 MiB, 1.00 MiB of them sent, 3 s left; 1 file waits for somebody to do something; 1 file written to and still open",
            "  file     /mnt/a/x.iso: blocked, 3.00 MiB, owed since 2026-01-01T00:00:00Z, 2 tries failed, the account's storage is full, next: free some space",
            "  file     /mnt/a/y: uploading, 1.00 MiB of 2.00 MiB, 3 s left",
        ] {
            assert!(
                shown.lines().any(|shown| shown == line),
                "'{line}' is not in:\n{shown}"
            );
        }
    }

    #[test]
    fn what_is_deleted_here_and_not_on_the_server_is_told() {
        let waits = OwedFile {
            path: "/mnt/a/x".into(),
            state: "deleted".into(),
            ..OwedFile::default()
        };
        let locked = OwedFile {
            path: "/mnt/a/y".into(),
            tries: 2,
            last_reason: Some("somebody has it open".into()),
            next_try: Some("2026-01-01T00:00:00Z".into()),
            ..waits.clone()
        };
        let refused = OwedFile {
            path: "/mnt/a/z".into(),
            last_reason: Some("no permission".into()),
            ..waits.clone()
        };
        let mut files = vec![waits; 4];
        files.insert(0, locked);
        let shown = text(&Mount::Alive(Box::new(Status {
            deletions: Deletions {
                waiting: 7,
                files,
                refused: 1,
                refused_files: vec![refused],
            },
            ..status()
        })));
        for line in [
            "  deleted  7 files that the server still has",
            "  file     /mnt/a/y: not deleted for now, somebody has it open, next try at 2026-01-01T00:00:00Z",
            "  file     /mnt/a/x: deleted when the server is back",
            "  file     … and 2 more",
            "  refused  /mnt/a/z shows again, for the server refused to delete it: no permission",
        ] {
            assert!(shown.lines().any(|is| is == line), "{line}: {shown}");
        }
    }

    #[test]
    fn what_is_made_or_renamed_only_here_is_told_one_by_one() {
        let made = OwedFile {
            path: "/mnt/a/x".into(),
            state: "made".into(),
            ..OwedFile::default()
        };
        let renamed = OwedFile {
            path: "/mnt/a/y".into(),
            state: "renamed".into(),
            renamed_from: Some("/mnt/a/z".into()),
            last_reason: Some("somebody has it open".into()),
            ..OwedFile::default()
        };
        let shown = text(&Mount::Alive(Box::new(Status {
            changes: Changes {
                waiting: 2,
                files: vec![made, renamed],
            },
            ..status()
        })));
        for line in [
            "  changed  2 files and folders of which the server has not heard",
            "  file     /mnt/a/x: made here",
            "  file     /mnt/a/y: renamed here from /mnt/a/z, somebody has it open",
        ] {
            assert!(shown.lines().any(|is| is == line), "{line}: {shown}");
        }
    }

    #[test]
    fn what_stays_here_is_told_apart_from_what_is_owed() {
        let shown = text(&Mount::Alive(Box::new(Status {
            local_only: StaysHere {
                files: 2,
                bytes: 2048,
                paths: vec!["/mnt/a/.x.swp".into(), "/mnt/a/4913".into()],
            },
            ..status()
        })));
        for line in [
            "  owed     nothing",
            "  here     2 files, 2.00 KiB, on this machine alone by --local-only and not owed",
        ] {
            assert!(shown.lines().any(|is| is == line), "{line}: {shown}");
        }
    }

    #[test]
    fn very_many_owed_files_are_counted_and_not_all_named() {
        let file = OwedFile {
            path: "/mnt/a/x".into(),
            state: "waiting".into(),
            ..OwedFile::default()
        };
        let sum = OwedSum {
            files: 20_000,
            ..OwedSum::default()
        };
        let shown = with_owed(vec![file; 10_000], sum);
        assert!(shown.contains("… and 19950 more"), "{shown}");
        assert!(shown.lines().count() < 100);
    }

    #[test]
    fn a_daemon_of_an_older_version_is_understood() {
        let mut json = serde_json::to_value(status()).unwrap();
        let old = [
            "known_entries",
            "inodes",
            "memory_bytes",
            "memory_budget_bytes",
        ];
        let cache = json["cache"].as_object_mut().unwrap();
        cache.retain(|field, _| old.contains(&field.as_str()));
        for field in [
            "reading",
            "owed_files",
            "owed_sum",
            "ending",
            "deletions",
            "changes",
            "local_only",
        ] {
            json.as_object_mut().unwrap().remove(field);
        }
        let status: Status = serde_json::from_value(json).unwrap();
        let shown = text(&Mount::Alive(Box::new(status)));
        assert!(
            shown.contains("nothing is kept") && !shown.contains("kernel"),
            "{shown}"
        );
    }

    #[test]
    fn json_is_what_the_daemon_said_or_why_it_said_nothing() {
        let dead = Silent {
            mount_point: "/mnt/b".into(),
            state: "dead",
            next_steps: vec!["umount".into()],
        };
        let mounts = [Mount::Alive(Box::new(status())), Mount::Other(dead)];
        let json: serde_json::Value = serde_json::to_value(mounts).unwrap();
        assert_eq!(json[0]["account"]["user"], "me@example.com");
        assert_eq!(json[1]["state"], "dead");
    }
}
