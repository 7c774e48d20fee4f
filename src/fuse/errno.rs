//! Our errors become the kernel's numbers: the only place where an errno is chosen.

use fuser::Errno;

use crate::failure::chain;
use crate::fs::Error;

/// The errno of `err`. One match without a rest, so that no variant is forgotten; each row is in the man page.
pub(super) fn errno(err: &Error) -> Errno {
    match err {
        Error::NotFound => Errno::ENOENT,
        Error::NotAFolder => Errno::ENOTDIR,
        Error::IsAFolder => Errno::EISDIR,
        Error::ReadOnly => Errno::EROFS,
        Error::Denied(_) => Errno::EACCES,
        Error::Gone | Error::Stale(_) => Errno::ESTALE,
        Error::Busy(_) => Errno::EBUSY,
        Error::TimedOut(_) => Errno::ETIMEDOUT,
        Error::Interrupted => Errno::EINTR,
        Error::Io(_) | Error::Undelivered(_) => Errno::EIO,
        Error::NoAttribute => Errno::ENODATA,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::InvalidName => Errno::EINVAL,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::BadHandle => Errno::EBADF,
        Error::Exists => Errno::EEXIST,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::TooLarge => Errno::EFBIG,
        Error::Full => Errno::ENOSPC,
        Error::CrossDevice => Errno::EXDEV,
        Error::NotPermitted => Errno::EPERM,
        Error::Invalid => Errno::EINVAL,
        Error::Disk(err) => Errno::from_i32(err.raw_os_error().unwrap_or(libc::EIO)),
        // Not ERANGE, at which programs ask again with a larger buffer, for ever (→ getxattr(2)).
        Error::AttributeTooLarge => Errno::E2BIG,
    }
}

/// The errno of `err`, which `call` on `ino` came to; said in the log once, with the whole chain of causes.
pub(super) fn logged(call: &'static str, ino: u64, err: &Error) -> Errno {
    log::log!(level(err), "{call} of inode {ino}: {}", chain(err));
    errno(err)
}

/// What a program may well ask for in vain is nobody's business; what the server or the network did to it is.
fn level(err: &Error) -> log::Level {
    match err {
        Error::Denied(_)
        | Error::Stale(_)
        | Error::Busy(_)
        | Error::TimedOut(_)
        | Error::Io(_)
        | Error::Disk(_)
        | Error::Undelivered(_)
        | Error::BadHandle => log::Level::Warn,
        Error::NotFound
        | Error::Interrupted
        | Error::Gone
        | Error::NotAFolder
        | Error::IsAFolder
        | Error::ReadOnly
        | Error::NoAttribute
        | Error::NotSupported
        | Error::Exists
        | Error::NotEmpty
        | Error::TooLarge
        | Error::Full
        | Error::CrossDevice
        | Error::NotPermitted
        | Error::Invalid
        | Error::InvalidName
        | Error::NameTooLong
        | Error::AttributeTooLarge => log::Level::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn check(err: Error, number: i32) {
        assert_eq!(errno(&err).code(), number, "{err:?}");
    }

    fn cause() -> api::Error {
        api::Error::Locked(Vec::new())
    }

    #[test]
    fn what_is_absent_is_enoent() {
        check(Error::NotFound, libc::ENOENT);
    }

    #[test]
    fn a_file_where_a_folder_must_be_is_enotdir() {
        check(Error::NotAFolder, libc::ENOTDIR);
    }

    #[test]
    fn a_folder_where_a_file_must_be_is_eisdir() {
        check(Error::IsAFolder, libc::EISDIR);
    }

    #[test]
    fn writing_to_what_is_read_only_is_erofs() {
        check(Error::ReadOnly, libc::EROFS);
    }

    #[test]
    fn a_missing_permission_or_a_dead_token_is_eacces() {
        check(Error::Denied(cause()), libc::EACCES);
    }

    #[test]
    fn what_vanished_while_it_was_open_is_estale() {
        check(Error::Stale(cause()), libc::ESTALE);
    }

    #[test]
    fn an_inode_whose_file_is_gone_is_estale_so_that_its_name_is_looked_up_anew() {
        check(Error::Gone, libc::ESTALE);
    }

    #[test]
    fn what_another_client_locked_is_ebusy() {
        check(Error::Busy(cause()), libc::EBUSY);
    }

    #[test]
    fn a_network_gone_past_the_timeout_is_etimedout() {
        check(Error::TimedOut(cause()), libc::ETIMEDOUT);
    }

    #[test]
    fn a_broken_server_is_eio() {
        check(Error::Io(cause()), libc::EIO);
    }

    #[test]
    fn an_attribute_that_is_not_there_is_enodata() {
        check(Error::NoAttribute, libc::ENODATA);
    }

    #[test]
    fn a_kind_of_attribute_we_do_not_serve_is_eopnotsupp() {
        check(Error::NotSupported, libc::EOPNOTSUPP);
    }

    #[test]
    fn a_name_that_is_refused_is_einval_and_one_too_long_is_enametoolong() {
        check(Error::InvalidName, libc::EINVAL);
        check(Error::NameTooLong, libc::ENAMETOOLONG);
    }

    #[test]
    fn an_unknown_handle_is_ebadf() {
        check(Error::BadHandle, libc::EBADF);
    }

    #[test]
    fn an_attribute_the_kernel_cannot_carry_is_e2big() {
        check(Error::AttributeTooLarge, libc::E2BIG);
    }

    #[test]
    fn the_log_tells_every_cause_once() {
        let wire = std::io::Error::other("connection reset");
        let err = Error::Io(api::Error::Transport {
            what: "the answer broke off".into(),
            source: Some(std::sync::Arc::new(wire)),
        });
        assert_eq!(
            chain(&err),
            "input/output error: the answer broke off: connection reset"
        );
    }
}
