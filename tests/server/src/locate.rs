//! From a URI to what it names, as the server's navigators walk (→ api part 1 §5).

use crate::clock::Time;
use crate::drive::{NodeId, UserId};
use crate::ids::Kind;
use crate::reply::Failure;
use crate::site::Site;
use crate::uri::percent::is_text;
use crate::uri::{FileUri, Realm};

/// Who asks: signed in as a user, or anonymous (→ api part 1 §3.1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) user: Option<UserId>,
    /// Scopes of an OAuth token; none of other tokens.
    pub(crate) scopes: Option<Vec<String>>,
}

/// What was found, and how its path is spelled for the caller.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) node: NodeId,
    pub(crate) realm: Realm,
    /// The URI up to and including the object; of a root, without a slash.
    pub(crate) path: String,
    pub(crate) is_root: bool,
    pub(crate) owned: bool,
    pub(crate) share: Option<u64>,
    /// In a share of one file, which this is: its root, or the file itself.
    pub(crate) single_file: Option<NodeId>,
}

impl Located {
    /// An object of the caller's own, not a root, found by its URI.
    fn own(node: NodeId, realm: Realm, path: String) -> Self {
        let (is_root, owned) = (false, true);
        let (share, single_file) = (None, None);
        Self {
            node,
            realm,
            path,
            is_root,
            owned,
            share,
            single_file,
        }
    }
}

/// A target that need not exist: the last existing ancestor, and the names that are missing below it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) found: Located,
    pub(crate) missing: Vec<String>,
}

impl Site {
    /// The object at a URI; the root of the trash and `shared_with_me` have no object of their own.
    pub(crate) fn locate(
        &self,
        caller: &Caller,
        uri: &FileUri,
        now: Time,
    ) -> Result<Located, Failure> {
        let target = self.locate_target(caller, uri, now)?;
        match target.missing.first() {
            None => Ok(target.found),
            Some(name) => Err(Failure::path_not_exist().chained(format!(
                "failed to get target file: failed to walk into \"{name}\": Path not exist: ent: file not found"
            ))),
        }
    }

    /// As far as a URI exists.
    pub(crate) fn locate_target(
        &self,
        caller: &Caller,
        uri: &FileUri,
        now: Time,
    ) -> Result<Target, Failure> {
        if self.settings.names_are_text && !uri.segments.iter().all(|name| is_text(name)) {
            return Err(Failure::unclassified());
        }
        match uri.realm {
            Realm::My => self.walk(self.my_root(caller, uri)?, &uri.segments),
            Realm::Share => {
                let root = self.share_root(caller, uri, now)?;
                self.walk(root, &uri.segments)
            }
            Realm::Trash => {
                let user = caller.user.ok_or_else(Failure::login_required)?;
                let [name] = &uri.segments[..] else {
                    return Err(Failure::path_not_exist());
                };
                let node = self
                    .accounts
                    .get(&user)
                    .and_then(|account| account.trash.get(name));
                let node = *node.ok_or_else(Failure::path_not_exist)?;
                let found = Located::own(node, Realm::Trash, uri.text());
                Ok(Target {
                    found,
                    missing: Vec::new(),
                })
            }
            Realm::SharedWithMe if caller.user.is_none() => Err(Failure::login_required()),
            Realm::SharedWithMe => Err(Failure::path_not_exist()),
        }
    }

    fn my_root(&self, caller: &Caller, uri: &FileUri) -> Result<Located, Failure> {
        let user = caller.user.ok_or_else(Failure::login_required)?;
        if !uri.id.is_empty() {
            let named = self.ids.decode(Kind::User, &uri.id);
            match named {
                None => return Err(Failure::path_not_exist()),
                Some(id) if id != user => return Err(Failure::new(403, "Permission denied")),
                Some(_) => {}
            }
        }
        let node = self
            .accounts
            .get(&user)
            .ok_or_else(Failure::login_required)?
            .root;
        let root = Located::own(node, Realm::My, uri.base.clone());
        Ok(Located {
            is_root: true,
            ..root
        })
    }

    /// Exists, password, source not trashed, permission of the group: in the order of the server.
    fn share_root(&self, caller: &Caller, uri: &FileUri, now: Time) -> Result<Located, Failure> {
        let absent = || Failure::new(404, "Shared file does not exist");
        let id = self.ids.decode(Kind::Share, &uri.id).ok_or_else(absent)?;
        let share = self.shares.get(&id).ok_or_else(absent)?;
        if let Some(trouble) = self.share_trouble(share, now) {
            return Err(trouble);
        }
        if share.password != uri.password && !share.password.is_empty() {
            return Err(Failure::new(40069, "Incorrect share password"));
        }
        let refused = "You don't have permission to access share links";
        match caller.user {
            Some(user) if user == share.owner => {}
            None if !self.settings.anonymous_may_open_shares => {
                return Err(Failure::new(40088, refused));
            }
            Some(_) if !self.settings.users_may_open_shares => {
                return Err(Failure::new(403, refused));
            }
            _ => {}
        }
        let source = self.drive.get(share.source).ok_or_else(absent)?;
        let single_file = (!source.is_folder()).then_some(share.source);
        // The root of a single-file share is the owner's folder (→ api part 1 §12.2).
        let node = if single_file.is_some() {
            source.parent.unwrap_or(share.source)
        } else {
            share.source
        };
        let owned = caller.user == Some(share.owner);
        let root = Located::own(node, Realm::Share, uri.base.clone());
        let (is_root, share) = (true, Some(id));
        Ok(Located {
            is_root,
            owned,
            share,
            single_file,
            ..root
        })
    }

    fn walk(&self, root: Located, segments: &[String]) -> Result<Target, Failure> {
        let mut found = root;
        if let (Some(file), [name, rest @ ..]) = (found.single_file, segments) {
            let node = self.drive.node(file);
            if node.name != *name || !rest.is_empty() {
                return Err(Failure::path_not_exist());
            }
            let path = join(&found.path, name);
            found = Located {
                node: file,
                path,
                is_root: false,
                ..found
            };
            return Ok(Target {
                found,
                missing: Vec::new(),
            });
        }
        for (depth, name) in segments.iter().enumerate() {
            if self.drive.node(found.node).symbolic {
                return Err(Failure::new(403, "Symbolic folder cannot be walked into"));
            }
            let Some(node) = self.drive.child(found.node, name) else {
                return Ok(Target {
                    found,
                    missing: segments[depth..].to_vec(),
                });
            };
            // Spelled as it is stored, however it was asked for.
            found = Located {
                node,
                path: join(&found.path, &self.drive.node(node).name),
                is_root: false,
                ..found
            };
        }
        Ok(Target {
            found,
            missing: Vec::new(),
        })
    }

    /// Whether the URI names what was found as the server spells it.
    pub(crate) fn is_spelled(&self, found: &Located, uri: &FileUri) -> bool {
        let name = &self.drive.node(found.node).name;
        found.is_root || uri.segments.last() == Some(name)
    }

    /// An object of the caller's own, by its id (→ api part 1 §7.8).
    pub(crate) fn locate_by_id(&self, caller: &Caller, id: &str) -> Result<Located, Failure> {
        let unknown = || Failure::new(40001, "unknown file id");
        let node = self.ids.decode(Kind::File, id).ok_or_else(unknown)?;
        let owner = self
            .drive
            .get(node)
            .ok_or_else(Failure::unclassified)?
            .owner;
        // An anonymous caller, and so one with an expired token, is told this and not 401.
        if caller.user != Some(owner) {
            return Err(Failure::owner_only());
        }
        let top = self.drive.ancestry(node).last().unwrap_or(node);
        let (path, realm) = match &self.drive.node(top).trashed {
            Some(trashed) if top == node => {
                (format!("cloudreve://trash/{}", trashed.uuid), Realm::Trash)
            }
            Some(_) => return Err(Failure::path_not_exist()),
            None => (self.my_path(node), Realm::My),
        };
        let is_root = top == node && realm == Realm::My;
        Ok(Located {
            is_root,
            ..Located::own(node, realm, path)
        })
    }
}

/// The path of a child, escaped as the server does.
pub(crate) fn join(path: &str, name: &str) -> String {
    let mut path = path.to_owned();
    path.push('/');
    crate::uri::percent::escape(name, &mut path);
    path
}
