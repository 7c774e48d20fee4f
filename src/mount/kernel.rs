//! The mount as the kernel has it: entered, answered, left.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::{KernelOptions, MountPlan};
use crate::failure::Failure;
use crate::fuse::{self, Access, Closer, Connection, Notices, Passthrough};
use crate::mount::end::keep_waiting;
use crate::mount::explain;
use crate::mount::rooms::Rooms;
use crate::mount::signals::Signals;
use crate::mountpoint::{self, MountOptions};
use crate::systemd::Manager;

/// How far the kernel reads ahead. Four times its default: fewer and larger requests, a third faster; more gains
/// nothing and makes a program that maps a file fetch hundreds of times what it looks at.
const READ_AHEAD_KIB: u32 = 512;

/// How long an aborted connection may take to end by itself.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long open files are waited for before it is said.
const SILENCE: Duration = Duration::from_secs(1);

/// A mount with a thread that answers it.
pub(super) struct Mounted {
    dir: PathBuf,
    /// `major:minor`, by which it is told from whatever else is mounted at the same place.
    device: Option<String>,
    closer: Closer,
    ended: watch::Receiver<bool>,
    passthrough: Passthrough,
    notices: Notices,
}

impl Mounted {
    /// Mounts and begins to answer. Where it fails, nothing is mounted.
    pub(super) fn attach(
        plan: &MountPlan,
        rooms: &Rooms,
        runtime: &Handle,
    ) -> Result<Self, Failure> {
        let options = mount_options(plan, rooms.fs.is_read_only());
        let device = mountpoint::mount(&plan.dir, &options)
            .map_err(|err| explain::mount(&err, &plan.dir))?;
        // From here on a failure has to unmount.
        let id = match mountpoint::topmost(&plan.dir) {
            Ok(entry) => entry
                .filter(mountpoint::MountEntry::is_ours)
                .map(|entry| entry.device),
            Err(err) => {
                log::debug!("the mount table cannot be read: {err}");
                None
            }
        };
        let passthrough = passthrough(plan);
        let started = fuse::connect(
            device,
            rooms.fs.clone(),
            runtime.clone(),
            fuse::Options {
                access: access(&plan.kernel),
                passthrough: passthrough.clone(),
                cache_dir: plan.cache_dir.clone(),
                state_dir: plan.state_dir.clone(),
            },
        )
        .and_then(|(connection, closer, notices)| Ok((answer(connection)?, closer, notices)));
        match started {
            Ok((ended, closer, notices)) => {
                if let Some(id) = &id {
                    read_ahead(id);
                }
                Ok(Self {
                    dir: plan.dir.clone(),
                    device: id,
                    closer,
                    ended,
                    passthrough,
                    notices,
                })
            }
            Err(err) => {
                if let Err(err) = mountpoint::unmount(&plan.dir, true) {
                    log::warn!("{} stays mounted: {err}", plan.dir.display());
                }
                Err(Failure::failed(format!(
                    "the kernel's FUSE does not agree with us: {err}"
                )))
            }
        }
    }

    /// Whether the kernel may read files of the cache, and write new ones, by itself.
    pub(super) fn passthrough(&self) -> Passthrough {
        self.passthrough.clone()
    }

    /// Tells the kernel what changed otherwise.
    pub(super) fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// Resolves when nothing of the mount is left.
    pub(super) async fn ended(&mut self) {
        // An error means that the answering thread is gone, which is the same.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Whether unmounting the directory would hit this mount, and not one that lies over it.
    pub(super) fn can_detach(&self) -> bool {
        !matches!(self.seen(), Seen::Hidden)
    }

    /// Frees the directory and ends at once. Tells why the directory is not free, if it is not.
    pub(super) async fn detach(
        &mut self,
        signals: &mut Signals,
        manager: &Manager,
    ) -> Option<String> {
        let stays = self.leave().await;
        self.outlast(Duration::ZERO, signals, manager).await;
        stays
    }

    /// Waits for open files at most `patience`; what still waits for an answer then gets EIO. May be dropped and
    /// begun again.
    pub(super) async fn outlast(
        &mut self,
        patience: Duration,
        signals: &mut Signals,
        manager: &Manager,
    ) {
        let silence = patience.min(SILENCE);
        let mut is_free = self.wait(silence, signals, manager).await;
        if !is_free && patience > silence {
            let (shown, left) = (self.dir.display(), patience - silence);
            log::warn!(
                "{shown}: waiting for open files to be closed, at most {} s",
                left.as_secs()
            );
            is_free = self.wait(left, signals, manager).await;
        }
        if !is_free {
            log::warn!(
                "{}: files are still open; they answer with errors from now on",
                self.dir.display()
            );
            self.closer.abort();
            self.wait(LAST_PATIENCE, signals, manager).await;
        }
    }

    /// Frees the directory, lazily where files are open. Tells why it is not free, if it is not.
    pub(super) async fn leave(&self) -> Option<String> {
        let shown = self.dir.display();
        match self.seen() {
            Seen::Gone => return None,
            Seen::Hidden => {
                return Some(format!(
                    "{shown} stays mounted below another mount: unmount both (umount {shown}; umount -l {shown})"
                ));
            }
            Seen::Ours => {}
        }
        let err = match off_the_runtime(&self.dir, false).await {
            Ok(()) => return None,
            Err(err) => err,
        };
        log::info!(
            "{shown} is in use ({err}): it vanishes now, and lives on for those who have files open"
        );
        off_the_runtime(&self.dir, true).await.err().map(|err| {
            format!("{shown} cannot be unmounted: {err}; let root do it (umount -l {shown})")
        })
    }

    /// Whether nothing of the mount was left before `patience` ended.
    async fn wait(&mut self, patience: Duration, signals: &mut Signals, manager: &Manager) -> bool {
        let shown = self.dir.display().to_string();
        let late = tokio::time::sleep(patience);
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                () = self.ended() => return true,
                () = &mut late => return false,
                signal = signals.next() => {
                    log::warn!("{signal}: waiting for open files on {shown} to be closed, at most {} s", patience.as_secs());
                }
                never = keep_waiting(manager) => match never {},
            }
        }
    }

    fn seen(&self) -> Seen {
        let Ok(mounts) = mountpoint::mounts() else {
            return Seen::Ours;
        };
        let here: Vec<_> = mounts
            .iter()
            .filter(|entry| entry.point == self.dir)
            .collect();
        let is_this = |entry: &&mountpoint::MountEntry| match &self.device {
            Some(device) => entry.device == *device,
            None => entry.is_ours(),
        };
        if here.last().is_some_and(is_this) {
            Seen::Ours
        } else if here.iter().any(is_this) {
            Seen::Hidden
        } else {
            Seen::Gone
        }
    }
}

/// What the directory shows.
enum Seen {
    Ours,
    Hidden,
    Gone,
}

/// Unmounting waits for the kernel, and must not hold up those who answer it.
async fn off_the_runtime(dir: &Path, lazy: bool) -> io::Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || mountpoint::unmount(&dir, lazy))
        .await
        .map_err(io::Error::other)?
}

/// Answers in a thread of its own, and tells when that ended.
fn answer(connection: Connection) -> io::Result<watch::Receiver<bool>> {
    let (end, ended) = watch::channel(false);
    std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || {
            if let Err(err) = connection.serve() {
                log::error!("the connection to the kernel broke: {err}");
            }
            end.send_replace(true);
        })?;
    Ok(ended)
}

fn read_ahead(device: &str) {
    if let Err(err) = mountpoint::set_read_ahead(device, READ_AHEAD_KIB) {
        log::debug!("the kernel reads ahead as it likes: {err}");
    }
}

fn passthrough(plan: &MountPlan) -> Passthrough {
    match (plan.passthrough, plan.cache_size_bytes) {
        (false, _) => Passthrough::off("it was asked for (--passthrough=off)"),
        (true, 0) => Passthrough::without_reading("nothing is kept on disk"),
        (true, _) => Passthrough::default(),
    }
}

fn access(options: &KernelOptions) -> Access {
    if options.allow_other {
        Access::All
    } else if options.allow_root {
        Access::OwnerAndRoot
    } else {
        Access::Owner
    }
}

fn mount_options(plan: &MountPlan, read_only: bool) -> MountOptions {
    let kernel = &plan.kernel;
    MountOptions {
        source: plan.source.clone(),
        read_only,
        // The kernel knows no allow_root: it lets everybody in, and `fuse` turns all but root away.
        allow_other: kernel.allow_other || kernel.allow_root,
        suid: kernel.suid,
        dev: kernel.dev,
        noexec: kernel.noexec,
        noatime: kernel.noatime,
    }
}
