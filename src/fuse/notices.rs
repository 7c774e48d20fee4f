//! What the kernel is told of changes that it did not make itself, or has not heard of: it forgets what it knew.
//!
//! Promises: who notes one never waits; they go out in their order, from a thread that does nothing else, since each may
//! wait for a call that is under way on the same folder (→ notes on FUSE §4.6). To be noted once the new state is what we
//! answer with. What the kernel does not know it is told in vain, which costs nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use fuser::{INodeNo, Notifier};

use crate::inodes::Ino;

/// Notes what the kernel is to forget. The thread ends with the last of them.
#[derive(Debug, Clone)]
pub struct Notices(Sender<Notice>);

/// Those that are noted and not told.
pub(super) struct Noted(Receiver<Notice>);

#[derive(Debug)]
enum Notice {
    Name(Ino, OsString),
    Inode(Ino),
}

impl Notices {
    pub(super) fn new() -> (Self, Noted) {
        let (note, noted) = channel();
        (Self(note), Noted(noted))
    }

    /// What `name` in `folder` leads to, and what the folder is known to be like.
    pub fn name(&self, folder: Ino, name: &OsStr) {
        self.note(Notice::Name(folder, name.to_owned()));
        self.inode(folder);
    }

    /// All that is known of `ino` itself: attributes and pages.
    pub fn inode(&self, ino: Ino) {
        self.note(Notice::Inode(ino));
    }

    fn note(&self, notice: Notice) {
        // Without the thread there is no mount.
        let _ = self.0.send(notice);
    }
}

impl Noted {
    /// Tells them by `notifier`, from a thread of its own.
    pub(super) fn tell(self, notifier: Notifier) -> io::Result<()> {
        let tell = move || {
            for notice in self.0 {
                let told = match &notice {
                    Notice::Name(folder, name) => notifier.inval_entry(INodeNo(folder.0), name),
                    Notice::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
                };
                if let Err(err) = told {
                    log::debug!("the kernel does not take {notice:?}: {err}");
                }
            }
        };
        let started = thread::Builder::new().name("notices".into()).spawn(tell);
        started.map(drop)
    }
}
