//! Where something lies: addresses of file systems and files on a server.
//!
//! A [`FileUri`] is the server's `cloudreve://…` in pieces: the file system and the decoded names below it. The
//! server parses URIs as URLs, so a name that is not percent-encoded reaches *another* file (`a#b` is read as
//! `a`; → api part 1 §4.2). Therefore URIs are taken apart and put together here and nowhere else, every name is
//! encoded in full, and two URIs are compared by their pieces, never as text.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::names::ServerName;
use crate::secret::Secret;

/// JavaScript's `encodeURIComponent`, the set the server itself uses for names (→ api part 1 §4.3).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

const SCHEME: &str = "cloudreve://";

/// One of the server's file systems, as seen by an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileSystem {
    /// An account's own files; with an id where the server or the user spelled it out.
    My {
        /// The owner's id as the server prints it; absent for "whoever is signed in".
        owner: Option<String>,
    },
    /// A share link.
    Share {
        /// The share's id; upper and lower case differ.
        id: String,
        /// The share's password, if it was given one.
        password: Option<Secret>,
    },
    /// What was deleted and can be restored; one level only.
    Trash,
    /// Shortcuts to other people's shares; one level only.
    SharedWithMe,
}

/// A file or folder by its place: the file system and the names on the way, decoded.
///
/// `Display` and `Debug` hide a share's password; [`FileUri::to_wire`] is the only way to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileUri {
    file_system: Arc<FileSystem>,
    names: Vec<ServerName>,
}

/// Why a text is not a URI; the words are for the user who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Not `cloudreve://…`.
    #[error("it does not begin with cloudreve://")]
    Scheme,
    /// A file system the server does not have.
    #[error("'{0}' is none of the server's file systems: my, share, trash, shared_with_me")]
    FileSystem(String),
    /// `@share` without an id, or an id where none belongs.
    #[error("a share is named by its id: cloudreve://ID@share or cloudreve://ID:PASSWORD@share")]
    ShareId,
    /// `?…`: a search, which is not a place.
    #[error(
        "what follows '?' is a search, and a search cannot be mounted; write a '?' of a name as %3F"
    )]
    Search,
    /// `.`, `..` or an encoded `/` between slashes.
    #[error("the path has a part the server would read as another place: '{0}'")]
    Segment(String),
    /// Trash and shared_with_me have one level.
    #[error("{0} has no folders to mount below it")]
    OneLevel(&'static str),
}

impl FileUri {
    /// The root of a file system.
    pub fn root(file_system: FileSystem) -> Self {
        Self {
            file_system: file_system.into(),
            names: Vec::new(),
        }
    }

    /// The root of the signed-in account's own files.
    pub fn my() -> Self {
        Self::root(FileSystem::My { owner: None })
    }

    /// Reads what a user typed or pasted: percent-encoded or not.
    ///
    /// Escapes are decoded if every `%` in the path begins one; otherwise the text is taken as it stands, so both
    /// `100%25` and `100% sure` mean what their writer meant. A `#` belongs to the name.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let (file_system, path) = split(text)?;
        if path.contains('?') {
            return Err(UriError::Search);
        }
        let encoded = escapes_are_whole(path);
        let mut uri = Self::root(file_system);
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            uri.names.push(typed_name(segment, encoded)?);
        }
        match uri.file_system() {
            FileSystem::Trash if !uri.is_root() => Err(UriError::OneLevel("the trash")),
            FileSystem::SharedWithMe if !uri.is_root() => Err(UriError::OneLevel("shared_with_me")),
            _ => Ok(uri),
        }
    }

    /// Reads a URI that the server sent: always percent-encoded, possibly with a query or a fragment behind it.
    pub fn parse_wire(text: &str) -> Result<Self, UriError> {
        let (file_system, path) = split(text)?;
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let names = path.split('/').filter(|segment| !segment.is_empty());
        Ok(Self {
            file_system: file_system.into(),
            names: names.map(wire_name).collect(),
        })
    }

    /// The URI as the server takes it, fully encoded. Holds a share's password: not for logs.
    pub fn to_wire(&self) -> String {
        self.text(true)
    }

    /// The file system it lies in.
    pub fn file_system(&self) -> &FileSystem {
        &self.file_system
    }

    /// The names below the root, outermost first.
    pub fn names(&self) -> &[ServerName] {
        &self.names
    }

    /// Whether this is the root of its file system.
    pub fn is_root(&self) -> bool {
        self.names.is_empty()
    }

    /// The last name; none for a root.
    pub fn name(&self) -> Option<&ServerName> {
        self.names.last()
    }

    /// The place called `name` in this folder.
    pub fn child(&self, name: ServerName) -> Self {
        let mut names = Vec::with_capacity(self.names.len() + 1);
        names.extend_from_slice(&self.names);
        names.push(name);
        Self {
            file_system: Arc::clone(&self.file_system),
            names,
        }
    }

    /// The folder it lies in; none for a root.
    pub fn parent(&self) -> Option<Self> {
        let (_, names) = self.names.split_last()?;
        Some(Self {
            file_system: Arc::clone(&self.file_system),
            names: names.to_vec(),
        })
    }

    /// Whether this is `above`, or lies below it.
    pub fn is_within(&self, above: &Self) -> bool {
        self.file_system == above.file_system && self.names.starts_with(&above.names)
    }

    /// Where this is once what was at `from` is at `to`; none where it lies elsewhere.
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let inner = &self.names[from.names.len()..];
        Some(Self {
            file_system: Arc::clone(&to.file_system),
            names: [&to.names[..], inner].concat(),
        })
    }

    fn text(&self, with_password: bool) -> String {
        let mut text = String::from(SCHEME);
        match self.file_system() {
            FileSystem::My { owner: None } => text.push_str("my"),
            FileSystem::My { owner: Some(owner) } => {
                text += &format!("{}@my", component(owner.as_bytes()))
            }
            FileSystem::Share { id, password } => {
                text += &component(id.as_bytes());
                match password {
                    Some(password) if with_password => {
                        text += &format!(":{}", component(password.expose().as_bytes()))
                    }
                    Some(_) => text.push_str(":***"),
                    None => {}
                }
                text.push_str("@share");
            }
            FileSystem::Trash => text.push_str("trash"),
            FileSystem::SharedWithMe => text.push_str("shared_with_me"),
        }
        if self.names.is_empty() {
            text.push('/');
        }
        for name in &self.names {
            text.push('/');
            text += &component(name.as_bytes());
        }
        text
    }
}

/// Reads URIs that the server sends one after the other, most of which lie in the same folder: that is read once.
#[derive(Default)]
pub struct Siblings<'a> {
    /// How URIs of that folder's files begin, without the last slash; and the folder.
    last: Option<(&'a str, FileUri)>,
}

impl<'a> Siblings<'a> {
    /// As [`FileUri::parse_wire`].
    pub fn parse_wire(&mut self, text: &'a str) -> Result<FileUri, UriError> {
        let split = text.rsplit_once('/');
        let Some((above, name)) = split.filter(|(_, name)| !name.is_empty()) else {
            return FileUri::parse_wire(text);
        };
        if text.contains(['?', '#']) {
            return FileUri::parse_wire(text);
        }
        if let Some((last, folder)) = &self.last
            && *last == above
        {
            return Ok(folder.child(wire_name(name)));
        }
        let uri = FileUri::parse_wire(text)?;
        self.last = uri.parent().map(|folder| (above, folder));
        Ok(uri)
    }
}

fn wire_name(segment: &str) -> ServerName {
    let bytes: Cow<'_, [u8]> = percent_decode_str(segment).into();
    ServerName::from_wire(&*bytes)
}

impl fmt::Display for FileUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(false))
    }
}

impl fmt::Debug for FileUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn component(bytes: &[u8]) -> String {
    percent_encode(bytes, COMPONENT).to_string()
}

/// The file system named before the first `/`, and the path behind it.
fn split(text: &str) -> Result<(FileSystem, &str), UriError> {
    let rest = match text.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &text[SCHEME.len()..],
        _ => return Err(UriError::Scheme),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    Ok((file_system(login, host)?, path))
}

fn file_system(login: Option<&str>, host: &str) -> Result<FileSystem, UriError> {
    let (id, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((id, password)) => (
            Some(decoded(id)).filter(|id| !id.is_empty()),
            decoded(password),
        ),
        None => (None, String::new()),
    };
    match host.to_ascii_lowercase().as_str() {
        "my" => Ok(FileSystem::My { owner: id }),
        "share" => Ok(FileSystem::Share {
            id: id.ok_or(UriError::ShareId)?,
            password: Some(Secret::new(password)).filter(|password| !password.is_empty()),
        }),
        "trash" => Ok(FileSystem::Trash),
        "shared_with_me" => Ok(FileSystem::SharedWithMe),
        _ => Err(UriError::FileSystem(host.to_owned())),
    }
}

fn decoded(text: &str) -> String {
    match escapes_are_whole(text) {
        true => percent_decode_str(text).decode_utf8_lossy().into_owned(),
        false => text.to_owned(),
    }
}

fn escapes_are_whole(text: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    (0..bytes.len()).all(|i| bytes[i] != b'%' || (hex(bytes.get(i + 1)) && hex(bytes.get(i + 2))))
}

fn typed_name(segment: &str, encoded: bool) -> Result<ServerName, UriError> {
    let bytes = match encoded {
        true => percent_decode_str(segment).collect::<Vec<u8>>(),
        false => segment.as_bytes().to_vec(),
    };
    match bytes.as_slice() {
        b"." | b".." => Err(UriError::Segment(segment.to_owned())),
        bytes if bytes.contains(&b'/') => Err(UriError::Segment(segment.to_owned())),
        _ => Ok(ServerName::from_wire(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, wire: &str) {
        assert_eq!(FileUri::parse(typed).unwrap().to_wire(), wire);
    }

    #[track_caller]
    fn check_refused(typed: &str, error: UriError) {
        assert_eq!(FileUri::parse(typed), Err(error));
    }

    #[test]
    fn every_file_system_can_be_typed() {
        check("cloudreve://my", "cloudreve://my/");
        check("cloudreve://my/", "cloudreve://my/");
        check("Cloudreve://MY/x", "cloudreve://my/x");
        check("cloudreve://abC@my/x", "cloudreve://abC@my/x");
        check("cloudreve://AbCd@share", "cloudreve://AbCd@share/");
        check(
            "cloudreve://AbCd:p%40ss@share/a",
            "cloudreve://AbCd:p%40ss@share/a",
        );
        check("cloudreve://trash", "cloudreve://trash/");
        check("cloudreve://shared_with_me/", "cloudreve://shared_with_me/");
    }

    #[test]
    fn a_path_may_be_percent_encoded_or_not() {
        check("cloudreve://my/a b/ü#1", "cloudreve://my/a%20b/%C3%BC%231");
        check(
            "cloudreve://my/a%20b/%C3%BC%231",
            "cloudreve://my/a%20b/%C3%BC%231",
        );
        check("cloudreve://my/100%25", "cloudreve://my/100%25");
        check("cloudreve://my/100% sure", "cloudreve://my/100%25%20sure");
        check("cloudreve://my//a///b/", "cloudreve://my/a/b");
        check("cloudreve://my/a+b(1)'!~*", "cloudreve://my/a%2Bb(1)'!~*");
    }

    #[test]
    fn what_would_reach_another_place_is_refused() {
        check_refused("cloudreve://my/a/../b", UriError::Segment("..".into()));
        check_refused(
            "cloudreve://my/%2e%2e/b",
            UriError::Segment("%2e%2e".into()),
        );
        check_refused("cloudreve://my/a%2Fb", UriError::Segment("a%2Fb".into()));
        check_refused("cloudreve://my?name=x", UriError::Search);
        check_refused("cloudreve://my/x?name=x", UriError::Search);
        check_refused("cloudreve://share/x", UriError::ShareId);
        check_refused("cloudreve://@share/x", UriError::ShareId);
        check_refused("cloudreve://mine/x", UriError::FileSystem("mine".into()));
        check_refused("cloudreve://my:80/x", UriError::FileSystem("my:80".into()));
        check_refused("http://my/x", UriError::Scheme);
        check_refused("cloudreve://trash/x", UriError::OneLevel("the trash"));
    }

    #[test]
    fn what_the_server_sends_is_read_literally() {
        let uri = FileUri::parse_wire("cloudreve://my/%FF%FE/a%252e#frag").unwrap();
        assert_eq!(uri.names()[0].as_bytes(), b"\xff\xfe");
        assert_eq!(uri.names()[1].as_bytes(), b"a%2e");
        assert_eq!(uri.to_wire(), "cloudreve://my/%FF%FE/a%252e");
    }

    #[test]
    fn siblings_are_read_as_each_alone_is() {
        let all = [
            "cloudreve://my",
            "cloudreve://my/",
            "cloudreve://my/a",
            "cloudreve://my/b%2fc",
            "cloudreve://my/a/b",
            "cloudreve://my/a/%FF",
            "cloudreve://my/a/",
            "cloudreve://my/a//c",
            "cloudreve://my/a/c",
            "cloudreve://my/a/c?x=/d",
            "cloudreve://my/a/c?x=/e",
            "cloudreve://my/a/c#x/f",
            "cloudreve://my/a/c#x/g",
            "cloudreve://id:pass@share/a",
            "cloudreve://id:pass@share/b",
            "cloudreve://other@share/b",
            "my/a",
            "my/b",
            "cloudreve://nowhere/a",
            "",
        ];
        let mut siblings = Siblings::default();
        for text in all
            .into_iter()
            .flat_map(|one| all.map(|other| [one, other]))
        {
            for text in text {
                assert_eq!(
                    siblings.parse_wire(text),
                    FileUri::parse_wire(text),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_share_password_is_shown_to_the_server_only() {
        let uri = FileUri::parse("cloudreve://AbCd:hunter2@share/docs").unwrap();
        assert_eq!(uri.to_wire(), "cloudreve://AbCd:hunter2@share/docs");
        assert_eq!(
            format!("{uri} {uri:?}"),
            "cloudreve://AbCd:***@share/docs cloudreve://AbCd:***@share/docs"
        );
        assert!(!format!("{:?}", uri.file_system()).contains("hunter2"));
    }

    #[test]
    fn child_and_parent_are_opposites() {
        let root = FileUri::my();
        let child = root.child(ServerName::from_wire(*b"a/b"));
        assert_eq!(child.to_wire(), "cloudreve://my/a%2Fb");
        assert_eq!(child.parent(), Some(root.clone()));
        assert_eq!(root.parent(), None);
    }

    #[test]
    fn what_lies_below_what_is_moved_is_led_there_and_nothing_else_is() {
        let uri = |text: &str| FileUri::parse_wire(text).unwrap();
        let (from, to) = (uri("cloudreve://my/a/b"), uri("cloudreve://my/c"));
        for (at, then) in [
            ("cloudreve://my/a/b", Some("cloudreve://my/c")),
            ("cloudreve://my/a/b/d", Some("cloudreve://my/c/d")),
            ("cloudreve://my/a", None),
            ("cloudreve://my/a/bd", None),
            ("cloudreve://trash/a/b", None),
        ] {
            assert_eq!(uri(at).moved(&from, &to), then.map(uri), "{at}");
            assert_eq!(uri(at).is_within(&from), then.is_some(), "{at}");
        }
    }
}
