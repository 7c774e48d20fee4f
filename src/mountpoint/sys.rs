//! The system calls of this room that the standard library does not have, each as a safe function.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The user whose rights this process has.
pub fn effective_uid() -> u32 {
    #[expect(unsafe_code, reason = "the standard library has no geteuid")]
    // SAFETY: takes nothing, cannot fail (→ geteuid(2)).
    unsafe {
        libc::geteuid()
    }
}

/// User and group that started this process.
pub(super) fn real_ids() -> (u32, u32) {
    #[expect(unsafe_code, reason = "the standard library has no getuid, getgid")]
    // SAFETY: both take nothing and cannot fail (→ getuid(2), getgid(2)).
    unsafe {
        (libc::getuid(), libc::getgid())
    }
}

/// mount(2).
pub(super) fn mount(
    source: &CStr,
    target: &CStr,
    fs_type: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no mount")]
    // SAFETY: every pointer is a NUL-terminated string that outlives the call; FUSE takes `data` as a string.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            fs_type.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    result(done)
}

/// umount2(2).
pub(super) fn umount2(target: &CStr, flags: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no umount2")]
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    let done = unsafe { libc::umount2(target.as_ptr(), flags) };
    result(done)
}

/// stat(2) of `path` that goes to the daemon behind it even where the kernel remembers the answer: a mount whose
/// daemon died would else look alive until that is forgotten.
pub(super) fn ask_for_attributes(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statx>::uninit();
    #[expect(unsafe_code, reason = "the standard library cannot insist on asking")]
    // SAFETY: `path` is NUL-terminated, `answer` has room for one statx; both outlive the call.
    let done = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_FORCE_SYNC,
            libc::STATX_BASIC_STATS,
            answer.as_mut_ptr(),
        )
    };
    result(done)
}

/// One descriptor sent over `socket`, as `fusermount3` hands out the device; none where the peer hung up instead.
pub(super) fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    // Room for one control message with one descriptor; u64 aligns it as a header wants it.
    let mut control = [0u64; 8];
    let mut byte = 0u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    #[expect(unsafe_code, reason = "msghdr has private padding on some targets")]
    // SAFETY: all fields of a msghdr are integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    loop {
        #[expect(unsafe_code, reason = "receiving descriptors is not stable in std")]
        // SAFETY: `message` points at `part` and `control`, which live to the end of this function.
        let received =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match received {
            0 => return Ok(None),
            1.. => return Ok(descriptor_in(&message)),
            _ => {
                let err = io::Error::last_os_error();
                if err.kind() != io::ErrorKind::Interrupted {
                    return Err(err);
                }
            }
        }
    }
}

fn descriptor_in(message: &libc::msghdr) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "control messages are read by pointer")]
    // SAFETY: the kernel filled `message`; CMSG_FIRSTHDR gives null or a header within its control buffer, and a
    // header of SCM_RIGHTS is followed by at least one descriptor, which is ours to own.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null()
            || (*header).cmsg_level != libc::SOL_SOCKET
            || (*header).cmsg_type != libc::SCM_RIGHTS
        {
            return None;
        }
        let descriptor = libc::CMSG_DATA(header)
            .cast::<libc::c_int>()
            .read_unaligned();
        (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor))
    }
}

fn result(done: libc::c_int) -> io::Result<()> {
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
