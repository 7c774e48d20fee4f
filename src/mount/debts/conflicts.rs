//! Files of ours that were put beside another version, remembered to be told.

use std::collections::VecDeque;

use crate::uri::FileUri;

/// Conflicts remembered; of more, the oldest are forgotten, and stand in the log.
const CONFLICTS_MAX: usize = 1000;

/// Lines about files that were put beside another version, oldest first.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    lines: VecDeque<(FileUri, String)>,
    /// How many there were in all.
    count: u64,
}

impl Conflicts {
    pub(super) fn note(&mut self, uri: FileUri, line: String) {
        self.lines.push_back((uri, line));
        self.count += 1;
        if self.lines.len() > CONFLICTS_MAX {
            self.lines.pop_front();
        }
    }

    /// How many there were in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The lines of all that are remembered.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(_, line)| line.as_str())
    }

    /// Those since there were `count`.
    pub(super) fn since(&self, count: u64) -> impl Iterator<Item = &(FileUri, String)> {
        let new = usize::try_from(self.count - count).unwrap_or(usize::MAX);
        self.lines.iter().skip(self.lines.len().saturating_sub(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> FileUri {
        FileUri::parse_wire(text).unwrap()
    }

    #[test]
    fn conflicts_are_bounded_and_those_of_a_wait_are_told_apart() {
        let mut conflicts = Conflicts::default();
        for n in 0..CONFLICTS_MAX + 3 {
            conflicts.note(uri("cloudreve://my/x"), n.to_string());
        }
        assert_eq!(conflicts.lines.len(), CONFLICTS_MAX);
        let before = conflicts.count;
        assert_eq!(conflicts.since(before).count(), 0);
        conflicts.note(uri("cloudreve://my/x"), "new".to_owned());
        let new: Vec<_> = conflicts.since(before).map(|(_, line)| line).collect();
        assert_eq!(new, ["new"]);
        assert_eq!(conflicts.since(0).count(), CONFLICTS_MAX);
    }
}
