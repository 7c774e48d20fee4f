//! Looks for a server that cannot be reached, so that its return is noticed though nobody asks for anything.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::api::Api;

/// How often it is looked for.
const PERIOD: Duration = Duration::from_secs(1);

/// So many answers are waited for at once, on a network that swallows what it is sent.
const WAITING: usize = 8;

/// Looks for the server behind `api` whenever it cannot be reached.
pub(super) async fn probe(api: Api) {
    loop {
        api.reach().down().await;
        log::warn!(
            "{} cannot be reached: what is known of it counts until it is back",
            api.address()
        );
        let mut waiting = JoinSet::new();
        while api.reach().is_down() {
            while waiting.try_join_next().is_some() {}
            if waiting.len() < WAITING {
                let api = api.clone();
                // Whoever gets an answer says so to all.
                waiting.spawn(async move { api.ping().await.map(drop) });
            }
            sleep(PERIOD).await;
        }
        log::info!("{} is back", api.address());
    }
}
