//! Programs run from a test, each bounded in time.

use std::io;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest that a program may take; a hang fails the test instead of stopping the suite.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What `command` printed and how it ended; killed and failed after [`PATIENCE`].
pub(crate) fn output(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap_or_else(|err| panic!("{what}: {err}"));
    wait_with_output(child, &what)
}

/// What `child` printed into its pipes and how it ended; killed and failed after [`PATIENCE`].
pub(crate) fn wait_with_output(child: Child, what: &str) -> Output {
    bounded(child.id(), what, move || child.wait_with_output())
}

/// Looks again and again until `holds`; fails after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How `child` ended; killed and failed after [`PATIENCE`].
pub(crate) fn wait(mut child: Child, what: &str) -> ExitStatus {
    bounded(child.id(), what, move || child.wait())
}

/// How `child` ended; nothing where it had to be killed after `patience`.
pub(crate) fn wait_at_most(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let ends_by = |child: &mut Child, moment: Instant| {
        while Instant::now() < moment {
            let ended = child.try_wait().expect("a child can be asked");
            if ended.is_some() {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    };
    let ended = ends_by(child, Instant::now() + patience);
    if ended.is_none() {
        kill(child.id(), libc::SIGKILL);
        // What it keeps busy is free when it is gone. Who waits for a file system that does not answer is not gone soon.
        ends_by(child, Instant::now() + Duration::from_secs(5));
    }
    ended
}

fn bounded<T: Send + 'static>(
    pid: u32,
    what: &str,
    wait: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> T {
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(wait()));
    match waits.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome.unwrap_or_else(|err| panic!("{what}: {err}")),
        Err(_) => {
            kill(pid, libc::SIGKILL);
            panic!("{what}: still running after {PATIENCE:?}");
        }
    }
}

/// Standard output of a program that must succeed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {stderr}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends `signal` to a process that this test started.
pub(crate) fn kill(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a pid fits");
    #[expect(
        unsafe_code,
        reason = "std has no way to send a signal other than SIGKILL"
    )]
    // SAFETY: kill(2) touches no memory of ours.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Sends `signal` to all processes of a group that this test started.
pub(crate) fn kill_group(leader: u32, signal: libc::c_int) {
    let group = libc::pid_t::try_from(leader).expect("a pid fits");
    #[expect(
        unsafe_code,
        reason = "std has no way to send a signal to a group of processes"
    )]
    // SAFETY: kill(2) touches no memory of ours.
    unsafe {
        libc::kill(-group, signal);
    }
}

/// Gives `command` the environment that `from` was to have, for wrappers such as unshare(1).
pub(crate) fn take_environment(command: &mut Command, from: &Command) {
    for (key, value) in from.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
}

/// User and group of a person who is not root.
pub(crate) const NOBODY: &str = "65534:65534";

/// `command`, run by [`NOBODY`].
pub(crate) fn as_nobody(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    take_environment(&mut wrapped, command);
    wrapped
}

/// `command`, with SIGINT and SIGTERM as a terminal's programs have them: what a script runs in its background
/// inherits an ignored SIGINT.
pub(crate) fn with_default_signals(command: &Command) -> Command {
    let mut wrapped = Command::new("env");
    wrapped.arg("--default-signal=INT,TERM");
    wrapped.arg(command.get_program()).args(command.get_args());
    take_environment(&mut wrapped, command);
    wrapped
}
