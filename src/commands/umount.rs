//! `umount`: through the daemon where it answers, else through the kernel.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cli::UmountArgs;
use crate::commands::{print, say};
use crate::config::environment::Environment;
use crate::config::{self, mount_point};
use crate::control::{self, Answer, Request};
use crate::failure::Failure;
use crate::mountpoint::{self, Condition};

/// Time on top of the asked-for timeout in which the daemon waits for requests under way, so that it hangs up on
/// none of them, and unmounts.
const ORDERLY_END: Duration = Duration::from_secs(75);

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
    };
    let patience = args.timeout.saturating_add(ORDERLY_END);
    let waits = format!(
        "waiting for {}: files are open in it, or requests are under way; --force waits for no files",
        point.display()
    );
    match saying_after(SILENCE, &waits, || {
        control::ask(&socket, &request, patience)
    }) {
        Ok(Answer::Unmounted { stays_queued }) => report(&point, &stays_queued),
        Ok(Answer::Failed { why }) => Err(Failure::failed(format!("{}: {why}", point.display()))),
        Ok(Answer::Status(_)) => Err(Failure::failed(format!(
            "{}: its daemon answered another question",
            point.display()
        ))),
        Err(err) => {
            log::debug!("{}: {err}", socket.display());
            by_kernel(&point, &err, args.force)
        }
    }
}

/// What `work` answers; `words` are said once where it takes longer than `silence`.
fn saying_after<T>(silence: Duration, words: &str, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(silence) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(words);
            }
        });
        let answer = work();
        drop(done);
        answer
    })
}

fn report(point: &Path, stays_queued: &[String]) -> Result<(), Failure> {
    let mut text = format!("Unmounted {}.\n", point.display());
    for file in stays_queued {
        text += &format!("  still owed to the server, delivered at the next mount: {file}\n");
    }
    print(&text)
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
    report(point, &[])
}
