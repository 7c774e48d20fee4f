//! What a network and a server do to who depends on them, one after the other.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Fault, Server};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use super::watcher::Watcher;
use crate::support::dice;
use crate::support::proxy::{Manner, Proxy};

/// The server's host. It has no other name and no address of its own.
pub(super) const NAME: &str = "drive.test";

/// Who is asked for names that `hosts` does not have: nobody answers there.
pub(super) const RESOLVER: &str = "127.66.77.88";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Network(Manner),
    /// The server is killed, and starts again.
    Gone,
    /// Its proxy has pages of its own, with this status.
    Status(u16),
    /// A captive portal answers everything.
    Portal,
    /// Half of all requests fail, with this status.
    Half(u16),
    /// The server is reached, and its answers wait.
    Hanging,
    /// The name is not known any more, and who would know it is silent.
    NoName,
    /// The name leads to an IPv6 address first, from which nothing comes back.
    NoIpv6,
    /// The server's clock is this much further on: what it signed and issued has expired.
    Clock(Duration),
}

/// The world around a mount, and what can happen in it.
pub(super) struct Weather<'a> {
    pub(super) server: &'a Server,
    pub(super) proxy: &'a Proxy,
    pub(super) watcher: &'a Watcher,
    /// Where names are looked up.
    pub(super) hosts: PathBuf,
    void: Option<Void>,
}

impl<'a> Weather<'a> {
    pub(super) fn new(
        server: &'a Server,
        proxy: &'a Proxy,
        watcher: &'a Watcher,
        hosts: &Path,
    ) -> Self {
        let void = Void::at(proxy.port());
        if void.is_none() {
            println!("this machine has no IPv6, so that it is not tried");
        }
        let weather = Self {
            server,
            proxy,
            watcher,
            hosts: hosts.to_owned(),
            void,
        };
        weather.calm();
        weather
    }

    /// Trouble after trouble, with calm in between; how much of each kind there was.
    pub(super) fn run(&self, seed: u64, until: Instant) -> Vec<String> {
        let mut dice = dice(seed);
        let mut had = Vec::new();
        while Instant::now() < until {
            let trouble = trouble(&mut dice);
            if trouble == Trouble::NoIpv6 && self.void.is_none() {
                continue;
            }
            let is_slow = matches!(
                trouble,
                Trouble::Network(Manner::Slow(_) | Manner::StallAfter(_) | Manner::ResetAfter(_))
            );
            self.watcher.weather(format!("{trouble:?}"), is_slow);
            let began = Instant::now();
            self.begin(trouble);
            // A storm has its own time: some longer than what calls wait for, some shorter.
            std::thread::sleep(Duration::from_millis(500 + dice(7500)));
            self.end(trouble);
            had.push(format!("{trouble:?} for {:.1?}", began.elapsed()));
            self.watcher
                .weather(format!("calm after {trouble:?}"), false);
            std::thread::sleep(Duration::from_millis(dice(3000)));
        }
        had
    }

    fn begin(&self, trouble: Trouble) {
        match trouble {
            Trouble::Network(manner) => self.proxy.set(manner),
            Trouble::Gone => self.server.stop(),
            Trouble::Status(status) => self.server.fail(Fault::everywhere().status(status)),
            Trouble::Portal => self.server.fail(Fault::everywhere().html_page()),
            Trouble::Half(status) => {
                let fault = Fault::everywhere().status(status);
                self.server.fail(fault.with_probability(0.5, 1));
            }
            Trouble::Hanging => self.server.fail(Fault::everywhere().stall()),
            Trouble::NoName => self.leads_to(&[]),
            Trouble::NoIpv6 => self.leads_to(&["::1", "127.0.0.1"]),
            Trouble::Clock(length) => self.server.advance_clock(length),
        }
    }

    fn end(&self, trouble: Trouble) {
        if trouble == Trouble::Gone {
            self.server.restart().unwrap();
        }
        self.calm();
    }

    /// All is well.
    pub(super) fn calm(&self) {
        self.proxy.set(Manner::Well);
        self.server.clear_faults();
        self.leads_to(&["127.0.0.1"]);
    }

    /// The server's name has these addresses, for connections to come.
    fn leads_to(&self, addresses: &[&str]) {
        let line = |address: &&str| format!("{address} {NAME}\n");
        let hosts: String = addresses.iter().map(line).collect();
        if std::fs::read_to_string(&self.hosts).is_ok_and(|before| before == hosts) {
            return;
        }
        std::fs::write(&self.hosts, hosts).unwrap();
        self.proxy.cut();
    }
}

fn trouble(dice: &mut impl FnMut(u64) -> u64) -> Trouble {
    let bytes = dice(100_000) as usize;
    match dice(14) {
        0 => Trouble::Network(Manner::Silent),
        1 => Trouble::Network(Manner::Reset),
        2 => Trouble::Network(Manner::StallAfter(bytes)),
        3 => Trouble::Network(Manner::ResetAfter(bytes)),
        4 => Trouble::Network(Manner::Slow(2_000 + bytes)),
        5 => Trouble::Gone,
        6 => Trouble::Status(500),
        7 => Trouble::Status(502),
        8 => Trouble::Half(503),
        9 => Trouble::Portal,
        10 => Trouble::Hanging,
        11 => Trouble::NoName,
        12 => Trouble::NoIpv6,
        _ => Trouble::Clock(Duration::from_secs(60 * dice(180))),
    }
}

/// A resolver that hears and says nothing, at [`RESOLVER`].
pub(super) fn silent_resolver() -> UdpSocket {
    UdpSocket::bind((RESOLVER, 53)).expect("root may have a resolver")
}

/// An IPv6 address from which nothing comes back: its queue of connections is full and nobody takes any out of it, so that
/// the kernel drops what asks for more.
struct Void {
    _runtime: Runtime,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Void {
    /// At a port of `::1`; none where this machine has no IPv6.
    fn at(port: u16) -> Option<Self> {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let runtime = Runtime::new().expect("a runtime can be started");
        let filled = runtime.block_on(async {
            let socket = TcpSocket::new_v6()?;
            socket.bind(address)?;
            let listener = socket.listen(1)?;
            let mut queued = Vec::new();
            let soon = Duration::from_millis(200);
            while let Ok(connected) = tokio::time::timeout(soon, TcpStream::connect(address)).await
            {
                queued.push(connected?);
            }
            std::io::Result::Ok((listener, queued))
        });
        let (listener, queued) = filled.ok()?;
        Some(Self {
            _runtime: runtime,
            _listener: listener,
            _queued: queued,
        })
    }
}
