//! Runs a request: at once where memory can answer, as a task otherwise.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::asker::Asker;

/// What was asked, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) asker: Asker,
}

/// Runs requests on a runtime until the mount ends.
///
/// The kernel bounds how many are under way: one for each thread that waits in a call, and `max_background` of its
/// own.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    runtime: Handle,
    closed: watch::Receiver<bool>,
}

/// Ends every request that still waits when it is told to, or dropped.
#[derive(Debug)]
pub struct Closer(watch::Sender<bool>);

impl Closer {
    /// Requests that wait are answered with EIO from now on. What they asked of the server goes on by itself.
    pub fn abort(&self) {
        self.0.send_replace(true);
    }
}

impl Runner {
    pub(super) fn new(runtime: Handle) -> (Self, Closer) {
        let (close, closed) = watch::channel(false);
        (Self { runtime, closed }, Closer(close))
    }

    /// Answers `call` with what `work` does, which may wait for the program that asked no longer than that lives.
    ///
    /// Polls `work` once here, on the thread that took the request from the kernel; if it has to wait, it goes on as
    /// a task. A hand-over costs as much as the whole request does when memory has the answer, so it is not made
    /// before it is needed.
    ///
    /// `work` carries the reply. Where it panics or is ended early the reply is dropped, which fuser makes an EIO.
    pub(super) fn run(&self, call: Call, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(call.asker.scope(work));
        if self.is_pending(call, work.as_mut(), |()| {}) {
            self.go_on(call, work);
        }
    }

    /// As [`Runner::run`], of `work` that is to come to its end also where who asked is killed: `answer` gets none then, and
    /// `unheard` what it came to.
    pub(super) fn run_to_the_end<T: Send + 'static>(
        &self,
        call: Call,
        work: impl Future<Output = T> + Send + 'static,
        answer: impl FnOnce(Option<T>) + Send + 'static,
        unheard: impl FnOnce(T) + Send + 'static,
    ) {
        let mut work = Box::pin(work);
        let mut answer = Some(answer);
        let at_once = |done| {
            if let Some(answer) = answer.take() {
                answer(Some(done));
            }
        };
        if !self.is_pending(call, work.as_mut(), at_once) {
            return;
        }
        let Some(answer) = answer else { return };
        let (tell, mut told) = oneshot::channel();
        self.go_on(call, async move {
            if let Err(done) = tell.send(work.await) {
                unheard(done);
            }
        });
        self.go_on(call, async move {
            let done = tokio::select! {
                biased;
                done = &mut told => done.ok(),
                () = call.asker.killed() => {
                    told.close();
                    match told.try_recv() {
                        Ok(done) => Some(done),
                        Err(_) => return answer(None),
                    }
                }
            };
            // Where it panicked, the reply is dropped, which is EIO.
            if let Some(done) = done {
                answer(Some(done));
            }
        });
    }

    /// Polls `work` for the first time; `done` gets what it comes to at once.
    fn is_pending<T>(
        &self,
        call: Call,
        work: Pin<&mut impl Future<Output = T>>,
        done: impl FnOnce(T),
    ) -> bool {
        // Timers and tasks begun by the first poll belong to the runtime.
        let _inside = self.runtime.enter();
        let first = AssertUnwindSafe(|| poll_once(work).map(done));
        match catch_unwind(first) {
            Ok(Poll::Ready(())) => false,
            Ok(Poll::Pending) => true,
            Err(panic) => {
                log_panic(call.name, panic.as_ref());
                false
            }
        }
    }

    /// Runs `work`, which cannot wait, and survives its panic.
    pub(super) fn run_now(&self, call: &'static str, work: impl FnOnce()) {
        let _inside = self.runtime.enter();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            log_panic(call, panic.as_ref());
        }
    }

    fn go_on(&self, call: Call, work: impl Future<Output = ()> + Send + 'static) {
        let name = call.name;
        let mut closed = self.closed.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                done = AssertUnwindSafe(work).catch_unwind() => {
                    if let Err(panic) = done {
                        log_panic(name, panic.as_ref());
                    }
                }
                // An error means that the closer is gone, and with it the mount.
                _ = closed.wait_for(|closed| *closed) => log::debug!("{name}: ended with the mount"),
            }
        });
    }
}

fn poll_once<F: Future>(work: Pin<&mut F>) -> Poll<F::Output> {
    // Nobody is to be woken: the task polls again before it waits, and leaves its own waker then.
    work.poll(&mut Context::from_waker(Waker::noop()))
}

fn log_panic(call: &str, panic: &(dyn Any + Send)) {
    let said = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned());
    log::error!("{call} panicked: {said}; the program that asked gets EIO");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use tokio::sync::Notify;

    /// A reply as fuser's are: tells what became of it, also when it is dropped unanswered.
    struct Answer(Option<oneshot::Sender<Option<thread::ThreadId>>>);

    impl Answer {
        fn new() -> (Self, oneshot::Receiver<Option<thread::ThreadId>>) {
            let (tell, told) = oneshot::channel();
            (Self(Some(tell)), told)
        }

        fn give(mut self) {
            if let Some(tell) = self.0.take() {
                tell.send(Some(thread::current().id())).unwrap();
            }
        }
    }

    impl Drop for Answer {
        fn drop(&mut self) {
            if let Some(tell) = self.0.take() {
                // A test that does not look is free to.
                let _ = tell.send(None);
            }
        }
    }

    fn call() -> Call {
        Call {
            name: "test",
            asker: Asker::thread(std::process::id()),
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap()
    }

    #[test]
    fn what_memory_can_answer_is_answered_on_the_thread_that_asked() {
        let runtime = runtime();
        let (runner, _closer) = Runner::new(runtime.handle().clone());
        let (answer, mut told) = Answer::new();
        runner.run(call(), async move { answer.give() });
        assert_eq!(told.try_recv(), Ok(Some(thread::current().id())));
    }

    #[test]
    fn what_must_wait_is_answered_by_the_runtime_and_does_not_hold_up_the_thread() {
        let runtime = runtime();
        let (runner, _closer) = Runner::new(runtime.handle().clone());
        let (answer, told) = Answer::new();
        let go = Arc::new(Notify::new());
        let gone = Arc::clone(&go);
        runner.run(call(), async move {
            gone.notified().await;
            answer.give();
        });
        go.notify_one();
        let thread = told.blocking_recv().unwrap();
        assert!(thread.is_some_and(|id| id != thread::current().id()));
    }

    #[test]
    fn a_panic_at_once_or_later_drops_the_reply_and_the_next_request_is_served() {
        let runtime = runtime();
        let (runner, _closer) = Runner::new(runtime.handle().clone());
        let (answer, mut told) = Answer::new();
        runner.run(call(), async move {
            let _held = answer;
            panic!("at once");
        });
        assert_eq!(told.try_recv(), Ok(None));

        let (answer, told) = Answer::new();
        let go = Arc::new(Notify::new());
        let gone = Arc::clone(&go);
        runner.run(call(), async move {
            let _held = answer;
            gone.notified().await;
            panic!("later");
        });
        go.notify_one();
        assert_eq!(told.blocking_recv(), Ok(None));

        runner.run_now("test", || panic!("in passing"));
        let (answer, mut told) = Answer::new();
        runner.run(call(), async move { answer.give() });
        assert!(told.try_recv().unwrap().is_some());
    }

    #[test]
    fn requests_that_wait_are_dropped_when_the_mount_is_aborted() {
        let runtime = runtime();
        let (runner, closer) = Runner::new(runtime.handle().clone());
        let (answer, told) = Answer::new();
        runner.run(call(), async move {
            let _held = answer;
            std::future::pending::<()>().await;
        });
        closer.abort();
        assert_eq!(told.blocking_recv(), Ok(None));
    }
}
