//! What becomes of the events of one window: one a file, merged as the server merges them, losses included.
//!
//! `Cloudreve:pkg/filemanager/eventhub/event.go`, DebounceEvents (→ api part 1 §13.4).

use serde::Serialize;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Create,
    Modify,
    Rename,
    Delete,
}

/// A change as a subscriber is told of it: paths are decoded, and begin at the folder that he follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: EventKind,
    pub(crate) file_id: String,
    pub(crate) from: String,
    /// Empty but for a rename.
    pub(crate) to: String,
}

/// One event a file, in the order in which the files first came.
pub(crate) fn merged(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    for event in events {
        let Some(at) = merged.iter().position(|one| one.file_id == event.file_id) else {
            merged.push(event);
            continue;
        };
        let state = &mut merged[at];
        match (event.kind, state.kind) {
            (EventKind::Create, EventKind::Delete) => *state = event,
            (EventKind::Create, _) | (EventKind::Modify, _) => {}
            (EventKind::Rename, EventKind::Create) => state.from = event.to,
            (EventKind::Rename, EventKind::Modify) => *state = event,
            (EventKind::Rename, EventKind::Rename) if state.from == event.to => {
                merged.remove(at);
            }
            (EventKind::Rename, EventKind::Rename) => state.to = event.to,
            (EventKind::Rename, EventKind::Delete) => {}
            (EventKind::Delete, EventKind::Create) => {
                merged.remove(at);
            }
            (EventKind::Delete, EventKind::Delete) => {}
            (EventKind::Delete, _) => *state = event,
        }
    }
    // Only a rename tells of a second place, whatever came first.
    for event in &mut merged {
        if event.kind != EventKind::Rename {
            event.to.clear();
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let mut words = text.split(' ');
        let kind = match words.next() {
            Some("create") => EventKind::Create,
            Some("modify") => EventKind::Modify,
            Some("rename") => EventKind::Rename,
            Some("delete") => EventKind::Delete,
            other => panic!("{other:?}"),
        };
        let mut word = || words.next().unwrap_or_default().to_owned();
        Event {
            kind,
            file_id: word(),
            from: word(),
            to: word(),
        }
    }

    #[track_caller]
    fn check(window: &[&str], told: &[&str]) {
        let events = |texts: &[&str]| texts.iter().map(|text| event(text)).collect::<Vec<_>>();
        assert_eq!(merged(events(window)), events(told), "{window:?}");
    }

    #[test]
    fn one_window_tells_one_event_of_each_file() {
        check(&["modify 1 a", "modify 1 a"], &["modify 1 a"]);
        check(&["create 1 a", "modify 1 a"], &["create 1 a"]);
        check(&["create 1 a", "rename 1 a b"], &["create 1 b"]);
        check(&["create 1 a", "delete 1 a"], &[]);
        check(&["modify 1 a", "delete 1 a"], &["delete 1 a"]);
        check(&["modify 1 a", "rename 1 a b"], &["rename 1 a b"]);
        check(&["rename 1 a b", "modify 1 b"], &["rename 1 a b"]);
        check(&["rename 1 a b", "rename 1 b c"], &["rename 1 a c"]);
        check(&["rename 1 a b", "rename 1 b a"], &[]);
        check(&["rename 1 a b", "delete 1 b"], &["delete 1 b"]);
        check(&["delete 1 a", "create 1 u"], &["create 1 u"]);
    }

    #[test]
    fn what_is_lost_is_lost_here_too() {
        check(&["delete 1 a", "create 1 u", "delete 1 a"], &[]);
        check(&["rename 1 a b", "modify 1 b", "rename 1 b a"], &[]);
    }

    #[test]
    fn files_come_in_the_order_in_which_they_first_came() {
        check(
            &[
                "rename 1 d t",
                "rename 2 e d",
                "rename 1 t e",
                "delete 3 a",
                "create 4 a",
            ],
            &["rename 1 d e", "rename 2 e d", "delete 3 a", "create 4 a"],
        );
    }
}
