//! The rooms of a mount, from the ground up: each is asked something before the next one stands on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::api::{Api, Credentials, Error, Options, Site};
use crate::cache::{self, Cache};
use crate::config::{Account, MountPlan};
use crate::failure::Failure;
use crate::fs::{self, Fs, Ground, Recall};
use crate::metadata::Store;
use crate::mount::debts::{Debts, staging_options};
use crate::mount::end::Draining;
use crate::mount::explain;
use crate::mount::following::Stream;
use crate::mount::known::{self, Known};
use crate::mount::waking;
use crate::mount::writing::{self, Begun};
use crate::pins::Pins;
use crate::read::Reader;
use crate::secret::Secret;
use crate::task::Task;
use crate::thumbnails::Thumbnails;
use crate::tokens::{MemoryStore, TokenStore};
use crate::warm::{Pinning, Warmer};

/// Longest that the end of a mount waits for what is kept for the next one.
const KEEPING_MAX: Duration = Duration::from_secs(3);

/// What a mount is made of.
pub(super) struct Rooms {
    pub(super) api: Api,
    pub(super) site: Site,
    pub(super) reader: Arc<Reader>,
    pub(super) fs: Arc<Fs>,
    pub(super) warmer: Warmer,
    pub(super) pinning: Pinning,
    /// What is owed to the server; where the mount is read-only, why it is.
    pub(super) debts: Result<Arc<Debts>, String>,
    /// Applies what becomes of what was written.
    _applying: Option<Task>,
    _freshening: Task,
    _keeping: Task,
    _waking: Task,
    /// What others change; until it is followed.
    pub(super) stream: Option<Stream>,
}

impl Rooms {
    /// What is known of the drive is kept for the next mount, as far as that is soon done. Where something is still owed, what
    /// comes of that will not be known there.
    pub(super) async fn keep_known(&self) {
        let debts = self.debts.as_ref().ok();
        let kept = match debts.and_then(|debts| debts.in_short()) {
            None => timeout(KEEPING_MAX, self.fs.keep_whole()).await,
            Some(_) => timeout(KEEPING_MAX, self.fs.keep_known()).await,
        };
        if kept.is_err() {
            log::warn!("the next mount will not know all folders from this one: the disk is slow");
        }
    }
}

/// Signs in, asks the site who it is, and the drive for its root; what cannot be reached now is what it was when it was mounted
/// last. Every way to the server goes into `draining`
/// before it is used.
pub(super) async fn build(plan: &MountPlan, draining: &Draining) -> Result<Rooms, Failure> {
    let explain = |err: Error| explain::api(&err, plan);
    let credentials = credentials(plan, draining).await?;
    let api = open(&plan.api, credentials, draining).map_err(explain)?;
    let store = known::store(plan);
    let (site, was) = who(plan, &api, store.as_deref()).await.map_err(explain)?;
    let mut stream = Stream::open(plan, &api, &site);
    let cache = Cache::open(cache::Options {
        dir: plan.cache_dir.clone(),
        instance_id: site.instance_id.to_string(),
        size_bytes: match store {
            Some(_) => plan.cache_size_bytes - known::room_bytes(plan),
            None => plan.cache_size_bytes,
        },
        // Enough for a second of a fast link while the disk does something else, where memory is not short.
        waiting_bytes: plan.read.memory_bytes / 4,
    });
    let reader = Reader::new(api.clone(), cache, plan.read.clone());
    let read_only = match &was {
        Some(was) => was.read_only(),
        None => {
            let because = writing::read_only_because(plan, &api, &site).await;
            because.map_err(explain)?.map(str::to_owned)
        }
    };
    let begun = match read_only.clone() {
        Some(because) => Err(because),
        None => {
            let options = staging_options(plan, &site.instance_id, &site.user.id);
            Ok(writing::begin(plan, &api, options, &reader)?)
        }
    };
    let owing = begun.as_ref().ok();
    let owing = owing.map(|begun| (begun.owing.clone(), begun.owed.clone()));
    let drive = staging_options(plan, &site.instance_id, &site.user.id).drive;
    let pins = Arc::new(Pins::open(&plan.state_dir, &drive));
    let thumbnails = plan.thumbnails.clone();
    let thumbnails = thumbnails.map(|options| Thumbnails::new(&api, options));
    if let Some(stream) = &mut stream
        && was.is_none()
    {
        stream.begun().await;
    }
    let recall = store.as_ref().map(|store| Recall {
        store: Arc::clone(store),
        root: was.as_ref().map(Known::root),
    });
    let ground = Ground {
        api: api.clone(),
        site: site.clone(),
        reader: Arc::clone(&reader),
        thumbnails,
        pins,
        recall,
    };
    let fs = Fs::new(plan.fs.clone(), ground, owing)
        .await
        .map_err(|err| explain::fs(&err, plan))?;
    if let (Some(store), None) = (&store, was)
        && let Some(known) = Known::of(&site, read_only, &fs)
    {
        known.keep(store);
    }
    let freshening = fs::freshen(&fs);
    let keeping = fs::keep(&fs);
    let waking = waking::watch_for_sleep(&fs, &api);
    let (debts, applying) = match begun {
        Ok(Begun { owing, news, .. }) => {
            let debts = Arc::new(Debts::new(plan, &fs, owing));
            let applying = writing::apply(&fs, news, &debts);
            (Ok(debts), Some(applying))
        }
        Err(because) => (Err(because), None),
    };
    let warmer = Warmer::new(&fs, &reader);
    Ok(Rooms {
        api,
        site,
        pinning: Pinning::new(warmer.clone()),
        warmer,
        reader,
        fs,
        debts,
        _applying: applying,
        _freshening: freshening,
        _keeping: keeping,
        _waking: waking,
        stream,
    })
}

/// What the site says of itself and of us; where it cannot be reached, what it was in `store` when the drive was mounted last,
/// with the rest of that.
async fn who(
    plan: &MountPlan,
    api: &Api,
    store: Option<&Store>,
) -> Result<(Site, Option<Known>), Error> {
    let (site, was) = match store.and_then(|store| Some((store, Known::in_store(store)?))) {
        None => (api.site().await?, None),
        Some((store, known)) => match known::site_if_reached(api).await? {
            Some(site) => {
                if !known.is_of(&site) {
                    store.clear();
                }
                (site, None)
            }
            None => (known.site(), Some(known)),
        },
    };
    if site.user.anonymous && !matches!(plan.account, Account::Anonymous) {
        // A server takes a dead token for a visitor's, without an error.
        let dead = "the server does not know this account's token any more".to_owned();
        return Err(Error::SignedOut(dead));
    }
    Ok((site, was))
}

fn open(options: &Options, credentials: Credentials, draining: &Draining) -> Result<Api, Error> {
    let api = Api::new(options.clone(), credentials)?;
    draining.add(&api);
    Ok(api)
}

async fn credentials(plan: &MountPlan, draining: &Draining) -> Result<Credentials, Failure> {
    Ok(match &plan.account {
        Account::Anonymous => Credentials::Anonymous,
        Account::Profile { store, .. } => Credentials::Stored(Arc::clone(store)),
        Account::Password { email, password } => Credentials::Password {
            email: email.clone(),
            password: password.clone(),
        },
        Account::AccessToken(token) => Credentials::AccessToken(token.clone()),
        Account::RefreshToken(token) => {
            let store = first_tokens(plan, token, draining)
                .await
                .map_err(|err| explain::api(&err, plan))?;
            Credentials::Stored(store)
        }
    })
}

/// Buys the first pair with a refresh token that lives nowhere but in this process.
async fn first_tokens(
    plan: &MountPlan,
    refresh_token: &Secret,
    draining: &Draining,
) -> Result<Arc<dyn TokenStore>, Error> {
    let anybody = open(&plan.api, Credentials::Anonymous, draining)?;
    let tokens = anybody.refresh(refresh_token).await?;
    let store = MemoryStore::default();
    store
        .save(&tokens)
        .map_err(|err| Error::Local(err.to_string()))?;
    Ok(Arc::new(store))
}
