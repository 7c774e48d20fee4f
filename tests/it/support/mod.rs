//! What the suites stand on.

pub(crate) mod map;
pub(crate) mod mounted;
pub(crate) mod shell;
pub(crate) mod xattr;

/// Numbers that look random and are the same in each run.
pub(crate) fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}
