//! Where a server answers, and what a user may paste to name a drive.
//!
//! [`Address`] is a server's base URL; [`Target`] is what `mount` was asked for: a `cloudreve://` URI or a web
//! page's address, taken apart. Asks nobody: whether something answers there is for others to find out.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::secret::Secret;
use crate::uri::{FileSystem, FileUri, UriError};

/// The base URL of a Cloudreve server: scheme, host, port and an optional prefix; no trailing slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Url);

/// Why a text is not an address; the words are for the user who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `http://` or `https://` with a host.
    #[error("write a server's address as https://host[:port][/prefix]")]
    NotWeb,
    /// A user or password before the host.
    #[error("an address takes no user name or password; use 'login', or a credentials file")]
    Login,
    /// The page names a place that is not a URI.
    #[error("the address's path is not a place on a drive: {0}")]
    Path(#[from] UriError),
}

impl Address {
    /// The URL of an endpoint: `path` begins behind `/api/v4`, with a slash.
    pub fn endpoint(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/api/v4{path}", self.prefix()));
        url
    }

    /// The URL of a page of the web interface: `path` begins with a slash.
    pub fn page(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.prefix()));
        url
    }

    /// The base URL itself.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The host and, where it is not the scheme's own, the port: an account's default profile name.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Whether passwords and files would cross a network unprotected: `http://` to anything but this machine.
    pub fn is_unsafe(&self) -> bool {
        let loopback = match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        self.0.scheme() == "http" && !loopback
    }

    /// Whether `url` has this server's scheme, host and port, so that a token may be sent there.
    pub fn is_origin_of(&self, url: &Url) -> bool {
        self.0.origin() == url.origin()
    }

    fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut url = Url::parse(text.trim()).map_err(|_| AddressError::NotWeb)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(AddressError::NotWeb);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Login);
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = url
            .path()
            .trim_end_matches('/')
            .trim_end_matches("/api/v4")
            .to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `mount` was asked to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server, where the text named one; a `cloudreve://` URI does not.
    pub address: Option<Address>,
    /// The place on it.
    pub uri: FileUri,
}

/// Why a text is not a target; the words are for the user who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Begins with `cloudreve://` and goes wrong behind it.
    #[error("{0}")]
    Uri(#[from] UriError),
    /// Begins with `http` and goes wrong behind it.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// Neither.
    #[error("paste a cloudreve:// URI, or the address of the drive's web page (https://…)")]
    Neither,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        let has_scheme = |scheme: &str| {
            text.get(..scheme.len())
                .is_some_and(|s| s.eq_ignore_ascii_case(scheme))
        };
        if has_scheme("cloudreve://") {
            return Ok(Self {
                address: None,
                uri: FileUri::parse(text)?,
            });
        }
        if !has_scheme("http://") && !has_scheme("https://") {
            return Err(TargetError::Neither);
        }
        Ok(web_page(text)?)
    }
}

/// The first segments of the web interface's pages that show no folder: the one to sign in on is often the one at hand.
const OTHER_PAGES: [&str; 8] = [
    "session",
    "admin",
    "settings",
    "tasks",
    "shares",
    "connect",
    "downloads",
    "profile",
];

/// `https://host[/prefix]`, `…/home?path=URI`, `…/s/ID[/PASSWORD]`, and the pages that show no folder.
fn web_page(text: &str) -> Result<Target, AddressError> {
    let page = Url::parse(text).map_err(|_| AddressError::NotWeb)?;
    let segments: Vec<String> = page
        .path()
        .split('/')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (prefix, uri) = match parts.as_slice() {
        [prefix @ .., "s", id] => (prefix, share(id, None)),
        [prefix @ .., "s", id, password] => (prefix, share(id, Some(password))),
        [prefix @ .., "home"] => (prefix, home(&page)?),
        other => {
            let is_page = |segment: &&str| OTHER_PAGES.contains(segment);
            let prefix_len = other.iter().position(is_page).unwrap_or(other.len());
            (&other[..prefix_len], FileUri::my())
        }
    };
    let mut base = page.clone();
    base.set_path(&prefix.join("/"));
    Ok(Target {
        address: Some(base.as_str().parse()?),
        uri,
    })
}

fn share(id: &str, password: Option<&str>) -> FileUri {
    let plain = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    FileUri::root(FileSystem::Share {
        id: plain(id),
        password: password.map(|password| Secret::new(plain(password))),
    })
}

/// The web interface keeps the folder it shows in `path`: a URI, or (typed by hand) a path below one's own files.
fn home(page: &Url) -> Result<FileUri, UriError> {
    let path = page
        .query_pairs()
        .find(|(key, _)| key == "path")
        .map(|(_, path)| path.into_owned());
    match path {
        None => Ok(FileUri::my()),
        Some(path) if path.is_empty() => Ok(FileUri::my()),
        Some(path) if path.starts_with('/') => FileUri::parse(&format!("cloudreve://my{path}")),
        Some(path) => FileUri::parse(&path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pasted: &str, address: &str, uri: &str) {
        let target: Target = pasted.parse().unwrap();
        let found = target
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        assert_eq!(
            (found.as_str(), target.uri.to_wire().as_str()),
            (address, uri)
        );
    }

    #[test]
    fn whatever_the_user_can_copy_is_taken() {
        check("cloudreve://my/a b", "", "cloudreve://my/a%20b");
        check(
            "https://drive.example.com",
            "https://drive.example.com",
            "cloudreve://my/",
        );
        check(
            "https://drive.example.com/",
            "https://drive.example.com",
            "cloudreve://my/",
        );
        check(
            "https://Drive.Example.com:8443/cloud/",
            "https://drive.example.com:8443/cloud",
            "cloudreve://my/",
        );
        check(
            "https://h/home?path=cloudreve%3A%2F%2Fmy%2Fa%2520b%2523",
            "https://h",
            "cloudreve://my/a%20b%23",
        );
        check(
            "https://h/home?path=cloudreve://my/Photos",
            "https://h",
            "cloudreve://my/Photos",
        );
        check(
            "https://h/home?path=%2FPhotos",
            "https://h",
            "cloudreve://my/Photos",
        );
        check("https://h/home", "https://h", "cloudreve://my/");
        check(
            "https://h/home?path=cloudreve%3A%2F%2FAbCd%3Apw%40share",
            "https://h",
            "cloudreve://AbCd:pw@share/",
        );
        for page in [
            "session/signin?redirect=%2Fhome",
            "admin/dashboard",
            "settings",
        ] {
            check(
                &format!("https://h/cloud/{page}"),
                "https://h/cloud",
                "cloudreve://my/",
            );
        }
        check("https://h/s/AbCd", "https://h", "cloudreve://AbCd@share/");
        check(
            "http://h:5212/s/AbCd/p%20w",
            "http://h:5212",
            "cloudreve://AbCd:p%20w@share/",
        );
        check(
            "https://h/cloud/s/AbCd",
            "https://h/cloud",
            "cloudreve://AbCd@share/",
        );
    }

    #[test]
    fn what_names_no_drive_is_refused() {
        let error = |text: &str| text.parse::<Target>().unwrap_err();
        assert_eq!(error("drive.example.com"), TargetError::Neither);
        assert_eq!(error("ftp://h/"), TargetError::Neither);
        assert_eq!(
            error("https://"),
            TargetError::Address(AddressError::NotWeb)
        );
        assert_eq!(
            error("https://me:pw@h/"),
            TargetError::Address(AddressError::Login)
        );
        assert_eq!(
            error("cloudreve://nowhere/"),
            TargetError::Uri(UriError::FileSystem("nowhere".into()))
        );
    }

    #[test]
    fn endpoints_stand_below_the_prefix() {
        let address: Address = "https://h/cloud/api/v4/".parse().unwrap();
        assert_eq!(address.to_string(), "https://h/cloud");
        assert_eq!(
            address.endpoint("/site/ping").as_str(),
            "https://h/cloud/api/v4/site/ping"
        );
        assert_eq!(
            address.page("/session/authorize").as_str(),
            "https://h/cloud/session/authorize"
        );
    }

    #[test]
    fn clear_text_over_a_network_is_unsafe() {
        let is_unsafe = |text: &str| text.parse::<Address>().unwrap().is_unsafe();
        assert!(is_unsafe("http://drive.example.com"));
        assert!(is_unsafe("http://192.168.1.2:5212"));
        assert!(!is_unsafe("http://localhost:5212"));
        assert!(!is_unsafe("http://127.0.0.1"));
        assert!(!is_unsafe("http://[::1]:5212"));
        assert!(!is_unsafe("https://drive.example.com"));
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_same_origin() {
        let address: Address = "https://h".parse().unwrap();
        assert!(address.is_origin_of(&Url::parse("https://h:443/x").unwrap()));
        assert!(!address.is_origin_of(&Url::parse("http://h/x").unwrap()));
        assert!(!address.is_origin_of(&Url::parse("https://h.evil/x").unwrap()));
    }
}
