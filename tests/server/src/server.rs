//! The server as a value: started, set, asked what it saw, and ended by its drop.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::clock::{Clock, Time};
use crate::faults::{Fault, Faults};
use crate::hub::End;
use crate::ids::{Kind, mix};
use crate::line::Line;
use crate::log::{LoggedRequest, RequestLog};
use crate::options::{Collation, EventSettings, Options, Settings, User, Wedge};
use crate::policy::StoragePolicy;
use crate::route::Route;
use crate::serve::{Origin, Shared, accept};
use crate::site::{Group, Site};

/// How long a wait lasts that should be short.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. All methods are synchronous and may be called from any thread, also from async ones.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    address: String,
    store_address: String,
    user: u64,
    /// None while it is stopped.
    runtime: Mutex<Option<Runtime>>,
}

impl Server {
    /// Starts a server on loopback; it runs on threads of its own until it is dropped.
    pub fn start(options: Options) -> io::Result<Self> {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let store_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let origin = |listener: &TcpListener| {
            listener
                .local_addr()
                .map(|address| format!("http://{address}"))
        };
        let (address, store_address) = (origin(&listener)?, origin(&store_listener)?);
        let unique = || {
            let nanos = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_nanos() as u64;
            mix(nanos ^ STARTED.fetch_add(1, Ordering::Relaxed) << 48)
        };
        let clock = Clock::default();
        let mut site = Site::new(
            options.seed.unwrap_or_else(unique),
            address.clone(),
            store_address.clone(),
        );
        let user = site.add_account(&options.email, &options.password, Group::User, clock.now());
        let shared = Arc::new(Shared {
            site: Mutex::new(site),
            faults: Mutex::default(),
            log: Mutex::default(),
            arrived: Condvar::new(),
            clock,
            wedge_on_hangup: options.wedge_on_hangup,
            cleared: watch::Sender::new(0),
            line: Line::default(),
            stopped: AtomicBool::new(false),
        });
        let runtime = run(&shared, listener, store_listener)?;
        Ok(Self {
            shared,
            address,
            store_address,
            user,
            runtime: Mutex::new(Some(runtime)),
        })
    }

    /// Ends as a server that is killed: all connections are cut, and its addresses refuse new ones until
    /// [`Server::restart`]. What it holds stays. That requests under way get no answer is no hang-up of their clients.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let runtime = self.runtime.lock().unwrap().take();
        // On a thread of its own, because an async test must not block, not even for this short time.
        let ending =
            std::thread::spawn(|| runtime.map(|runtime| runtime.shutdown_timeout(PATIENCE)));
        ending.join().expect("a runtime ends without a panic");
        // Who follows is known to nobody who starts anew.
        self.site().hub.wipe();
    }

    /// Runs again at the addresses it had before [`Server::stop`].
    pub fn restart(&self) -> io::Result<()> {
        let bind = |address: &str| TcpListener::bind(address.trim_start_matches("http://"));
        let (listener, store_listener) = (bind(&self.address)?, bind(&self.store_address)?);
        self.shared.stopped.store(false, Ordering::SeqCst);
        let runtime = run(&self.shared, listener, store_listener)?;
        *self.runtime.lock().unwrap() = Some(runtime);
        Ok(())
    }

    pub(crate) fn site(&self) -> MutexGuard<'_, Site> {
        self.shared.site.lock().unwrap()
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.shared.log.lock().unwrap()
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.clock.now()
    }

    pub(crate) fn first_user(&self) -> u64 {
        self.user
    }

    /// `http://127.0.0.1:PORT`: what a user types as the address.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Origin of the store that holds bytes when [`Settings::store`] says so.
    pub fn store_address(&self) -> String {
        self.store_address.clone()
    }

    /// The first user, in whose drive seeding happens.
    pub fn user(&self) -> User {
        let site = self.site();
        let account = &site.accounts[&self.user];
        let id = site.ids.encode(Kind::User, self.user);
        User {
            id,
            email: account.email.clone(),
            password: account.password.clone(),
        }
    }

    /// The site's stable uuid.
    pub fn instance_id(&self) -> String {
        self.site().instance_id.clone()
    }

    /// Changes settings; they hold from the next request on.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.site().settings);
    }

    /// Time before the response headers of every request.
    pub fn set_latency(&self, latency: Duration) {
        self.configure(|settings| settings.latency = latency);
    }

    /// Bytes of bodies a second, all connections together; none is no limit.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.configure(|settings| settings.bandwidth = bytes_per_second);
    }

    /// Bytes of bodies a second on each connection, besides what all have together; none is no limit.
    pub fn set_connection_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.configure(|settings| settings.connection_bandwidth = bytes_per_second);
    }

    /// Has the database take other names for the same from now on.
    pub fn set_collation(&self, collation: Collation) {
        self.site().drive.collation = collation;
    }

    /// Breaks the database, or mends it.
    pub fn set_wedge(&self, wedge: Wedge) {
        let mut site = self.site();
        site.settings.wedge = wedge;
        site.wedged_until = None;
    }

    /// Sends new content to a store of this kind from now on; what is there already stays where it is.
    pub fn set_policy(&self, policy: StoragePolicy) {
        self.configure(|settings| settings.policy = policy);
    }

    /// Makes the server take uploads for the store itself, or not.
    pub fn set_relay(&self, relay: bool) {
        self.configure(|settings| settings.relay = relay);
    }

    /// Makes the storage hold nothing in clear from now on, or not.
    pub fn set_encryption(&self, encryption: bool) {
        self.configure(|settings| settings.encryption = encryption);
    }

    /// Forgets all upload sessions and locks, as a server that was killed; what they left on their files stays.
    pub fn lose_uploads(&self) {
        self.site().uploads.clear();
    }

    /// Forgets the locks of upload sessions, as a server that was restarted in good order.
    pub fn lose_upload_locks(&self) {
        for upload in self.site().uploads.values_mut() {
            upload.lock = None;
        }
    }

    /// Upload sessions that are open.
    pub fn open_uploads(&self) -> usize {
        self.site().uploads.len()
    }

    /// Makes signing in with a password need a captcha.
    pub fn set_captcha(&self, wanted: bool) {
        self.configure(|settings| settings.captcha = wanted);
    }

    /// Pages by cursor, or by offset.
    pub fn set_cursor_paging(&self, cursor: bool) {
        self.configure(|settings| settings.cursor_paging = cursor);
    }

    /// What the server's URLs begin with; none is its own address.
    pub fn set_site_url(&self, site_url: Option<&str>) {
        self.configure(|settings| settings.site_url = site_url.map(str::to_owned));
    }

    /// Lifetimes of access and refresh tokens issued from now on.
    pub fn set_token_lifetimes(&self, access: Duration, refresh: Duration) {
        self.configure(|settings| {
            (settings.access_token_ttl, settings.refresh_token_ttl) = (access, refresh)
        });
    }

    /// Lets time pass on the server's clock; what a store had to tell by then, it has told.
    pub fn advance_clock(&self, length: Duration) {
        self.shared.clock.advance(length);
        let now = self.now();
        let mut site = self.site();
        site.deliver_notices(now);
        site.hub.changed.send_replace(());
    }

    /// The server's clock, as time since 1970.
    pub fn clock(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.now().0).unwrap_or(0))
    }

    /// Puts a fault in force.
    pub fn fail(&self, fault: Fault) {
        self.faults().add(fault);
    }

    /// Ends all faults, and lets go what was stalled.
    pub fn clear_faults(&self) {
        self.faults().clear();
        self.shared
            .cleared
            .send_modify(|generation| *generation += 1);
    }

    /// Requests of a route since the start or the last reset, failed ones included.
    pub fn count(&self, route: Route) -> u64 {
        self.log().count(route)
    }

    /// Requests of all routes since the start or the last reset.
    pub fn count_all(&self) -> u64 {
        self.log().total()
    }

    /// Lets the events go that wait for a pause: all, or those for one client.
    pub fn flush_events(&self, client: Option<&str>) {
        self.site().hub.flush_now(client);
    }

    /// Events that wait for a pause, of all who follow.
    pub fn waiting_events(&self) -> usize {
        self.site().hub.waiting()
    }

    /// Cuts all streams of events.
    pub fn cut_events(&self) {
        self.site().hub.end_all(End::Cut);
    }

    /// Ends all streams of events in good order.
    pub fn end_events(&self) {
        self.site().hub.end_all(End::Clean);
    }

    /// Sends this over all streams of events, as it is.
    pub fn send_events(&self, bytes: &str) {
        self.site().hub.send_all(bytes);
    }

    /// Changes how events are sent; streams that are open do so at once.
    pub fn configure_events(&self, change: impl FnOnce(&mut EventSettings)) {
        let mut site = self.site();
        change(&mut site.settings.events);
        site.hub.is_lossy = site.settings.events.loss;
        site.hub.changed.send_replace(());
    }

    /// The server sees which clients have closed their streams of events.
    pub fn notice_hangups(&self) {
        let now = self.now();
        self.site().hub.notice_hangups(now);
    }

    /// The ids of all clients that followed and are not forgotten, once for each of their folders.
    pub fn event_clients(&self) -> Vec<String> {
        self.site().hub.known_clients()
    }

    /// Waits until so many streams of events are open. It panics after 30 s.
    #[track_caller]
    pub fn wait_for_event_streams(&self, count: usize) {
        self.wait_for_streams(None, count);
    }

    /// Waits until the server has seen that a client closed its streams of events but `count`. It panics after 30 s.
    #[track_caller]
    pub fn wait_for_event_streams_of(&self, client: &str, count: usize) {
        self.wait_for_streams(Some(client), count);
    }

    #[track_caller]
    fn wait_for_streams(&self, client: Option<&str>, count: usize) {
        let open = || self.site().hub.open_streams(client);
        // The log's lock is that of the condition; nobody takes it who holds the site's.
        let waited = self
            .shared
            .arrived
            .wait_timeout_while(self.log(), PATIENCE, |_| open() != count);
        drop(waited.unwrap());
        assert_eq!(open(), count, "open streams of events");
    }

    /// Bytes of bodies sent since the start or the last reset.
    pub fn body_bytes_sent(&self) -> u64 {
        self.log().body_bytes
    }

    /// Those of them that are content of files.
    pub fn content_bytes_sent(&self) -> u64 {
        self.log().content_bytes
    }

    /// Requests since the start or the last reset, oldest first; at most the last 200,000.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.log().requests()
    }

    /// Waits until this many requests are in the server's hands at once: received, and not yet answered. It panics
    /// after 30 s. Latency, or a stall, is what keeps them there.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) {
        let few = |log: &mut RequestLog| log.in_flight < count;
        let waited = self
            .shared
            .arrived
            .wait_timeout_while(self.log(), PATIENCE, few);
        let in_flight = waited.unwrap().0.in_flight;
        assert!(
            in_flight >= count,
            "{in_flight} requests in flight instead of {count}"
        );
    }

    /// Sets counters, log and hang-ups to nothing.
    pub fn reset_counters(&self) {
        self.log().reset();
    }

    /// Clients that closed their connection after a request was received in full and before its response headers.
    pub fn hung_up_before_headers(&self) -> u64 {
        self.log().hung_up
    }

    /// Tokens, signatures and codes the server has issued.
    pub fn secrets_issued(&self) -> Vec<String> {
        self.site().secrets.all()
    }
}

/// Threads that answer on these listeners until they are shut down.
fn run(
    shared: &Arc<Shared>,
    listener: TcpListener,
    store_listener: TcpListener,
) -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for (listener, origin) in [(listener, Origin::Api), (store_listener, Origin::Store)] {
        listener.set_nonblocking(true)?;
        runtime.spawn(accept(listener, origin, Arc::clone(shared)));
    }
    Ok(runtime)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            // Not a plain drop, which would panic in an async test.
            runtime.shutdown_background();
        }
    }
}
