//! What is kept on this machine of what is read, where and how much; and why not, where it cannot be.

use std::path::Path;

use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::config::{Account, Dirs, Disk, dirs, disk_of, mount_point};
use crate::failure::Failure;
use crate::thumbnails;

/// Most that is kept on disk where nobody said how much; it is less on disks of which this is more than a tenth.
const CACHE_SIZE_MAX_BYTES: u64 = 20 << 30;

/// Refuses to mount over what a mount needs while it lives: behind it nobody would find the control socket, and renewed
/// tokens would be lost.
pub(super) fn not_hidden(dirs: &Dirs, account: &Account, mounted: &Path) -> Result<(), Failure> {
    let needed = [
        ("control", &dirs.control, "control", true),
        ("state", &dirs.state, "state-dir", true),
        (
            "config",
            &dirs.config,
            "config-dir",
            matches!(account, Account::Profile { .. }),
        ),
    ];
    for (what, dir, option, is_needed) in needed {
        if is_needed && mount_point(dir).starts_with(mounted) {
            return Err(Failure::failed(format!(
                "{} cannot be mounted on: the {what} directory {} lies in it; mount elsewhere, or choose another with --{option} DIR",
                mounted.display(),
                dir.display()
            )));
        }
    }
    Ok(())
}

/// Where thumbnails of what is mounted on `mounted` go, if anywhere; and a warning where they cannot.
pub(super) fn thumbnails(
    settings: &Settings,
    environment: &Environment,
    mounted: &Path,
) -> (Option<thumbnails::Options>, Option<String>) {
    if !settings.flag("thumbnails") {
        return (None, None);
    }
    let Some(cache_dir) = dirs::thumbnails(environment) else {
        let why = "no thumbnails are kept: neither XDG_CACHE_HOME nor HOME says where the desktop looks for them";
        return (None, Some(why.to_owned()));
    };
    if mount_point(&cache_dir).starts_with(mounted) {
        let shown = cache_dir.display();
        let why = format!("no thumbnails are kept: {shown} lies in the mounted directory");
        return (None, Some(why));
    }
    let options = thumbnails::Options {
        cache_dir,
        mount_point: mounted.to_owned(),
    };
    (Some(options), None)
}

/// Most bytes that are kept in `cache`, beside or below what is `mounted`; and a warning where that is nothing although
/// nobody wished it so.
pub(super) fn cache_size(
    settings: &Settings,
    cache: &Path,
    mounted: Option<&Path>,
) -> (u64, Option<String>) {
    let shown = cache.display();
    let size = settings.number("cache-size");
    let is_hidden = mounted.is_some_and(|mounted| mount_point(cache).starts_with(mounted));
    if is_hidden && size != Some(0) {
        let why = format!(
            "no content is kept on disk: the cache directory {shown} lies in the mounted directory; choose another with --cache-dir DIR"
        );
        return (0, Some(why));
    }
    if let Some(size) = size {
        return (size, None);
    }
    let why = match disk_of(cache) {
        // What tells no size of itself is not a disk for a tenth of it.
        Ok(Disk { total_bytes: 0, .. }) => "it says nothing of it".to_owned(),
        Ok(disk) => return ((disk.total_bytes / 10).min(CACHE_SIZE_MAX_BYTES), None),
        Err(err) => err.to_string(),
    };
    let why = format!(
        "no content is kept on disk: how large the disk of {shown} is cannot be told ({why}); say how much with --cache-size SIZE"
    );
    (0, Some(why))
}
