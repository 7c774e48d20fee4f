//! Changes that take the server several calls: noted before the first, finished or undone after a crash.
//!
//! Each step says which file goes from which place to which other, so it can be told by looking whether it was done, and
//! done again it does nothing. A step that fails has those before it undone, until something may have been deleted: from
//! there it only goes forward, and a version that nobody has seen here is not deleted. What neither went on nor back for want of
//! the network is [`late`](super::late), what a crash interrupted is finished at the next start: at every moment each file is
//! somewhere, under a name of its own or one that [`aside`] makes.

use std::collections::{HashMap, HashSet};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::api;
use crate::asker;
use crate::crash::{self, Point};
use crate::entry::stable_hash;
use crate::model::{EntityId, FileId, FileInfo};
use crate::names::ServerName;
use crate::staging::{LocalId, Place, Staging, StepsId};
use crate::uri::FileUri;

use super::Fs;
use super::changes::{Owing, disk, is_lost};
use super::removals::Gathered;
use super::remove::Going;
use super::unheard::is_note;
use super::{Error, namespace::Folder};

/// What the names of files that are aside for a moment begin with.
const ASIDE: &str = ".cloudreve-fuse-";

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// The file gets another name, or another folder.
    Move {
        file: String,
        from: String,
        to: String,
    },
    /// The file is deleted; with `entity`, only while that is its version.
    Delete {
        file: String,
        at: String,
        #[serde(default)]
        entity: Option<String>,
    },
}

/// All calls of one change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// They are only to be finished if this local file is owed to that file of the server's.
    pub(super) only_if: Option<(u64, String)>,
}

impl Step {
    pub(super) fn shift(file: &FileId, from: &FileUri, to: &FileUri) -> Self {
        Self::Move {
            file: file.to_string(),
            from: from.to_wire(),
            to: to.to_wire(),
        }
    }

    /// With `seen`, it is only deleted while that is its version.
    pub(super) fn delete(file: &FileId, at: &FileUri, seen: Option<&EntityId>) -> Self {
        Self::Delete {
            file: file.to_string(),
            at: at.to_wire(),
            entity: seen.map(|entity| entity.0.to_string()),
        }
    }

    /// From `place` to where it began.
    fn back_from(&self, place: &str) -> Self {
        let (Self::Move { file, from, .. } | Self::Delete { file, at: from, .. }) = self;
        Self::Move {
            file: file.clone(),
            from: place.to_owned(),
            to: from.clone(),
        }
    }

    fn is_deletion(&self) -> bool {
        matches!(self, Self::Delete { .. })
    }

    /// What takes it back; none where nothing does.
    fn back(&self) -> Option<Self> {
        match self {
            Self::Move { file, from, to } => Some(Self::Move {
                file: file.clone(),
                from: to.clone(),
                to: from.clone(),
            }),
            Self::Delete { .. } => None,
        }
    }
}

impl Plan {
    /// Where its files go, in their order.
    pub(super) fn stops(&self) -> impl Iterator<Item = FileUri> {
        self.steps.iter().filter_map(|step| match step {
            Step::Move { to, .. } => parsed(to).ok(),
            Step::Delete { .. } => None,
        })
    }

    /// All places that its files leave or come to.
    pub(super) fn places(&self) -> impl Iterator<Item = FileUri> {
        let places = self.steps.iter().flat_map(|step| match step {
            Step::Move { from, to, .. } => [Some(from), Some(to)],
            Step::Delete { at, .. } => [Some(at), None],
        });
        places.flatten().filter_map(|place| parsed(place).ok())
    }

    /// Whether the file `id` is one of its files.
    pub(super) fn is_about(&self, id: &FileId) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| {
            let (Step::Move { file, .. } | Step::Delete { file, .. }) = step;
            **file == *id.0
        })
    }

    /// The first step of `file`, which led it away from home.
    fn home(&self, file: &str) -> Option<&Step> {
        let of = |step: &&Step| matches!(step, Step::Move { file: other, .. } if other == file);
        self.steps.iter().find(of)
    }
}

/// The way of a file from one place to another. Where that takes several calls, it has a name in between that nobody gives to
/// anything: what others save by a name of their choice, while this file has it, would be written over this file.
pub(super) fn way(file: &FileId, from: &FileUri, to: &FileUri) -> Vec<Step> {
    let (Some(old), Some(new)) = (from.parent(), to.parent()) else {
        return Vec::new();
    };
    let (Some(old_name), Some(new_name)) = (from.name(), to.name()) else {
        return Vec::new();
    };
    let through = match () {
        () if old == new || old_name == new_name => vec![],
        () if is_aside(new_name) => vec![old.child(new_name.clone())],
        () if is_aside(old_name) => vec![new.child(old_name.clone())],
        () => {
            let between = aside(file, new_name);
            vec![old.child(between.clone()), new.child(between)]
        }
    };
    let stops: Vec<&FileUri> = [from].into_iter().chain(&through).chain([to]).collect();
    stops
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .map(|pair| Step::shift(file, pair[0], pair[1]))
        .collect()
}

/// Whether [`aside`] made this name.
pub(super) fn is_aside(name: &ServerName) -> bool {
    let number = name.as_bytes().strip_prefix(ASIDE.as_bytes());
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    number
        .and_then(|rest| rest.split_at_checked(16))
        .is_some_and(|(digits, ending)| {
            digits.iter().all(is_digit) && (ending.is_empty() || ending.starts_with(b"."))
        })
}

/// A name that nobody has, for a file that is called `name` afterwards or was before: with the same ending, by which some
/// storages choose what they take.
pub(super) fn aside(file: &FileId, name: &ServerName) -> ServerName {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_nanos().to_le_bytes();
    let number = stable_hash([file.0.as_bytes(), &now]);
    let mut bytes = format!("{ASIDE}{number:016x}").into_bytes();
    let ending = name.as_bytes().iter().rposition(|byte| *byte == b'.');
    if let Some(ending) = ending.map(|dot| &name.as_bytes()[dot..])
        && ending.len() <= 32
    {
        bytes.extend_from_slice(ending);
    }
    ServerName::from_wire(bytes)
}

/// The files that are to be gone when what is `noted` is finished, but for those removals that are taken up at once.
pub(super) fn removed(noted: &[(StepsId, String)]) -> HashSet<FileId> {
    let mut removed = HashSet::new();
    for (_, text) in noted {
        if let Ok(plan) = serde_json::from_str::<Plan>(text) {
            let deleted = plan.steps.iter().filter_map(|step| match step {
                Step::Delete { file, .. } => Some(FileId(file.as_str().into())),
                Step::Move { .. } => None,
            });
            removed.extend(deleted);
        } else if let Ok(going) = serde_json::from_str::<Going>(text) {
            removed.insert(going.file());
        }
    }
    removed
}

impl Fs {
    /// Does all of `plan`, or nothing of it where that is possible. What the last move answered, if it told.
    pub(super) async fn carry_out(
        &self,
        folder: &Folder,
        plan: &Plan,
    ) -> Result<Option<FileInfo>, Error> {
        let told = match plan.steps.as_slice() {
            [] => return Ok(None),
            [only] => {
                let told = self.step(only).await;
                self.is_sent(folder, only, told.as_ref().err());
                told
            }
            _ => {
                let nothing = || Ok(());
                return self.carry_out_after(folder, plan, nothing, nothing).await;
            }
        };
        told.inspect(|_| crash::pass(Point::Moved))
            .map_err(|error| self.refused(folder, error))
    }

    /// Remembers where `step`, which was sent and came to `error`, may have brought its file in `folder`.
    fn is_sent(&self, folder: &Folder, step: &Step, error: Option<&api::Error>) {
        let Step::Move { file, to, .. } = step else {
            return;
        };
        let (file, unheard) = (FileId(file.as_str().into()), &self.namespace.unheard);
        let name = parsed(to).ok().and_then(|to| to.name().cloned());
        match (error, name) {
            (Some(error), Some(name)) if is_lost(error) => {
                let place = Place {
                    folder: folder.key.clone(),
                    folder_uri: folder.uri.clone(),
                    name,
                    full: None,
                };
                unheard.was_sent(&file, place);
            }
            (None, _) => drop(unheard.take_sent(&file)),
            // What it said no to it has not done.
            (Some(_), _) => {}
        }
    }

    /// As [`Fs::carry_out`], once `prepare` was done, which a note of the plan precedes. `undo` takes that back where the
    /// steps are not done.
    ///
    /// From a deletion on that may have happened it only goes forward: what the server has not done by then is done later.
    pub(super) async fn carry_out_after(
        &self,
        folder: &Folder,
        plan: &Plan,
        prepare: impl FnOnce() -> Result<(), Error>,
        undo: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Option<FileInfo>, Error> {
        let staging = &self.owing()?.staging;
        let id = staging.begin(noted(plan)?).await.map_err(disk)?;
        crash::pass(Point::StepsNoted);
        if let Err(error) = prepare() {
            undo()?;
            staging.done(id).await.map_err(disk)?;
            return Err(error);
        }
        crash::pass(Point::StepsPrepared);
        let mut told = None;
        for (index, step) in plan.steps.iter().enumerate() {
            let (error, may_be_done) = match self.fits(step).await {
                Err(error) => (error, false),
                Ok(()) => match self.step(step).await {
                    Ok(info) => {
                        told = info.or(told);
                        crash::pass(Point::StepDone);
                        continue;
                    }
                    Err(error) => {
                        let lost = is_lost(&error);
                        (error, lost)
                    }
                },
            };
            let tried = &plan.steps[..index + usize::from(may_be_done)];
            if tried.iter().any(Step::is_deletion) {
                self.go_on(id, plan, index, &error).await;
                return Ok(told);
            }
            undo()?;
            self.take_back(id, tried, &error).await?;
            return Err(self.refused(folder, error));
        }
        staging.done(id).await.map_err(disk)?;
        crash::pass(Point::StepsForgotten);
        Ok(told)
    }

    /// The steps of `plan` from `index` on are still to be done, now or later: there is no way back.
    async fn go_on(&self, id: StepsId, plan: &Plan, index: usize, error: &api::Error) {
        // What it waited for is so, and need not be owed any more by then.
        let rest = Plan {
            steps: plan.steps[index..].to_vec(),
            only_if: None,
        };
        let noted = async {
            let staging = &self.owing()?.staging;
            staging.go_on(id, noted(&rest)?).await.map_err(disk)?;
            // A server in trouble may be so for a moment only; one that was waited for long enough is not.
            let is_slow = matches!(error, api::Error::Timeout(_));
            if !is_slow && self.finish(&rest).await.is_ok() {
                staging.done(id).await.map_err(disk)?;
            } else {
                log::warn!("a change is to be finished later: {error}");
                self.is_late(id, rest);
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = noted.await {
            // What was noted before leads to the same.
            log::warn!("the rest of a change could not be noted: {error}");
        }
    }

    /// Takes back `tried`, of which the last came to `error` and may have been done or not. What cannot be now is later.
    async fn take_back(
        &self,
        id: StepsId,
        tried: &[Step],
        error: &api::Error,
    ) -> Result<(), Error> {
        let staging = &self.owing()?.staging;
        let back = Plan {
            steps: tried.iter().rev().filter_map(Step::back).collect(),
            only_if: None,
        };
        staging.go_on(id, noted(&back)?).await.map_err(disk)?;
        // A server that was waited for is not waited for again.
        let taken = match error {
            api::Error::Timeout(_) => Err(error.clone()),
            _ => self.finish(&back).await,
        };
        match taken {
            Ok(()) => staging.done(id).await.map_err(disk),
            Err(error) => {
                log::warn!("a change that failed is to be taken back later: {error}");
                self.is_late(id, back);
                Ok(())
            }
        }
    }

    /// An error where `step` would delete another version than the one that was seen.
    async fn fits(&self, step: &Step) -> Result<(), api::Error> {
        let Step::Delete {
            file,
            at,
            entity: Some(seen),
        } = step
        else {
            return Ok(());
        };
        match self.whats_at(&parsed(at)?).await? {
            Some(info) if *info.id.0 == **file && *info.entity.0 != **seen => {
                Err(api::Error::Changed)
            }
            Some(info) if *info.id.0 != **file => Err(api::Error::Changed),
            _ => Ok(()),
        }
    }

    /// One call, and where its answer is lost, a look at what became of it.
    pub(super) async fn step(&self, step: &Step) -> Result<Option<FileInfo>, api::Error> {
        match step {
            Step::Delete { file, at, .. } => {
                let file = FileId(file.as_str().into());
                self.deleted(&parsed(at)?, &file).await.map(|()| None)
            }
            Step::Move { file, from, to } => {
                let (from, to) = (parsed(from)?, parsed(to)?);
                let moved = self.unlocked(|| self.moved(&from, &to)).await;
                match moved {
                    Err(error) if is_lost(&error) => match self.whats_at(&to).await {
                        Ok(Some(info)) if *info.id.0 == **file => Ok(Some(info)),
                        Ok(_) | Err(_) => Err(error),
                    },
                    Ok(Some(info)) if *info.id.0 != **file => {
                        // Somebody put it there a moment before.
                        log::warn!("{from} was another file than expected, and stays");
                        let back = self.unlocked(|| self.moved(&to, &from));
                        asker::unhurried(back).await?;
                        Err(api::Error::Changed)
                    }
                    moved => moved,
                }
            }
        }
    }

    async fn moved(&self, from: &FileUri, to: &FileUri) -> Result<Option<FileInfo>, api::Error> {
        match (to.parent(), to.name()) {
            (Some(folder), Some(name)) if Some(&folder) == from.parent().as_ref() => {
                self.api.rename(from, name).await.map(Some)
            }
            (Some(folder), _) => {
                let one = std::slice::from_ref(from);
                self.api.move_into(one, &folder).await.map(|()| None)
            }
            (None, _) => Ok(None),
        }
    }

    /// Finishes what was under way when the process before this one ended, unless the server cannot be reached: then it is to
    /// be called again. What cannot be finished for another reason is tried again later, or at the next start.
    pub(super) async fn finish_steps(&self) {
        let Ok(Owing { staging, .. }) = self.owing() else {
            return;
        };
        let begun = std::mem::take(&mut *self.unfinished.lock().unwrap());
        if begun.is_empty() {
            return;
        }
        let (mut gathered, mut steps) = (Vec::new(), Vec::new());
        for (id, text) in begun {
            match serde_json::from_str::<Gathered>(&text) {
                Ok(removal) => gathered.push((id, removal)),
                // The uploader finishes it.
                Err(_) if crate::upload::is_note(&text) => {}
                // It shows, and is told when its time has come.
                Err(_) if is_note(&text) => {}
                Err(_) => steps.push((id, text)),
            }
        }
        let is_any_removed = !gathered.is_empty();
        self.take_up_removals(gathered);
        if self.namespace.is_down() {
            *self.unfinished.lock().unwrap() = steps;
            return;
        }
        for (id, text) in steps {
            let finished = if let Ok(plan) = serde_json::from_str::<Plan>(&text) {
                let plan = match self.is_wanted(&plan) {
                    true => self.decided(staging, id, plan).await,
                    false => plan,
                };
                let finished = self.finish(&plan).await;
                if finished.is_err() {
                    self.is_late(id, plan);
                }
                finished.map_err(Error::from)
            } else if let Ok(going) = serde_json::from_str::<Going>(&text) {
                self.finish_unlink(&going).await
            } else {
                log::error!("a note of an unfinished change cannot be read, and stays");
                continue;
            };
            match finished {
                Ok(()) => {
                    if let Err(error) = staging.done(id).await {
                        log::error!("a finished change could not be noted as such: {error}");
                    }
                }
                Err(error) => log::warn!("an unfinished change stays so for now: {error}"),
            }
        }
        if is_any_removed {
            // Their files are where they were seen now, and not half way to it or from it.
            self.finish_waiting(true).await;
            let left = self.unremoved().len();
            if left > 0 {
                log::warn!("{left} files that were deleted are still on the server");
            }
        }
        // What is there all the same shows again.
        let space = &self.namespace;
        space.shown.hidden.set(HashSet::new());
        space.metadata.others_changed_anything(Instant::now());
    }

    /// Whether what `plan` waited for is so.
    fn is_wanted(&self, plan: &Plan) -> bool {
        let Some((local, file)) = &plan.only_if else {
            return true;
        };
        let found = self.namespace.locals.numbered(LocalId(*local));
        let base = found.and_then(|(shown, _)| shown.local.base());
        base.is_some_and(|base| *base.file.0 == **file)
    }

    /// `plan`, noted as one that waits for nothing: its local file may be delivered, and owed no more, before it is finished.
    async fn decided(&self, staging: &Staging, id: StepsId, plan: Plan) -> Plan {
        if plan.only_if.is_none() {
            return plan;
        }
        let decided = Plan {
            only_if: None,
            ..plan
        };
        let written = match noted(&decided) {
            Ok(text) => staging.go_on(id, text).await.map_err(disk),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            log::warn!("that a change goes on could not be noted: {error}");
        }
        decided
    }

    /// Does what is not done yet of `plan`.
    pub(super) async fn finish(&self, plan: &Plan) -> Result<(), api::Error> {
        if !self.is_wanted(plan) {
            return Ok(());
        }
        for step in &plan.steps {
            let (Step::Move { file, from: at, .. } | Step::Delete { file, at, .. }) = step;
            // Where it is not, it was moved on already, by us or by somebody else.
            if !self.has(at, file).await? {
                continue;
            }
            if let Err(api::Error::Changed) = self.fits(step).await {
                log::warn!("{at} stays, for somebody else changed it meanwhile");
                continue;
            }
            if step.is_deletion() && !self.are_in_place(plan, file).await? {
                // What was to replace it went somewhere else: then it stays what it was.
                if let Some(home) = plan.home(file) {
                    self.step(&home.back_from(at)).await?;
                }
                continue;
            }
            self.step(step).await?;
        }
        Ok(())
    }

    async fn has(&self, place: &str, file: &str) -> Result<bool, api::Error> {
        let found = self.whats_at(&parsed(place)?).await?;
        Ok(found.is_some_and(|info| *info.id.0 == *file))
    }

    /// Whether all that the plan moves, `but` that, is where it is to be in the end.
    async fn are_in_place(&self, plan: &Plan, but: &str) -> Result<bool, api::Error> {
        let mut last: HashMap<&str, &str> = HashMap::new();
        for step in &plan.steps {
            if let Step::Move { file, to, .. } = step {
                last.insert(file, to);
            }
        }
        for (file, place) in last.into_iter().filter(|(file, _)| *file != but) {
            if !self.has(place, file).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn noted(plan: &Plan) -> Result<String, Error> {
    serde_json::to_string(plan).map_err(|error| disk(std::io::Error::other(error)))
}

fn parsed(uri: &str) -> Result<FileUri, api::Error> {
    FileUri::parse_wire(uri)
        .map_err(|_| api::Error::Local("a noted place cannot be read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> FileUri {
        FileUri::parse_wire(text).unwrap()
    }

    /// The places that a file passes on its way, the first one left out.
    #[track_caller]
    fn check(from: &str, to: &str, expected: &[&str]) {
        let file = FileId("f".into());
        let steps = way(&file, &uri(from), &uri(to));
        let mut at = uri(from).to_wire();
        let mut places = Vec::new();
        for step in steps {
            let Step::Move { from, to, .. } = step else {
                panic!("nothing is deleted");
            };
            assert_eq!(from, at, "each step begins where the last one ended");
            let (old, new) = (uri(&from), uri(&to));
            let changes = (old.parent() != new.parent(), old.name() != new.name());
            assert_ne!(changes, (true, true), "no call does both");
            places.push(match new.name().unwrap().to_string().starts_with(ASIDE) {
                true => new.parent().unwrap().to_wire() + "/*",
                false => to.clone(),
            });
            at = to;
        }
        assert_eq!(places, expected, "{from} to {to}");
    }

    #[test]
    fn a_file_goes_to_another_folder_and_another_name_by_names_that_nobody_gives() {
        let (a, b) = ("cloudreve://my/a/x.txt", "cloudreve://my/b/y.txt");
        check(a, "cloudreve://my/a/y.txt", &["cloudreve://my/a/y.txt"]);
        check(a, "cloudreve://my/b/x.txt", &["cloudreve://my/b/x.txt"]);
        check(a, a, &[]);
        check(a, b, &["cloudreve://my/a/*", "cloudreve://my/b/*", b]);
        let aside = "cloudreve://my/a/.cloudreve-fuse-0123456789abcdef.txt";
        check(aside, b, &["cloudreve://my/b/*", b]);
        check(b, aside, &["cloudreve://my/b/*", "cloudreve://my/a/*"]);
    }

    #[test]
    fn a_name_for_the_time_between_keeps_the_ending_and_is_another_each_time() {
        let file = FileId("f".into());
        let name = ServerName::from_wire(*b"report.final.pdf");
        let (one, two) = (aside(&file, &name), aside(&file, &name));
        assert!(
            one.to_string().ends_with(".pdf") && one != two,
            "{one} {two}"
        );
        for name in [&one, &two] {
            assert!(is_aside(name), "{name}");
        }
        for own in [
            ".cloudreve-fuse-notes.txt",
            ".cloudreve-fuse-",
            ".cloudreve-fuse-0123456789abcdefg",
        ] {
            assert!(!is_aside(&ServerName::from_wire(own.as_bytes())), "{own}");
        }
        let plain = aside(&file, &ServerName::from_wire(*b"README"));
        assert!(is_aside(&plain));
        assert_eq!(plain.as_bytes().len(), ASIDE.len() + 16);
        let long = [b"x.".as_slice(), &[b'y'; 200]].concat();
        assert!(aside(&file, &ServerName::from_wire(long)).as_bytes().len() < 64);
    }

    #[test]
    fn a_plan_that_was_noted_is_read_as_it_was() {
        let file = FileId("f".into());
        let place = uri("cloudreve://my/a%20b/x%23y");
        let plan = Plan {
            steps: vec![
                Step::shift(&file, &place, &uri("cloudreve://my/z")),
                Step::delete(&file, &place, Some(&EntityId("e".into()))),
            ],
            only_if: Some((7, "t".into())),
        };
        let text = noted(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn what_is_taken_back_goes_the_same_way_home_and_a_deletion_is_not_taken_back() {
        let file = FileId("f".into());
        let (a, b) = (uri("cloudreve://my/a"), uri("cloudreve://my/b"));
        assert_eq!(
            Step::shift(&file, &a, &b).back(),
            Some(Step::shift(&file, &b, &a))
        );
        assert_eq!(Step::delete(&file, &a, None).back(), None);
    }
}
