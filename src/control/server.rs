//! The answering side: a daemon's socket.

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::place::{record_path, short_address, socket_path};
use super::{Answer, Progress, Request};
use crate::mountpoint::effective_uid;

/// Connections at once; more wait in the kernel's queue. Each is one command of one person, and some wait for long: those
/// must not keep out who wants to know why.
const CONNECTIONS_MAX: usize = 64;

/// Longest request: a path of PATH_MAX bytes that JSON spells with up to six characters for each.
const REQUEST_MAX_BYTES: u64 = 32 << 10;

/// How long a connection may take to send its line, and to take its answer.
const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// An answer in the making.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What makes the answers. An answer in the making is dropped when nobody waits for it any more, which is noticed when
/// progress is told.
pub type Answers = Arc<dyn Fn(Request, Tell) -> Answering + Send + Sync>;

/// The way to tell who asked how far it is. What comes faster than it is read is told by its last word.
#[derive(Debug, Clone)]
pub struct Tell(watch::Sender<Option<Progress>>);

impl Tell {
    /// Tells it; never waits.
    pub fn tell(&self, progress: Progress) {
        self.0.send_replace(Some(progress));
    }
}

/// The socket of a mount. Removed, with all that waits on it, when dropped.
pub struct Socket {
    path: PathBuf,
    identity: (u64, u64),
    connections: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

impl Socket {
    /// Opens the socket of the mount at `mount_point` in `control_dir`, which exists, and lets `answers` answer.
    /// One left behind by a dead daemon is replaced; where a daemon still answers, `AddrInUse`. Needs a runtime.
    pub fn bind(control_dir: &Path, mount_point: &Path, answers: Answers) -> io::Result<Self> {
        let path = socket_path(control_dir, mount_point);
        let (_directory, address) = short_address(&path)?;
        let listener = match UnixListener::bind(&address) {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => {
                remove_dead(&path, &address)?;
                UnixListener::bind(&address)?
            }
            bound => bound?,
        };
        // Between bind and here only the directory's mode and the check of each peer keep others out.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        std::fs::write(record_path(&path), mount_point.as_os_str().as_bytes())?;
        let identity = identity(&path)?;
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&connections), answers));
        Ok(Self {
            path,
            identity,
            connections,
            accepting,
        })
    }

    /// Takes no more questions and waits until those asked are answered, at most `patience`.
    pub async fn close(self, patience: Duration) {
        self.remove();
        self.accepting.abort();
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        if timeout(patience, self.connections.acquire_many(all))
            .await
            .is_err()
        {
            log::debug!("somebody on the control socket got no answer before the end");
        }
    }

    /// Removes the files, unless another daemon has taken their place.
    pub fn remove(&self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            for path in [record_path(&self.path), self.path.clone()] {
                if let Err(err) = std::fs::remove_file(&path) {
                    log::debug!("{} stays behind: {err}", path.display());
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.accepting.abort();
        self.remove();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Removes the socket at `path` if nobody listens behind it.
fn remove_dead(path: &Path, address: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(address) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {
            log::debug!("replacing {}, left by a daemon that died", path.display());
            std::fs::remove_file(path)
        }
        Ok(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(err) => Err(err),
    }
}

async fn accept(listener: UnixListener, connections: Arc<Semaphore>, answers: Answers) {
    let we = effective_uid();
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    if let Err(err) = converse(stream, we, answers).await {
                        log::debug!("a talk on the control socket ended early: {err}");
                    }
                    drop(place);
                });
            }
            Err(err) => {
                log::debug!("accepting on the control socket: {err}");
                // Out of descriptors, most likely: more of the same at once would only heat the room.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, we: u32, answers: Answers) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let answer = if peer != we && peer != 0 {
        failed("this mount belongs to another user")
    } else {
        match timeout(LINE_PATIENCE, read_line(read)).await {
            Err(_) => failed("no request came"),
            Ok(Err(err)) => failed(&format!("the request cannot be read: {err}")),
            Ok(Ok(request)) => answer_with_progress(request, answers, &mut write).await?,
        }
    };
    say(&mut write, &answer).await?;
    write.shutdown().await
}

/// The answer; what is told meanwhile goes out at once. An error where nobody listens any more.
async fn answer_with_progress(
    request: Request,
    answers: Answers,
    write: &mut OwnedWriteHalf,
) -> io::Result<Answer> {
    let (tell, mut told) = watch::channel(None);
    let mut answering = answers(request, Tell(tell));
    loop {
        tokio::select! {
            biased;
            answer = &mut answering => return Ok(answer),
            news = told.changed() => {
                if news.is_err() {
                    // Nobody is left who could tell more.
                    return Ok(answering.await);
                }
                let progress = *told.borrow_and_update();
                if let Some(progress) = progress {
                    say(write, &Answer::Progress(progress)).await?;
                }
            }
        }
    }
}

async fn say(write: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(LINE_PATIENCE, write.write_all(&line)).await?
}

async fn read_line(stream: impl tokio::io::AsyncRead + Unpin) -> io::Result<Request> {
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_MAX_BYTES))
        .read_until(b'\n', &mut line)
        .await?;
    if line.last() != Some(&b'\n') {
        let why = if line.len() as u64 == REQUEST_MAX_BYTES {
            "the line is too long"
        } else {
            "the line has no end"
        };
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(serde_json::from_slice(&line)?)
}

fn failed(why: &str) -> Answer {
    Answer::Failed {
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ask, follow, mounts};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Plain;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Daemon {
        dir: tempfile::TempDir,
        runtime: tokio::runtime::Runtime,
        socket: Option<Socket>,
    }

    fn answers() -> Answers {
        Arc::new(|request, tell| {
            Box::pin(async move {
                match request {
                    Request::Status => failed("status"),
                    Request::Umount {
                        timeout_ms, force, ..
                    } => failed(&format!("{timeout_ms} {force}")),
                    Request::Sync { path } => {
                        for files_done in 1..=3 {
                            tell.tell(done(files_done));
                            tokio::task::yield_now().await;
                        }
                        failed(&format!("synced {}", path.0.display()))
                    }
                    Request::Why { path } => failed(&format!("why {}", path.0.display())),
                    Request::Warm { path } | Request::Pin { path } | Request::Unpin { path } => {
                        failed(&format!("at hand {}", path.0.display()))
                    }
                }
            })
        })
    }

    fn done(files_done: u64) -> Progress {
        Progress {
            files_done,
            ..Progress::default()
        }
    }

    impl Daemon {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let mut daemon = Self {
                dir,
                runtime,
                socket: None,
            };
            daemon.socket = Some(daemon.bind().unwrap());
            daemon
        }

        fn bind(&self) -> io::Result<Socket> {
            let _inside = self.runtime.enter();
            Socket::bind(self.dir.path(), Path::new("/mnt/drive"), answers())
        }

        fn path(&self) -> PathBuf {
            socket_path(self.dir.path(), Path::new("/mnt/drive"))
        }

        /// What comes back when `bytes` are sent and no more.
        fn raw(&self, bytes: &[u8]) -> String {
            let mut stream = Plain::connect(self.path()).unwrap();
            // The daemon may hang up before it has read all of a line that is too long.
            let _ = stream.write_all(bytes);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        }
    }

    #[test]
    fn each_request_gets_its_answer() {
        let daemon = Daemon::new();
        assert_eq!(
            ask(&daemon.path(), &Request::Status, PATIENCE).unwrap(),
            failed("status")
        );
        let umount = Request::Umount {
            timeout_ms: 5,
            force: true,
            progress: false,
        };
        assert_eq!(
            ask(&daemon.path(), &umount, PATIENCE).unwrap(),
            failed("5 true")
        );
        let long = "\u{1}".repeat(4095);
        let why = Request::Why {
            path: Path::new(&long).into(),
        };
        assert_eq!(
            ask(&daemon.path(), &why, PATIENCE).unwrap(),
            failed(&format!("why {long}")),
            "the longest path that there is, spelled at its longest"
        );
    }

    #[test]
    fn progress_comes_in_its_order_and_before_the_answer() {
        let daemon = Daemon::new();
        let mut told = Vec::new();
        let sync = Request::Sync {
            path: Path::new("a").into(),
        };
        let answer = follow(&daemon.path(), &sync, PATIENCE, |progress| {
            told.push(progress.files_done);
        });
        assert_eq!(answer.unwrap(), failed("synced a"));
        assert!(told.is_sorted() && told.len() <= 3, "{told:?}");
        assert!(!told.is_empty());
    }

    #[test]
    fn who_goes_away_ends_his_own_waiting_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (dropped, was_dropped) = std::sync::mpsc::channel();
        struct OnDrop(std::sync::mpsc::Sender<()>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let answers: Answers = Arc::new(move |request, tell| {
            let dropped = OnDrop(dropped.clone());
            Box::pin(async move {
                let _dropped = dropped;
                if !matches!(request, Request::Sync { .. }) {
                    return failed("status");
                }
                loop {
                    tell.tell(done(0));
                    tokio::task::yield_now().await;
                }
            })
        });
        let _socket = {
            let _inside = runtime.enter();
            Socket::bind(dir.path(), Path::new("/mnt/x"), answers).unwrap()
        };
        let path = socket_path(dir.path(), Path::new("/mnt/x"));
        let mut stream = Plain::connect(&path).unwrap();
        stream
            .write_all(b"{\"ask\":\"sync\",\"path\":\"\"}\n")
            .unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(
            ask(&path, &Request::Status, PATIENCE).unwrap(),
            failed("status")
        );
        was_dropped.recv_timeout(PATIENCE).unwrap();
        drop(stream);
        was_dropped.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_leaves_nothing_behind() {
        let mut daemon = Daemon::new();
        let mode = std::fs::metadata(daemon.path()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(
            mounts(daemon.dir.path()).unwrap(),
            [PathBuf::from("/mnt/drive")]
        );
        daemon.socket = None;
        assert_eq!(std::fs::read_dir(daemon.dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn lines_that_are_no_request_are_answered_with_the_reason() {
        let daemon = Daemon::new();
        for (sent, reason) in [
            (&b"hello\n"[..], "cannot be read"),
            (b"{\"ask\":\"dance\"}\n", "dance"),
            (b"{\"ask\":\"status\"}", "no end"),
            (b"", "no end"),
            (b"\xff\xfe\n", "cannot be read"),
        ] {
            let said = daemon.raw(sent);
            assert!(said.contains(reason), "{said}");
        }
        let line = vec![b' '; 2 * REQUEST_MAX_BYTES as usize];
        assert!(
            daemon
                .raw(&line[..REQUEST_MAX_BYTES as usize])
                .contains("too long")
        );
        assert!(
            ask(&daemon.path(), &Request::Status, PATIENCE).is_ok(),
            "it still answers"
        );
    }

    #[test]
    fn a_socket_of_a_dead_daemon_is_replaced_and_one_of_a_living_daemon_is_not() {
        let mut daemon = Daemon::new();
        let second = daemon.bind().err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        daemon.socket = None;
        drop(std::os::unix::net::UnixListener::bind(daemon.path()).unwrap());
        assert_eq!(
            ask(&daemon.path(), &Request::Status, PATIENCE)
                .unwrap_err()
                .kind(),
            io::ErrorKind::ConnectionRefused
        );
        daemon.socket = Some(daemon.bind().unwrap());
        assert!(ask(&daemon.path(), &Request::Status, PATIENCE).is_ok());
    }

    #[test]
    fn who_ends_late_does_not_take_away_a_successors_socket() {
        let mut daemon = Daemon::new();
        let old = daemon.socket.take().unwrap();
        old.remove();
        daemon.socket = Some(daemon.bind().unwrap());
        drop(old);
        assert!(ask(&daemon.path(), &Request::Status, PATIENCE).is_ok());
    }

    #[test]
    fn a_closed_socket_lets_what_was_asked_be_answered() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (asked, was_asked) = std::sync::mpsc::channel();
        let go = Arc::new(tokio::sync::Notify::new());
        let gone = Arc::clone(&go);
        let answers: Answers = Arc::new(move |_, _| {
            asked.send(()).unwrap();
            let gone = Arc::clone(&gone);
            Box::pin(async move {
                gone.notified().await;
                failed("late")
            })
        });
        let socket = {
            let _inside = runtime.enter();
            Socket::bind(dir.path(), Path::new("/mnt/x"), answers).unwrap()
        };
        let path = socket_path(dir.path(), Path::new("/mnt/x"));
        let asking = std::thread::spawn(move || ask(&path, &Request::Status, PATIENCE));
        was_asked.recv().unwrap();
        go.notify_one();
        runtime.block_on(socket.close(PATIENCE));
        assert_eq!(asking.join().unwrap().unwrap(), failed("late"));
    }

    #[test]
    fn a_deep_directory_does_not_make_the_address_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let _socket = Socket::bind(&deep, Path::new("/mnt/x"), answers()).unwrap();
        let path = socket_path(&deep, Path::new("/mnt/x"));
        assert!(ask(&path, &Request::Status, PATIENCE).is_ok());
    }
}
