//! Checksums of an open entity, as far as they are in memory: a few pages of its index.
//!
//! An entity of 100 GiB has 12 MiB of checksums; its readers need those of the places where they are.

use crate::cache::index::{PAGE_BYTES, SUM_BYTES, first_of, page_of};
use crate::entity::Entity;

/// Pages of one entity in memory at most: 64 KiB of memory, which is much more than one reader's window.
const PAGES: usize = 16;

/// One page of an index.
pub(super) struct Page {
    number: u64,
    /// The period in which it was read from disk.
    read_in: u64,
    sums: Box<[u64]>,
}

/// The pages in memory, that which was used last at the end.
#[derive(Default)]
pub(super) struct Pages(Vec<Page>);

/// How many checksums `page` of the index of `entity` has.
pub(super) fn sums_in(entity: &Entity, page: u64) -> usize {
    let end = first_of(page + 1).min(entity.blocks());
    end.saturating_sub(first_of(page)) as usize
}

impl Page {
    /// A page read in the period `read_in`; `sums` are its checksums.
    pub(super) fn new(number: u64, read_in: u64, sums: Vec<u64>) -> Self {
        debug_assert!(sums.len() as u64 <= PAGE_BYTES / SUM_BYTES);
        Self {
            number,
            read_in,
            sums: sums.into(),
        }
    }
}

impl Pages {
    /// The checksum of `block`, 0 where it is not kept. None where its page has to be read: it is not here, or it was
    /// read before the period `now` and does not have the block, which somebody else may have written meanwhile.
    pub(super) fn sum(&mut self, block: u64, now: u64) -> Option<u64> {
        let number = page_of(block);
        let at = self.0.iter().position(|page| page.number == number)?;
        if at + 1 < self.0.len() {
            let page = self.0.remove(at);
            self.0.push(page);
        }
        let page = self.0.last()?;
        let sum = *page.sums.get((block - first_of(number)) as usize)?;
        (sum != 0 || page.read_in == now).then_some(sum)
    }

    /// Takes in a page just read.
    pub(super) fn insert(&mut self, page: Page) {
        self.0.retain(|other| other.number != page.number);
        if self.0.len() >= PAGES {
            self.0.remove(0);
        }
        self.0.push(page);
    }

    /// Notes what the checksum of `block` is now, if its page is here.
    pub(super) fn set(&mut self, block: u64, sum: u64) {
        let number = page_of(block);
        if let Some(page) = self.0.iter_mut().find(|page| page.number == number)
            && let Some(slot) = page.sums.get_mut((block - first_of(number)) as usize)
        {
            *slot = sum;
        }
    }

    /// Forgets a page, which is read anew then.
    pub(super) fn remove(&mut self, number: u64) {
        self.0.retain(|page| page.number != number);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::BLOCK_SIZE_BYTES;
    use crate::model::EntityId;

    #[test]
    fn few_pages_stay_and_what_is_not_kept_is_looked_up_again() {
        let mut pages = Pages::default();
        pages.insert(Page::new(0, 1, vec![7, 0]));
        assert_eq!((pages.sum(0, 1), pages.sum(1, 1)), (Some(7), Some(0)));
        assert_eq!((pages.sum(0, 2), pages.sum(1, 2)), (Some(7), None));
        assert_eq!(pages.sum(first_of(1), 1), None);
        pages.set(1, 9);
        assert_eq!(pages.sum(1, 2), Some(9));
        for number in 1..=PAGES as u64 {
            pages.insert(Page::new(number, 1, vec![number; 512]));
        }
        assert_eq!(pages.sum(0, 1), None, "the first one left");
        assert_eq!(pages.sum(first_of(3) + 511, 1), Some(3));
    }

    #[test]
    fn the_last_page_has_what_is_left() {
        let entity = |blocks: u64| Entity {
            id: EntityId("e".into()),
            size_bytes: blocks * BLOCK_SIZE_BYTES,
        };
        assert_eq!(sums_in(&entity(3), 0), 3);
        assert_eq!(sums_in(&entity(1000), 0), 448);
        assert_eq!(sums_in(&entity(1000), 1), 512);
        assert_eq!(sums_in(&entity(1000), 2), 40);
        assert_eq!(sums_in(&entity(1000), 3), 0);
    }
}
