//! Moments at which a development build can be told to die, so that what the next start makes of each of them is tried.
//!
//! `CRASH_AT_POINT=name`, or `name:3` for the third time, kills the process where it passes the [`Point`] of that
//! name, as `kill -9` does: no destructor runs, nothing is flushed. A release build has none of this. Every point is on the
//! way of some deed of `tests/it/crash_points`, which fails for one that is not.

/// Declares the points with their names.
macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A moment between two steps: something is done, and nobody knows of it yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// As the variable names it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A new file is here, and its writer has not heard of it.
    Created = "created",
    /// Bytes of a write are here, and the writer has not heard of it.
    Written = "written",
    /// close(2) came, and the journal has not heard of it.
    Closing = "closing",
    /// What was closed is noted for the journal, and the writer has not heard of it.
    Closed = "closed",
    /// fsync(2) has brought all to the disk, and the writer has not heard of it.
    Synced = "synced",
    /// What lies beside the content says where it belongs by now, and the journal does not.
    Described = "described",
    /// A file lies where another one does that is still owed.
    Replacing = "replacing",
    /// Delivered, or unlinked: nothing beside the content says that it is owed, and the journal does.
    Undescribed = "undescribed",
    /// The intent to open an upload session is noted.
    SessionMeant = "session-meant",
    /// A session is open, and the journal does not know which.
    SessionOpened = "session-opened",
    /// The journal was handed the session that is open.
    SessionNoted = "session-noted",
    /// The intent to have the server copy a content is noted.
    CopyMeant = "copy-meant",
    /// The folder through which a copy goes is noted, and not made.
    DetourNoted = "detour-noted",
    /// A copy is in the folder through which it goes.
    DetourTaken = "detour-taken",
    /// The server has made a copy, and nobody has looked whether it did.
    Copied = "copied",
    /// A chunk is there, and is not noted.
    ChunkSent = "chunk-sent",
    /// A chunk is there, and is noted where it is large enough.
    ChunkNoted = "chunk-noted",
    /// Everything is there, and nobody has looked whether it is.
    AllSent = "all-sent",
    /// It was seen to be there, and the journal still owes it.
    Seen = "seen",
    /// The journal owes it no more, and what it replaced is still there.
    Forgotten = "forgotten",
    /// The version that it replaced is deleted.
    ReplacedDropped = "replaced-dropped",
    /// An empty file is there that had no session, and the journal still owes it.
    EmptyMade = "empty-made",
    /// It is decided and noted that the content goes beside somebody else's.
    BesideDecided = "beside-decided",
    /// The content is on the disk, and what it replaces is about to be deleted.
    DeletingFirst = "deleting-first",
    /// What it replaces is deleted, and nothing is there in its place.
    DeletedFirst = "deleted-first",
    /// The calls of a change are noted, and none is made.
    StepsNoted = "steps-noted",
    /// All is done here that the calls of a change need, and none is made.
    StepsPrepared = "steps-prepared",
    /// One call of several is made.
    StepDone = "step-done",
    /// All calls of a change are made, and the note of them is gone.
    StepsForgotten = "steps-forgotten",
    /// All of a name that is to be stored in part is told, and the file has the name before.
    Foretold = "foretold",
    /// The server has done a change of one call, and nothing here knows of it.
    Moved = "moved",
    /// What a file was written over is deleted, and the file is about to go over another one.
    PutOntoDeleted = "put-onto-deleted",
    /// The server has a folder, and nothing here knows of it.
    FolderMade = "folder-made",
    /// The server has deleted a file, and nothing here knows of it.
    Deleted = "deleted",
    /// What was owed under a name that was removed is owed no more, and who removed it has not heard of it.
    Retired = "retired",
    /// Removals wait to be sent together.
    RemovalGathered = "removal-gathered",
    /// The server has removed many, and nothing here knows of it.
    RemovalsSent = "removals-sent",
    /// The directory is free, and what is owed is not delivered.
    Ending = "ending",
    /// Nothing is owed any more, and the process has not ended.
    Ended = "ended",
}

/// The process is at `point`: ends it, if it was told to.
#[inline(always)]
pub fn pass(point: Point) {
    #[cfg(debug_assertions)]
    told::pass(point);
    #[cfg(not(debug_assertions))]
    // Nobody is told anything here.
    let _ = point;
}

/// What this process was told.
#[cfg(debug_assertions)]
mod told {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    const VARIABLE: &str = "CRASH_AT_POINT";

    /// Where to die.
    struct Told {
        point: Point,
        /// How often it is yet to be passed, this time included.
        left: AtomicU64,
    }

    pub(super) fn pass(point: Point) {
        static TOLD: OnceLock<Option<Told>> = OnceLock::new();
        let told = TOLD.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
        if let Some(told) = told
            && told.point == point
            && told.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            die();
        }
    }

    fn parse(text: &str) -> Option<Told> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let mut all = Point::ALL.iter().copied();
        Some(Told {
            point: all.find(|point| point.name() == name)?,
            left: AtomicU64::new(nth.parse().ok()?),
        })
    }

    /// Ends the process as `kill -9` does.
    fn die() -> ! {
        let me = rustix::process::getpid();
        // It cannot fail; if it did, an abort leaves as little behind.
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_told_by_its_name_and_how_often_it_is_passed() {
            let told = parse("chunk-sent:3").unwrap();
            assert_eq!(told.point, Point::ChunkSent);
            assert_eq!(told.left.into_inner(), 3);
            assert_eq!(parse("closed").unwrap().left.into_inner(), 1);
            for other in ["", "nowhere", "closed:", "closed:x"] {
                assert!(parse(other).is_none(), "{other}");
            }
        }

        #[test]
        fn no_two_points_have_one_name() {
            let names: std::collections::BTreeSet<_> =
                Point::ALL.iter().map(|point| point.name()).collect();
            assert_eq!(names.len(), Point::ALL.len());
        }
    }
}
