//! `umount`: through the daemon where it answers, else through the kernel.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::UmountArgs;
use crate::commands::progress::Shown;
use crate::commands::{print, say};
use crate::config::environment::Environment;
use crate::config::{self, mount_point};
use crate::control::{self, Answer, Request};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// Time on top of the asked-for timeout in which the daemon waits for requests under way, so that it hangs up on
/// none of them, and unmounts.
const ORDERLY_END: Duration = Duration::from_secs(75);

/// How long the daemon may take to end after its last word.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long a person waits before being told what for.
const SILENCE: Duration = Duration::from_secs(2);

pub(super) fn run(args: &UmountArgs, environment: &Environment) -> Result<(), Failure> {
    let local = config::local(&args.options.0, environment)?;
    let point = mount_point(&args.dir);
    let socket = control::socket_path(&local.dirs.control, &point);
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let request = Request::Umount {
        timeout_ms,
        force: args.force,
        progress: true,
    };
    let patience = args.timeout.saturating_add(ORDERLY_END);
    let waits = format!(
        "waiting for {}: files are open in it, or requests are under way; --force waits for no files",
        point.display()
    );
    let mut shown = Shown::new(environment);
    let answer = saying_after(SILENCE, &waits, |delivering| {
        control::follow(&socket, &request, patience, |progress| {
            if progress.files_done < progress.files {
                // The bar says what is waited for.
                delivering.store(true, Ordering::Relaxed);
            }
            shown.show(&progress, Instant::now());
        })
    });
    drop(shown);
    match answer {
        Ok(Answer::Unmounted {
            stays_queued,
            more_queued,
            pid,
        }) => {
            // So that a mount that is made next finds all that stays owed.
            if !args.force && pid != 0 && !control::outlast(pid, LAST_WAIT) {
                log::debug!("process {pid} has not ended yet");
            }
            report(&point, &stays_queued, more_queued)
        }
        Ok(Answer::Failed { why }) => Err(Failure::failed(format!("{}: {why}", point.display()))),
        Ok(_) => Err(Failure::failed(format!(
            "{}: its daemon answered another question",
            point.display()
        ))),
        Err(err) => {
            log::debug!("{}: {err}", socket.display());
            by_kernel(&point, &err, args.force)
        }
    }
}

/// What `work` answers; `words` are said once where it takes longer than `silence`, unless it says something itself, and
/// sets what it is given to true.
fn saying_after<T>(silence: Duration, words: &str, work: impl FnOnce(&AtomicBool) -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let speaks = AtomicBool::new(false);
    thread::scope(|scope| {
        let quiet = || !speaks.load(Ordering::Relaxed);
        scope.spawn(move || {
            if is_done.recv_timeout(silence) == Err(mpsc::RecvTimeoutError::Timeout) && quiet() {
                say(words);
            }
        });
        let answer = work(&speaks);
        drop(done);
        answer
    })
}

/// What stays queued is named, this many at most.
const QUEUED_SHOWN: usize = 50;

fn report(point: &Path, stays_queued: &[String], more_queued: u64) -> Result<(), Failure> {
    print(&text(point, stays_queued, more_queued))
}

fn text(point: &Path, stays_queued: &[String], more_queued: u64) -> String {
    let mut text = format!("Unmounted {}.\n", point.display());
    for file in stays_queued.iter().take(QUEUED_SHOWN) {
        text += &format!("  still owed to the server, delivered at the next mount: {file}\n");
    }
    let more = stays_queued.len().saturating_sub(QUEUED_SHOWN) as u64 + more_queued;
    if more > 0 {
        text += &format!("  … and {more} more\n");
    }
    text
}

/// Without a daemon that answers: it died, or belongs to somebody else, or hangs.
fn by_kernel(point: &Path, err: &io::Error, force: bool) -> Result<(), Failure> {
    let dir = point.display();
    let condition = mountpoint::condition(point)
        .map_err(|err| Failure::failed(format!("the mount table: {err}")))?;
    let hangs = !matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    );
    match condition {
        Condition::Unmounted => Err(Failure::failed(format!(
            "nothing is mounted at {dir}; 'cloudreve-fuse status' lists the mounts"
        ))),
        Condition::Other(entry) | Condition::StaleOther(entry) => Err(Failure::failed(format!(
            "{dir} is a mount of another kind ({}); umount {dir}",
            entry.fs_type
        ))),
        Condition::Ours(_) if hangs && !force => Err(Failure::failed(format!(
            "{dir}: its daemon does not answer ({err}); --force detaches the directory without it"
        ))),
        Condition::Ours(_) => unmount(point, force),
        Condition::Stale(_) => {
            say(&format!("{dir}: its daemon had died"));
            unmount(point, true)
        }
    }
}

fn unmount(point: &Path, lazy: bool) -> Result<(), Failure> {
    mountpoint::unmount(point, lazy).map_err(|err| {
        let hint = match err.raw_os_error() {
            Some(libc::EBUSY) => "; files are open in it: close them, or --force",
            Some(libc::EPERM | libc::EACCES) => "; it belongs to another user: ask them, or root",
            _ => "",
        };
        Failure::failed(format!(
            "{} could not be unmounted: {err}{hint}",
            point.display()
        ))
    })?;
    report(point, &[], 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_queued_is_named_and_of_very_much_the_rest_is_counted() {
        let files: Vec<String> = (0..60).map(|n| format!("/m/{n}")).collect();
        assert_eq!(text(Path::new("/m"), &[], 0), "Unmounted /m.\n");
        let said = text(Path::new("/m"), &files[..1], 0);
        assert!(
            said.ends_with("  still owed to the server, delivered at the next mount: /m/0\n"),
            "{said}"
        );
        assert!(text(Path::new("/m"), &files, 7).ends_with("  … and 17 more\n"));
    }
}
