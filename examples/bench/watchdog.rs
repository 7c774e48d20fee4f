//! No case waits for ever: one that takes too long loses its daemons, so that whoever waits for them gets an error.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Several times what the longest case takes.
const CASE_TIME: Duration = Duration::from_secs(360);

const LOOK: Duration = Duration::from_secs(1);

static CASE: Mutex<Option<Case>> = Mutex::new(None);

struct Case {
    until: Instant,
    daemons: Vec<u32>,
}

/// The case that runs, until it is dropped.
pub(crate) struct Watched;

/// Watches the case that begins now.
pub(crate) fn watch() -> Watched {
    let until = Instant::now() + CASE_TIME;
    let began = lock().replace(Case {
        until,
        daemons: Vec::new(),
    });
    // One thread for all cases: it ends with the process.
    static THREAD: std::sync::Once = std::sync::Once::new();
    THREAD.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(LOOK);
                kill_when_due();
            }
        });
    });
    debug_assert!(began.is_none(), "cases run one after the other");
    Watched
}

/// A daemon that the case depends on.
pub(crate) fn add(daemon: u32) {
    if let Some(case) = lock().as_mut() {
        case.daemons.push(daemon);
    }
}

/// To be called before its process is waited for: after that the number may be that of another one.
pub(crate) fn remove(daemon: u32) {
    if let Some(case) = lock().as_mut() {
        case.daemons.retain(|other| *other != daemon);
    }
}

fn kill_when_due() {
    let mut guard = lock();
    let Some(case) = guard.as_mut().filter(|case| case.until < Instant::now()) else {
        return;
    };
    for daemon in case.daemons.drain(..) {
        eprintln!("bench: this takes too long; the daemon {daemon} is killed");
        if let Some(pid) = i32::try_from(daemon).ok().and_then(Pid::from_raw) {
            // It may have died by itself, which is as good.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Case>> {
    CASE.lock().unwrap()
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock().take();
    }
}
