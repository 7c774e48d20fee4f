//! When to ask for one name and when for a whole folder: arithmetic only.

use crate::metadata::Question;

/// Entries of a folder up to which its listing costs hardly more than a single question.
const SMALL_FOLDER: usize = 100;

/// Entries of a folder up to which a listing is preferred once several of its files are asked for.
const MIDDLING_FOLDER: usize = 2 * 2000;

/// Questions about single files of a middling folder before it is listed again.
const SINGLE_QUESTIONS: u32 = 2;

/// A listing costs the server as much as a question for each so many entries: a page of 2000 takes it 40 ms, a single
/// answer 2 ms (→ api part 1 §14).
const ENTRIES_PER_QUESTION: usize = 100;

/// Questions about names of a folder that was never listed before it is.
const QUESTIONS_UNLISTED: u32 = 16;

/// Whether a listing is the better answer to this question and those to be expected after it.
pub(super) fn is_answered_by_listing(question: Question) -> bool {
    match question.entries {
        Some(0..=SMALL_FOLDER) => true,
        Some(0..=MIDDLING_FOLDER) => question.asked > SINGLE_QUESTIONS,
        Some(_) | None => false,
    }
}

/// Whether somebody goes through the names of a folder that is large, or was never listed: then a listing is begun,
/// and single questions go on until it is there.
pub(super) fn is_looked_through(question: Question) -> bool {
    let many = match question.entries {
        Some(entries) => u32::try_from(entries / ENTRIES_PER_QUESTION).unwrap_or(u32::MAX),
        None => QUESTIONS_UNLISTED,
    };
    question.asked.is_multiple_of(many.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first question of many that each rule says yes to.
    #[track_caller]
    fn check(entries: Option<usize>, answered: Option<u32>, looked_through: Option<u32>) {
        let first = |rule: fn(Question) -> bool| {
            (1..10_000).find(|asked| {
                rule(Question {
                    entries,
                    asked: *asked,
                })
            })
        };
        assert_eq!(first(is_answered_by_listing), answered, "{entries:?}");
        assert_eq!(first(is_looked_through), looked_through, "{entries:?}");
    }

    #[test]
    fn the_larger_a_folder_the_more_questions_come_before_its_listing() {
        check(Some(0), Some(1), Some(1));
        check(Some(100), Some(1), Some(1));
        check(Some(4000), Some(3), Some(40));
        check(Some(100_000), None, Some(1000));
        check(None, None, Some(16));
    }
}
