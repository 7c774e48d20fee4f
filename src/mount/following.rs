//! What others change, applied as the server tells it: first to what we believe, then to what the kernel does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::api::{Api, Site};
use crate::cli::values::show_moment;
use crate::config::MountPlan;
use crate::fs::{Fs, Outdated};
use crate::fuse::Notices;
use crate::task::Task;
use crate::uri::FileSystem;
use crate::watch::{Happening, Health, Pulse, SILENCE, State, Watch};

/// How long a mount that begins waits for the stream, so that what is listed first is listed after that has begun. A server
/// that takes longer has all listed anew once the stream is there.
const OPENING: Duration = Duration::from_millis(200);

/// A stream that nobody applies yet.
pub(super) struct Stream {
    watch: Watch,
    happenings: Receiver<Happening>,
}

impl Stream {
    /// Follows the root of `plan`; none where no account is signed in, or the place has no events.
    pub(super) fn open(plan: &MountPlan, api: &Api, site: &Site) -> Option<Self> {
        let root = &plan.fs.root;
        let has_events = matches!(
            root.file_system(),
            FileSystem::My { .. } | FileSystem::Share { .. }
        );
        if site.user.anonymous || !has_events {
            return None;
        }
        let (watch, happenings) = Watch::new(api.clone(), root.clone(), SILENCE);
        Some(Self { watch, happenings })
    }

    /// Waits a moment until it has begun. What was told until then is older than what is asked for from here on.
    pub(super) async fn begun(&mut self) {
        if timeout(OPENING, self.happenings.recv()).await.is_ok() {
            while self.happenings.try_recv().is_ok() {}
        }
    }

    /// For `status`.
    pub(super) fn pulse(&self) -> Pulse {
        self.watch.pulse()
    }

    /// Applies to `fs`, and tells the kernel by `notices`.
    pub(super) fn follow(self, fs: &Arc<Fs>, notices: Notices) -> Task {
        let fs = Arc::clone(fs);
        let Self {
            watch,
            mut happenings,
        } = self;
        Task::spawn(async move {
            let _watch = watch;
            while let Some(happening) = happenings.recv().await {
                for outdated in fs.others_changed(&happening) {
                    match outdated {
                        Outdated::Name(folder, name) => notices.name(folder, &name),
                        Outdated::Inode(ino) => notices.inode(ino),
                    }
                }
            }
        })
    }
}

/// Has the kernel forget names of `fs` under which it would come to what has another one by now, however that was found out.
pub(super) fn forget_left(fs: &Arc<Fs>, notices: Notices) -> Task {
    let (fs, left) = (Arc::clone(fs), fs.left_names());
    Task::spawn(async move {
        let Some(mut left) = left else {
            return;
        };
        while let Some(left) = left.recv().await {
            fs.doubt_left(&left);
            notices.name(left.folder, &left.name);
        }
    })
}

/// The stream in a few words.
pub(super) fn words(pulse: Option<&Pulse>, now: SystemTime) -> String {
    let Some(health) = pulse.map(Pulse::health) else {
        return "none".to_owned();
    };
    let Health {
        state,
        since,
        last_sign,
        ..
    } = health;
    match state {
        State::Connecting => "connecting".to_owned(),
        State::Subscribed | State::Resumed => {
            let age = last_sign.and_then(|sign| now.duration_since(sign).ok());
            format!(
                "healthy, last sign {} s ago",
                age.unwrap_or_default().as_secs()
            )
        }
        State::Lost(why) => format!("lost since {}: {why}", show_moment(since)),
        State::Unsupported => {
            "none: the server is too old, or its administrator switched events off".to_owned()
        }
    }
}
