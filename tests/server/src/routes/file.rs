//! Single files and folders: info, create, rename, metadata, views, locks, versions (→ api part 1 §7.8–9.4, 11).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ctx, batch_done};
use crate::drive::{EntityKind, NodeId, REDIRECT};
use crate::ids::Kind;
use crate::locate::{Located, Target, join};
use crate::options::View;
use crate::reply::{Failure, Outcome, Reply};
use crate::uri::{Action, FileUri, Realm};

/// How long the server believes a folder's summary.
const SUMMARY_TIME: Duration = Duration::from_secs(300);

/// Longest value of a metadata key, in bytes; the database refuses more, the validation does not.
pub(super) const MAX_METADATA_VALUE: usize = 65_535;

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    uri: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    err_on_conflict: bool,
}

#[derive(Deserialize)]
struct Patch {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    remove: bool,
}

/// 1–255 bytes, none of the nine forbidden characters, not `.` or `..` (→ api part 1 §4.4).
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let forbidden = |c: char| "\\/:*?\"<>|".contains(c);
    if name.is_empty()
        || name.len() > 255
        || name == "."
        || name == ".."
        || name.contains(forbidden)
    {
        return Err(Failure::new(40052, "Invalid object name"));
    }
    Ok(())
}

fn is_colour(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or("");
    let hex =
        [3, 4, 6, 8].contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex || text.starts_with("rgb(") || text.starts_with("rgba(")
}

/// What may be written under a key, and whether it makes the file look modified (→ api part 1 §9.3).
pub(super) fn check_metadata(key: &str, value: &str, remove: bool) -> Result<bool, Failure> {
    let refused = || Failure::new(40001, "Invalid metadata patch");
    let unknown = || Failure::new(40001, "Invalid metadata key");
    let (category, rest) = key.split_once(':').ok_or_else(unknown)?;
    let good = |good: bool, touches: bool| {
        if good || remove {
            Ok(touches)
        } else {
            Err(refused())
        }
    };
    match category {
        "dav" | "thumb" => Ok(false),
        "sys" if remove => Err(refused()),
        "sys" => good(
            rest == "shared_owner" || (rest == "shared_redirect" && value.contains("@share")),
            true,
        ),
        "customize" if rest == "icon_color" => good(is_colour(value), true),
        "customize" => Ok(rest == "emoji"),
        "tag" => good(value.is_empty() || is_colour(value), true),
        "props" if rest == "description" => Ok(true),
        "props" if rest == "rating" => {
            good(value.parse::<u8>().is_ok_and(|stars| stars <= 5), true)
        }
        "props" => Err(refused()),
        _ => Err(unknown()),
    }
}

impl Ctx<'_> {
    pub(super) fn info(&mut self) -> Outcome {
        let mut fragment = None;
        let found = match (self.asked.param("uri"), self.asked.param("id")) {
            (Some(uri), _) if !uri.is_empty() => {
                let uri = FileUri::parse(uri)?;
                fragment = uri.fragment.clone();
                self.locate_or(&uri, Failure::not_supported())?
            }
            (_, Some(id)) if !id.is_empty() => self.site.locate_by_id(&self.caller, id)?,
            _ => return Err(Failure::new(40001, "uri is required")),
        };
        if found.is_root {
            return Err(Failure::not_supported());
        }
        let extended = self.flag("extended");
        let summary = if self.flag("folder_summary") {
            self.summary(&found)?
        } else {
            None
        };
        let mut view = self.site.file_view(&found, true);
        view.folder_summary = summary;
        if let Some(fragment) = fragment {
            view.echo(&fragment);
        }
        if extended {
            view.shared = found.owned
                && self
                    .site
                    .shares
                    .values()
                    .any(|share| share.source == found.node);
            view.extended_info = Some(self.site.extended_view(&found));
        }
        Ok(Reply::data(&view))
    }

    /// Size counts all versions; kept for five minutes, whatever happens meanwhile (→ api part 2 §10).
    fn summary(&mut self, found: &Located) -> Result<Option<Value>, Failure> {
        if !found.owned {
            return Err(Failure::owner_only());
        }
        if !self.site.drive.node(found.node).is_folder() {
            return Ok(None);
        }
        if let Some((summary, until)) = self.site.summaries.get(&found.node)
            && self.now < *until
        {
            return Ok(Some(summary.clone()));
        }
        let limit = self.site.settings.max_walked_files;
        let below = self.site.drive.subtree(found.node, limit + 1);
        let completed = below.len() <= limit;
        let (mut size, mut files, mut folders) = (0, 0_u64, 0_u64);
        for id in below.into_iter().skip(1) {
            if self.site.drive.node(id).is_folder() {
                folders += 1;
            } else {
                files += 1;
                size += self.site.drive.stored(id);
            }
        }
        let calculated_at = self.now.rfc3339();
        let summary = json!({
            "size": size, "files": files, "folders": folders, "completed": completed, "calculated_at": calculated_at,
        });
        self.site
            .summaries
            .insert(found.node, (summary.clone(), self.now.plus(SUMMARY_TIME)));
        Ok(Some(summary))
    }

    pub(super) fn create(&mut self) -> Outcome {
        let body: Create = self.json()?;
        if body.uri.is_empty() {
            return Err(Failure::binding("Uri cannot be empty"));
        }
        if body.kind != "file" && body.kind != "folder" {
            return Err(Failure::binding("Invalid parameters."));
        }
        let folder = body.kind == "folder";
        let uri = FileUri::parse(&body.uri)?;
        uri.require(Action::Change)?;
        let target = self.site.locate_target(&self.caller, &uri, self.now)?;
        let metadata = body.metadata.unwrap_or_default();
        for (key, value) in &metadata {
            check_metadata(key, value, false)?;
        }
        if target.missing.is_empty() && !self.site.is_spelled(&target.found, &uri) {
            // Of another spelling, so not what was asked for; nor is anything missing. What is there is the answer, be it a
            // file or a folder, and whatever was said of conflicts (`Cloudreve:pkg/filemanager/fs/dbfs/manage.go`, Create).
            return Ok(Reply::data(&self.site.file_view(&target.found, false)));
        }
        if target.missing.is_empty() {
            let same = self.site.drive.node(target.found.node).is_folder() == folder;
            if !same || body.err_on_conflict {
                return Err(Failure::object_existed());
            }
            return Ok(Reply::data(&self.site.file_view(&target.found, false)));
        }
        let created = self.create_missing(&target, folder)?;
        let node = self.site.drive.node_mut(created.node);
        node.symbolic = metadata.contains_key(REDIRECT);
        node.metadata = metadata;
        Ok(Reply::data(&self.site.file_view(&created, false)))
    }

    /// Makes what is missing of a target: folders, and at the end what was asked for (→ api part 1 §8.1).
    pub(super) fn create_missing(
        &mut self,
        target: &Target,
        folder: bool,
    ) -> Result<Located, Failure> {
        let mut at = target.found.clone();
        let parent = self.site.drive.node(at.node);
        if !parent.is_folder() {
            return Err(Failure::not_supported());
        }
        if parent.symbolic {
            return Err(Failure::new(403, "Symbolic folder cannot be walked into"));
        }
        for name in &target.missing {
            check_name(name)?;
        }
        for (index, name) in target.missing.iter().enumerate() {
            let is_folder = folder || index + 1 < target.missing.len();
            let node = self.site.drive.create(at.node, name, is_folder, self.now);
            self.site.tell_created(node, self.now);
            at = Located {
                node,
                path: join(&at.path, name),
                is_root: false,
                ..at
            };
        }
        Ok(at)
    }

    pub(super) fn rename(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct Rename {
            #[serde(default)]
            uri: String,
            #[serde(default)]
            new_name: String,
        }
        let body: Rename = self.json()?;
        match (body.uri.is_empty(), body.new_name.chars().count()) {
            (true, _) => return Err(Failure::binding("Uri cannot be empty")),
            (_, 0) => return Err(Failure::binding("NewName cannot be empty")),
            (_, 256..) => return Err(Failure::binding("NewName too long")),
            _ => {}
        }
        let uri = FileUri::parse(&body.uri)?;
        uri.require(Action::Change)?;
        let found = self.locate(&uri)?;
        if found.is_root {
            return Err(Failure::not_supported());
        }
        check_name(&body.new_name)?;
        self.site.check_lock(found.node, true, self.now)?;
        let parent = self
            .site
            .drive
            .node(found.node)
            .parent
            .ok_or_else(Failure::not_supported)?;
        if self
            .site
            .drive
            .child(parent, &body.new_name)
            .is_some_and(|taken| taken != found.node)
        {
            return Err(Failure::object_existed());
        }
        self.site.tell_renamed(found.node, &body.new_name, self.now);
        self.site
            .drive
            .place(found.node, parent, &body.new_name, self.now);
        let above = found
            .path
            .rsplit_once('/')
            .map_or("", |(above, _)| above)
            .to_owned();
        let renamed = Located {
            path: join(&above, &body.new_name),
            ..found
        };
        Ok(Reply::data(&self.site.file_view(&renamed, false)))
    }

    pub(super) fn metadata(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct PatchMetadata {
            #[serde(default)]
            uris: Vec<String>,
            patches: Option<Vec<Patch>>,
        }
        let body: PatchMetadata = self.json()?;
        let patches = body
            .patches
            .ok_or_else(|| Failure::binding("Patches cannot be empty"))?;
        let mut touches = false;
        for patch in &patches {
            let value = patch.value.as_deref().unwrap_or("");
            touches |= check_metadata(&patch.key, value, patch.remove)?;
            if patch.private {
                return Err(Failure::new(40001, "Invalid metadata patch"));
            }
            if value.len() > MAX_METADATA_VALUE {
                return Err(Failure::unclassified());
            }
        }
        let (found, mut failed) = self.locate_all(&body.uris, Action::Change)?;
        let (refused, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.is_root);
        failed.extend(
            refused
                .into_iter()
                .map(|found| (found.path, Failure::not_supported())),
        );
        for target in &found {
            self.site.check_lock(target.node, false, self.now)?;
        }
        for target in found {
            self.patch(target.node, &patches, touches);
        }
        batch_done(failed)
    }

    fn patch(&mut self, node: NodeId, patches: &[Patch], touches: bool) {
        let node = self.site.drive.node_mut(node);
        for patch in patches {
            if patch.remove {
                node.metadata.remove(&patch.key);
            } else {
                node.metadata
                    .insert(patch.key.clone(), patch.value.clone().unwrap_or_default());
            }
        }
        if touches {
            node.updated = self.now;
        }
    }

    pub(super) fn folder_view(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct StoredView {
            page_size: usize,
            #[serde(default)]
            order: Option<String>,
            #[serde(default)]
            order_direction: Option<String>,
        }
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            uri: String,
            view: Option<StoredView>,
        }
        let body: Body = self.json()?;
        let found = self.locate(&FileUri::parse(&body.uri)?)?;
        if found.realm != Realm::My {
            return Err(Failure::not_supported());
        }
        if body.view.as_ref().is_some_and(|view| view.page_size < 50) {
            return Err(Failure::binding("PageSize too small"));
        }
        let node = self.site.drive.node_mut(found.node);
        node.view = body.view.map(|view| View {
            page_size: view.page_size,
            order: view.order.unwrap_or_else(|| "name".to_owned()),
            direction: view.order_direction.unwrap_or_else(|| "asc".to_owned()),
        });
        node.updated = self.now;
        Ok(Reply::done())
    }

    /// Takes locks away, all or none, whoever holds them (→ api part 1 §11).
    pub(super) fn unlock(&mut self) -> Outcome {
        #[derive(Deserialize)]
        struct Unlock {
            #[serde(default)]
            tokens: Vec<String>,
        }
        let body: Unlock = self.json()?;
        let known = |token: &String| {
            self.site
                .uploads
                .values()
                .any(|upload| upload.lock.as_ref() == Some(token))
        };
        if !body.tokens.iter().all(known) {
            return Err(Failure::new(40001, "failed to unlock file"));
        }
        for upload in self.site.uploads.values_mut() {
            upload.lock.take_if(|token| body.tokens.contains(token));
        }
        Ok(Reply::done())
    }

    /// The file and the version of it that `/file/version` requests name.
    fn version(&self) -> Result<(NodeId, u64), Failure> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            uri: String,
            #[serde(default)]
            version: String,
        }
        let body: Version = self.json()?;
        let found = self.locate(&FileUri::parse(&body.uri)?)?;
        if !found.owned || found.realm != Realm::My {
            return Err(Failure::owner_only());
        }
        self.site.check_lock(found.node, false, self.now)?;
        let unknown = || Failure::new(40001, "Unknown version ID");
        let entity = self
            .site
            .ids
            .decode(Kind::Entity, &body.version)
            .ok_or_else(unknown)?;
        if !self.site.drive.node(found.node).entities.contains(&entity) {
            return Err(Failure::entity_not_exist());
        }
        Ok((found.node, entity))
    }

    pub(super) fn version_current(&mut self) -> Outcome {
        let (file, id) = self.version()?;
        let entity = self
            .site
            .drive
            .entity(id)
            .ok_or_else(Failure::entity_not_exist)?;
        if entity.kind != EntityKind::Version || entity.session.is_some() {
            return Err(Failure::entity_not_exist());
        }
        if self.site.drive.node(file).primary != id {
            self.site.drive.make_current(file, id, self.now);
            self.site.tell_modified(file, self.now);
        }
        Ok(Reply::done())
    }

    pub(super) fn version_delete(&mut self) -> Outcome {
        let (file, entity) = self.version()?;
        if self.site.drive.node(file).primary == entity {
            return Err(Failure::not_supported());
        }
        self.site.drive.drop_entity(file, entity);
        self.site.tell_modified(file, self.now);
        Ok(Reply::done())
    }
}
