//! The exchange of two names (RENAME_EXCHANGE): three ways, the one over a name that nobody has.

use std::sync::Arc;

use crate::api;
use crate::model::{FileId, FileKind};

use super::changes::{End, Found, disk, renamed};
use super::locals::{Locals, Shown};
use super::remove::Now;
use super::steps::{Plan, Step, aside, way};
use super::{Error, Fs};

impl Fs {
    /// Both change their names with each other.
    pub(super) async fn exchange(
        &self,
        from: &End,
        source: Found,
        to: &End,
        target: Found,
    ) -> Result<(), Error> {
        for end in [from, to] {
            self.all_removed(&end.uri()).await?;
        }
        let mut stopped = vec![self.stop(from, &source, Some(&target)).await?];
        if target.kind() == FileKind::Folder {
            stopped.push(self.stop(to, &target, None).await?);
        }
        let source = self.again(from, source).await?;
        let target = self.again(to, target).await?;
        self.may_leave(from, &source, to)?;
        self.may_leave(to, &target, from)?;
        let _steady = self.steady(&[from, to]).await?;
        let plan = Plan {
            steps: {
                let a = self.stands(&source, from).await?;
                let b = self.stands(&target, to).await?;
                for (id, was, now) in [(&a, from, to), (&b, to, from)] {
                    if let Some(id) = id {
                        self.foretell(id, was, now).await?;
                    }
                }
                exchange_steps(from, a, to, b)
            },
            only_if: None,
        };
        let below = [(&source, from), (&target, to)].map(|(found, end)| match found {
            Found::Known(entry) => self.below_of(end, entry),
            Found::Local(_) => Vec::new(),
        });
        if let Err(error) = self.carry_out(&to.folder, &plan).await {
            self.doubt(from);
            self.doubt(to);
            return Err(error);
        }
        self.passed(&plan, from, to);
        let [below_source, below_target] = below;
        self.exchanged(&source, from, to)?;
        self.exchanged(&target, to, from)?;
        self.relocate_below(below_source, &from.uri(), &to.uri());
        self.relocate_below(below_target, &to.uri(), &from.uri());
        drop(stopped);
        Ok(())
    }

    /// What the server has of `found`, which is still at `end`.
    async fn stands(&self, found: &Found, end: &End) -> Result<Option<FileId>, Error> {
        let Some(id) = on_server(found) else {
            return Ok(None);
        };
        match (self.now_at(end, &id).await?, found) {
            (Now::Same, _) => Ok(Some(id)),
            // Its content is here.
            (Now::Nothing, Found::Local(_)) => Ok(None),
            (Now::Nothing, Found::Known(_)) => Err(Error::NotFound),
            (Now::Another, _) => Err(Error::Busy(api::Error::Changed)),
        }
    }

    /// `found`, which was at `was`, shows at `now`.
    fn exchanged(&self, found: &Found, was: &End, now: &End) -> Result<(), Error> {
        let space = &self.namespace;
        match found {
            Found::Local(shown) => {
                shown.local.relocate(now.place(), None).map_err(disk)?;
                let key = self.key_of(shown);
                let shown = Shown {
                    key: key.clone(),
                    local: Arc::clone(&shown.local),
                };
                let entry = Locals::entry(&shown, &now.name);
                space.inodes.settle(&key, now.parent, &entry);
                space.locals.show(&now.folder.key, &now.name, shown);
                self.believe(now, None);
            }
            Found::Known(before) => {
                let key = self.key_in(was.parent, &before.id)?;
                let entry = renamed(before, now, None);
                space.inodes.settle(&key, now.parent, &entry);
                self.believe(now, Some(Arc::clone(&entry)));
                self.keep_told(before, now)?;
            }
        }
        Ok(())
    }
}

/// Three ways, the one over a name that nobody has; fewer where the server has one of the two only.
fn exchange_steps(from: &End, a: Option<FileId>, to: &End, b: Option<FileId>) -> Vec<Step> {
    let (here, there) = (from.uri(), to.uri());
    match (a, b) {
        (None, None) => Vec::new(),
        (Some(a), None) => way(&a, &here, &there),
        (None, Some(b)) => way(&b, &there, &here),
        (Some(a), Some(b)) => {
            let parked = from.folder.uri.child(aside(&a, &from.stored));
            let mut steps = vec![Step::shift(&a, &here, &parked)];
            steps.extend(way(&b, &there, &here));
            steps.extend(way(&a, &parked, &there));
            steps
        }
    }
}

/// What the server has of it.
fn on_server(found: &Found) -> Option<FileId> {
    match found {
        Found::Known(entry) => Some(entry.id.clone()),
        Found::Local(shown) => shown.local.base().map(|base| base.file),
    }
}
