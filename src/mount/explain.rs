//! Why a mount did not come about, in a line that says what to do.

use std::path::Path;

use crate::api;
use crate::config::{Account, MountPlan};
use crate::failure::{Failure, chain};
use crate::fs;
use crate::mountpoint::MountError;

/// What the person typed, as far as a line about it needs.
struct Typed<'a> {
    source: &'a str,
    address: String,
    profile: Option<&'a str>,
}

impl<'a> Typed<'a> {
    fn of(plan: &'a MountPlan) -> Self {
        Self {
            source: &plan.source,
            address: plan.api.address.to_string(),
            profile: match &plan.account {
                Account::Profile { name, .. } => Some(name),
                _ => None,
            },
        }
    }

    fn login(&self) -> String {
        let profile = self
            .profile
            .map(|name| format!(" --profile {name}"))
            .unwrap_or_default();
        format!("cloudreve-fuse login {}{profile}", self.address)
    }
}

/// The server, or the way to it, failed the mount of `plan`.
pub(super) fn api(err: &api::Error, plan: &MountPlan) -> Failure {
    of_api(err, &Typed::of(plan))
}

/// The root of `plan` cannot be shown.
pub(super) fn fs(err: &fs::Error, plan: &MountPlan) -> Failure {
    of_fs(err, &Typed::of(plan))
}

/// Nothing can be kept in the state directory of `plan`.
pub(super) fn state(err: &std::io::Error, plan: &MountPlan) -> Failure {
    Failure::failed(format!(
        "what is written cannot be kept in {}: {err}; choose another directory with --state-dir, or mount with --read-only",
        plan.state_dir.display()
    ))
}

/// `dir` cannot be mounted on.
pub(super) fn mount(err: &MountError, dir: &Path) -> Failure {
    let dir = dir.display();
    match err {
        MountError::NoDevice => Failure::failed(
            "/dev/fuse is missing: load the fuse module (modprobe fuse), or give the container the device",
        ),
        MountError::DeviceDenied => Failure::usage(
            "/dev/fuse may not be opened by this user: mount as root, or let root make it mode 0666 (chmod 666 /dev/fuse)",
        ),
        MountError::NoHelper => Failure::usage(
            "mounting needs root or the helper fusermount3: install the package fuse3",
        ),
        MountError::Refused(said) => Failure::usage(format!("{dir} cannot be mounted on: {said}")),
        MountError::Io { source, .. } if source.raw_os_error() == Some(libc::EACCES) => {
            Failure::usage(format!("{dir} may not be mounted on by this user"))
        }
        MountError::Io { .. } => Failure::failed(format!("{dir} cannot be mounted on: {err}")),
    }
}

fn share_password(typed: &Typed<'_>) -> String {
    let source = typed.source;
    if source.contains("***") {
        return format!("the share {source} wants another password than this one");
    }
    let with_it = match source.contains("@share") {
        true => "cloudreve://ID:PASSWORD@share/".to_owned(),
        false => format!("{}/PASSWORD", source.trim_end_matches('/')),
    };
    format!("the share {source} wants a password: add it, as {with_it}")
}

fn of_api(err: &api::Error, typed: &Typed<'_>) -> Failure {
    let Typed {
        source, address, ..
    } = typed;
    let login = typed.login();
    match err {
        api::Error::NotFound => Failure::failed(format!(
            "{source} does not exist on {address}: check the path (cloudreve://my/ is the whole drive)"
        )),
        api::Error::ShareGone(said) => Failure::failed(format!(
            "the share {source} is gone, expired or used up ({said}): ask its owner for a new link"
        )),
        api::Error::SharePassword => Failure::usage(share_password(typed)),
        api::Error::SignedOut(said) if said.contains("cloudreve-fuse login") => {
            Failure::failed(said.as_str())
        }
        api::Error::SignedOut(said) => Failure::failed(format!("{said}; to sign in: {login}")),
        api::Error::WrongPassword => Failure::failed(format!(
            "{address} does not accept this e-mail and password: check both, or {login}"
        )),
        api::Error::Captcha => Failure::failed(format!(
            "{address} wants a captcha beside the password: sign in once with {login}"
        )),
        api::Error::SecondFactor => Failure::failed(format!(
            "{address} wants a code of the second factor (2FA) beside the password: sign in once with {login}"
        )),
        api::Error::Denied { .. } => Failure::failed(format!(
            "{address} does not let this account open {source}: {}",
            chain(err)
        )),
        api::Error::Transport { .. } => Failure::failed(format!(
            "{address}: {}; check the address and the network (cloudreve-fuse doctor {address})",
            chain(err)
        )),
        api::Error::Timeout(_) => Failure::failed(format!(
            "{address}: {err}; check the address and the network (cloudreve-fuse doctor {address})"
        )),
        api::Error::Trouble { .. } => Failure::failed(format!(
            "{address} is in trouble, try again later: {}",
            chain(err)
        )),
        api::Error::Unsupported => Failure::failed(format!(
            "{address} cannot show {source}: its Cloudreve is older than 4, or this is switched off there"
        )),
        api::Error::EntityGone
        | api::Error::UrlExpired
        | api::Error::Locked(_)
        | api::Error::Exists
        | api::Error::Changed
        | api::Error::Full
        | api::Error::TooLarge { .. }
        | api::Error::NameRefused { .. }
        | api::Error::SessionGone
        | api::Error::Interrupted
        | api::Error::Refused { .. } => {
            Failure::failed(format!("{address} does not show {source}: {}", chain(err)))
        }
        api::Error::Local(said) => Failure::failed(said.clone()),
    }
}

fn of_fs(err: &fs::Error, typed: &Typed<'_>) -> Failure {
    let source = typed.source;
    match err {
        fs::Error::NotFound => of_api(&api::Error::NotFound, typed),
        fs::Error::NotAFolder => {
            Failure::usage(format!("{source} is a file: mount the folder it lies in"))
        }
        fs::Error::Denied(cause)
        | fs::Error::Stale(cause)
        | fs::Error::Busy(cause)
        | fs::Error::TimedOut(cause)
        | fs::Error::Io(cause) => of_api(cause, typed),
        fs::Error::InvalidName | fs::Error::NameTooLong => Failure::usage(format!(
            "{source} has a name in it that the server does not take: {err}"
        )),
        fs::Error::Gone
        | fs::Error::Interrupted
        | fs::Error::IsAFolder
        | fs::Error::ReadOnly
        | fs::Error::NoAttribute
        | fs::Error::NotSupported
        | fs::Error::BadHandle
        | fs::Error::Exists
        | fs::Error::NotEmpty
        | fs::Error::TooLarge
        | fs::Error::Full
        | fs::Error::NotPermitted
        | fs::Error::Invalid
        | fs::Error::Disk(_)
        | fs::Error::CrossDevice
        | fs::Error::Undelivered(_)
        | fs::Error::AttributeTooLarge => Failure::failed(format!("{source}: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use std::sync::Arc;
    use std::time::Duration;

    fn typed(profile: Option<&str>) -> Typed<'_> {
        Typed {
            source: "cloudreve://my/a",
            address: "https://drive.example".to_owned(),
            profile,
        }
    }

    fn check(err: api::Error, words: &[&str]) {
        let line = of_fs(&fs::Error::Io(err), &typed(Some("home"))).to_string();
        for word in words {
            assert!(line.contains(word), "{line}");
        }
    }

    #[test]
    fn who_is_signed_out_is_told_the_command_to_type() {
        check(
            api::Error::SignedOut("the refresh token has expired".into()),
            &[
                "has expired",
                "cloudreve-fuse login https://drive.example --profile home",
            ],
        );
        assert_eq!(
            typed(None).login(),
            "cloudreve-fuse login https://drive.example"
        );
    }

    #[test]
    fn what_a_password_cannot_do_is_left_to_login() {
        check(api::Error::WrongPassword, &["e-mail and password"]);
        check(api::Error::Captcha, &["captcha", "cloudreve-fuse login"]);
        check(api::Error::SecondFactor, &["2FA", "cloudreve-fuse login"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        check(
            api::Error::NotFound,
            &["cloudreve://my/a", "does not exist"],
        );
        check(
            api::Error::ShareGone("expired".into()),
            &["cloudreve://my/a", "expired"],
        );
        check(api::Error::SharePassword, &["wants a password"]);
        let file = of_fs(&fs::Error::NotAFolder, &typed(None));
        assert_eq!(file.kind, FailureKind::Usage);
        assert!(file.to_string().contains("is a file"));
    }

    #[test]
    fn a_server_that_is_none_or_out_of_reach_is_told_with_the_cause() {
        check(
            api::Error::Transport {
                what: "an HTML page came instead".into(),
                source: Some(Arc::new(std::io::Error::other("from a proxy"))),
            },
            &["HTML page", "from a proxy", "doctor"],
        );
        check(api::Error::Timeout(Duration::from_secs(30)), &["30s"]);
        check(
            api::Error::Trouble {
                code: 50001,
                said: "failed to get login user".into(),
            },
            &["later", "50001"],
        );
    }

    #[test]
    fn each_way_the_kernel_says_no_has_its_remedy() {
        let line = |err| mount(&err, Path::new("/mnt/x")).to_string();
        assert!(line(MountError::NoDevice).contains("modprobe fuse"));
        assert!(line(MountError::NoHelper).contains("fuse3"));
        assert!(line(MountError::DeviceDenied).contains("root"));
        let refused = "fusermount3: user has no write access to mountpoint /mnt/x";
        assert!(line(MountError::Refused(refused.into())).contains(refused));
    }
}
