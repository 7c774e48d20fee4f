//! What a process takes of the system, and what it gets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many open files as the system grants: each connection is one, and so is each file that is read from the
/// disk, while what a process gets without asking is for programs that go through descriptors one by one.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(err) = setrlimit(Resource::Nofile, raised) {
        log::debug!("no more than {:?} files may be open: {err}", limit.current);
    }
}

/// Has all threads share a few heaps. The allocator of glibc gives one to each, up to eight for each processor, and what is
/// freed in one is of no use to the others: content and buffers of connections that go from thread to thread leave in all
/// of them what they had room for at most, which is twice as much as is in use.
///
/// To be called before the first thread begins. More heaps than one, for threads wait for each other where they share.
pub(super) fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        const HEAPS: libc::c_int = 2;
        #[expect(unsafe_code, reason = "the standard library has no mallopt")]
        // SAFETY: it takes two numbers; a heap that is in use stays as it is.
        let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) } == 1;
        if !is_set {
            log::debug!("each thread has a heap of its own");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_system_grants_is_taken() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
