//! Pages of a folder, with the server's order and the server's bugs.
//!
//! Folders first, then files, each by (key, id) in byte order (→ api part 1 §7.4). Pages are independent: nothing
//! is remembered between them but what the cursor says.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::drive::{Drive, NodeId};
use crate::ids::{Ids, Kind};
use crate::reply::Failure;

/// How a listing is ordered and cut.
#[derive(Clone, Debug)]
pub(crate) struct PageArgs {
    pub(crate) page: usize,
    pub(crate) page_size: usize,
    /// As sent; what is not one of the four keys orders by id.
    pub(crate) order_by: String,
    /// As sent; what is not `desc` is ascending.
    pub(crate) order_direction: String,
    pub(crate) token: String,
    pub(crate) cursor: bool,
    pub(crate) boundary_bug: bool,
    pub(crate) time_keys_repeat: bool,
}

impl PageArgs {
    fn descending(&self) -> bool {
        self.order_direction == "desc"
    }
}

/// What a listing says about its page (→ api part 1 §6.2).
#[derive(Debug, Default, Serialize)]
pub(crate) struct Pagination {
    pub(crate) page: usize,
    pub(crate) page_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_items: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_token: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_cursor: bool,
}

/// A cursor, as it is in the page token: base64 of this JSON (→ api part 1 §7.3).
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    string: String,
    #[serde(default, rename = "int", skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    start_with_file: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A sort key. Only keys of one kind are ever compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Name(String),
    Size(u64),
    Time(Time),
    Id,
}

/// The entries of one page of a folder, and where the next one begins.
pub(crate) fn page(
    drive: &Drive,
    ids: Ids,
    folder: NodeId,
    args: &PageArgs,
) -> Result<(Vec<NodeId>, Pagination), Failure> {
    let pages = Pages {
        drive,
        ids,
        args,
        keyed_by_name: true,
    };
    let Some(children) = &drive.node(folder).children else {
        return Err(Failure::path_not_exist());
    };
    if !args.cursor {
        return Ok(pages.by_offset(&children.folders, &children.files));
    }
    pages.by_cursor(&children.folders, &children.files)
}

/// Pages of any set of entries, as of the trash.
pub(crate) fn page_of(
    drive: &Drive,
    ids: Ids,
    entries: &[NodeId],
    args: &PageArgs,
) -> Result<(Vec<NodeId>, Pagination), Failure> {
    // The names in these sets need not be unique, so the maps are keyed by something that is.
    let map = |folder: bool| {
        let of_kind = entries
            .iter()
            .filter(|id| drive.node(**id).is_folder() == folder);
        of_kind
            .map(|id| (id.to_string(), *id))
            .collect::<BTreeMap<_, _>>()
    };
    let pages = Pages {
        drive,
        ids,
        args,
        keyed_by_name: false,
    };
    let (folders, files) = (map(true), map(false));
    if args.cursor {
        pages.by_cursor(&folders, &files)
    } else {
        Ok(pages.by_offset(&folders, &files))
    }
}

struct Pages<'a> {
    drive: &'a Drive,
    ids: Ids,
    args: &'a PageArgs,
    /// The keys of the maps are the names, so that a page by name need not look at the rest.
    keyed_by_name: bool,
}

impl Pages<'_> {
    fn by_offset(
        &self,
        folders: &BTreeMap<String, NodeId>,
        files: &BTreeMap<String, NodeId>,
    ) -> (Vec<NodeId>, Pagination) {
        let total = folders.len() + files.len();
        let start = self.args.page.saturating_mul(self.args.page_size);
        let end = start.saturating_add(self.args.page_size);
        let mut found = self.select(folders, None, end);
        if found.len() < end {
            found.extend(self.select(files, None, end - found.len()));
        }
        let found = found.split_off(start.min(found.len()));
        let (page, page_size) = (self.args.page, self.args.page_size);
        (
            found,
            Pagination {
                page,
                page_size,
                total_items: Some(total),
                ..Pagination::default()
            },
        )
    }

    fn by_cursor(
        &self,
        folders: &BTreeMap<String, NodeId>,
        files: &BTreeMap<String, NodeId>,
    ) -> Result<(Vec<NodeId>, Pagination), Failure> {
        let cursor = self.cursor()?;
        let after = cursor.as_ref().map(|(key, id, _)| (key, *id));
        let mut files_only = cursor
            .as_ref()
            .is_some_and(|(_, _, files_only)| *files_only);
        let wanted = self.args.page_size + 1;
        // One more than the page shows whether there is more to come.
        let mut found = if files_only {
            self.select(files, after, wanted)
        } else {
            self.select(folders, after, wanted)
        };
        if !files_only && found.len() < wanted {
            found.extend(self.select(files, None, wanted - found.len()));
            files_only = true;
        }
        let mut pagination = Pagination {
            page_size: self.args.page_size,
            is_cursor: true,
            ..Pagination::default()
        };
        if found.len() > self.args.page_size {
            found.truncate(self.args.page_size);
            pagination.next_token = found.last().map(|last| self.token(*last, files_only));
        }
        Ok((found, pagination))
    }

    /// Up to `limit` entries of a map that lie behind `after`, in order.
    fn select(
        &self,
        map: &BTreeMap<String, NodeId>,
        after: Option<(&Key, NodeId)>,
        limit: usize,
    ) -> Vec<NodeId> {
        if self.keyed_by_name && self.args.order_by == "name" {
            return self.select_by_name(map, after, limit);
        }
        let behind = |key: &Key, id: NodeId| match after {
            None => true,
            Some((cursor, cursor_id)) if self.args.descending() => (key, id) < (cursor, cursor_id),
            // The text that SQLite stores for a time sorts behind the text of the same time in the cursor, so the
            // last entry of the page before comes again (→ api part 1 §7.5b).
            Some((cursor @ Key::Time(_), _)) if self.args.time_keys_repeat => key >= cursor,
            Some((cursor, cursor_id)) => (key, id) > (cursor, cursor_id),
        };
        let mut found: Vec<_> = map
            .values()
            .map(|id| (self.key(*id), *id))
            .filter(|(key, id)| behind(key, *id))
            .collect();
        found.sort_unstable();
        if self.args.descending() {
            found.reverse();
        }
        found.into_iter().take(limit).map(|(_, id)| id).collect()
    }

    /// As [`Pages::select`] for the key of the maps, without touching what is before or behind the page.
    fn select_by_name(
        &self,
        map: &BTreeMap<String, NodeId>,
        after: Option<(&Key, NodeId)>,
        limit: usize,
    ) -> Vec<NodeId> {
        let cursor = after.and_then(|(key, _)| {
            if let Key::Name(name) = key {
                Some(name.as_str())
            } else {
                None
            }
        });
        let behind = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        if self.args.descending() {
            map.range::<str, _>((Bound::Unbounded, behind))
                .rev()
                .take(limit)
                .map(|(_, id)| *id)
                .collect()
        } else {
            map.range::<str, _>((behind, Bound::Unbounded))
                .take(limit)
                .map(|(_, id)| *id)
                .collect()
        }
    }

    fn key(&self, id: NodeId) -> Key {
        let node = self.drive.node(id);
        match self.args.order_by.as_str() {
            "name" => Key::Name(node.name.clone()),
            "size" => Key::Size(node.size),
            "updated_at" => Key::Time(node.updated),
            "created_at" => Key::Time(node.created),
            _ => Key::Id,
        }
    }

    /// The key, the id and whether only files follow; none on a first page.
    fn cursor(&self) -> Result<Option<(Key, NodeId, bool)>, Failure> {
        if self.args.token.is_empty() {
            return Ok(None);
        }
        let json = STANDARD
            .decode(&self.args.token)
            .map_err(|_| Failure::unclassified())?;
        let cursor: Cursor = serde_json::from_slice(&json).map_err(|_| Failure::unclassified())?;
        let id = self
            .ids
            .decode(Kind::File, &cursor.id)
            .ok_or_else(Failure::unclassified)?;
        let time = cursor
            .time
            .as_deref()
            .and_then(Time::parse)
            .unwrap_or(Time::ZERO);
        let key = match self.args.order_by.as_str() {
            "name" => Key::Name(cursor.string),
            "size" => Key::Size(cursor.size),
            "updated_at" | "created_at" => Key::Time(time),
            _ => Key::Id,
        };
        Ok(Some((key, id, cursor.start_with_file)))
    }

    /// The token of the page after the one that ends with `last`.
    ///
    /// The bug (→ api part 1 §7.5a): when the page ends with the last folder, the entry that proved that there is
    /// more is a file, so `start_with_file` is set, while the key is the folder's.
    fn token(&self, last: NodeId, files_only: bool) -> String {
        let mut cursor = Cursor {
            id: self.ids.encode(Kind::File, last),
            start_with_file: files_only,
            ..Cursor::default()
        };
        if !self.args.boundary_bug && self.drive.node(last).is_folder() {
            cursor.start_with_file = false;
        }
        match self.key(last) {
            Key::Name(name) => cursor.string = name,
            Key::Size(size) => cursor.size = size,
            Key::Time(time) => cursor.time = Some(time.rfc3339()),
            Key::Id => {}
        }
        STANDARD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder that the contract's numbers were taken from: 7 folders and 9 files.
    fn folder() -> (Drive, NodeId) {
        let mut drive = Drive::default();
        let root = drive.root(1, Time(0));
        let names = ["z9", "B", "ä", "d1", "d2", "m m", "x3"]
            .map(|name| (name, true))
            .into_iter();
        let files = ["0", "C", "a", "b.txt", "c", "m", "z", "~t", "é"].map(|name| (name, false));
        for (moment, (name, folder)) in names.chain(files).enumerate() {
            drive.create(root, name, folder, Time(moment as i128 * 1_000_000));
        }
        (drive, root)
    }

    fn args(page_size: usize, order_by: &str) -> PageArgs {
        PageArgs {
            page: 0,
            page_size,
            order_by: order_by.to_owned(),
            order_direction: String::new(),
            token: String::new(),
            cursor: true,
            boundary_bug: true,
            time_keys_repeat: true,
        }
    }

    /// All entries of all pages; stops after 100 pages, as a listing may never end.
    fn walk(mut args: PageArgs) -> Vec<NodeId> {
        let (drive, root) = folder();
        let mut all = Vec::new();
        for _ in 0..100 {
            let (found, pagination) = page(&drive, Ids::new(1), root, &args).unwrap_or_default();
            all.extend(found);
            match pagination.next_token {
                Some(token) => args.token = token,
                None if !args.cursor && (args.page + 1) * args.page_size < 16 => args.page += 1,
                None => break,
            }
        }
        all
    }

    fn is_complete(mut all: Vec<NodeId>) -> bool {
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        (listed, all.len()) == (16, 16)
    }

    #[test]
    fn the_boundary_bug_loses_files_at_exactly_the_page_sizes_of_the_contract() {
        for page_size in 1..=20 {
            let lossy = page_size == 1 || page_size == 7;
            assert_eq!(
                is_complete(walk(args(page_size, "name"))),
                !lossy,
                "page size {page_size}"
            );
        }
        let found = walk(args(7, "name"));
        assert_eq!(found.len(), 8, "7 folders, and only the file behind ä");
    }

    #[test]
    fn without_the_bugs_and_in_offset_mode_every_listing_is_complete() {
        for key in ["name", "size", "updated_at", "created_at", "id"] {
            for (page_size, descending) in (1..=20).flat_map(|size| [(size, false), (size, true)]) {
                let args = PageArgs {
                    order_direction: if descending {
                        "desc".to_owned()
                    } else {
                        String::new()
                    },
                    time_keys_repeat: false,
                    boundary_bug: false,
                    ..args(page_size, key)
                };
                assert!(
                    is_complete(walk(args.clone())),
                    "{key}, {page_size}, {descending}"
                );
                assert!(
                    is_complete(walk(PageArgs {
                        cursor: false,
                        ..args
                    })),
                    "{key}, {page_size} by offset"
                );
            }
        }
    }

    #[test]
    fn ascending_time_keys_repeat_an_entry_and_pages_of_one_never_advance() {
        let all = walk(args(5, "updated_at"));
        assert_eq!(all[4], all[5]);
        let stuck = walk(args(1, "created_at"));
        assert_eq!(stuck.len(), 100);
        assert_eq!(stuck[0], stuck[99]);
    }

    #[test]
    fn folders_come_first_and_names_are_in_byte_order() {
        let (drive, root) = folder();
        let (found, _) = page(&drive, Ids::new(1), root, &args(100, "name")).unwrap_or_default();
        let names: Vec<_> = found
            .iter()
            .map(|id| drive.node(*id).name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "B", "d1", "d2", "m m", "x3", "z9", "ä", "0", "C", "a", "b.txt", "c", "m", "z",
                "~t", "é"
            ]
        );
    }

    #[test]
    fn a_token_that_is_none_is_an_unclassified_failure() {
        let (drive, root) = folder();
        let garbage = PageArgs {
            token: "garbage".to_owned(),
            ..args(3, "name")
        };
        assert_eq!(
            page(&drive, Ids::new(1), root, &garbage)
                .map_err(|failure| failure.code)
                .err(),
            Some(-1)
        );
    }
}
