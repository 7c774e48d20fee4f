//! `GET /file`: listings of all four file systems (→ api part 1 §7).

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::Ctx;
use crate::drive::NodeId;
use crate::listing::{self, PageArgs, Pagination};
use crate::locate::Located;
use crate::options::View;
use crate::reply::{Failure, Outcome, Reply};
use crate::uri::{FileUri, Realm, percent};
use crate::view::{FileView, capability};

/// The answer (→ api part 1 §7.6).
#[derive(Serialize)]
struct ListView<'a> {
    files: Vec<FileView<'a>>,
    parent: FileView<'a>,
    pagination: Pagination,
    props: Value,
    context_hint: String,
    mixed_type: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    single_file_view: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_policy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<Value>,
}

impl Ctx<'_> {
    pub(super) fn list(&mut self) -> Outcome {
        let uri = self.uri_param()?;
        let page = self.number("page")?.unwrap_or(0);
        if page < 0 {
            return Err(Failure::binding("Page too small"));
        }
        match uri.realm {
            Realm::Trash if uri.segments.is_empty() => self.list_trash(page),
            Realm::SharedWithMe if uri.segments.is_empty() => self.list_shared_with_me(page),
            _ => self.list_folder(&uri, page),
        }
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let text = self.asked.param(name).filter(|text| !text.is_empty());
        text.map(|text| {
            text.parse()
                .map_err(|_| Failure::binding("Parameter error"))
        })
        .transpose()
    }

    /// The folder that a listing is of; a share of a single file is one, too.
    pub(super) fn listed(&self, uri: &FileUri) -> Result<Located, Failure> {
        if uri.realm == Realm::SharedWithMe && self.caller.user.is_some() {
            return Err(Failure::path_not_exist());
        }
        let folder = self.locate(uri)?;
        let node = self.site.drive.node(folder.node);
        if folder.single_file.is_some() {
            return Ok(folder);
        }
        if !node.is_folder() {
            return Err(Failure::path_not_exist());
        }
        if node.symbolic {
            return Err(Failure::new(403, "Symbolic folder cannot be walked into"));
        }
        if folder.realm == Realm::Trash {
            // Folders in the trash cannot be entered (→ api part 1 §9.2).
            return Err(Failure::path_not_exist());
        }
        Ok(folder)
    }

    fn list_folder(&mut self, uri: &FileUri, page: i64) -> Outcome {
        let folder = self.listed(uri)?;
        if let Some(file) = folder.single_file {
            return Ok(self.single_file(&folder, file));
        }
        let stored = self.view_of(&folder);
        let args = self.page_args(page, stored.as_ref())?;
        if !uri.query.is_empty() {
            return Ok(self.search(&folder, &uri.query));
        }
        let (found, pagination) =
            listing::page(&self.site.drive, self.site.ids, folder.node, &args)?;
        let context_hint = self.site.dice.uuid();
        let site = &*self.site;
        let shared: HashSet<NodeId> = match folder.realm {
            Realm::My => site.shares.values().map(|share| share.source).collect(),
            _ => HashSet::new(),
        };
        let files = found.into_iter().map(|node| {
            let mut view = site.child_view(&folder, node);
            view.shared = shared.contains(&node);
            view
        });
        Ok(Reply::data(&ListView {
            files: files.collect(),
            parent: site.file_view(&folder, false),
            pagination,
            props: self.props(folder.realm),
            context_hint,
            mixed_type: false,
            single_file_view: false,
            storage_policy: Some(site.policy_view()),
            view: self.view_shown(&folder).then(|| view_json(&args)),
        }))
    }

    /// A share of one file: its root lists the file, and so does the file itself.
    fn single_file(&mut self, asked: &Located, file: NodeId) -> Reply {
        let context_hint = self.site.dice.uuid();
        let only = if asked.node == file {
            self.site.file_view(asked, true)
        } else {
            self.site.child_view(asked, file)
        };
        Reply::data(&ListView {
            files: vec![only],
            parent: self.site.file_view(asked, false),
            pagination: Pagination::default(),
            props: self.props(Realm::Share),
            context_hint,
            mixed_type: false,
            single_file_view: true,
            storage_policy: Some(self.site.policy_view()),
            view: None,
        })
    }

    fn list_trash(&mut self, page: i64) -> Outcome {
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let entries: Vec<_> = self
            .site
            .accounts
            .get(&user)
            .into_iter()
            .flat_map(|a| a.trash.values().copied())
            .collect();
        let args = self.page_args(page, None)?;
        let (found, pagination) =
            listing::page_of(&self.site.drive, self.site.ids, &entries, &args)?;
        let context_hint = self.site.dice.uuid();
        let site = &*self.site;
        let files = found.into_iter().map(|id| {
            let uuid = site
                .drive
                .node(id)
                .trashed
                .as_ref()
                .map_or("", |trashed| &trashed.uuid);
            site.node_view(id, Realm::Trash, format!("cloudreve://trash/{uuid}"), true)
        });
        let mut view = view_json(&args);
        view["view"] = "list".into();
        view["columns"] = json!([{"type": 0}, {"type": 2}, {"type": 8}, {"type": 7}]);
        if let Some(view) = view.as_object_mut() {
            view.remove("thumbnail");
        }
        Ok(Reply::data(&ListView {
            files: files.collect(),
            parent: FileView::zero(),
            pagination,
            props: self.props(Realm::Trash),
            context_hint,
            mixed_type: false,
            single_file_view: false,
            storage_policy: None,
            view: Some(view),
        }))
    }

    /// A flat list of all shortcuts of the user, wherever they lie (→ api part 1 §5.3).
    fn list_shared_with_me(&mut self, page: i64) -> Outcome {
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let root = self
            .site
            .accounts
            .get(&user)
            .ok_or_else(Failure::login_required)?
            .root;
        let all = self.site.drive.subtree(root, usize::MAX);
        let entries: Vec<_> = all
            .into_iter()
            .filter(|id| self.site.drive.node(*id).symbolic)
            .collect();
        let args = self.page_args(page, None)?;
        let (found, pagination) =
            listing::page_of(&self.site.drive, self.site.ids, &entries, &args)?;
        let context_hint = self.site.dice.uuid();
        let site = &*self.site;
        let realm = Realm::SharedWithMe;
        let path = |id| format!("cloudreve://shared_with_me/{}", site.file_id(id));
        let mut parent = site.node_view(root, realm, "cloudreve://shared_with_me".to_owned(), true);
        parent.forget_metadata();
        Ok(Reply::data(&ListView {
            files: found
                .into_iter()
                .map(|id| site.node_view(id, realm, path(id), true))
                .collect(),
            parent,
            pagination,
            props: self.props(realm),
            context_hint,
            mixed_type: false,
            single_file_view: false,
            storage_policy: Some(site.policy_view()),
            view: Some(view_json(&args)),
        }))
    }

    /// A search by name and type below a folder; one page, files and folders mixed (→ api part 1 §4.5).
    fn search(&mut self, folder: &Located, query: &str) -> Reply {
        let query = percent::pairs(query);
        let folding = query.iter().any(|(key, _)| key == "case_folding");
        let fold = |text: &str| {
            if folding {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let names: Vec<_> = query
            .iter()
            .filter(|(key, _)| key == "name")
            .map(|(_, value)| fold(value))
            .collect();
        let kind = query
            .iter()
            .find(|(key, _)| key == "type")
            .map(|(_, value)| value.as_str());
        let context_hint = self.site.dice.uuid();
        let site = &*self.site;
        let depth = site.drive.segments(folder.node).len();
        let matches = |id: &NodeId| {
            let node = site.drive.node(*id);
            let kind_fits = kind.is_none_or(|kind| (kind == "folder") == node.is_folder());
            *id != folder.node
                && kind_fits
                && names
                    .iter()
                    .all(|name| fold(&node.name).contains(name.as_str()))
        };
        let files = site
            .drive
            .subtree(folder.node, 65_535)
            .into_iter()
            .filter(matches)
            .map(|id| {
                let names = site.drive.segments(id).split_off(depth);
                let path = names.iter().fold(folder.path.clone(), |path, name| {
                    crate::locate::join(&path, name)
                });
                site.node_view(id, folder.realm, path, folder.owned)
            });
        let mut props = self.props(folder.realm);
        (props["order_by_options"], props["order_direction_options"]) = (Value::Null, Value::Null);
        let view = json!({"page_size": 100, "order": "name", "order_direction": "asc", "view": "grid", "thumbnail": true});
        Reply::data(&ListView {
            files: files.collect(),
            parent: site.file_view(folder, false),
            pagination: Pagination {
                is_cursor: true,
                ..Pagination::default()
            },
            props,
            context_hint,
            mixed_type: true,
            single_file_view: false,
            storage_policy: Some(site.policy_view()),
            view: Some(view),
        })
    }

    fn props(&self, realm: Realm) -> Value {
        json!({
            "capability": capability(realm),
            "max_page_size": self.site.settings.max_page_size,
            "order_by_options": ["name", "size", "updated_at", "created_at"],
            "order_direction_options": ["asc", "desc"],
        })
    }

    /// The view stored on the folder or the nearest folder above it; what a listing follows that does not say
    /// itself (→ api part 1 §7.2).
    fn view_of(&self, folder: &Located) -> Option<View> {
        if !self.view_shown(folder) {
            return None;
        }
        let mut above = self.site.drive.ancestry(folder.node);
        above.find_map(|id| self.site.drive.node(id).view.clone())
    }

    fn view_shown(&self, folder: &Located) -> bool {
        let owner = self.site.drive.node(folder.node).owner;
        match folder.share.and_then(|id| self.site.shares.get(&id)) {
            Some(share) => share.view || folder.owned,
            None => self
                .site
                .accounts
                .get(&owner)
                .is_some_and(|account| account.view_sync),
        }
    }

    fn page_args(&self, page: i64, stored: Option<&View>) -> Result<PageArgs, Failure> {
        let settings = &self.site.settings;
        let default_size = stored.map_or(settings.default_page_size, |view| view.page_size);
        let page_size = match self.number("page_size")? {
            Some(size) if size > 0 => size as usize,
            _ => default_size,
        };
        let text = |name: &str| {
            self.asked
                .param(name)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let order_by = text("order_by").or_else(|| stored.map(|view| view.order.clone()));
        let direction =
            text("order_direction").or_else(|| stored.map(|view| view.direction.clone()));
        Ok(PageArgs {
            page: page as usize,
            page_size: page_size.clamp(1, settings.max_page_size.max(1)),
            // Who names no key, and has no view, gets the order of ids.
            order_by: order_by.unwrap_or_default(),
            order_direction: direction.unwrap_or_default(),
            token: text("next_page_token").unwrap_or_default(),
            cursor: settings.cursor_paging,
            boundary_bug: settings.paging_boundary_bug,
            time_keys_repeat: settings.time_keys_repeat,
        })
    }
}

/// The view that a listing had; a key or direction that nobody named is left out.
fn view_json(args: &PageArgs) -> Value {
    let mut view = json!({"page_size": args.page_size, "view": "grid", "thumbnail": true});
    if !args.order_by.is_empty() {
        view["order"] = args.order_by.clone().into();
    }
    if !args.order_direction.is_empty() {
        view["order_direction"] = args.order_direction.clone().into();
    }
    view
}
