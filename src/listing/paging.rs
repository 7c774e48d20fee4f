//! All entries of a folder, page by page, on a server that loses some between pages and repeats others.
//!
//! With cursors, a page that ends exactly with the last folder hides all files whose names sort before that folder's
//! (→ api part 1 §7.5). So such a page is asked for again, one entry shorter, which moves its end into the folders.
//! Where it cannot be told, a page that ends with a folder and is followed by files is suspect, and the listing
//! starts over with another size of page. What was seen already is not told twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
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
    /// Everything that was met.
    pub(super) met: Met,
    /// When the last page was asked for.
    pub(super) asked: Instant,
    /// Pages that made up the whole.
    pub(super) pages: u32,
}

/// The ids that were met, each with the last walk that met it.
#[derive(Debug, Default)]
pub(super) struct Met(HashMap<FileId, u32>);

impl Met {
    /// Whether `id` was met by any walk.
    pub(super) fn has(&self, id: &FileId) -> bool {
        self.0.contains_key(id)
    }

    /// Meets those of a page by the `walk`th walk. Those that no walk has met before; and whether this one met any of
    /// the page for the first time.
    fn meet(&mut self, mut files: Vec<FileInfo>, walk: u32) -> (Vec<FileInfo>, bool) {
        let mut some = false;
        files.retain(|file| match self.0.entry(file.id.clone()) {
            Place::Vacant(place) => {
                place.insert(walk);
                some = true;
                true
            }
            Place::Occupied(mut place) => {
                some |= place.insert(walk) != walk;
                false
            }
        });
        (files, some)
    }
}

/// A question for a page, which may have been answered already.
struct Coming<R: Future> {
    asked: Instant,
    question: Pin<Box<R>>,
    answer: Option<R::Output>,
}

impl<R: Future> Coming<R> {
    /// Asks, and does not wait.
    async fn ask(question: R) -> Self {
        let asked = Instant::now();
        let mut question = Box::pin(question);
        let polled = poll_fn(|context| Poll::Ready(question.as_mut().poll(context))).await;
        let answer = match polled {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        };
        Self {
            asked,
            question,
            answer,
        }
    }

    async fn answer(self) -> R::Output {
        match self.answer {
            Some(answer) => answer,
            None => self.question.await,
        }
    }
}

/// One walk over the pages of a folder.
struct Walk {
    position: PagePosition,
    /// Entries to ask for next.
    size: u32,
    usual_size: u32,
    pages: u32,
    /// Of the page before: it ended with a folder, and what follows will tell whether files were lost.
    suspect: bool,
    barren: u32,
    tries: u32,
    /// How often it began again.
    number: u32,
}

/// Fetches all pages, the first of at most `size` entries, and hands each page with what is new on it to `publish`.
/// The next page is asked for before that, so it is on its way meanwhile. An error of any page is the whole's.
pub(super) async fn all_pages<F, R>(
    size: u32,
    mut fetch: F,
    mut publish: impl FnMut(&Page, Vec<FileInfo>, Instant),
) -> Result<Paged, api::Error>
where
    F: FnMut(PagePosition, u32) -> R,
    R: Future<Output = Result<Page, api::Error>>,
{
    let mut met = Met::default();
    let mut walk = Walk::new(size, 0, 0);
    let mut coming = Coming::ask(fetch(walk.position.clone(), walk.size)).await;
    loop {
        let asked = coming.asked;
        let mut page = coming.answer().await?;
        let files = std::mem::take(&mut page.files);
        match walk.judge(&page, &files)? {
            Verdict::Shorter(size) => walk.size = size,
            Verdict::Over(size) => walk = Walk::new(size, walk.tries, walk.number + 1),
            Verdict::Good => {
                let (new, some) = met.meet(files, walk.number);
                walk.count(some)?;
                let Some(next) = page.next.take() else {
                    publish(&page, new, asked);
                    let pages = walk.pages;
                    return Ok(Paged { met, asked, pages });
                };
                walk.go_on(next);
                coming = Coming::ask(fetch(walk.position.clone(), walk.size)).await;
                publish(&page, new, asked);
                continue;
            }
        }
        coming = Coming::ask(fetch(walk.position.clone(), walk.size)).await;
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
    fn new(size: u32, tries: u32, number: u32) -> Self {
        Self {
            position: PagePosition::First,
            size,
            usual_size: size,
            pages: 0,
            suspect: false,
            barren: 0,
            tries,
            number,
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

    /// A good page, with `some` that this walk had not met.
    fn count(&mut self, some: bool) -> Result<(), api::Error> {
        self.pages += 1;
        self.barren = if some { 0 } else { self.barren + 1 };
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
