//! Tells the service manager how we are: ready, what we do, that we live, that we end (→ sd_notify(3)).
//!
//! Without a manager every word is for nobody and costs nothing. A word that cannot be delivered is no reason to
//! fail; it is never waited for, and holds no secret.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the manager, if there is one.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager that the environment names.
    pub fn from_environment() -> Self {
        let us = std::process::id();
        Self::new(
            std::env::var_os("NOTIFY_SOCKET"),
            std::env::var("WATCHDOG_USEC").ok(),
            std::env::var("WATCHDOG_PID").ok(),
            us,
        )
    }

    /// `pid` is this process: a watchdog of another one, inherited from it, is not ours to feed.
    fn new(
        socket: Option<OsString>,
        watchdog_usec: Option<String>,
        watchdog_pid: Option<String>,
        pid: u32,
    ) -> Self {
        let ours = watchdog_pid.is_none_or(|owner| owner.parse() == Ok(pid));
        let watchdog = watchdog_usec
            .filter(|_| ours)
            .and_then(|usec| usec.parse().ok())
            .filter(|usec| *usec > 0)
            .map(Duration::from_micros);
        Self {
            socket: socket.and_then(connect),
            watchdog,
        }
    }

    /// The mount answers.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// What we do now, in words.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    /// We are about to end; `status` says what is still to be done.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Starting or ending takes longer: ask again after `time`, not before.
    pub fn extend_timeout(&self, time: Duration) {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    /// How often [`Manager::alive`] is to be said, if at all: twice as often as the manager asks for, as it advises.
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// We live.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(err) = socket.send_to_addr(words.as_bytes(), address)
        {
            log::debug!("the service manager does not listen: {err}");
        }
    }
}

fn connect(name: OsString) -> Option<(UnixDatagram, SocketAddr)> {
    // A leading @ stands for the NUL of an abstract socket's name.
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        [b'/', ..] => SocketAddr::from_pathname(&name),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().and_then(|socket| {
        // A manager that is stuck must not stop us.
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    match (address, socket) {
        (Ok(address), Ok(socket)) => Some((socket, address)),
        (Err(err), _) | (_, Err(err)) => {
            log::debug!("NOTIFY_SOCKET cannot be used: {err}");
            None
        }
    }
}

/// Each line is an assignment of its own, so a line break in a text would be one too.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn manager(socket: impl AsRef<OsStr>) -> Manager {
        Manager::new(Some(socket.as_ref().to_owned()), None, None, 1)
    }

    #[test]
    fn a_socket_with_a_path_hears_every_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = manager(&path);
        manager.ready("mounted\nWATCHDOG=trigger");
        assert_eq!(heard(&listener), "READY=1\nSTATUS=mounted WATCHDOG=trigger");
        manager.extend_timeout(Duration::from_secs(5));
        assert_eq!(heard(&listener), "EXTEND_TIMEOUT_USEC=5000000");
        manager.stopping("waiting");
        assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=waiting");
        manager.alive();
        assert_eq!(heard(&listener), "WATCHDOG=1");
    }

    #[test]
    fn an_abstract_socket_hears_too() {
        let name = format!("cloudreve-fuse-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        manager(format!("@{name}")).status("well");
        assert_eq!(heard(&listener), "STATUS=well");
    }

    #[test]
    fn no_manager_a_dead_one_and_a_strange_name_are_all_the_same_to_us() {
        Manager::default().ready("x");
        manager("/nonexistent/notify").ready("x");
        manager("vsock:2:1234").ready("x");
        manager("").ready("x");
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_asked_and_only_if_it_is_ours() {
        let check = |usec: &str, pid: Option<&str>| {
            Manager::new(None, Some(usec.to_owned()), pid.map(str::to_owned), 77).watchdog_period()
        };
        assert_eq!(check("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(check("30000000", Some("77")), Some(Duration::from_secs(15)));
        assert_eq!(check("30000000", Some("78")), None);
        assert_eq!(check("soon", None), None);
        assert_eq!(check("0", None), None);
    }
}
