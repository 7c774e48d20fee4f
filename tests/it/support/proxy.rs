//! A network between a daemon and its server, that can be made to fail.
//!
//! It carries bytes and knows nothing of HTTP. What it holds back goes on when the network is well again, as what TCP sends
//! again; only what it cuts is lost. Its own kernel acknowledges what it was sent, which a dead cable would not do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::sleep;

/// Bytes that are passed on at once: few, so that trouble begins in the middle of things.
const PIECE_BYTES: usize = 4096;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As loopback.
    Well,
    /// Connections stand and can be made, and no byte passes.
    Silent,
    /// Every connection is reset, and each new one.
    Reset,
    /// After so many bytes of answers nothing more passes on a connection.
    StallAfter(usize),
    /// After so many bytes of answers a connection is reset.
    ResetAfter(usize),
    /// So many bytes a second pass on each connection.
    Slow(usize),
}

/// Ends, with all connections, on drop.
#[derive(Debug)]
pub(crate) struct Proxy {
    runtime: Option<Runtime>,
    manner: watch::Sender<Manner>,
    cuts: watch::Sender<()>,
    port: u16,
}

/// What a connection goes by.
#[derive(Clone)]
struct Network {
    server: SocketAddr,
    manner: watch::Receiver<Manner>,
    cuts: watch::Receiver<()>,
}

impl Proxy {
    /// Leads from a port on 127.0.0.1 to `server`.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime can be started");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (manner, cuts) = (watch::Sender::new(Manner::Well), watch::Sender::new(()));
        let network = Network {
            server,
            manner: manner.subscribe(),
            cuts: cuts.subscribe(),
        };
        runtime.spawn(accept(listener, network));
        Self {
            runtime: Some(runtime),
            manner,
            cuts,
            port,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it is so; what was held back goes on where it may.
    pub(crate) fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
        if manner == Manner::Reset {
            self.cut();
        }
    }

    /// Resets all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, network: Network) {
    while let Ok((client, _)) = listener.accept().await {
        let mut network = network.clone();
        // What was cut before it began is not its business.
        network.cuts.mark_unchanged();
        tokio::spawn(carry(client, network));
    }
}

/// One connection, to its end.
async fn carry(mut client: TcpStream, mut network: Network) {
    let is_reset = *network.manner.borrow() == Manner::Reset;
    let server = TcpStream::connect(network.server).await;
    let outcome = match server {
        Ok(mut server) if !is_reset => {
            // A network of its own has no delayed acknowledgements to wait for in the middle.
            for end in [&client, &server] {
                end.set_nodelay(true).ok();
            }
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let up = pump(from_client, to_server, network.manner.clone(), false);
            let down = pump(from_server, to_client, network.manner.clone(), true);
            tokio::select! {
                carried = async { tokio::try_join!(up, down) } => carried.map(|_| ()),
                _ = network.cuts.changed() => Err(reset()),
            }
        }
        _ => Err(reset()),
    };
    if outcome.is_err() {
        // Else the client would see an end in good order. Where it is gone already nobody sees anything.
        client.set_zero_linger().ok();
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Bytes in one direction, to their end. Answers are what comes `down`.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut manner: watch::Receiver<Manner>,
    is_down: bool,
) -> io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    let mut passed = 0;
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            // Who reads no more has his own reasons.
            to.shutdown().await.ok();
            return Ok(());
        }
        loop {
            if manner.has_changed().unwrap_or(false) {
                passed = 0;
            }
            let now = *manner.borrow_and_update();
            match now {
                Manner::Silent => {}
                Manner::StallAfter(bytes) if is_down && passed + length > bytes => {}
                Manner::ResetAfter(bytes) if is_down && passed + length > bytes => {
                    return Err(reset());
                }
                Manner::Slow(bytes_per_second) => {
                    sleep(Duration::from_secs_f64(
                        length as f64 / bytes_per_second as f64,
                    ))
                    .await;
                    break;
                }
                Manner::Well | Manner::Reset | Manner::StallAfter(_) | Manner::ResetAfter(_) => {
                    break;
                }
            }
            manner.changed().await.map_err(|_| reset())?;
        }
        to.write_all(&piece[..length]).await?;
        passed += length;
    }
}
