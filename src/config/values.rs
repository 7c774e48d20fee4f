//! The settings as plain values for the rooms below.

use crate::address::Address;
use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::names::NamePolicy;
use crate::uri::FileUri;
use crate::{api, fs, read};

/// How to speak to `address`.
pub(super) fn api_options(settings: &Settings, address: Address) -> api::Options {
    api::Options {
        address,
        user_agent: settings.text("user-agent").unwrap_or_default(),
        ca_file: settings.path("ca-file"),
        timeout: settings.time("timeout"),
        limit_down_bytes: settings.number("limit-down").unwrap_or_default(),
        limit_up_bytes: 0,
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
        names: match word("names").as_str() {
            "reject" => NamePolicy::Reject,
            _ => NamePolicy::Encode,
        },
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
        timeout: settings.time("timeout"),
    }
}
