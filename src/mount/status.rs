//! What a mount says of itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crate::api::{self, Api, Site};
use crate::cli::values::show_moment;
use crate::config::{Account, MountPlan};
use crate::control::{
    AccountStatus, Answer, BelowPoint, CacheStatus, PinStatus, ReadingStatus, ServerStatus, Status,
};
use crate::fs::{Counts, Fs};
use crate::fuse::Passthrough;
use crate::model::Capacity;
use crate::mount::debts::Debts;
use crate::mount::following::{self, Stream};
use crate::mount::rooms::Rooms;
use crate::mount::standing::{Share, Standing};
use crate::mount::why;
use crate::read::Reader;
use crate::uri::{FileSystem, FileUri};
use crate::warm::Pinning;
use crate::watch::Pulse;

/// How old the quota shown may be.
const CAPACITY_TTL: Duration = Duration::from_secs(60);

/// How long a status waits for the server to tell a newer quota, or its version.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old what is known of the share may be.
const SHARE_TTL: Duration = Duration::from_secs(10);

/// Where a status comes from.
pub(super) struct StatusSource {
    mount_point: PathBuf,
    uri: String,
    since: SystemTime,
    profile: Option<String>,
    anonymous: bool,
    memory_budget_bytes: u64,
    cache_dir: PathBuf,
    /// With what is for folders.
    cache_size_bytes: u64,
    passthrough: Passthrough,
    site: Site,
    api: Api,
    fs: Arc<Fs>,
    reader: Arc<Reader>,
    debts: Result<Arc<Debts>, String>,
    ending: AtomicBool,
    root: FileUri,
    capacity: Mutex<Option<(Instant, Capacity)>>,
    share: Mutex<Option<(Instant, Share)>>,
    version: OnceLock<String>,
    pulse: Option<Pulse>,
    pinning: Pinning,
}

impl StatusSource {
    pub(super) fn new(plan: &MountPlan, rooms: &Rooms, passthrough: Passthrough) -> Self {
        Self {
            mount_point: plan.dir.clone(),
            uri: plan.source.clone(),
            since: SystemTime::now(),
            profile: match &plan.account {
                Account::Profile { name, .. } => Some(name.clone()),
                _ => None,
            },
            anonymous: matches!(plan.account, Account::Anonymous),
            memory_budget_bytes: plan.read.memory_bytes,
            cache_dir: plan.cache_dir.clone(),
            cache_size_bytes: plan.cache_size_bytes,
            passthrough,
            site: rooms.site.clone(),
            api: rooms.api.clone(),
            fs: Arc::clone(&rooms.fs),
            reader: Arc::clone(&rooms.reader),
            debts: rooms.debts.clone(),
            ending: AtomicBool::new(false),
            root: plan.fs.root.clone(),
            capacity: Mutex::new(None),
            share: Mutex::new(None),
            version: OnceLock::new(),
            pulse: rooms.stream.as_ref().map(Stream::pulse),
            pinning: rooms.pinning.clone(),
        }
    }

    /// What is worth a line: what is wrong, else what is owed; none where all is well.
    pub(super) fn in_short(&self) -> Option<String> {
        // Asked also where something is wrong: looking often is how the owed files' pace is known.
        let owed = self.debts.as_ref().ok().and_then(|debts| debts.in_short());
        let standing = self.standing(None, None, None);
        let wrong = standing.next_steps().into_iter().next();
        match (wrong, owed) {
            (Some(wrong), Some(owed)) => Some(format!("{wrong}; {owed}")),
            (wrong, owed) => wrong.or(owed),
        }
    }

    /// The directory is free again.
    pub(super) fn ends(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// What a file or folder is now.
    pub(super) async fn why(&self, path: &BelowPoint) -> Answer {
        let debts = self.debts.as_deref().ok();
        let shown = self.mount_point.join(&path.0);
        why::why(&self.fs, debts, &shown, path).await
    }

    /// Asks the server only for what it told too long ago, and waits for that a moment at most.
    pub(super) async fn status(&self) -> Status {
        let (capacity, version, share, serves_others) = tokio::join!(
            self.capacity(),
            self.server_version(),
            self.share(),
            self.serves_others()
        );
        let standing = self.standing(capacity, share, serves_others);
        let (state, since) = standing.server();
        let counts = self.fs.counts();
        let (read_only_reason, (owed_files, owed_sum, wanted), conflicts) = match &self.debts {
            Ok(debts) => (String::new(), debts.status(), debts.conflicts()),
            Err(because) => (because.clone(), Default::default(), Vec::new()),
        };
        let deletions = self.debts.as_ref().map(|debts| debts.deletions());
        let changes = self.debts.as_ref().map(|debts| debts.changes());
        let local_only = self.debts.as_ref().map(|debts| debts.stays_here());
        let mut next_steps = standing.next_steps();
        next_steps.extend(wanted);
        if next_steps.is_empty() && state == "degraded" {
            next_steps.extend(standing.last_failure());
        }
        Status {
            mount_point: self.mount_point.clone(),
            uri: self.uri.clone(),
            address: self.api.address().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mounted_since: show_moment(self.since),
            ending: self.ending.load(Ordering::Relaxed),
            read_only: self.debts.is_err(),
            read_only_reason,
            account: AccountStatus {
                profile: self.profile.clone(),
                user: self.site.user.email.clone(),
                state: standing.account().to_owned(),
                total_bytes: capacity.map(|capacity| capacity.total_bytes),
                used_bytes: capacity.map(|capacity| capacity.used_bytes),
            },
            server: ServerStatus {
                state: state.to_owned(),
                since: since.map(show_moment),
                version,
                last_error: standing.health.last_error.clone(),
                clock_skew_seconds: standing.health.clock_skew_seconds,
                event_stream: following::words(self.pulse.as_ref(), SystemTime::now()),
                requests: standing.health.requests,
            },
            share: standing.share().map(str::to_owned),
            cache: self.cache(counts),
            reading: Some(self.reading()),
            open_handles: counts.handles,
            owed: owed_files.iter().map(|file| file.path.clone()).collect(),
            owed_files,
            owed_sum,
            deletions: deletions.unwrap_or_default(),
            changes: changes.unwrap_or_default(),
            local_only: local_only.unwrap_or_default(),
            pins: self.pins(),
            conflicts,
            next_steps,
        }
    }

    fn standing(
        &self,
        capacity: Option<Capacity>,
        share: Option<Share>,
        serves_others: Option<bool>,
    ) -> Standing {
        Standing {
            health: self.api.health(),
            anonymous: self.anonymous,
            stream: self.pulse.as_ref().map(Pulse::health),
            capacity,
            share,
            serves_others,
            now: SystemTime::now(),
        }
    }

    fn pins(&self) -> Vec<PinStatus> {
        let states = self.pinning.states().into_iter();
        let states = states.map(|pin| PinStatus {
            path: self.mount_point.join(&pin.path).display().to_string(),
            files: pin.counted.files,
            files_here: pin.counted.files_done,
            bytes: pin.counted.bytes,
            bytes_here: pin.counted.bytes_done,
            reason: pin.why,
        });
        states.collect()
    }

    fn cache(&self, counts: Counts) -> CacheStatus {
        let disk = self.reader.cache().usage();
        let off_reason = self.passthrough.off_because();
        CacheStatus {
            known_entries: counts.known_entries,
            inodes: counts.inodes,
            memory_bytes: self.reader.memory_bytes(),
            memory_budget_bytes: self.memory_budget_bytes,
            dir: self.cache_dir.clone(),
            disk_bytes: disk.disk_bytes,
            disk_limit_bytes: match disk.limit_bytes {
                0 => 0,
                _ => self.cache_size_bytes,
            },
            damaged_blocks: disk.damaged_blocks,
            unkept_bytes: disk.unkept_bytes,
            passthrough: off_reason.map_or("on", |_| "off").to_owned(),
            passthrough_files: self.passthrough.files(),
            passthrough_off_reason: off_reason.map(str::to_owned),
        }
    }

    fn reading(&self) -> ReadingStatus {
        let (all, swept) = (self.reader.stats(), self.reader.ahead_counts());
        ReadingStatus {
            asked_bytes: all.asked_bytes,
            memory_bytes: all.memory_bytes,
            disk_bytes: all.disk_bytes,
            network_bytes: all.network_bytes,
            fetched_bytes: all.fetched_bytes,
            wasted_ahead_bytes: all.wasted_ahead_bytes,
            swept_bytes: swept.fetched_bytes,
            swept_wasted_bytes: swept.wasted_bytes,
        }
    }

    async fn capacity(&self) -> Option<Capacity> {
        if self.anonymous {
            return None;
        }
        let known = *self.capacity.lock().unwrap();
        match known {
            Some((at, capacity)) if at.elapsed() < CAPACITY_TTL => Some(capacity),
            older => match tokio::time::timeout(PATIENCE, self.api.capacity()).await {
                Ok(Ok(capacity)) => {
                    *self.capacity.lock().unwrap() = Some((Instant::now(), capacity));
                    Some(capacity)
                }
                // The one known is better than none; why there is no newer one stands in the server's state.
                Ok(Err(_)) | Err(_) => older.map(|(_, capacity)| capacity),
            },
        }
    }

    /// How the share is of which the mount is; none where it is of none, or nobody knows.
    async fn share(&self) -> Option<Share> {
        let FileSystem::Share { id, password } = self.root.file_system() else {
            return None;
        };
        let known = *self.share.lock().unwrap();
        if let Some((at, share)) = known
            && at.elapsed() < SHARE_TTL
        {
            return Some(share);
        }
        let asked = self.api.share_info(id, password.as_ref());
        let share = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(info)) if info.unlocked || !info.password_protected => Share::There,
            Ok(Ok(_) | Err(api::Error::SharePassword)) => Share::Locked,
            Ok(Err(api::Error::ShareGone(_))) => Share::Gone,
            // Why it could not be asked stands in the server's state.
            Ok(Err(_)) | Err(_) => return known.map(|(_, share)| share),
        };
        *self.share.lock().unwrap() = Some((Instant::now(), share));
        Some(share)
    }

    /// Where the server fails this account: whether it answers others.
    async fn serves_others(&self) -> Option<bool> {
        self.api.health().failing.filter(|_| !self.anonymous)?;
        let asked = tokio::time::timeout(PATIENCE, self.api.login_rules()).await;
        Some(matches!(asked, Ok(Ok(_))))
    }

    async fn server_version(&self) -> Option<String> {
        if self.version.get().is_none()
            && let Ok(Ok(version)) = tokio::time::timeout(PATIENCE, self.api.ping()).await
        {
            // Where two ask at once, the first answer stays; they are equal.
            let _ = self.version.set(version);
        }
        self.version.get().cloned()
    }
}
