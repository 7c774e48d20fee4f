//! `/share/*` and short links (→ api part 1 §12).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::Ctx;
use crate::ids::Kind;
use crate::reply::{Failure, Outcome, Reply};
use crate::site::Share;
use crate::uri::{Action, FileUri, percent};

#[derive(Deserialize)]
struct ShareBody {
    #[serde(default)]
    uri: String,
    #[serde(default)]
    is_private: bool,
    #[serde(default)]
    password: String,
    #[serde(default)]
    downloads: u32,
    #[serde(default)]
    expire: u64,
    #[serde(default)]
    share_view: bool,
}

impl Ctx<'_> {
    /// A wrong password is no error here: the share is just not unlocked.
    pub(super) fn share_info(&mut self) -> Outcome {
        let hash = self.asked.segment(2);
        let invalid = || Failure::new(40001, "Failed to parse object ID");
        let id = self
            .site
            .ids
            .decode(Kind::Share, &hash)
            .ok_or_else(invalid)?;
        let share = self
            .site
            .shares
            .get(&id)
            .ok_or_else(|| Failure::new(404, "Share not found"))?;
        if self.site.share_trouble(share, self.now).is_some() {
            return Err(Failure::new(404, "Share link expired"));
        }
        let password = self.asked.param("password").unwrap_or_default();
        let is_owner = self.caller.user == Some(share.owner);
        let right = share.password.is_empty() || share.password == password;
        if self.flag("count_views")
            && let Some(share) = self.site.shares.get_mut(&id)
        {
            share.visited += 1;
        }
        let share = &self.site.shares[&id];
        let mut view = self
            .site
            .share_view(id, share, self.caller.user, right || is_owner);
        if is_owner && self.flag("owner_extended") {
            // The owner's password is not known to this call, only to the next one inside (→ api part 1 §12.1).
            if !right {
                return Err(Failure::new(40069, "File not found"));
            }
            let user = self.site.ids.encode(Kind::User, share.owner);
            let path = self.site.my_path(share.source);
            view["source_uri"] = path
                .replacen("cloudreve://my", &format!("cloudreve://{user}@my"), 1)
                .into();
        }
        Ok(Reply::data(&view))
    }

    pub(super) fn share_list(&self) -> Outcome {
        let size = self
            .asked
            .param("page_size")
            .and_then(|size| size.parse::<usize>().ok());
        let size = size.filter(|size| (10..=100).contains(size));
        let size = size.ok_or_else(|| Failure::binding("PageSize cannot be empty"))?;
        let after = self
            .asked
            .param("next_page_token")
            .filter(|token| !token.is_empty());
        let after = after.map(|token| {
            self.site
                .ids
                .decode(Kind::Share, token)
                .ok_or_else(Failure::unclassified)
        });
        let after = after.transpose()?.unwrap_or(0);
        let own = self
            .site
            .shares
            .iter()
            .filter(|(id, share)| **id > after && self.caller.user == Some(share.owner));
        let mut own: Vec<_> = own.take(size + 1).collect();
        let more = own.len() > size;
        own.truncate(size);
        let mut pagination = json!({"page": 0, "page_size": size, "is_cursor": true});
        if let (true, Some((last, _))) = (more, own.last()) {
            pagination["next_token"] = self.site.ids.encode(Kind::Share, **last).into();
        }
        let shares = own
            .into_iter()
            .map(|(id, share)| self.site.share_view(*id, share, self.caller.user, true));
        Ok(Reply::data(
            &json!({"shares": shares.collect::<Vec<_>>(), "pagination": pagination}),
        ))
    }

    /// Answers with the link.
    pub(super) fn share_create(&mut self) -> Outcome {
        let body: ShareBody = self.json()?;
        let uri = FileUri::parse(&body.uri)?;
        if self.caller.user.is_none() {
            return Err(Failure::login_required());
        }
        uri.require(Action::Change)?;
        let found = self.locate(&uri)?;
        if body.password.len() > 32
            || !body
                .password
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(Failure::binding("Invalid parameters."));
        }
        let password = match (body.is_private, body.password.is_empty()) {
            (false, _) => String::new(),
            (true, false) => body.password,
            (true, true) => self.site.dice.text(8),
        };
        let id = self.site.add_share(Share {
            owner: self.caller.user.unwrap_or_default(),
            source: found.node,
            password,
            remaining: (body.downloads > 0).then_some(body.downloads),
            downloaded: 0,
            visited: 0,
            created: self.now,
            expires: (body.expire > 0).then(|| self.now.plus(Duration::from_secs(body.expire))),
            view: body.share_view,
        });
        let view = self
            .site
            .share_view(id, &self.site.shares[&id], self.caller.user, true);
        Ok(Reply::data(&view["url"]))
    }

    pub(super) fn share_delete(&mut self) -> Outcome {
        let id = self.site.ids.decode(Kind::Share, &self.asked.segment(1));
        let id = id.ok_or_else(|| Failure::new(40001, "Failed to parse object ID"))?;
        let share = self
            .site
            .shares
            .get(&id)
            .ok_or_else(|| Failure::new(404, "Share not found"))?;
        if self.caller.user != Some(share.owner) {
            return Err(Failure::new(404, "Share not found"));
        }
        self.site.shares.remove(&id);
        Ok(Reply::done())
    }

    /// `/s/{id}[/{password}]` leads into the web UI.
    pub(super) fn short_link(&self) -> Outcome {
        let mut parts = self.asked.path.split('/').skip(2);
        let (id, password) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let user = if password.is_empty() {
            id.to_owned()
        } else {
            format!("{id}:{password}")
        };
        let mut location = "/home?path=".to_owned();
        percent::escape(&format!("cloudreve://{user}@share"), &mut location);
        Ok(Reply::redirect(&location))
    }
}
