//! What we agree on with the kernel before the first request.

use fuser::{InitFlags, KernelConfig};

use super::backing::Passthrough;

/// Largest request. The kernel's own limit is 256 pages unless root raised it (`fs.fuse.max_pages_limit`).
const MAX_WRITE_BYTES: u32 = 1 << 20;

/// Requests of read-ahead that the kernel keeps under way at once. Its default of 16 halves what eight readers of a
/// slow server get, and more than 64 gains nothing.
const MAX_BACKGROUND: u16 = 64;

/// What the kernel is asked for, where it can.
const WANTED: [(InitFlags, &str); 5] = [
    // Lookups in one directory run side by side, not one after the other.
    (InitFlags::FUSE_PARALLEL_DIROPS, "parallel lookups"),
    // Attributes come with every listing. Not FUSE_READDIRPLUS_AUTO: du and find would then ask file by file.
    (InitFlags::FUSE_DO_READDIRPLUS, "attributes with listings"),
    // Pages of a file are dropped when its modification time changes.
    (InitFlags::FUSE_AUTO_INVAL_DATA, "dropping changed pages"),
    // O_TRUNC comes with open(2) instead of as a request of its own.
    (InitFlags::FUSE_ATOMIC_O_TRUNC, "truncation on open"),
    // Without it the kernel asks for `security.capability` before every write, now that attributes are served.
    (
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        "no attribute before a write",
    ),
];

/// Asks the kernel for all that helps and that fuser can honour. An older kernel lacks some of it, which costs
/// speed and nothing else.
///
/// Left out on purpose, since fuser 0.18 accepts them without an implementation behind: SETXATTR_EXT, ABORT_ERROR,
/// OVER_IO_URING, SECURITY_CTX and younger ones. WRITEBACK_CACHE would hide changes made elsewhere.
pub(super) fn negotiate(config: &mut KernelConfig, passthrough: &Passthrough) {
    for (flag, what) in WANTED {
        if config.add_capabilities(flag).is_err() {
            log::debug!("the kernel does without: {what}");
        }
    }
    if let Err(nearest) = config.set_max_write(MAX_WRITE_BYTES) {
        log::debug!("requests of {MAX_WRITE_BYTES} bytes are too large, {nearest} would do");
    }
    if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
        log::debug!("{MAX_BACKGROUND} requests in the background are refused, {nearest} would do");
    }
    if passthrough.is_wanted() {
        allow_passthrough(config, passthrough);
    }
}

/// Asks that the kernel may read and write files on the disk by itself. Those must not lie on a stacked file system themselves;
/// this one may be part of a stack, in turn.
fn allow_passthrough(config: &mut KernelConfig, passthrough: &Passthrough) {
    let is_able = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
    if !is_able || config.set_max_stack_depth(1).is_err() {
        passthrough.turn_off("this kernel cannot (Linux 6.9 or newer can)");
    }
}
