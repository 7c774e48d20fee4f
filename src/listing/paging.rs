//! All entries of a folder, page by page, on a server that loses some between pages and repeats others.
//!
//! With cursors, a page that ends exactly with the last folder hides all files whose names sort before that folder's
//! (→ api part 1 §7.5). So such a page is asked for again, one entry shorter, which moves its end into the folders.
//! Where it cannot be told, a page that ends with a folder and is followed by files is suspect, and the listing
//! starts over with another size of page. What was seen already is not told twice.

use std::collections::HashSet;
use std::time::Instant;

use crate::api::{self, Boundary, Page, PagePosition};
use crate::model::{FileId, FileInfo, FileKind};

/// Entries asked for at once: what servers give at most, unless their administrator changed it.
pub(super) const PAGE_SIZE: u32 = 2000;

/// Changes of the page size, and pages in a row without anything new, after which a server is taken to be broken
/// rather than the listing to be complete.
const TRIES_MAX: u32 = 8;

/// What a listing came to.
#[derive(Debug)]
pub(super) struct Paged {
    /// Every id that was met.
    pub(super) ids: HashSet<FileId>,
    /// When the last page was asked for.
    pub(super) asked: Instant,
    /// Pages that made up the whole.
    pub(super) pages: u32,
}

/// One walk over the pages of a folder.
struct Walk {
    position: PagePosition,
    /// Entries to ask for next.
    size: u32,
    usual_size: u32,
    /// Met since the walk began, or began again.
    met: HashSet<FileId>,
    pages: u32,
    /// Of the page before: it ended with a folder, and what follows will tell whether files were lost.
    suspect: bool,
    barren: u32,
    tries: u32,
}

/// Fetches all pages, the first of at most `size` entries, and hands each page with what is new on it to `publish`.
/// An error of any page is the whole's.
pub(super) async fn all_pages<F, R>(
    size: u32,
    mut fetch: F,
    mut publish: impl FnMut(&Page, Vec<FileInfo>, Instant),
) -> Result<Paged, api::Error>
where
    F: FnMut(PagePosition, u32) -> R,
    R: Future<Output = Result<Page, api::Error>>,
{
    let mut ids = HashSet::new();
    let mut walk = Walk::new(size, 0);
    loop {
        let asked = Instant::now();
        let mut page = fetch(walk.position.clone(), walk.size).await?;
        let files = std::mem::take(&mut page.files);
        match walk.judge(&page, &files)? {
            Verdict::Shorter(size) => {
                walk.size = size;
                continue;
            }
            Verdict::Over(size) => {
                walk = Walk::new(size, walk.tries);
                continue;
            }
            Verdict::Good => {}
        }
        walk.count(&files)?;
        let new = files.into_iter().filter(|file| ids.insert(file.id.clone()));
        publish(&page, new.collect(), asked);
        match page.next {
            Some(next) => walk.go_on(next),
            None => {
                return Ok(Paged {
                    ids,
                    asked,
                    pages: walk.pages,
                });
            }
        }
    }
}

enum Verdict {
    Good,
    /// Ask for the same page again, with so many entries.
    Shorter(u32),
    /// Start again, with so many entries a page.
    Over(u32),
}

impl Walk {
    fn new(size: u32, tries: u32) -> Self {
        Self {
            position: PagePosition::First,
            size,
            usual_size: size,
            met: HashSet::new(),
            pages: 0,
            suspect: false,
            barren: 0,
            tries,
        }
    }

    fn judge(&mut self, page: &Page, files: &[FileInfo]) -> Result<Verdict, api::Error> {
        let lost = self.suspect && files.first().is_none_or(|file| file.kind == FileKind::File);
        if page.boundary != Boundary::Lossy && !lost {
            self.suspect = page.boundary == Boundary::Unknown;
            return Ok(Verdict::Good);
        }
        // The size that pages really have, which may be less than was asked for.
        let size = self.size.min(page.page_size.max(files.len() as u32));
        self.tries += 1;
        if size < 2 || self.tries > TRIES_MAX {
            return Err(broken("no size of page shows all of its files"));
        }
        Ok(match lost {
            true => Verdict::Over(size - 1),
            false => Verdict::Shorter(size - 1),
        })
    }

    fn count(&mut self, files: &[FileInfo]) -> Result<(), api::Error> {
        let before = self.met.len();
        self.met.extend(files.iter().map(|file| file.id.clone()));
        self.pages += 1;
        self.barren = if self.met.len() > before {
            0
        } else {
            self.barren + 1
        };
        match self.barren {
            0..TRIES_MAX => Ok(()),
            _ => Err(broken("its pages repeat without end")),
        }
    }

    fn go_on(&mut self, next: PagePosition) {
        self.size = self.usual_size;
        self.position = next;
    }
}

fn broken(said: &str) -> api::Error {
    api::Error::Trouble {
        code: 0,
        said: format!("a folder cannot be listed, {said}"),
    }
}
