//! Which way to the bytes: what becomes of a signed URL before it is asked.
//!
//! Cloudreve signs only the path and the expiry of its own content URLs, so scheme and host may be exchanged for the
//! address that we know to answer. That is needed: an installation whose site URL was never set hands out
//! `http://localhost:5212/…` to everybody (→ api part 2 §2.2), and one behind a container's name that only its neighbours
//! can resolve. But the host may also be a cache that the administrator put before the server, so it is tried first,
//! unless it is a loopback address. URLs of other storages are used verbatim.

use std::collections::HashMap;
use std::sync::Mutex;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use super::Download;
use crate::address::Address;
use crate::secret::Secret;

/// The path of content that Cloudreve serves itself.
const OWN_CONTENT: &str = "/api/v4/file/content/";

/// The ways, and what was learnt of the hosts on them.
pub(super) struct Routes {
    download: Download,
    address: Address,
    /// By scheme, host and port of content URLs that name another host than the server's own.
    ways: Mutex<HashMap<String, Way>>,
}

/// One way to the content behind a signed URL.
pub(super) struct Route {
    /// What to ask.
    pub(super) url: Secret,
    /// What the server signed.
    pub(super) signed: Secret,
    /// Its host may turn out to be the wrong one: it has never answered, and there is another to try.
    pub(super) is_doubtful: bool,
    is_turned: bool,
}

/// How the content of one host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It has answered at its own address.
    Verbatim,
    /// It did not; the server's own address is being tried.
    TryingOwn,
    /// It has answered at the server's own address.
    Own,
}

impl Routes {
    pub(super) fn new(download: Download, address: Address) -> Self {
        Self {
            download,
            address,
            ways: Mutex::new(HashMap::new()),
        }
    }

    /// The way to ask for the signed URL now.
    pub(super) fn take(&self, signed: &Secret) -> Route {
        let url = signed.expose();
        let at_own_address = match (&self.download, own_content(url)) {
            (Download::Server, Some((_, path))) => Some(path),
            (Download::Direct, Some((host, path))) if self.is_turned(host) => Some(path),
            _ => None,
        };
        Route {
            url: match (&self.download, at_own_address) {
                (_, Some(path)) => Secret::new(format!("{}{path}", self.address)),
                (Download::Proxy(proxy), None) => Secret::new(through(proxy, url)),
                _ => signed.clone(),
            },
            is_turned: at_own_address.is_some(),
            is_doubtful: self.is_doubtful(signed),
            signed: signed.clone(),
        }
    }

    /// The request on this route was not answered as it should. Whether there is another route to try now.
    pub(super) fn failed(&self, route: &Route) -> bool {
        let Some(host) = self.foreign_host(&route.signed) else {
            return false;
        };
        let mut ways = self.ways.lock().unwrap();
        match (route.is_turned, ways.get(host)) {
            (false, None) => {
                ways.insert(host.to_owned(), Way::TryingOwn);
                true
            }
            (false, Some(Way::TryingOwn | Way::Own)) => true,
            // What answered once may have moved out of reach, as a laptop leaves its network: it is doubted again.
            (false, Some(Way::Verbatim)) | (true, Some(Way::TryingOwn)) => {
                ways.remove(host);
                false
            }
            _ => false,
        }
    }

    /// The request on this route was answered with content.
    pub(super) fn answered(&self, route: &Route) {
        let Some(host) = self.foreign_host(&route.signed) else {
            return;
        };
        if is_loopback(host) {
            return;
        }
        let way = match route.is_turned {
            true => Way::Own,
            false => Way::Verbatim,
        };
        let mut ways = self.ways.lock().unwrap();
        if matches!(ways.get(host), Some(Way::Own)) || ways.get(host) == Some(&way) {
            return;
        }
        ways.insert(host.to_owned(), way);
        drop(ways);
        if way == Way::Own {
            log::warn!(
                "{host}, which the server names as its own address, does not answer here; content is read from {} instead. \
                 The server's administrator can mend it with the site URL.",
                self.address
            );
        }
    }

    fn is_turned(&self, host: &str) -> bool {
        if is_loopback(host) {
            return true;
        }
        let ways = self.ways.lock().unwrap();
        matches!(ways.get(host), Some(Way::TryingOwn | Way::Own))
    }

    fn is_doubtful(&self, signed: &Secret) -> bool {
        let host = self.foreign_host(signed);
        host.is_some_and(|host| !is_loopback(host) && self.ways.lock().unwrap().get(host).is_none())
    }

    /// Scheme and host of the URL, where it is content of Cloudreve's own under another host than the address's.
    fn foreign_host<'a>(&self, signed: &'a Secret) -> Option<&'a str> {
        if self.download != Download::Direct {
            return None;
        }
        let (host, _) = own_content(signed.expose())?;
        let url = Url::parse(host).ok()?;
        (!self.address.is_origin_of(&url)).then_some(host)
    }
}

/// Scheme and host, and the rest as it stands, of a URL of content that Cloudreve serves itself.
fn own_content(url: &str) -> Option<(&str, &str)> {
    let host_start = url.find("://")? + 3;
    let path_start = host_start + url[host_start..].find('/')?;
    let (host, path) = url.split_at(path_start);
    path.starts_with(OWN_CONTENT).then_some((host, path))
}

/// The entity that a URL of content that Cloudreve serves itself names; none of other URLs.
pub(super) fn entity_of(url: &str) -> Option<&str> {
    let (_, path) = own_content(url)?;
    let (entity, _) = path.strip_prefix(OWN_CONTENT)?.split_once('/')?;
    (!entity.is_empty()).then_some(entity)
}

/// Whether `host`, with its scheme, is this very machine, wherever it is read.
fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(host) else {
        return false;
    };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        None => false,
    }
}

/// The URL behind a proxy's prefix, or in the place of `{url}`; percent-encoded where it becomes part of a query.
fn through(proxy: &str, url: &str) -> String {
    let (before, after) = proxy.split_once("{url}").unwrap_or((proxy, ""));
    match before.contains('?') {
        true => format!(
            "{before}{}{after}",
            utf8_percent_encode(url, NON_ALPHANUMERIC)
        ),
        false => format!("{before}{url}{after}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &str = "http://cloudreve:5212/api/v4/file/content/e/0/a%20b.txt?sign=x%3D%3A1";
    const OWN: &str = "https://h/cloud/api/v4/file/content/e/0/a%20b.txt?sign=x%3D%3A1";
    const STORAGE: &str = "https://bucket.s3.example/k%2Fey?X-Amz-Signature=1";

    fn routes(download: Download) -> Routes {
        Routes::new(download, "https://h/cloud".parse().unwrap())
    }

    fn take(routes: &Routes, signed: &str) -> Route {
        routes.take(&Secret::new(signed))
    }

    #[track_caller]
    fn check(routes: &Routes, signed: &str, asked: &str) {
        assert_eq!(take(routes, signed).url.expose(), asked);
    }

    #[test]
    fn only_content_urls_of_cloudreve_tell_their_entity() {
        assert_eq!(entity_of(OWN.replace("/cloud", "").as_str()), Some("e"));
        assert_eq!(entity_of(INNER), Some("e"));
        let node = "https://n/api/v4/slave/file/content/1/cGF0aA/0/a?sign=1";
        let relayed = "https://cdn/prefix/api/v4/file/content/e/0/a?sign=1";
        for url in [
            STORAGE,
            node,
            relayed,
            "https://h/api/v4/file/content/e?sign=1",
            "",
        ] {
            assert_eq!(entity_of(url), None, "{url}");
        }
    }

    #[test]
    fn direct_urls_are_asked_verbatim() {
        let routes = routes(Download::Direct);
        check(&routes, INNER, INNER);
        check(&routes, STORAGE, STORAGE);
    }

    #[test]
    fn by_way_of_the_server_its_own_content_is_asked_at_its_address_and_other_urls_stay() {
        let routes = routes(Download::Server);
        check(&routes, INNER, OWN);
        check(&routes, STORAGE, STORAGE);
    }

    #[test]
    fn a_proxy_gets_the_url_behind_its_prefix_or_in_its_template() {
        let proxy = |text: &str| routes(Download::Proxy(text.to_owned()));
        check(
            &proxy("https://p/"),
            "https://s/a?b=c",
            "https://p/https://s/a?b=c",
        );
        check(
            &proxy("https://p/?u={url}&k=1"),
            "https://s/a?b=c",
            "https://p/?u=https%3A%2F%2Fs%2Fa%3Fb%3Dc&k=1",
        );
        check(
            &proxy("https://p/?u="),
            "https://s/a",
            "https://p/?u=https%3A%2F%2Fs%2Fa",
        );
        check(
            &proxy("https://p/{url}"),
            "https://s/a?b=c",
            "https://p/https://s/a?b=c",
        );
    }

    #[test]
    fn a_host_that_never_answered_is_exchanged_for_the_servers_address_and_that_is_remembered() {
        let routes = routes(Download::Direct);
        let first = take(&routes, INNER);
        assert!(first.is_doubtful && routes.failed(&first));
        check(&routes, INNER, OWN);
        routes.answered(&take(&routes, INNER));
        check(&routes, INNER, OWN);
        let later = take(&routes, INNER);
        assert!(!routes.failed(&later), "what has answered stays");
    }

    #[test]
    fn a_host_that_stops_answering_is_doubted_and_then_exchanged() {
        let routes = routes(Download::Direct);
        routes.answered(&take(&routes, INNER));
        let trusted = take(&routes, INNER);
        assert!(!trusted.is_doubtful && !routes.failed(&trusted));
        let doubted = take(&routes, INNER);
        assert!(doubted.is_doubtful && routes.failed(&doubted));
        check(&routes, INNER, OWN);
    }

    #[test]
    fn a_loopback_host_is_never_meant_for_us() {
        let routes = routes(Download::Direct);
        for host in [
            "http://localhost:5212",
            "https://127.0.0.1",
            "http://[::1]:80",
        ] {
            let route = take(&routes, &INNER.replace("http://cloudreve:5212", host));
            assert_eq!(route.url.expose(), OWN);
            assert!(!route.is_doubtful && !routes.failed(&route));
        }
    }

    #[test]
    fn requests_that_fail_side_by_side_do_not_undo_what_one_of_them_found() {
        let routes = routes(Download::Direct);
        let (one, two) = (take(&routes, INNER), take(&routes, INNER));
        assert!(routes.failed(&one));
        let turned = take(&routes, INNER);
        assert!(routes.failed(&two));
        routes.answered(&turned);
        check(&routes, INNER, OWN);
    }

    #[test]
    fn where_neither_way_answers_the_next_try_begins_at_the_beginning() {
        let routes = routes(Download::Direct);
        assert!(routes.failed(&take(&routes, INNER)));
        assert!(!routes.failed(&take(&routes, INNER)));
        check(&routes, INNER, INNER);
    }

    #[test]
    fn a_host_that_has_answered_is_kept_and_a_storages_host_never_exchanged() {
        let routes = routes(Download::Direct);
        routes.answered(&take(&routes, INNER));
        let known = take(&routes, INNER);
        assert!(!known.is_doubtful && !routes.failed(&known));
        for url in [STORAGE, "https://h/api/v4/file/content/e/0/a?sign=1"] {
            assert!(!routes.failed(&take(&routes, url)));
        }
    }
}
