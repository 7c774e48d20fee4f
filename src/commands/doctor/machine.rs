//! What a mount needs of this machine.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Check, Verdict};
use crate::cli::values::show_size;
use crate::config::environment::Environment;
use crate::config::{Local, disk_of};

/// With less than this free, downloads and the journal soon have nowhere to go.
const SPACE_WANTED_BYTES: u64 = 1 << 30;

/// Looks at the device, the helper, the directories.
pub(super) fn check(local: &Local, environment: &Environment) -> Vec<Check> {
    let mut checks = vec![device(Path::new("/dev/fuse"))];
    // Root mounts without a helper, and needs nobody's permission to let others in.
    if !environment.is_root() {
        checks.push(helper(environment));
        checks.push(fuse_conf(
            fs::read_to_string("/etc/fuse.conf").ok().as_deref(),
        ));
    }
    for (what, dir) in [
        ("config-dir", &local.dirs.config),
        ("state-dir", &local.dirs.state),
        ("control", &local.dirs.control),
    ] {
        checks.push(directory(what, dir));
    }
    let (size_bytes, doubt) = local.cache_size_bytes();
    checks.push(cache(&local.dirs.cache, size_bytes));
    checks.extend(doubt.map(|why| Check::note("cache-size", why, "")));
    checks
}

fn device(path: &Path) -> Check {
    let what = path.display().to_string();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Check::fine(what, "opens"),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Check::broken(
            what,
            "is not there",
            "load the fuse module (modprobe fuse); in a container, pass the device (--device /dev/fuse)",
        ),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Check::broken(
            what,
            "you may not open it",
            format!(
                "chmod 666 {} as root, or join the group that owns it",
                path.display()
            ),
        ),
        Err(err) => Check::broken(
            what,
            err.to_string(),
            "load the fuse module (modprobe fuse)",
        ),
    }
}

fn helper(environment: &Environment) -> Check {
    const WHAT: &str = "fusermount3";
    const INSTALL: &str = "install the package fuse3";
    let Some(program) = in_path(WHAT, environment) else {
        return Check::broken(WHAT, "is not installed", INSTALL);
    };
    match fs::metadata(&program) {
        Ok(metadata) if metadata.permissions().mode() & 0o4000 == 0 => {
            let fix = format!("chmod u+s {} as root, or {INSTALL} anew", program.display());
            Check::broken(
                WHAT,
                format!(
                    "{} is not setuid root, so it cannot mount for you",
                    program.display()
                ),
                fix,
            )
        }
        Ok(_) => Check::fine(WHAT, program.display().to_string()),
        Err(err) => Check::broken(WHAT, err.to_string(), INSTALL),
    }
}

fn in_path(name: &str, environment: &Environment) -> Option<PathBuf> {
    let path = environment.get("PATH")?;
    std::env::split_paths(path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

fn fuse_conf(text: Option<&str>) -> Check {
    const WHAT: &str = "/etc/fuse.conf";
    let allows = text
        .unwrap_or_default()
        .lines()
        .any(|line| line.trim() == "user_allow_other");
    match allows {
        true => Check::fine(
            WHAT,
            "has user_allow_other: mounts may be opened to other users",
        ),
        false => Check::note(
            WHAT,
            "has no user_allow_other: only you can use your mounts",
            "add that line as root if you want --allow-other",
        ),
    }
}

/// Whether a directory can be written, or made, and how much room there is.
fn directory(option: &str, dir: &Path) -> Check {
    let what = format!("{option} {}", dir.display());
    let Some(existing) = dir.ancestors().find(|dir| dir.exists()) else {
        return Check::broken(
            what,
            "cannot be made",
            format!("choose another one with --{option}"),
        );
    };
    if !existing.is_dir() {
        return Check::broken(
            what,
            format!("{} is no directory", existing.display()),
            format!("choose another one with --{option}"),
        );
    }
    if !writable(existing) {
        let fix = format!("make it writable, or choose another one with --{option}");
        return Check::broken(
            what,
            format!("you may not write in {}", existing.display()),
            fix,
        );
    }
    match disk_of(existing).map(|disk| disk.free_bytes) {
        Ok(free) if free < SPACE_WANTED_BYTES && matches!(option, "state-dir" | "cache-dir") => {
            Check::note(
                what,
                format!("only {} free", show_size(free)),
                "make room, or choose another disk",
            )
        }
        Ok(free) => Check::fine(what, format!("writable, {} free", show_size(free))),
        Err(_) => Check::fine(what, "writable"),
    }
}

/// The cache, of which `size_bytes` are kept at most. Mounts work without, so nothing is broken that is wrong with it.
fn cache(dir: &Path, size_bytes: u64) -> Check {
    let mut check = directory("cache-dir", dir);
    match (check.verdict, size_bytes) {
        (Verdict::Broken, _) => {
            check.verdict = Verdict::Note;
            check.found += ", so mounts keep no content on disk and fetch it again and again";
        }
        (_, 0) => check.found += ", mounts keep no content there",
        (_, size) => {
            check.found += &format!(", mounts keep {} of content at most", show_size(size))
        }
    }
    check
}

fn writable(dir: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(dir.as_os_str().as_bytes()) else {
        return false;
    };
    #[expect(
        unsafe_code,
        reason = "std has no access(2), and trying would leave traces"
    )]
    // SAFETY: a path that ends with NUL and lives through the call; access only reads.
    let answer = unsafe {
        libc::faccessat(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK | libc::X_OK,
            libc::AT_EACCESS,
        )
    };
    answer == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_device_is_broken_and_says_what_to_load() {
        let check = device(Path::new("/dev/there is no such device"));
        assert_eq!(check.verdict, Verdict::Broken);
        assert!(check.fix.contains("modprobe fuse"));
    }

    #[test]
    fn a_helper_without_its_bit_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::new([("PATH", dir.path())], 1, 1);
        assert_eq!(helper(&environment).verdict, Verdict::Broken);
        let program = dir.path().join("fusermount3");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(helper(&environment).fix.contains("chmod u+s"));
        fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
        assert_eq!(helper(&environment).verdict, Verdict::Fine);
    }

    #[test]
    fn a_commented_line_of_fuse_conf_does_not_count() {
        assert_eq!(
            fuse_conf(Some("# user_allow_other\n")).verdict,
            Verdict::Note
        );
        assert_eq!(fuse_conf(None).verdict, Verdict::Note);
        assert_eq!(
            fuse_conf(Some("mount_max = 10\n user_allow_other \n")).verdict,
            Verdict::Fine
        );
    }

    #[test]
    fn a_directory_need_not_exist_if_it_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_ne!(
            directory("config-dir", &dir.path().join("a/b")).verdict,
            Verdict::Broken
        );
        fs::write(dir.path().join("file"), "").unwrap();
        let check = directory("state-dir", &dir.path().join("file/b"));
        assert_eq!(check.verdict, Verdict::Broken);
        assert!(check.fix.contains("--state-dir"));
    }
    #[test]
    fn a_cache_says_how_much_it_keeps_and_is_nothing_that_mounts_need() {
        let dir = tempfile::tempdir().unwrap();
        let check = cache(&dir.path().join("a"), 3 << 30);
        assert_eq!(check.verdict, directory("cache-dir", dir.path()).verdict);
        assert!(check.found.contains("3.00 GiB"), "{check:?}");
        assert!(cache(dir.path(), 0).found.contains("no content"));
        fs::write(dir.path().join("file"), "").unwrap();
        let check = cache(&dir.path().join("file/b"), 3 << 30);
        assert_eq!(check.verdict, Verdict::Note);
        assert!(check.fix.contains("--cache-dir"), "{check:?}");
    }
}
