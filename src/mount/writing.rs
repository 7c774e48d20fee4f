//! What it takes to write to a mount, and why some cannot be written to.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::api::{Api, PagePosition, Site};
use crate::config::{Account, MountPlan};
use crate::failure::Failure;
use crate::fs::{self, Fs, Owing};
use crate::model::Capabilities;
use crate::mount::debts::Debts;
use crate::mount::explain;
use crate::read::Reader;
use crate::staging::{self, Local, Staging};
use crate::task::Task;
use crate::upload::{News, Uploader};
use crate::uri::FileSystem;

/// Entries to ask for when only the folder itself is of interest.
const PEEK: u32 = 2;

/// Why nothing can be written to the mount of `plan`; none where it can. Asks the server only where that depends on it.
pub(super) async fn read_only_because(
    plan: &MountPlan,
    api: &Api,
    site: &Site,
) -> Result<Option<&'static str>, crate::api::Error> {
    if plan.writing.read_only {
        return Ok(Some("it was asked for"));
    }
    if site.user.anonymous || matches!(plan.account, Account::Anonymous) {
        return Ok(Some("nobody is signed in"));
    }
    let root = &plan.fs.root;
    Ok(match root.file_system() {
        FileSystem::My { .. } => None,
        FileSystem::Trash => Some("it shows the trash"),
        FileSystem::SharedWithMe => Some("it shows what others share"),
        FileSystem::Share { .. } => {
            let page = api.list_page(root, &PagePosition::First, PEEK).await?;
            let allowed = page.folder.capabilities;
            let may = allowed.has(Capabilities::CREATE) && allowed.has(Capabilities::UPLOAD);
            (!may).then_some("this share may only be read")
        }
    })
}

/// What a mount needs that can be written to.
pub(super) struct Begun {
    pub(super) owing: Owing,
    /// What an earlier mount owed.
    pub(super) owed: Vec<Arc<Local>>,
    pub(super) news: UnboundedReceiver<News>,
}

/// Takes over what an earlier mount of this drive owed, and begins to deliver it.
pub(super) fn begin(
    plan: &MountPlan,
    api: &Api,
    options: staging::Options,
    reader: &Arc<Reader>,
) -> Result<Begun, Failure> {
    let (staging, _) = Staging::open(options).map_err(|err| explain::state(&err, plan))?;
    fs::drop_copies(&staging);
    fs::clear_first(&staging);
    // Before anything of it can be delivered.
    let owed = staging.owed();
    let (uploader, news) = Uploader::new(
        api.clone(),
        Arc::clone(&staging),
        fs::complete(reader),
        plan.writing.upload.clone(),
    );
    Ok(Begun {
        owing: Owing { staging, uploader },
        owed,
        news,
    })
}

/// Tells `fs` what became of files, and `debts` before that.
pub(super) fn apply(fs: &Arc<Fs>, mut news: UnboundedReceiver<News>, debts: &Arc<Debts>) -> Task {
    let (fs, debts) = (Arc::clone(fs), Arc::clone(debts));
    Task::spawn(async move {
        while let Some(news) = news.recv().await {
            debts.heard(&news);
            fs.keep_delivered(&news);
            let counts = matches!(news, News::Delivered { .. });
            fs.apply(news);
            if counts {
                debts.applied();
            }
        }
    })
}
