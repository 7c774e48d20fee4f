//! Endpoints that change names and places: create, rename, move, copy, delete; and what bounds and guards such changes.
//!
//! Never repeats what the server may have done: after [`Error::Transport`], [`Error::Timeout`] or [`Error::Trouble`] the
//! caller looks. What met a lock that lasts for milliseconds, or a change under way, is asked again for about a second;
//! other locks are [`Error::Locked`] at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::{Discriminant, discriminant};

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::call::Call;
use super::error::Asked;
use super::files::{info_of, on};
use super::paths::{Moving, Sending};
use super::wire::{Head, WireExplorer, WireSettings, most_telling};
use super::{Api, Error};
use crate::model::{EntityId, FileInfo, FileKind};
use crate::names::ServerName;
use crate::secret::Secret;
use crate::uri::{FileSystem, FileUri};

/// Longest value of metadata, in bytes: more is refused, and with an upload session only when it is too late
/// (→ api part 1 §9.3, part 2 §5.1).
pub const METADATA_VALUE_MAX_BYTES: usize = 65_535;

/// What a site that says nothing of it takes at once: far below the 3000 that are usual.
const BATCH_UNTOLD: usize = 100;
/// The code of a batch that is too large.
const BATCH_TOO_LARGE: i64 = 40074;
/// The server's word for trouble with its database, and for a creation that lost a race (→ api part 1 §8.1).
const DATABASE: i64 = 50001;

/// Where what is deleted goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delete {
    /// To the trash.
    Trash,
    /// Nowhere.
    Permanent,
}

/// Who holds a lock that was met, as far as the server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// What is locked: not always what was asked for, it may lie below that.
    pub uri: Option<FileUri>,
    /// Takes the lock away; told to the owner of the file only.
    pub token: Option<Secret>,
    /// `upload`, `rename`, …
    pub application: String,
}

impl Owner {
    /// Whether such a lock lasts no longer than one request (→ api part 1 §11). Never to be taken away: a lock of several
    /// parts would be left in pieces.
    pub fn is_brief(&self) -> bool {
        matches!(
            self.application.as_str(),
            "create"
                | "rename"
                | "moveCopy"
                | "delete"
                | "softDelete"
                | "updateMetadata"
                | "versionControl"
        )
    }
}

/// A folder is on its way to another place while this lives, and whoever has its paths knows it by them.
#[derive(Debug)]
pub struct OnItsWay<'a> {
    moving: Moving<'a>,
}

impl OnItsWay<'_> {
    /// Whether nobody is at it any more.
    pub fn is_alone(&self) -> bool {
        self.moving.is_alone()
    }

    /// It came to `answer`. Where that is of nothing that was done, it is as if nobody had asked for it.
    pub fn ended<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        self.moving.ended(answer)
    }
}

/// Folders that this client does not move while this lives.
#[derive(Debug)]
pub struct Steady<'a> {
    _sending: Vec<Sending<'a>>,
}

impl Api {
    /// `POST /file/create` of a folder. [`Error::Exists`] where something of that name is there. Missing folders above are
    /// made by the server: the caller knows that they are there, and that the name [is told apart](Api::is_told_apart).
    /// [`Error::NotFound`] where a move of ours came in between and they are not there any more.
    /// `metadata` is what it has from the first moment on.
    pub async fn create_folder(
        &self,
        uri: &FileUri,
        metadata: &BTreeMap<String, String>,
    ) -> Result<FileInfo, Error> {
        self.create(uri, "folder", FileKind::Folder, metadata).await
    }

    /// `POST /file/create` of an empty file; exclusive, as [`Api::create_folder`].
    pub async fn create_file(
        &self,
        uri: &FileUri,
        metadata: &BTreeMap<String, String>,
    ) -> Result<FileInfo, Error> {
        self.create(uri, "file", FileKind::File, metadata).await
    }

    async fn create(
        &self,
        uri: &FileUri,
        word: &str,
        kind: FileKind,
        metadata: &BTreeMap<String, String>,
    ) -> Result<FileInfo, Error> {
        let mut body = json!({ "uri": uri.to_wire(), "type": word, "err_on_conflict": true });
        if !metadata.is_empty() {
            let told = metadata.iter();
            check_metadata(told.map(|(key, value)| (key.as_str(), value.as_str())))?;
            body["metadata"] = json!(metadata);
        }
        let call = on(Call::send(Method::POST, "/file/create", &body), uri);
        let _sending = self.sending(uri, true).await?;
        let made = self.file(call).await.map(|info| FileInfo {
            // The answer does not say so, but it has what it was made with (→ api part 1 §8.1).
            metadata: info.metadata.or_else(|| Some(metadata.clone())),
            ..info
        });
        match made {
            // It came in between.
            Ok(info) if self.spelled(uri, info.clone()).is_err() => Err(Error::Exists),
            // A folder that was to be made, and a file that came in between (→ api part 1 §8.1).
            Ok(info) if info.kind != kind => Err(Error::Exists),
            Err(Error::Trouble { code, said }) if code == DATABASE => match self.info(uri).await {
                Ok(_) => Err(Error::Exists),
                Err(_) => Err(Error::Trouble { code, said }),
            },
            answer => answer.inspect(|_| self.is_there(uri)),
        }
    }

    /// `POST /file/rename`, within its folder; [`Error::Exists`] where the name is taken. A folder below which somebody
    /// uploads is [`Error::Locked`]. Names that are no UTF-8 can be created, but not be renamed to.
    pub async fn rename(&self, uri: &FileUri, to: &ServerName) -> Result<FileInfo, Error> {
        let name = std::str::from_utf8(to.as_bytes()).map_err(|_| Error::NameRefused {
            said: "a file cannot be renamed to what is no UTF-8".into(),
        })?;
        let body = json!({ "uri": uri.to_wire(), "new_name": name });
        let moves = uri
            .parent()
            .map(|folder| (uri.clone(), folder.child(to.clone())));
        let moving = self.moving(moves).await;
        let call = on(Call::send(Method::POST, "/file/rename", &body), uri);
        moving.ended(self.file(call).await)
    }

    /// `POST /file/move` into `folder`, which must be there. Names are kept; where one of them is taken it is
    /// [`Error::Exists`] and none is moved. Where some are absent, the others are moved all the same and the error is
    /// theirs. What is in `folder` already is locked by this very call: do not ask for it.
    pub async fn move_into(&self, uris: &[FileUri], folder: &FileUri) -> Result<(), Error> {
        let to = |uri: &FileUri| Some((uri.clone(), folder.child(uri.name()?.clone())));
        let moving = self.moving(uris.iter().filter_map(to)).await;
        moving.ended(self.transplant(uris, folder, false).await)
    }

    /// Something is sent to `uri` while this lives: what `is_new` there, else a new version of what is there already. An error
    /// where a move of ours took that, or the folder of what is new, away a moment ago.
    pub(super) async fn sending(&self, uri: &FileUri, is_new: bool) -> Result<Sending<'_>, Error> {
        let paths = &self.0.remembered.paths;
        let sending = paths.send(uri, self.0.timeout / 2).await;
        let needed = match is_new {
            // A root is there, and nobody moves it.
            true => uri.parent().filter(|folder| folder.name().is_some()),
            false => Some(uri.clone()),
        };
        if let Some(needed) = needed.filter(|needed| paths.may_have_left(needed)) {
            self.file(info_of(&needed)).await?;
        }
        Ok(sending)
    }

    /// None of `folders`, and nothing above them, is moved by this client while this lives. Moves that are under way are waited
    /// for, no longer than half a call may take.
    pub async fn steady(&self, folders: &[&FileUri]) -> Steady<'_> {
        let (paths, until) = (
            &self.0.remembered.paths,
            Instant::now() + self.0.timeout / 2,
        );
        let mut steady = Vec::with_capacity(folders.len());
        for folder in folders {
            let longest = until.saturating_duration_since(Instant::now());
            steady.push(paths.send(folder, longest).await);
        }
        Steady { _sending: steady }
    }

    /// The folder at `from` goes to `to`, in one call or several: nobody sends anything to it or below, or moves anything there,
    /// from its beginning until everybody here knows where it is. Waits for those who are at it, no longer than half a call may
    /// take.
    pub async fn on_its_way(&self, from: &FileUri, to: &FileUri) -> OnItsWay<'_> {
        let moving = self.moving([(from.clone(), to.clone())]).await;
        OnItsWay { moving }
    }

    async fn moving(&self, moves: impl IntoIterator<Item = (FileUri, FileUri)>) -> Moving<'_> {
        let (paths, moves) = (&self.0.remembered.paths, Vec::from_iter(moves));
        paths.moves(&moves, self.0.timeout / 2).await
    }

    /// Where what was at `uri` a moment ago is since all that was moved by this client.
    pub fn moved_since(&self, uri: &FileUri) -> FileUri {
        self.0.remembered.paths.now(uri)
    }

    /// As [`Api::move_into`], as copies that share the content; their ids are not told. Copies of what is being uploaded
    /// carry the mark of that upload.
    pub async fn copy_into(&self, uris: &[FileUri], folder: &FileUri) -> Result<(), Error> {
        self.transplant(uris, folder, true).await
    }

    async fn transplant(&self, uris: &[FileUri], to: &FileUri, copy: bool) -> Result<(), Error> {
        let Some(first) = uris.first() else {
            return Ok(());
        };
        let body = json!({ "uris": wire(uris), "dst": to.to_wire(), "copy": copy });
        let call = on(Call::send(Method::POST, "/file/move", &body), first).lengthy();
        self.batch(call).await.map(drop)
    }

    /// `DELETE /file`, recursive: what became of each. At most [`Api::batch_max`], none twice and none below another one:
    /// such batches lock themselves out. A lock met by one of them is an error of all, and none is deleted.
    pub async fn delete(
        &self,
        uris: &[FileUri],
        how: Delete,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let Some(first) = uris.first() else {
            return Ok(Vec::new());
        };
        let body = json!({ "uris": wire(uris), "skip_soft_delete": how == Delete::Permanent });
        let call = on(Call::send(Method::DELETE, "/file", &body), first);
        let head = self.batch(call.itemised().lengthy()).await?;
        let asked = match first.file_system() {
            FileSystem::Share { .. } => Asked::Share,
            _ => Asked::Own,
        };
        let error = |head: &Head| head.error(asked, &self.advice());
        Ok(outcomes(&head, uris, error))
    }

    /// [`Api::delete`] of one.
    pub async fn delete_one(&self, uri: &FileUri, how: Delete) -> Result<(), Error> {
        let outcomes = self.delete(std::slice::from_ref(uri), how).await?;
        outcomes.into_iter().next().unwrap_or(Ok(()))
    }

    async fn batch(&self, call: Call) -> Result<Head, Error> {
        let answer = self.0.envelope(call).await;
        if let Err(Error::Refused { code, .. }) = &answer
            && *code == BATCH_TOO_LARGE
        {
            self.0.remembered.batch_max.forget();
        }
        Ok(answer?.head)
    }

    /// How many URIs one call may have, by `GET /site/config/explorer`; at least 1. Asked for every five minutes, or after a
    /// batch was too large.
    pub async fn batch_max(&self) -> Result<usize, Error> {
        let known = &self.0.remembered.batch_max;
        if let Some(most) = known.get(Instant::now()) {
            return Ok(most);
        }
        let call = Call::get("/site/config/explorer").about(Asked::Other);
        let explorer: WireExplorer = self.0.ask(call).await?;
        let most = usize::try_from(explorer.max_batch_size).unwrap_or(0);
        let most = if most == 0 { BATCH_UNTOLD } else { most };
        known.set(most, Instant::now());
        Ok(most)
    }

    /// `PATCH /file/metadata`: sets what has a value, removes what has none, all or nothing. Refused without being asked
    /// where a value is longer than [`METADATA_VALUE_MAX_BYTES`]. Two at once for one file lock each other out.
    pub async fn patch_metadata(
        &self,
        uri: &FileUri,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Error> {
        check_metadata(changes.iter().filter_map(|(key, value)| {
            value.as_ref().map(|value| (key.as_str(), value.as_str()))
        }))?;
        let patches = changes.iter().map(|(key, value)| match value {
            Some(value) => json!({ "key": key, "value": value }),
            None => json!({ "key": key, "remove": true }),
        });
        let patches: Vec<_> = patches.collect();
        let body = json!({ "uris": [uri.to_wire()], "patches": patches });
        let call = on(Call::send(Method::PATCH, "/file/metadata", &body), uri);
        self.0.envelope(call).await.map(drop)
    }

    /// `POST /file/version/current`: a version that is not current becomes so. [`Error::EntityGone`] where it is gone.
    pub async fn make_current(&self, uri: &FileUri, entity: &EntityId) -> Result<(), Error> {
        let body = json!({ "uri": uri.to_wire(), "version": &*entity.0 });
        let call = on(
            Call::send(Method::POST, "/file/version/current", &body),
            uri,
        );
        self.0.envelope(call).await.map(drop)
    }

    /// `DELETE /file/version`: drops a version that is not current. [`Error::EntityGone`] where it is gone,
    /// [`Error::Denied`] where it is the current one.
    pub async fn delete_version(&self, uri: &FileUri, entity: &EntityId) -> Result<(), Error> {
        let body = json!({ "uri": uri.to_wire(), "version": &*entity.0 });
        let call = on(Call::send(Method::DELETE, "/file/version", &body), uri);
        self.0.envelope(call).await.map(drop)
    }

    /// Whether the server keeps the version that a new one replaces, of a file of this name, by `GET /user/setting`; asked
    /// for every five minutes. The account's own settings: those of the owner of a share are not told.
    pub async fn keeps_versions(&self, name: &ServerName) -> Result<bool, Error> {
        let known = &self.0.remembered.settings;
        let settings = match known.get(Instant::now()) {
            Some(settings) => settings,
            None => {
                let settings: WireSettings = self.0.ask(Call::get("/user/setting")).await?;
                known.set(settings.clone(), Instant::now());
                settings
            }
        };
        Ok(settings.keeps_versions_of(name.as_bytes()))
    }

    /// `DELETE /file/lock`: takes locks away by the tokens that [`Error::Locked`] brought, all or none; nobody asks whose
    /// they are. For what is left of an upload of our own; never for an [`Owner::is_brief`].
    pub async fn unlock(&self, tokens: &[Secret]) -> Result<(), Error> {
        let tokens: Vec<&str> = tokens.iter().map(Secret::expose).collect();
        let call = Call::send(Method::DELETE, "/file/lock", &json!({ "tokens": tokens }));
        self.0.envelope(call).await.map(drop)
    }
}

fn wire(uris: &[FileUri]) -> Vec<String> {
    uris.iter().map(FileUri::to_wire).collect()
}

/// Whether the server can store these values.
pub(super) fn check_metadata<'a>(
    metadata: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    for (key, value) in metadata {
        if value.len() > METADATA_VALUE_MAX_BYTES {
            return Err(Error::Refused {
                code: 0,
                said: format!("the value of {key} is longer than the server stores"),
            });
        }
    }
    Ok(())
}

/// Two URIs are the same where file system and names are, whatever their text (→ api part 1 §1.5).
type Place = (Discriminant<FileSystem>, Vec<ServerName>);

fn place(uri: &FileUri) -> Place {
    (discriminant(uri.file_system()), uri.names().to_vec())
}

/// What became of each of `uris`. What the answer names failed; what it names and nobody asked for makes every other one
/// doubtful, and none of these is called done.
fn outcomes(
    head: &Head,
    uris: &[FileUri],
    error: impl Fn(&Head) -> Error,
) -> Vec<Result<(), Error>> {
    if head.code == 0 {
        return vec![Ok(()); uris.len()];
    }
    if uris.len() == 1 {
        return vec![Err(error(head))];
    }
    let asked: HashSet<Place> = uris.iter().map(place).collect();
    let mut failed: HashMap<Place, &Head> = HashMap::new();
    let mut unknown = Vec::new();
    for (item, nested) in head.items() {
        match FileUri::parse_wire(item).map(|uri| place(&uri)) {
            Ok(place) if asked.contains(&place) => {
                failed.insert(place, nested);
            }
            _ => unknown.push(nested),
        }
    }
    let doubt = match head.items().next() {
        Some(_) => most_telling(unknown.into_iter()),
        // Something failed, and nobody knows what.
        None => Some(head),
    };
    uris.iter()
        .map(|uri| match failed.get(&place(uri)).copied().or(doubt) {
            Some(nested) => Err(error(nested)),
            None => Ok(()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn my(path: &str) -> FileUri {
        FileUri::parse(&format!("cloudreve://my/{path}")).unwrap()
    }

    fn check(envelope: &str, expected: &[&str]) {
        let head = Head::read(envelope.as_bytes()).unwrap();
        let uris = [my("a b"), my("c#"), my("d")];
        let outcomes = outcomes(&head, &uris, |head| head.error(Asked::Own, ""));
        let words: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| outcome.map_or_else(|error| format!("{error:?}"), |()| "done".into()))
            .collect();
        let short: Vec<&str> = words
            .iter()
            .map(|word| word.split([' ', '(']).next().unwrap_or_default())
            .collect();
        assert_eq!(short, expected, "{envelope}");
    }

    #[test]
    fn each_of_a_batch_has_the_outcome_the_server_names_however_it_writes_the_uri() {
        check(r#"{"code":0,"msg":""}"#, &["done", "done", "done"]);
        check(
            r#"{"code":40081,"aggregated_error":{
                "cloudreve://my/a%20b":{"code":40016},
                "cloudreve://my/c%23?x=y":{"code":40082}}}"#,
            &["NotFound", "Denied", "done"],
        );
        check(
            r#"{"code":40081,"aggregated_error":{"cloudreve://my@my/d/":{"code":40016}}}"#,
            &["done", "done", "NotFound"],
        );
    }

    #[test]
    fn a_failure_that_names_nothing_we_asked_for_leaves_nothing_done() {
        check(
            r#"{"code":40081,"aggregated_error":{
                "cloudreve://my/d":{"code":40016},
                "cloudreve://my/else":{"code":40016},
                "nonsense":{"code":40082}}}"#,
            &["Denied", "Denied", "NotFound"],
        );
        check(
            r#"{"code":40081,"aggregated_error":{}}"#,
            &["Refused", "Refused", "Refused"],
        );
    }
}
