//! What the suites stand on.

pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod map;
pub(crate) mod mounted;
pub(crate) mod proxy;
pub(crate) mod shell;
pub(crate) mod tools;
pub(crate) mod xattr;

use std::fs::File;
use std::os::fd::AsRawFd;

/// Numbers that look random and are the same in each run.
pub(crate) fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    // Seeds that differ in little make other numbers from the first one on (splitmix64).
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state = (state ^ (state >> 31)) | 1;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}

/// The seed of a run: `CLOUDREVE_TEST_SEED`, or another one each time. It is printed, so that a failure can be repeated, as
/// far as threads can be.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("CLOUDREVE_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        u64::from(now.unwrap_or_default().subsec_nanos())
    });
    println!("CLOUDREVE_TEST_SEED={seed}");
    seed
}

/// Has the kernel drop the pages of a file that nobody maps.
pub(crate) fn drop_pages(file: &File) {
    #[expect(unsafe_code, reason = "std has no posix_fadvise(3)")]
    // SAFETY: an open descriptor, and no memory of ours.
    let done = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(done, 0);
}
