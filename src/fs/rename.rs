//! rename(2), also onto what is there already.
//!
//! What is only here changes its name here. What the server has moves there, by its id, in one call or over names that nobody
//! else gives to anything (`steps`). A file that replaces another one keeps the *other's* id where its content can be
//! uploaded onto it, so that shares and versions survive: content that is here, and small or cached content of the server's.
//! The rest is swapped: the target aside, the source in, the target deleted. Our own uploads are stopped meanwhile, for they
//! lock the files and all folders above.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::api;
use crate::asker;
use crate::crash::{self, Point};
use crate::entry::{Entry, FileKey};
use crate::inodes::Ino;
use crate::model::{FileId, FileInfo, FileKind};
use crate::staging::{Base, Local, Place, State, is_made};
use crate::upload::Held;
use crate::uri::FileUri;

use super::changes::{End, Found, disk, renamed, replaced, stored};
use super::late::Outcome;
use super::locals::{Locals, Shown, local_id};
use super::remove::Now;
use super::steps::{Plan, Step, aside, way};
use super::{Error, Fs};

/// So often a rename is begun anew, beside once, where the server hears of one of its folders while it looks.
const LOOKS: usize = 3;

/// What a rename does where the new name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// It replaces what is there.
    Replace,
    /// It fails.
    NoReplace,
    /// Both are there, and change their names with each other.
    Exchange,
}

/// What stands still while a name changes.
pub(super) struct Stopped {
    held: Vec<Held>,
}

impl Stopped {
    /// An error where one goes on all the same: what is delivered meanwhile would go with what is dropped on the server.
    pub(super) fn is_all(&self, unanswered: Error) -> Result<(), Error> {
        match self.held.iter().any(Held::is_up) {
            true => Err(unanswered),
            false => Ok(()),
        }
    }

    /// What came of a change meanwhile: a lock of ours that could not be taken away is that of a server that does not answer, and
    /// so may be a name that is taken.
    pub(super) fn outcome(&self, done: Result<(), Error>, unanswered: Error) -> Result<(), Error> {
        match done {
            Err(Error::Busy(api::Error::Locked(_)) | Error::Exists) if self.is_in_vain() => {
                Err(unanswered)
            }
            done => done,
        }
    }

    /// Whether the server did not say what became of one that was under way.
    fn is_in_vain(&self) -> bool {
        self.held.iter().any(Held::is_in_vain)
    }
}

impl Fs {
    /// rename(2). Where the server says that a name stands for something else by now, it is looked at once more: a file that
    /// came meanwhile is replaced like one that was known.
    pub async fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        how: RenameHow,
    ) -> Result<(), Error> {
        let _turn = self.turn_in([parent, new_parent]).await?;
        let (from, to) = ((parent, name), (new_parent, new_name));
        let mut met = None;
        let once = async |met: &mut Option<Arc<Entry>>| {
            Box::pin(self.rename_once(from, to, how, met)).await
        };
        match (once(&mut met).await, how) {
            (Err(Error::Gone), _) | (Err(Error::Exists), RenameHow::Replace) => {
                // What could not be taken back yet is at neither name.
                if self.late.is_any() && self.finish_late().await != Outcome::Done {
                    return Err(self.removals.unsent());
                }
                let mut done = once(&mut met).await;
                for _ in 0..LOOKS {
                    if !matches!(done, Err(Error::Gone)) {
                        break;
                    }
                    done = once(&mut met).await;
                }
                done?;
            }
            // What was not begun, or is done in one call, waits until it can be reached.
            (Err(error), _) if self.namespace.is_of_the_wire(&error) && !self.late.is_any() => {
                let before = met.take();
                match (once(&mut met).await, before) {
                    (Err(Error::NotFound), Some(entry))
                        if how != RenameHow::Exchange
                            && self.got_there(from, &entry, to).await? => {}
                    (done, _) => done?,
                }
            }
            (done, _) => done?,
        }
        self.touch(parent);
        self.touch(new_parent);
        Ok(())
    }

    /// `met` becomes what is renamed, where only the server has it.
    async fn rename_once(
        &self,
        (parent, name): (Ino, &OsStr),
        (new_parent, new_name): (Ino, &OsStr),
        how: RenameHow,
        met: &mut Option<Arc<Entry>>,
    ) -> Result<(), Error> {
        let (from, source) = self.end(parent, name).await?;
        let source = source.ok_or(Error::NotFound)?;
        if let Found::Known(entry) = &source {
            *met = Some(Arc::clone(entry));
        }
        self.sent_off(new_parent, new_name).await?;
        if source.is_on_server() {
            self.clear(new_parent, new_name).await?;
        }
        let (mut to, target) = self.end(new_parent, new_name).await?;
        self.may_rename(&from, &source, &to, target.as_ref(), how)?;
        self.may_write(&to.folder).await?;
        if from.is(&to) {
            return Ok(());
        }
        self.may_leave(&from, &source, &to)?;
        if how == RenameHow::Exchange {
            let target = target.ok_or(Error::NotFound)?;
            self.may_leave(&to, &target, &from)?;
            self.is_cleared(new_parent, new_name).await?;
            for (end, found) in [(&from, &source), (&to, &target)] {
                self.is_heard_of(end, found).await?;
            }
            return self.exchange(&from, source, &to, target).await;
        }
        if target.is_none() {
            let stored = stored(new_name, self.namespace.options.names)?;
            (to.stored, to.full) = (stored.name, stored.full);
            self.namespace.sends(&to.stored, to.full.as_ref());
            let file = match &source {
                Found::Local(shown) => shown.local.base().map(|base| base.file),
                Found::Known(entry) => Some(entry.id.clone()),
            };
            self.is_told_apart(&to, file.as_ref()).await?;
        }
        let has_to_wait = || self.rename_has_to_wait(&from, &source, &to, target.as_ref());
        if has_to_wait() {
            if source.kind() == FileKind::Folder {
                self.has_heard_of_folders(&source, has_to_wait).await?;
            }
            // What becomes of their uploads is known then, or noted.
            let _stopped = self.stop(&from, &source, target.as_ref()).await?;
            return self
                .rename_here((parent, name), (new_parent, new_name))
                .await;
        }
        if source.is_on_server() {
            self.is_cleared(new_parent, new_name).await?;
        }
        if source.kind() == FileKind::Folder {
            self.all_removed(&from.uri()).await?;
        }
        if let Some(target) = &target {
            let key = target.key(&to, self)?;
            self.vanishing(&key).await;
            if target.kind() == FileKind::Folder {
                self.has_left(&key).await?;
            }
        }
        let stopped = self.stop(&from, &source, target.as_ref()).await?;
        // What was stopped may have been delivered a moment before.
        let source = self.again(&from, source).await?;
        self.may_leave(&from, &source, &to)?;
        let target = match target {
            Some(target) => Some(self.again(&to, target).await?),
            None => None,
        };
        // The server is not asked for what it does not have.
        let _steady = match source.is_on_server() {
            true => Some(self.steady(&[&from, &to]).await?),
            false => None,
        };
        if self.rename_has_to_wait(&from, &source, &to, target.as_ref()) {
            // Once more, with what the server has by now.
            return Err(Error::Gone);
        }
        let renamed = match (source, target) {
            (Found::Local(shown), target) => {
                self.rename_local((&from, shown, &stopped), &to, target)
                    .await
            }
            (Found::Known(entry), None) => self.rename_known(&from, &entry, &to).await,
            (Found::Known(entry), Some(target)) => {
                self.replace_by_known(&from, &entry, &to, target).await
            }
        };
        stopped.outcome(renamed, self.removals.unsent())
    }

    /// Whether `entry`, whose move was not answered and which is not at its old name, is at the new one: then it shows there.
    async fn got_there(
        &self,
        (parent, name): (Ino, &OsStr),
        entry: &Entry,
        (new_parent, new_name): (Ino, &OsStr),
    ) -> Result<bool, Error> {
        let (from, _) = self.end(parent, name).await?;
        let (to, there) = self.end(new_parent, new_name).await?;
        match there {
            Some(Found::Known(now)) if now.id == entry.id => {
                self.show_known(&from, entry, &to, None)?;
                self.takes_along(&from, entry, &to);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The server is told of what the rename of the folder `source` waits for, if it can be reached. [`Error::Gone`] where it waits
    /// no more; another error where nobody knows whether the server has it.
    async fn has_heard_of_folders(
        &self,
        source: &Found,
        has_to_wait: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let Found::Known(entry) = source else {
            return Ok(());
        };
        let may_be_there = self.may_be_there(entry);
        if is_made(&entry.id) && !may_be_there {
            return Ok(());
        }
        self.be_heard(true).await;
        match (has_to_wait(), may_be_there) {
            (false, _) => Err(Error::Gone),
            (true, true) => Err(self.removals.unsent()),
            (true, false) => Ok(()),
        }
    }

    /// What is wrong with a rename before anybody is asked.
    fn may_rename(
        &self,
        from: &End,
        source: &Found,
        to: &End,
        target: Option<&Found>,
        how: RenameHow,
    ) -> Result<(), Error> {
        self.may_add(to)?;
        let inodes = &self.namespace.inodes;
        let same_tree = inodes.tree_below(from.parent) == inodes.tree_below(to.parent);
        if !same_tree || from.folder.uri.file_system() != to.folder.uri.file_system() {
            return Err(Error::CrossDevice);
        }
        self.is_outside(from, source, to)?;
        let Some(target) = target else {
            return match how {
                RenameHow::Exchange => Err(Error::NotFound),
                RenameHow::Replace | RenameHow::NoReplace => Ok(()),
            };
        };
        match (how, source.kind(), target.kind()) {
            (RenameHow::NoReplace, ..) => Err(Error::Exists),
            (RenameHow::Exchange, ..) => self.is_outside(to, target, from),
            (RenameHow::Replace, FileKind::Folder, FileKind::File) => Err(Error::NotAFolder),
            (RenameHow::Replace, FileKind::File, FileKind::Folder) => Err(Error::IsAFolder),
            (RenameHow::Replace, ..) => Ok(()),
        }
    }

    /// What the server has does not leave it by getting a name that stays on this machine: others may want it, and its shares
    /// and versions would go with it. Programs take the error for that of another disk, which it is, and copy.
    pub(super) fn may_leave(&self, from: &End, source: &Found, to: &End) -> Result<(), Error> {
        let staging = &self.owing()?.staging;
        let leaves = || staging.is_local_only(&to.place()) && !staging.is_local_only(&from.place());
        match source.is_on_server() && leaves() {
            true => Err(Error::CrossDevice),
            false => Ok(()),
        }
    }

    /// No folder goes into itself.
    fn is_outside(&self, from: &End, source: &Found, to: &End) -> Result<(), Error> {
        let inodes = &self.namespace.inodes;
        match inodes.find(&source.key(from, self)?) {
            Some(ino) if inodes.is_within(to.parent, ino) => Err(Error::Invalid),
            _ => Ok(()),
        }
    }

    /// Stops our uploads of what is renamed, of what is replaced, and of all below.
    pub(super) async fn stop(
        &self,
        from: &End,
        source: &Found,
        target: Option<&Found>,
    ) -> Result<Stopped, Error> {
        let mut stopped = Vec::new();
        for found in [Some(source), target].into_iter().flatten() {
            if let Found::Local(shown) = found {
                stopped.push(Arc::clone(&shown.local));
            }
        }
        if source.kind() == FileKind::Folder {
            let below = self.below(&from.uri()).into_iter();
            stopped.extend(below.map(|shown| shown.local));
        }
        self.stop_all(&stopped).await
    }

    /// Stops our uploads of all of `locals`.
    pub(super) async fn stop_all(&self, locals: &[Arc<Local>]) -> Result<Stopped, Error> {
        let held = try_join_all(locals.iter().map(|local| self.hold(local))).await?;
        Ok(Stopped { held })
    }

    /// Local files that belong below `folder`.
    pub(super) fn below(&self, folder: &FileUri) -> Vec<Shown> {
        let all = self.namespace.locals.all().into_iter();
        let is_below = |shown: &Shown| shown.local.place().folder_uri.is_within(folder);
        all.filter(is_below).collect()
    }

    /// `found`, which was stopped, as it is by now: it may have been delivered a moment before.
    pub(super) async fn again(&self, end: &End, found: Found) -> Result<Found, Error> {
        let Found::Local(shown) = found else {
            return Ok(found);
        };
        let key = self.key_of(&shown);
        if shown.local.state() != State::Delivered {
            return Ok(Found::Local(Shown { key, ..shown }));
        }
        let base = shown.local.base().map(|base| base.file);
        if self.namespace.locals.shows(&key) {
            // The news of it is still on its way.
            let renamed = base.as_ref().and_then(|file| self.home_of(file));
            let there = renamed.map_or_else(|| end.uri(), |home| home.uri());
            let there = self.whats_at(&there).await?;
            match there {
                Some(info) if Some(&info.id) == base.as_ref() => {
                    self.delivered(shown.local.id(), info, false, None);
                }
                // It went beside somebody else's, as the news will tell: that one nobody has seen here.
                Some(_) => return Err(Error::Busy(api::Error::Changed)),
                None => {
                    self.namespace.locals.hide(&key);
                    self.doubt(end);
                }
            }
        }
        let (_, found) = self.end(end.parent, &end.name).await?;
        match found.ok_or(Error::NotFound)? {
            Found::Known(entry) if Some(&entry.id) != base.as_ref() => {
                Err(Error::Busy(api::Error::Changed))
            }
            found => Ok(found),
        }
    }

    /// A file with content here gets another name, while its upload is `stopped`.
    async fn rename_local(
        &self,
        (from, shown, stopped): (&End, Shown, &Stopped),
        to: &End,
        target: Option<Found>,
    ) -> Result<(), Error> {
        let base = shown.local.base();
        let mut is_free = true;
        match (base, target) {
            (None, None) => shown.local.relocate(to.place(), None).map_err(disk)?,
            (None, Some(target)) => {
                self.take_place(&shown.local, to, over(&target), &target)?;
            }
            (Some(base), None) => {
                is_free = self.move_base(&base.file, from, to).await?;
                shown.local.relocate(to.place(), None).map_err(disk)?;
            }
            (Some(base), Some(target)) => match over(&target) {
                Some(over) => {
                    let content = (&shown, &base, stopped);
                    is_free = self.put_onto(from, content, to, (over, &target)).await?;
                }
                None => {
                    // The server has nothing there.
                    is_free = self.move_base(&base.file, from, to).await?;
                    self.take_place(&shown.local, to, None, &target)?;
                }
            },
        }
        self.show_moved(from, &shown, to);
        self.tell_renamed(&shown)?;
        if !is_free {
            self.doubt(from);
        }
        Ok(())
    }

    /// `local` takes the place of `target`, which has no name any more, and of the server's file `over` that stood behind that.
    pub(super) fn take_place(
        &self,
        local: &Local,
        to: &End,
        over: Option<Base>,
        target: &Found,
    ) -> Result<(), Error> {
        let mut file = over.as_ref().map(|over| over.file.clone());
        match target {
            Found::Known(_) => local.relocate(to.place(), over).map_err(disk)?,
            Found::Local(shown) => {
                let before = over.clone();
                local
                    .relocate_over(to.place(), over, &shown.local)
                    .map_err(disk)?;
                if let Some(landed) = landed(&shown.local, before.as_ref()) {
                    file = Some(landed.file.clone());
                    local.relocate(to.place(), Some(landed)).map_err(disk)?;
                }
            }
        }
        self.retire(&target.key(to, self)?)?;
        self.tell_nothing(file.as_ref())
    }

    /// Content that is here replaces the server's `file`, if there is one, and brings what is told of it: what was to be told
    /// before is nobody's any more. Who has the old one open goes on seeing it, so that has lost its name by then.
    pub(super) fn tell_nothing(&self, file: Option<&FileId>) -> Result<(), Error> {
        if let Some(file) = file {
            self.owing()?.staging.tell_nothing(file).map_err(disk)?;
        }
        Ok(())
    }

    /// The server's file `base`, over which there is content here, goes from one name to the other. False where it is not at
    /// the first any more: then the content alone goes, which is over it wherever it is, or made anew.
    async fn move_base(&self, base: &FileId, from: &End, to: &End) -> Result<bool, Error> {
        if self.now_at(from, base).await? != Now::Same {
            return Ok(false);
        }
        self.foretell(base, from, to).await?;
        let plan = Self::plan_way(base, from, to);
        match self.carry_out(&to.folder, &plan).await {
            Ok(_) => {
                self.passed(&plan, from, to);
                Ok(true)
            }
            Err(error) => {
                self.doubt_both(from, to);
                Err(error)
            }
        }
    }

    /// All of `plan` is done: where it led through nothing is any more, though a listing of that moment may say so.
    pub(super) fn passed(&self, plan: &Plan, from: &End, to: &End) {
        let now = Instant::now();
        let is_end = |key: &FileKey, name: &OsStr| {
            let mut ends = [from, to].into_iter();
            ends.any(|end| end.folder.key == *key && *end.name == *name)
        };
        for at in plan.stops() {
            for end in [from, to] {
                let Some(stored) = at
                    .name()
                    .filter(|_| at.parent().as_ref() == Some(&end.folder.uri))
                else {
                    continue;
                };
                let name = stored.to_local(self.namespace.options.names);
                let key = &end.folder.key;
                if !is_end(key, &name) {
                    self.namespace.metadata.change_name(key, &name, None, now);
                }
            }
        }
    }

    /// Nobody knows what is behind the two names, nor whether each is free beside the other.
    fn doubt_both(&self, from: &End, to: &End) {
        let metadata = &self.namespace.metadata;
        for end in [from, to] {
            metadata.doubt(&end.folder.key, &from.name);
            metadata.doubt(&end.folder.key, &to.name);
        }
    }

    /// Content over one file of the server's becomes content over another one, and the first is dropped. False where that
    /// stays, because it is another one or has another version by now, which nobody has seen here.
    async fn put_onto(
        &self,
        from: &End,
        (shown, base, stopped): (&Shown, &Base, &Stopped),
        to: &End,
        (over, target): (Base, &Found),
    ) -> Result<bool, Error> {
        stopped.is_all(self.removals.unsent())?;
        asker::unhurried(self.bring(&shown.local, from, base)).await?;
        shown.local.durable().await.map_err(disk)?;
        // First, for it may be refused. Whatever happens now, all of the content is here, and has a place and a name.
        let (now, _) = self.now_under(from, &base.file, &base.entity.id).await?;
        match now {
            Now::Same => self.delete(from, &base.file).await?,
            // That may be what an upload of ours brought there, of which nobody has heard.
            Now::Another if stopped.is_in_vain() => return Err(self.removals.unsent()),
            Now::Another | Now::Nothing => {}
        }
        crash::pass(Point::PutOntoDeleted);
        // Its number is to follow the content, and not the file that is dropped.
        self.known_as(&self.key_of(shown), local_id(&shown.local));
        self.take_place(&shown.local, to, Some(over), target)?;
        Ok(now != Now::Another)
    }

    /// A local file shows under its new name.
    pub(super) fn show_moved(&self, from: &End, shown: &Shown, to: &End) {
        let space = &self.namespace;
        let shown = Shown {
            key: self.key_of(shown),
            local: Arc::clone(&shown.local),
        };
        let entry = Locals::entry(&shown, &to.name);
        space.inodes.settle(&shown.key, to.parent, &entry);
        space.locals.show(&to.folder.key, &to.name, shown);
        self.believe(from, None);
    }

    /// What only the server has gets a name that is free.
    async fn rename_known(&self, from: &End, entry: &Entry, to: &End) -> Result<(), Error> {
        self.is_still(from, entry).await?;
        self.foretell(&entry.id, from, to).await?;
        let plan = Self::plan_way(&entry.id, from, to);
        let told = match self.carry_out(&to.folder, &plan).await {
            Ok(told) => told,
            Err(error) => {
                self.doubt_both(from, to);
                return Err(error);
            }
        };
        self.passed(&plan, from, to);
        self.show_known(from, entry, to, told)?;
        self.takes_along(from, entry, to);
        Ok(())
    }

    /// An error where `entry` is not at `from` any more.
    async fn is_still(&self, from: &End, entry: &Entry) -> Result<(), Error> {
        match self.now_at(from, &entry.id).await? {
            Now::Same => Ok(()),
            Now::Nothing if self.namespace.is_as_found(from) => Err(Error::NotFound),
            Now::Nothing => Err(Error::Gone),
            Now::Another => Err(Error::Gone),
        }
    }

    /// `entry`, which was at `from`, shows at `to`, as the server `told`.
    pub(super) fn show_known(
        &self,
        from: &End,
        entry: &Entry,
        to: &End,
        told: Option<FileInfo>,
    ) -> Result<(), Error> {
        let key = self.key_in(from.parent, &entry.id)?;
        let now = renamed(entry, to, told);
        let space = &self.namespace;
        space.inodes.settle(&key, to.parent, &now);
        if let Some(open) = space.locals.keyed(&key) {
            // Delivered, and open: what is written to it next goes where the file is.
            open.local.relocate(to.place(), None).map_err(disk)?;
            if self.namespace.locals.shows(&open.key) {
                // It was written to meanwhile, and is owed again.
                self.show_moved(from, &open, to);
            }
        }
        self.believe(from, None);
        self.believe(to, Some(now));
        self.keep_told(entry, to)
    }

    pub(super) fn below_of(&self, from: &End, entry: &Entry) -> Vec<Shown> {
        match entry.kind {
            FileKind::Folder => self.below(&from.uri()),
            FileKind::File => Vec::new(),
        }
    }

    /// Local files below a folder that was renamed are looked for where it is now.
    pub(super) fn relocate_below(&self, below: Vec<Shown>, from: &FileUri, to: &FileUri) {
        if let Some(owing) = &self.owing {
            owing.uploader.moved();
        }
        for shown in below {
            // Unless it was moved out of there meanwhile.
            let relocated = shown.local.relocate_from(|place| moved(&place, from, to));
            // It is found by its folder's id all the same; only who looks by the path has a longer way.
            if let Err(error) = relocated {
                log::warn!("the new place of a file could not be noted: {error}");
            }
        }
    }

    /// The calls that bring `file` from one name to the other.
    fn plan_way(file: &FileId, from: &End, to: &End) -> Plan {
        Plan {
            steps: way(file, &from.uri(), &to.uri()),
            only_if: None,
        }
    }

    /// What only the server has replaces `target`.
    async fn replace_by_known(
        &self,
        from: &End,
        entry: &Arc<Entry>,
        to: &End,
        target: Found,
    ) -> Result<(), Error> {
        if let Found::Known(old) = &target
            && old.kind == FileKind::Folder
        {
            self.is_empty(to, old).await?;
        }
        let Some(over) = over(&target) else {
            // The server has nothing there: what is here goes once the name is the other's.
            let key = target.key(to, self)?;
            self.rename_known(from, entry, to).await?;
            return self.retire(&key);
        };
        let stays = self.owing()?.staging.is_local_only(&to.place());
        // Who has it open since before it was delivered writes to what is here of it, which a copy leaves behind.
        let key = self.key_in(from.parent, &entry.id)?;
        let is_open = self.namespace.locals.keyed(&key).is_some();
        let copies = entry.kind == FileKind::File && !stays && !is_open;
        if copies && self.can_be_copied(entry).await {
            return self.copy_onto(from, entry, to, over, &target).await;
        }
        self.swap(from, entry, to, over, &target).await
    }

    /// The target aside, the source in, the target deleted.
    async fn swap(
        &self,
        from: &End,
        entry: &Entry,
        to: &End,
        over: Base,
        target: &Found,
    ) -> Result<(), Error> {
        let key = target.key(to, self)?;
        self.is_still(from, entry).await?;
        self.foretell(&entry.id, from, to).await?;
        let (now, seen) = match has_version(target) {
            true => self.now_under(to, &over.file, &over.entity.id).await?,
            false => (self.now_at(to, &over.file).await?, None),
        };
        let mut steps = Self::plan_way(&entry.id, from, to).steps;
        match now {
            Now::Same => {
                let parked = to.folder.uri.child(aside(&over.file, &to.stored));
                steps.insert(0, Step::shift(&over.file, &to.uri(), &parked));
                steps.push(Step::delete(&over.file, &parked, seen.as_ref()));
            }
            Now::Nothing => {}
            Now::Another => return Err(Error::Busy(api::Error::Changed)),
        }
        let plan = Plan {
            steps,
            only_if: None,
        };
        let told = match self.carry_out(&to.folder, &plan).await {
            Ok(told) => told,
            Err(error) => {
                self.doubt_both(from, to);
                return Err(error);
            }
        };
        self.passed(&plan, from, to);
        self.retire(&key)?;
        self.show_known(from, entry, to, told.filter(|info| info.id == entry.id))?;
        self.takes_along(from, entry, to);
        Ok(())
    }
}

/// `place`, where it is once what was at `from` is at `to`; none where it lies elsewhere.
pub(super) fn moved(place: &Place, from: &FileUri, to: &FileUri) -> Option<Place> {
    Some(Place {
        folder_uri: place.folder_uri.moved(from, to)?,
        ..place.clone()
    })
}

/// What the upload of `local`, which has no name any more and was over `before`, brought there in the last moment: it could not
/// be stopped in time.
pub(super) fn landed(local: &Local, before: Option<&Base>) -> Option<Base> {
    let version = |base: &Base| (base.file.clone(), base.entity.id.clone());
    let now = local.base()?;
    let is_new = before.map(version) != Some(version(&now));
    is_new.then_some(Base {
        visible_bytes: 0,
        ..now
    })
}

/// The file of the server's that content replaces where it replaces `target`; none where the server has none there.
fn over(target: &Found) -> Option<Base> {
    match target {
        Found::Known(entry) => Some(replaced(entry)),
        Found::Local(shown) => shown.local.base().map(|base| Base {
            visible_bytes: 0,
            ..base
        }),
    }
}

/// Whether the version of `target` tells what is lost with it.
fn has_version(target: &Found) -> bool {
    match target {
        Found::Known(entry) => {
            entry.kind == FileKind::File && entry.shortcut.is_none() && !entry.unfinished
        }
        Found::Local(_) => true,
    }
}
