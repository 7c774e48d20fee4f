//! What stays: entities that somebody holds, so that nothing else drives them out.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::Shared;
use crate::cache::disk::UNIT_BYTES;
use crate::cache::index::{TRAILER_BYTES, index_bytes};
use crate::cache::names::{Kind, Name};
use crate::cache::scan::charge;
use crate::entity::Entity;

/// Of the limit, what is not promised to anybody: directories, and what a write reserves before it is known what it needs.
pub(super) const SPARE_BYTES: u64 = 256 << 10;

/// Entities that stay, each for as long as anybody holds it.
#[derive(Default)]
pub(super) struct Held {
    names: HashMap<Name, Stays>,
    /// Grows with each change.
    changes: u64,
}

struct Stays {
    holders: usize,
    bytes: u64,
}

/// Keeps entities from leaving the cache until it is dropped.
pub struct Holding {
    shared: Option<Arc<Shared>>,
    names: Vec<Name>,
}

impl Holding {
    pub(super) fn new(shared: Option<&Arc<Shared>>, entities: &[Arc<Entity>]) -> Self {
        let wanted = sizes(entities);
        if let Some(shared) = shared {
            let mut held = shared.stays.lock().unwrap();
            held.changes += 1;
            for (name, bytes) in &wanted {
                let stays = held.names.entry(*name);
                let stays = stays.or_insert(Stays {
                    holders: 0,
                    bytes: *bytes,
                });
                stays.holders += 1;
            }
        }
        Self {
            shared: shared.cloned(),
            names: wanted.into_keys().collect(),
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let mut held = shared.stays.lock().unwrap();
        held.changes += 1;
        for name in &self.names {
            if let Some(stays) = held.names.get_mut(name) {
                stays.holders -= 1;
                if stays.holders == 0 {
                    held.names.remove(name);
                }
            }
        }
    }
}

impl Held {
    pub(super) fn has(&self, name: Name) -> bool {
        self.names.contains_key(&name)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// What stays, and the bytes that each takes.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (Name, u64)> {
        self.names.iter().map(|(name, stays)| (*name, stays.bytes))
    }
}

/// Of each of `entities`, once: its name, and the bytes that all of it takes on disk at most. What is empty takes none.
pub(super) fn sizes(entities: &[Arc<Entity>]) -> HashMap<Name, u64> {
    let some = entities.iter().filter(|entity| entity.size_bytes > 0);
    some.map(|entity| (Name::of(entity), whole_bytes(entity)))
        .collect()
}

/// Bytes that all of `entity` takes on disk at most.
pub fn whole_bytes(entity: &Entity) -> u64 {
    let on_disk = |bytes: u64| bytes.next_multiple_of(UNIT_BYTES);
    match entity.blocks() {
        0 => 0,
        1 => on_disk(entity.size_bytes + TRAILER_BYTES as u64),
        _ => {
            let data = charge(Kind::Data, on_disk(entity.size_bytes) / 512);
            data + on_disk(index_bytes(entity))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityId;

    fn entity(id: &str, size_bytes: u64) -> Arc<Entity> {
        Arc::new(Entity {
            id: EntityId(id.into()),
            size_bytes,
        })
    }

    #[test]
    fn what_is_wanted_twice_takes_its_place_once_and_nothing_takes_none() {
        let (a, b) = (entity("a", 100), entity("b", 1 << 20));
        let all = sizes(&[Arc::clone(&a), b, Arc::clone(&a), entity("empty", 0)]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[&Name::of(&a)], UNIT_BYTES);
        let bytes: u64 = all.values().sum();
        assert!((1 << 20..(1 << 20) + 32 * 1024).contains(&bytes), "{bytes}");
    }
}
