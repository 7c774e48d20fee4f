//! What is told of a change, and to whom: to all who follow a folder above, with paths that begin there (→ api part 1 §13.3).
//!
//! `Cloudreve:pkg/filemanager/fs/dbfs/events.go`. Of what lies below the object nothing is told.

use crate::clock::Time;
use crate::drive::{Drive, NodeId};
use crate::hub::{Event, EventKind, Manner};
use crate::ids::Kind;
use crate::site::Site;
use crate::uri::percent::shown;

impl Site {
    /// How this site sends events.
    pub(crate) fn event_manner(&self) -> Manner {
        let events = &self.settings.events;
        Manner {
            keep_alive: events.keep_alive,
            is_array: events.array,
            is_silent: events.silence,
        }
    }

    /// It is there now.
    pub(crate) fn tell_created(&mut self, node: NodeId, now: Time) {
        self.tell(EventKind::Create, node, now);
    }

    /// Its content is another.
    pub(crate) fn tell_modified(&mut self, node: NodeId, now: Time) {
        self.tell(EventKind::Modify, node, now);
    }

    /// It is about to go, for good or into the trash. What lies in the trash already is nobody's news.
    pub(crate) fn tell_deleted(&mut self, node: NodeId, now: Time) {
        self.tell(EventKind::Delete, node, now);
    }

    /// It is about to get another name in its folder.
    pub(crate) fn tell_renamed(&mut self, node: NodeId, new_name: &str, now: Time) {
        let above = self.above(node);
        let drive = &self.drive;
        let (file_id, name) = (self.ids.encode(Kind::File, node), shown(new_name));
        let event = |folder| {
            let from = path(drive, folder, node);
            let parent = from.rsplit_once('/').map_or("", |(parent, _)| parent);
            let to = format!("{parent}/{name}");
            Event {
                kind: EventKind::Rename,
                file_id: file_id.clone(),
                from,
                to,
            }
        };
        self.hub.publish(above, event, now);
    }

    /// It is about to move into another folder, or out of the trash. Who sees one end hears of a file that comes or goes;
    /// from the trash it comes with the name that it has there, which is the server's bug.
    pub(crate) fn tell_moved(&mut self, node: NodeId, destination: NodeId, now: Time) {
        let sources = self.above(node);
        let targets: Vec<_> = self.drive.ancestry(destination).collect();
        let drive = &self.drive;
        let name = match &drive.node(node).trashed {
            Some(trashed) => trashed.uuid.clone(),
            None => drive.node(node).name.clone(),
        };
        let file_id = self.ids.encode(Kind::File, node);
        let to = |folder| match path(drive, folder, destination).as_str() {
            "/" => format!("/{}", shown(&name)),
            parent => format!("{parent}/{}", shown(&name)),
        };
        let event = |folder| {
            let (is_source, is_target) = (sources.contains(&folder), targets.contains(&folder));
            let (kind, from, to) = match (is_source, is_target) {
                (true, true) => (EventKind::Rename, path(drive, folder, node), to(folder)),
                (true, false) => (EventKind::Delete, path(drive, folder, node), String::new()),
                (false, _) => (EventKind::Create, to(folder), String::new()),
            };
            Event {
                kind,
                file_id: file_id.clone(),
                from,
                to,
            }
        };
        let mut folders = sources.clone();
        folders.extend(targets.iter().filter(|target| !sources.contains(target)));
        self.hub.publish(folders, event, now);
    }

    fn tell(&mut self, kind: EventKind, node: NodeId, now: Time) {
        let above = self.above(node);
        let drive = &self.drive;
        let file_id = self.ids.encode(Kind::File, node);
        let event = |folder| Event {
            kind,
            file_id: file_id.clone(),
            from: path(drive, folder, node),
            to: String::new(),
        };
        self.hub.publish(above, event, now);
    }

    /// The folders above an object, but not itself.
    fn above(&self, node: NodeId) -> Vec<NodeId> {
        self.drive.ancestry(node).skip(1).collect()
    }
}

/// The path of an object from a folder above it, or from itself.
fn path(drive: &Drive, folder: NodeId, node: NodeId) -> String {
    let way = drive.ancestry(node).take_while(|above| *above != folder);
    let names: Vec<_> = way.map(|above| shown(&drive.node(above).name)).collect();
    let names: Vec<_> = names.iter().rev().map(|name| &**name).collect();
    format!("/{}", names.join("/"))
}
