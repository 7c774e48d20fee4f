//! Folders whose thumbnails are still to be brought: the one that was read last first, and a bounded number.

use std::sync::Arc;

use super::Folder;
use crate::entry::Entry;

/// Folders that wait at most: as many as a person may come back to while the server is at work.
const FOLDERS_MAX: usize = 8;

/// What is to be done.
#[derive(Default)]
pub(super) struct Queue {
    /// Read last: last.
    folders: Vec<Waiting>,
}

struct Waiting {
    folder: Arc<Folder>,
    /// Its first entry that was not looked at yet.
    next: usize,
}

impl Queue {
    /// Puts `folder` before all others. Goes on where it was if it waits already and shows the same; forgets the folder
    /// that was read longest ago where there are too many.
    pub(super) fn push(&mut self, folder: Folder) {
        let at = self
            .folders
            .iter()
            .position(|waiting| waiting.folder.path == folder.path);
        let before = at.map(|at| self.folders.remove(at));
        let same = before.filter(|before| Arc::ptr_eq(&before.folder.listing, &folder.listing));
        self.folders.push(same.unwrap_or_else(|| Waiting {
            folder: Arc::new(folder),
            next: 0,
        }));
        if self.folders.len() > FOLDERS_MAX {
            self.folders.remove(0);
        }
    }

    /// The next file that is `wanted`, with its folder.
    pub(super) fn next(
        &mut self,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<(Arc<Folder>, Arc<Entry>)> {
        while let Some(waiting) = self.folders.last_mut() {
            let rest = waiting
                .folder
                .listing
                .entries()
                .iter()
                .enumerate()
                .skip(waiting.next);
            for (index, entry) in rest {
                if wanted(entry) {
                    waiting.next = index + 1;
                    return Some((Arc::clone(&waiting.folder), Arc::clone(entry)));
                }
            }
            self.folders.pop();
        }
        None
    }

    /// Forgets all; how many folders that were.
    pub(super) fn clear(&mut self) -> usize {
        self.folders.drain(..).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thumbnails::tests::{folder, photo};

    fn next(queue: &mut Queue) -> Option<String> {
        let (folder, entry) = queue.next(|entry| entry.owned)?;
        Some(folder.path.join(&*entry.name).display().to_string())
    }

    #[test]
    fn the_folder_that_was_read_last_comes_first_and_the_others_go_on_where_they_were() {
        let mut queue = Queue::default();
        let photos = || [photo("1.jpg", 1), photo("2.jpg", 1)];
        queue.push(folder("a", photos()));
        assert_eq!(next(&mut queue).as_deref(), Some("a/1.jpg"));
        queue.push(folder("b", photos()));
        let rest: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(rest, ["b/1.jpg", "b/2.jpg", "a/2.jpg"]);
    }

    #[test]
    fn a_folder_that_is_read_again_goes_on_unless_it_shows_something_else() {
        let mut queue = Queue::default();
        let again = folder("a", [photo("1.jpg", 1), photo("2.jpg", 1)]);
        let listing = Arc::clone(&again.listing);
        queue.push(again);
        assert_eq!(next(&mut queue).as_deref(), Some("a/1.jpg"));
        let again = Folder {
            listing,
            ..folder("a", [])
        };
        queue.push(again);
        assert_eq!(next(&mut queue).as_deref(), Some("a/2.jpg"));
        queue.push(folder("a", [photo("1.jpg", 1)]));
        assert_eq!(next(&mut queue).as_deref(), Some("a/1.jpg"));
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn of_too_many_folders_those_read_longest_ago_are_forgotten() {
        let mut queue = Queue::default();
        for number in 0..100 {
            queue.push(folder(&number.to_string(), [photo("1.jpg", 1)]));
        }
        let all: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(all.len(), FOLDERS_MAX);
        assert_eq!((&*all[0], &*all[FOLDERS_MAX - 1]), ("99/1.jpg", "92/1.jpg"));
    }
}
