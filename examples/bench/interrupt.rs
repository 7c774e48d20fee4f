//! Ctrl-C and SIGTERM end the benchmark between two passes, so that everything is cleaned up as at its end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Listens from here on.
pub(crate) fn listen() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
        eprintln!("bench: ends after this pass");
        // Further signals are swallowed: tokio keeps its handlers, and cleaning up must not be cut off.
    });
    Ok(())
}

/// An error once somebody wants an end.
pub(crate) fn check() -> Outcome<()> {
    match INTERRUPTED.load(Ordering::Relaxed) {
        true => Err("interrupted".into()),
        false => Ok(()),
    }
}
