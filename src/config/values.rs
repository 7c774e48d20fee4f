//! The settings as plain values for the rooms below.

use crate::address::Address;
use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::config::{Durability, Writing};
use crate::globs::Glob;
use crate::names::NamePolicy;
use crate::staging::LocalOnly;
use crate::uri::FileUri;
use crate::{api, fs, read, upload};

/// Where the kernel tells the name of this machine (→ proc_sys_kernel(5)).
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// How to speak to `address`.
pub(super) fn api_options(settings: &Settings, address: Address) -> api::Options {
    api::Options {
        address,
        user_agent: settings.text("user-agent").unwrap_or_default(),
        ca_file: settings.path("ca-file"),
        timeout: settings.time("timeout"),
        limit_down_bytes: settings.number("limit-down").unwrap_or_default(),
        limit_up_bytes: settings.number("limit-up").unwrap_or_default(),
    }
}

/// How content is read.
pub(super) fn read_options(settings: &Settings) -> read::Options {
    let download = settings.text("download").unwrap_or_default();
    read::Options {
        memory_bytes: settings.number("memory").unwrap_or_default(),
        download: match (download.strip_prefix("proxy="), download.as_str()) {
            (Some(proxy), _) => read::Download::Proxy(proxy.to_owned()),
            (None, "server") => read::Download::Server,
            (None, _) => read::Download::Direct,
        },
        timeout: settings.time("timeout"),
    }
}

/// How content is written.
pub(super) fn writing(settings: &Settings, root: &FileUri) -> Writing {
    let read_only = settings.flag("read-only");
    // Each was a pattern when it was set.
    let globs = settings.list("local-only").into_iter();
    let globs = globs.filter_map(|glob| Glob::parse(&glob).ok());
    Writing {
        read_only,
        delete: delete(settings),
        durability: durability(settings),
        local_only: LocalOnly {
            globs: globs.collect(),
            root: Some(root.clone()),
            names: names(settings),
        },
        upload: upload_options(settings),
    }
}

fn delete(settings: &Settings) -> api::Delete {
    match settings.text("delete").as_deref() {
        Some("permanent") => api::Delete::Permanent,
        _ => api::Delete::Trash,
    }
}

fn durability(settings: &Settings) -> Durability {
    match settings.text("durability").as_deref() {
        Some("server") => Durability::Server,
        _ => Durability::Local,
    }
}

fn upload_options(settings: &Settings) -> upload::Options {
    let kernel_says = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    upload::Options {
        delay: settings.time("upload-delay"),
        transfers: settings
            .number("transfers")
            .and_then(|files| usize::try_from(files).ok())
            .unwrap_or(1),
        overwrite: match settings.text("overwrite").unwrap_or_default().as_str() {
            "version" => upload::Overwrite::Version,
            "delete" => upload::Overwrite::Delete,
            _ => upload::Overwrite::Replace,
        },
        delete: delete(settings),
        host: host(&kernel_says),
        names: names(settings),
        timeout: settings.time("timeout"),
    }
}

/// The machine's own name out of what the kernel says: without its domain, which would only make names of conflict
/// copies longer.
fn host(kernel_says: &str) -> String {
    match kernel_says.trim().split('.').next() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => "localhost".to_owned(),
    }
}

fn names(settings: &Settings) -> NamePolicy {
    match settings.text("names").unwrap_or_default().as_str() {
        "reject" => NamePolicy::Reject,
        _ => NamePolicy::Encode,
    }
}

/// How the drive at `root` is shown.
pub(super) fn fs_options(
    settings: &Settings,
    environment: &Environment,
    root: FileUri,
) -> fs::Options {
    let word = |name: &str| settings.text(name).unwrap_or_default();
    // Within u32 and the mode's nine bits by the table's bounds.
    let id = |name: &str, default: u32| {
        settings
            .number(name)
            .and_then(|id| u32::try_from(id).ok())
            .unwrap_or(default)
    };
    let bits = |name: &str| {
        settings
            .number(name)
            .and_then(|bits| u16::try_from(bits).ok())
    };
    let umask = bits("umask").unwrap_or(0o022);
    fs::Options {
        root,
        metadata_ttl: settings.time("metadata-ttl"),
        metadata_entries: settings
            .number("metadata-entries")
            .and_then(|entries| usize::try_from(entries).ok())
            .unwrap_or(usize::MAX),
        names: names(settings),
        order: fs::Order {
            by: match word("order-by").as_str() {
                "size" => fs::OrderBy::Size,
                "updated_at" => fs::OrderBy::UpdatedAt,
                "created_at" => fs::OrderBy::CreatedAt,
                _ => fs::OrderBy::Name,
            },
            descending: word("order-direction") == "desc",
        },
        hide_uploading: settings.flag("hide-uploading"),
        folder_size: settings.flag("folder-size"),
        uid: id("uid", environment.uid),
        gid: id("gid", environment.gid),
        file_mode: bits("file-mode").unwrap_or(0o666 & !umask),
        dir_mode: bits("dir-mode").unwrap_or(0o777 & !umask),
        delete: delete(settings),
        timeout: settings.time("timeout"),
        durability: durability(settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_without_its_domain() {
        for (kernel_says, name) in [
            ("laptop\n", "laptop"),
            ("nas.example.com\n", "nas"),
            ("", "localhost"),
            (".\n", "localhost"),
        ] {
            assert_eq!(host(kernel_says), name);
        }
    }
}
