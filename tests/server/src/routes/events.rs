//! `GET /file/events`: who may follow what (→ api part 1 §13.1).

use super::{Ctx, is_uuid};
use crate::hub::Terms;
use crate::reply::{Body, Failure, Outcome, Reply};
use crate::uri::Realm;

impl Ctx<'_> {
    pub(super) fn events(&mut self) -> Outcome {
        let settings = self.site.settings.events.clone();
        if !settings.enabled {
            return Err(Failure::new(40019, "This feature is not enabled"));
        }
        let uri = self.uri_param()?;
        let user = self.caller.user.ok_or_else(Failure::login_required)?;
        let folder = match uri.realm {
            Realm::Trash if uri.segments.is_empty() => {
                // The folder that the listing tells is none, and the handler panics (→ api part 1 §16.28).
                return Ok(Reply::panic());
            }
            // The folder that the listing tells is the root of one's own drive (→ api part 1 §5.3).
            Realm::SharedWithMe if uri.segments.is_empty() => self.site.accounts[&user].root,
            _ => {
                let found = self.listed(&uri).map_err(|failure| Failure {
                    msg: "Requested uri not available".to_owned(),
                    ..failure
                })?;
                if found.single_file.is_some() {
                    let refused = "Event subscriptions are not supported on this view";
                    return Err(Failure::new(403, refused));
                }
                found.node
            }
        };
        let client = self.asked.header("x-cr-client-id").unwrap_or_default();
        match client {
            "" => return Err(Failure::new(40001, "Client ID is required")),
            client if !is_uuid(client) => return Err(Failure::new(40001, "Invalid client ID")),
            _ => {}
        }
        let terms = Terms {
            debounce: settings.debounce,
            max_age: settings.max_age,
        };
        let (hub, now) = (&mut self.site.hub, self.now);
        let stream = hub.subscribe(folder, client, user, terms, settings.keep_alive, now);
        let mut reply = Reply::new(200, "text/event-stream;charset=utf-8", "");
        reply.set("cache-control", "no-cache");
        reply.set("connection", "keep-alive");
        reply.set("x-accel-buffering", "no");
        reply.body = Body::Events(stream);
        Ok(reply)
    }
}
