//! What a call can tell its caller.

use crate::api;

/// Why a call failed; `fuse/errno.rs` makes an errno of each.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// ENOENT: definitely absent.
    #[error("no such file or folder")]
    NotFound,
    /// ESTALE: what an inode stood for is gone, or an older version by now, which says nothing of its name; the kernel
    /// looks that up anew.
    #[error("this file is gone, or has another version by now")]
    Gone,
    /// ENOTDIR.
    #[error("not a folder")]
    NotAFolder,
    /// EISDIR.
    #[error("is a folder")]
    IsAFolder,
    /// EROFS.
    #[error("read-only")]
    ReadOnly,
    /// EACCES: no permission, token dead.
    #[error("permission denied")]
    Denied(#[source] api::Error),
    /// ESTALE: what was open here is gone from the server, or the share is.
    #[error("gone from the server")]
    Stale(#[source] api::Error),
    /// EBUSY: locked by another client.
    #[error("locked by another client")]
    Busy(#[source] api::Error),
    /// ETIMEDOUT: network gone past the timeout.
    #[error("no answer in time")]
    TimedOut(#[source] api::Error),
    /// EINTR: who asked was killed, and nobody waits for this answer.
    #[error("the program that asked was killed")]
    Interrupted,
    /// EIO: the server or the wire is broken.
    #[error("input/output error")]
    Io(#[source] api::Error),
    /// ENODATA.
    #[error("no such attribute")]
    NoAttribute,
    /// EOPNOTSUPP.
    #[error("not supported")]
    NotSupported,
    /// EINVAL: name refused.
    #[error("the server does not take this name")]
    InvalidName,
    /// ENAMETOOLONG.
    #[error("name too long")]
    NameTooLong,
    /// EEXIST.
    #[error("it exists already")]
    Exists,
    /// ENOTEMPTY.
    #[error("the folder is not empty")]
    NotEmpty,
    /// EFBIG: larger than the server's storage, or our disk's file system, takes.
    #[error("the file would be too large")]
    TooLarge,
    /// EDQUOT/ENOSPC: the account's storage is full.
    #[error("the account's storage is full")]
    Full,
    /// EXDEV: from one share or tree to another, which the server does not do.
    #[error("not on the same share")]
    CrossDevice,
    /// EPERM: hard links, devices.
    #[error("not possible here")]
    NotPermitted,
    /// EINVAL.
    #[error("invalid argument")]
    Invalid,
    /// As our own disk said it: ENOSPC, EDQUOT, EIO.
    #[error("the local disk: {0}")]
    Disk(#[source] std::sync::Arc<std::io::Error>),
    /// EIO: what was written is safe here, and cannot be delivered; why, and what to do.
    #[error("not on the server: {0}")]
    Undelivered(String),
    /// EBADF.
    #[error("no such handle")]
    BadHandle,
    /// ERANGE/E2BIG: an attribute larger than the kernel carries.
    #[error("the attribute is larger than 64 KiB")]
    AttributeTooLarge,
}

impl From<api::Error> for Error {
    /// Only a definite answer makes anything absent; what the wire or a server in trouble says, never.
    fn from(error: api::Error) -> Self {
        use api::Error as Api;
        match error {
            Api::NotFound => Self::NotFound,
            Api::ShareGone(_) | Api::EntityGone => Self::Stale(error),
            Api::SharePassword
            | Api::SignedOut(_)
            | Api::WrongPassword
            | Api::Captcha
            | Api::SecondFactor
            | Api::Denied { .. } => Self::Denied(error),
            Api::Locked(_) => Self::Busy(error),
            Api::Unsupported => Self::NotSupported,
            Api::Timeout(_) => Self::TimedOut(error),
            Api::Interrupted => Self::Interrupted,
            Api::Exists => Self::Exists,
            Api::Full => Self::Full,
            Api::TooLarge { .. } => Self::TooLarge,
            Api::NameRefused { .. } => Self::InvalidName,
            Api::Changed | Api::SessionGone => Self::Busy(error),
            Api::UrlExpired
            | Api::Refused { .. }
            | Api::Trouble { .. }
            | Api::Transport { .. }
            | Api::Local(_) => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_servers_own_word_makes_anything_absent() {
        let said = || "words".to_owned();
        let trouble = [
            api::Error::SignedOut(said()),
            api::Error::ShareGone(said()),
            api::Error::SharePassword,
            api::Error::Denied {
                code: 403,
                said: said(),
            },
            api::Error::Refused {
                code: 409,
                said: said(),
            },
            api::Error::Trouble {
                code: 503,
                said: said(),
            },
            api::Error::Transport {
                what: said(),
                source: None,
            },
            api::Error::Timeout(Duration::from_secs(30)),
            api::Error::Unsupported,
            api::Error::Locked(Vec::new()),
            api::Error::EntityGone,
        ];
        for error in trouble {
            let ours = Error::from(error.clone());
            assert!(!matches!(ours, Error::NotFound), "{error:?}");
        }
        assert!(matches!(Error::from(api::Error::NotFound), Error::NotFound));
    }
}
