//! The state of the site: who there is, what is shared, what is under way, and the drive.
//!
//! One value behind one lock, held while a request is answered and never while one waits. It knows the server's
//! rules, but no routes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::cipher::Cipher;
use crate::clock::Time;
use crate::drive::{Drive, EntityId, NodeId, UserId};
use crate::hub::Hub;
use crate::ids::{Dice, Ids, Kind, mix};
use crate::options::{Settings, Wedge};
use crate::policy::StoragePolicy;
use crate::reply::Failure;
use crate::sign::Signer;
use crate::store::StoreState;

/// How many issued secrets are remembered, and how many requests: tests need the last ones.
pub(crate) const MEMORY: usize = 200_000;

/// Groups of a fresh install (→ api part 1 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Admin = 1,
    User = 2,
    Anonymous = 3,
}

impl Group {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::User => "User",
            Self::Anonymous => "Anonymous",
        }
    }
}

/// Whether an account may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Inactive,
    Banned,
}

/// A user.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) password: String,
    /// Counts changes of the password: its digest is salted anew by each (→ api part 1 §3.6).
    pub(crate) password_serial: u32,
    pub(crate) status: Status,
    pub(crate) group: Group,
    pub(crate) created: Time,
    pub(crate) root: NodeId,
    pub(crate) capacity: u64,
    /// Trashed objects by their names in the trash.
    pub(crate) trash: BTreeMap<String, NodeId>,
    pub(crate) retention: bool,
    /// Versions kept, the current one included; 0 is unlimited.
    pub(crate) retention_max: usize,
    pub(crate) two_factor: Option<String>,
    pub(crate) view_sync: bool,
    /// Granted scopes by OAuth client.
    pub(crate) grants: HashMap<String, Vec<String>>,
}

impl Account {
    pub(crate) fn nickname(&self) -> &str {
        self.email.split('@').next().unwrap_or_default()
    }
}

/// A share link.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) owner: UserId,
    pub(crate) source: NodeId,
    pub(crate) password: String,
    pub(crate) remaining: Option<u32>,
    pub(crate) downloaded: u32,
    pub(crate) visited: u32,
    pub(crate) created: Time,
    pub(crate) expires: Option<Time>,
    pub(crate) view: bool,
}

/// An upload session (→ api part 2 §5).
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) user: UserId,
    pub(crate) policy: StoragePolicy,
    pub(crate) relay: bool,
    /// What the client was told to encipher with.
    pub(crate) cipher: Option<Cipher>,
    /// Last segment of its callback's path.
    pub(crate) secret: String,
    pub(crate) file: NodeId,
    pub(crate) entity: EntityId,
    pub(crate) size: u64,
    pub(crate) chunk_size: u64,
    pub(crate) expires: Time,
    pub(crate) updated: Option<Time>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) chunks: BTreeMap<u64, bytes::Bytes>,
    /// Token of the lock; none once the lock was taken away.
    pub(crate) lock: Option<String>,
    /// Completion was tried and failed: retries answer success (→ api part 2 §5.7).
    pub(crate) claimed: bool,
}

/// A registered OAuth client (→ api part 1 §3.8).
#[derive(Clone, Debug)]
pub(crate) struct OAuthClient {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) refresh_ttl: Option<std::time::Duration>,
}

/// A consent that waits for its exchange.
#[derive(Clone, Debug)]
pub(crate) struct OAuthCode {
    pub(crate) client: String,
    pub(crate) user: UserId,
    pub(crate) scopes: Vec<String>,
    pub(crate) challenge: String,
    pub(crate) expires: Time,
}

/// A signed URL that the server hands out again (→ api part 2 §2.1).
#[derive(Clone, Debug)]
pub(crate) struct CachedUrl {
    pub(crate) url: String,
    pub(crate) expires: Time,
    pub(crate) until: Time,
}

/// Secrets the server has issued, in order, each once.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    seen: HashSet<String>,
    order: VecDeque<String>,
}

impl Secrets {
    pub(crate) fn note(&mut self, secret: &str) {
        if self.seen.insert(secret.to_owned()) {
            self.order.push_back(secret.to_owned());
        }
        if self.order.len() > MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.order.iter().cloned().collect()
    }
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) settings: Settings,
    /// `http://127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Origin of the store beside the server.
    pub(crate) store_address: String,
    pub(crate) instance_id: String,
    pub(crate) ids: Ids,
    pub(crate) dice: Dice,
    pub(crate) signer: Signer,
    pub(crate) drive: Drive,
    pub(crate) hub: Hub,
    pub(crate) accounts: BTreeMap<UserId, Account>,
    pub(crate) shares: BTreeMap<u64, Share>,
    pub(crate) last_share: u64,
    pub(crate) uploads: HashMap<String, Upload>,
    pub(crate) store: StoreState,
    pub(crate) captchas: HashMap<String, String>,
    /// Sign-ins that wait for a second factor: user and expiry by session id.
    pub(crate) two_factor: HashMap<String, (UserId, Time)>,
    pub(crate) oauth_clients: BTreeMap<String, OAuthClient>,
    pub(crate) oauth_codes: HashMap<String, OAuthCode>,
    pub(crate) revoked_roots: HashSet<String>,
    pub(crate) urls: HashMap<String, CachedUrl>,
    pub(crate) summaries: HashMap<NodeId, (serde_json::Value, Time)>,
    pub(crate) secrets: Secrets,
    /// Until when a hang-up has broken all calls.
    pub(crate) wedged_until: Option<Time>,
}

impl Site {
    pub(crate) fn new(seed: u64, address: String, store_address: String) -> Self {
        let mut dice = Dice::new(seed);
        let mut site = Self {
            settings: Settings::default(),
            address,
            store_address,
            instance_id: dice.uuid(),
            ids: Ids::new(mix(seed ^ 0x5a17)),
            signer: Signer::new(dice.text(64)),
            dice,
            drive: Drive::default(),
            hub: Hub::default(),
            accounts: BTreeMap::new(),
            shares: BTreeMap::new(),
            last_share: 0,
            uploads: HashMap::new(),
            store: StoreState::default(),
            captchas: HashMap::new(),
            two_factor: HashMap::new(),
            oauth_clients: BTreeMap::new(),
            oauth_codes: HashMap::new(),
            revoked_roots: HashSet::new(),
            urls: HashMap::new(),
            summaries: HashMap::new(),
            secrets: Secrets::default(),
            wedged_until: None,
        };
        site.add_seeded_clients();
        site
    }

    /// The desktop client of every install; its secret is a constant in the public source, so it is none.
    fn add_seeded_clients(&mut self) {
        let scopes = "profile email openid offline_access UserInfo.Write Workflow.Write Files.Write Shares.Write";
        let desktop = OAuthClient {
            name: "application:oauth.desktop".to_owned(),
            secret: "8GaQIu3lOSdqYoDHi9cR8IZ4pvuMH8ya".to_owned(),
            redirect_uris: vec!["/callback/desktop".to_owned()],
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            refresh_ttl: Some(std::time::Duration::from_secs(7_776_000)),
        };
        self.oauth_clients
            .insert("393a1839-f52e-498e-9972-e77cc2241eee".to_owned(), desktop);
    }

    pub(crate) fn add_account(
        &mut self,
        email: &str,
        password: &str,
        group: Group,
        now: Time,
    ) -> UserId {
        let id = self.accounts.keys().last().copied().unwrap_or(0) + 1;
        let root = self.drive.root(id, now);
        let account = Account {
            email: email.to_owned(),
            password: password.to_owned(),
            password_serial: 0,
            status: Status::Active,
            group,
            created: now,
            root,
            capacity: 1 << 40,
            trash: BTreeMap::new(),
            retention: true,
            retention_max: 10,
            two_factor: None,
            view_sync: true,
            grants: HashMap::new(),
        };
        self.accounts.insert(id, account);
        id
    }

    /// E-mail addresses match without case (→ api part 1 §3.4).
    pub(crate) fn account_by_email(&self, email: &str) -> Option<UserId> {
        self.accounts
            .iter()
            .find(|(_, account)| account.email.eq_ignore_ascii_case(email))
            .map(|(id, _)| *id)
    }

    /// The six digits that an authenticator of this account shows now.
    pub(crate) fn two_factor_code(&self, secret: &str, now: Time) -> String {
        let window = now.unix_seconds() as u64 / 30;
        let secret = secret
            .bytes()
            .fold(0_u64, |hash, byte| mix(hash ^ u64::from(byte)));
        format!("{:06}", mix(secret ^ window) % 1_000_000)
    }

    /// Bits of a group's permission, in base64 (→ api part 1 §5.2).
    pub(crate) fn permission(&self, group: Group) -> &'static str {
        match group {
            Group::Admin => "/RoB",
            Group::User if self.settings.users_may_open_shares => "hAg=",
            Group::User => "BAg=",
            Group::Anonymous if self.settings.anonymous_may_open_shares => "gg==",
            Group::Anonymous => "Ag==",
        }
    }

    pub(crate) fn wedge(&self, now: Time) -> Wedge {
        match self.wedged_until {
            Some(until) if now < until => Wedge::Reads,
            _ => self.settings.wedge,
        }
    }

    pub(crate) fn site_url(&self) -> &str {
        self.settings
            .site_url
            .as_deref()
            .unwrap_or(&self.address)
            .trim_end_matches('/')
    }

    pub(crate) fn file_id(&self, node: NodeId) -> String {
        self.ids.encode(Kind::File, node)
    }

    /// Why a share cannot be used at all (→ api part 1 §12.2); none if it can.
    pub(crate) fn share_trouble(&self, share: &Share, now: Time) -> Option<Failure> {
        let gone = share.expires.is_some_and(|expires| expires <= now)
            || share.remaining == Some(0)
            || self
                .accounts
                .get(&share.owner)
                .is_none_or(|owner| owner.status != Status::Active)
            || self
                .drive
                .get(share.source)
                .is_none_or(|_| self.drive.root_of(share.source).is_none());
        gone.then(|| {
            Failure::new(404, "Shared file does not exist").chained(
                "failed to get target file: Shared file does not exist: share link expired",
            )
        })
    }

    /// The live upload session that locks this object, an ancestor of it, or something below it (`deep`).
    pub(crate) fn lock_on(&self, node: NodeId, deep: bool, now: Time) -> Option<&Upload> {
        self.uploads
            .values()
            .filter(|upload| upload.lock.is_some() && now < upload.expires)
            .find(|upload| {
                upload.file == node
                    || (deep && self.drive.ancestry(upload.file).any(|above| above == node))
            })
    }

    /// Refuses a mutation of a locked object with the answer that shows the lock (→ api part 1 §1.6).
    pub(crate) fn check_lock(&self, node: NodeId, deep: bool, now: Time) -> Result<(), Failure> {
        let Some(upload) = self.lock_on(node, deep, now) else {
            return Ok(());
        };
        let path = self.my_path(upload.file);
        Err(Failure::lock_conflict(
            path,
            upload.lock.clone().unwrap_or_default(),
            "upload",
            false,
        ))
    }

    /// The URI of an object in its owner's own view.
    pub(crate) fn my_path(&self, node: NodeId) -> String {
        let mut text = "cloudreve://my".to_owned();
        for segment in self.drive.segments(node) {
            text.push('/');
            crate::uri::percent::escape(&segment, &mut text);
        }
        text
    }
}
