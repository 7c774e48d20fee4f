//! Both directories as a whole.

use std::collections::BTreeSet;

use super::actor::Pair;
use super::calls::{Side, all_of};
use super::op::{Op, Text};
use super::seen::Outcome;

/// What is compared of all that is in both directories.
pub(crate) struct Tree {
    /// Entries in the plain one.
    pub(crate) entries: usize,
    /// In which they differ.
    pub(crate) differ: Vec<Pair>,
    /// Paths that only the tried one has, folders before what is in them.
    pub(crate) only_tried: Vec<Text>,
}

/// Compares both as a whole.
pub(crate) fn compare(tried: &mut Side, plain: &mut Side, with_xattrs: bool) -> Tree {
    let mut tree = Tree {
        entries: 0,
        differ: Vec::new(),
        only_tried: Vec::new(),
    };
    walk(&mut tree, (tried, plain), &Text(Vec::new()), with_xattrs);
    tree
}

fn walk(tree: &mut Tree, (tried, plain): (&mut Side, &mut Side), path: &Text, with_xattrs: bool) {
    let found = all_of(tried, path, with_xattrs);
    let right = all_of(plain, path, with_xattrs);
    let right_names = names(&right);
    tree.entries += right_names.len();
    for name in names(&found).difference(&right_names) {
        tree.only_tried.push(join(path, name));
    }
    for (op, right) in &right {
        let found = found
            .iter()
            .find(|(other, _)| other.to_string() == op.to_string());
        // Where it is not a file of that kind, the look at its attributes says so.
        let Some((_, found)) = found else {
            continue;
        };
        let pair = Pair::of(op.clone(), found.clone(), right.clone());
        if !pair.is_same() {
            tree.differ.push(pair);
        }
    }
    for name in &right_names {
        walk(
            tree,
            (&mut *tried, &mut *plain),
            &join(path, name),
            with_xattrs,
        );
    }
}

fn names(all: &[(Op, Outcome)]) -> BTreeSet<Text> {
    let entries = all.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Entries(entries) => Some(entries),
        _ => None,
    });
    let names = entries.into_iter().flatten().map(|(name, _)| name.clone());
    names
        .filter(|name| !matches!(&name.0[..], b"." | b".."))
        .collect()
}

fn join(folder: &Text, name: &Text) -> Text {
    match folder.0.is_empty() {
        true => name.clone(),
        false => Text([&folder.0[..], b"/", &name.0].concat()),
    }
}
