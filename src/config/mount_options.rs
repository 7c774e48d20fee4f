//! `-o`: what mount(8), fstab and people write behind it.
//!
//! Options of the table go to the settings, those of mount(8) to the kernel's; what mount(8) and systemd write for
//! themselves is passed over.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::cli::nearest::did_you_mean;
use crate::cli::options;
use crate::config::KernelOptions;
use crate::config::settings::Settings;
use crate::failure::Failure;

/// For mount(8), systemd and the fstab's other readers, not for us; or what holds anyway.
const PASSED_OVER: &[&str] = &[
    "rw",
    "defaults",
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "comment",
    "exec",
    "async",
    "sync",
    "dirsync",
    "atime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "nosuid",
    "nodev",
    "nosymfollow",
];

/// Of mount(8), and honoured.
const KERNEL: &[&str] = &["suid", "dev", "noexec", "noatime", "default_permissions"];

/// Reads one `-o` text. `is_root`: whether devices and setuid files may be asked for.
pub(super) fn read(
    text: &OsStr,
    is_root: bool,
    settings: &mut Settings,
    kernel: &mut KernelOptions,
) -> Result<(), Failure> {
    for option in split(text) {
        let (name, value) = name_and_value(&option);
        let name = name.to_str().ok_or_else(|| {
            Failure::usage(format!("-o {}: its name is not UTF-8", option.display()))
        })?;
        match name {
            "suid" | "dev" if !is_root => {
                return Err(Failure::usage(format!(
                    "-o {name}: only root can mount with it"
                )));
            }
            "suid" => kernel.suid = true,
            "nosuid" => kernel.suid = false,
            "dev" => kernel.dev = true,
            "nodev" => kernel.dev = false,
            "noexec" => kernel.noexec = true,
            "exec" => kernel.noexec = false,
            "noatime" => kernel.noatime = true,
            "atime" => kernel.noatime = false,
            "default_permissions" => kernel.default_permissions = true,
            name if is_passed_over(name) => {}
            name if is_known(name) => settings.add_mount_option(name, value)?,
            name => return Err(unknown(name, value)),
        }
    }
    Ok(())
}

fn is_passed_over(name: &str) -> bool {
    PASSED_OVER.contains(&name) || name.starts_with("x-") || name.starts_with("X-")
}

/// Whether the settings have words for it: it is an option, or a secret that they refuse.
fn is_known(name: &str) -> bool {
    options::find(&name.replace('_', "-")).is_some() || options::is_secret(name)
}

fn unknown(name: &str, value: Option<&OsStr>) -> Failure {
    let shown = value.map_or_else(String::new, |value| format!("={}", value.display()));
    let known: Vec<String> = options::names()
        .map(|name| name.replace('-', "_"))
        .collect();
    let words = PASSED_OVER.iter().chain(KERNEL).copied();
    let meant = did_you_mean(
        name,
        known.iter().map(String::as_str).chain(words),
        str::to_owned,
    );
    Failure::usage(format!("-o {name}{shown}: no such option{meant}"))
}

/// The options of a text: separated by commas, except those written `\,`. Empty ones are none.
fn split(text: &OsStr) -> Vec<OsString> {
    let mut options = vec![Vec::new()];
    let mut bytes = text.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let current = options.last_mut();
        match byte {
            b'\\' if bytes.next_if_eq(&b',').is_some() => {
                current.into_iter().for_each(|option| option.push(b','))
            }
            b',' => options.push(Vec::new()),
            byte => current.into_iter().for_each(|option| option.push(byte)),
        }
    }
    let trimmed = options
        .iter()
        .map(|option| option.trim_ascii())
        .filter(|option| !option.is_empty());
    trimmed
        .map(|option| OsString::from_vec(option.to_vec()))
        .collect()
}

fn name_and_value(option: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = option.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        None => (option, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, is_root: bool) -> Result<(Settings, KernelOptions), Failure> {
        let (mut settings, mut kernel) = (Settings::default(), KernelOptions::default());
        read(OsStr::new(text), is_root, &mut settings, &mut kernel)?;
        Ok((settings, kernel))
    }

    #[test]
    fn commas_separate_unless_escaped_and_values_keep_their_equals_signs() {
        let (settings, _) = parsed(
            r"download=proxy=https://p/?a=b\,c,,timeout=5s, order_by=size,profile=a\b",
            false,
        )
        .unwrap();
        assert_eq!(
            settings.text("download"),
            Some("proxy=https://p/?a=b,c".to_owned())
        );
        assert_eq!(settings.time("timeout").as_secs(), 5);
        assert_eq!(settings.text("order-by"), Some("size".to_owned()));
        assert_eq!(settings.text("profile"), Some(r"a\b".to_owned()));
    }

    #[test]
    fn what_mount_8_passes_along_is_passed_over() {
        let fstab = "rw,_netdev,nofail,noauto,user=me,users,x-systemd.automount,x-mount.mkdir=0755,X-a=b,comment=c,relatime,defaults";
        let (settings, _) = parsed(fstab, false).unwrap();
        assert!(settings.without_effect().is_empty() && settings.origin("username").is_none());
    }

    #[test]
    fn options_of_mount_8_reach_the_kernel_in_their_order() {
        let (settings, kernel) = parsed(
            "ro,noexec,noatime,default_permissions,allow_other,suid,dev,nodev",
            true,
        )
        .unwrap();
        assert!(settings.flag("read-only") && settings.flag("allow-other"));
        assert!(
            kernel.noexec
                && kernel.noatime
                && kernel.default_permissions
                && kernel.suid
                && !kernel.dev
        );
        assert!(
            parsed("suid", false)
                .unwrap_err()
                .to_string()
                .contains("root")
        );
    }

    #[test]
    fn unknown_options_are_refused_with_the_nearest_one_of_ours_or_of_mount_8() {
        for (text, line) in [
            (
                "ordr_by=name",
                "-o ordr_by=name: no such option; did you mean order_by?",
            ),
            ("noexce", "-o noexce: no such option; did you mean noexec?"),
            ("banana", "-o banana: no such option"),
        ] {
            assert_eq!(parsed(text, true).unwrap_err().to_string(), line);
        }
        let said = parsed("password=hunter2", true).unwrap_err().to_string();
        assert!(
            !said.contains("hunter2") && said.contains("credentials"),
            "{said}"
        );
    }
}
