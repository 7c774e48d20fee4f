//! The pools of connections: TLS, proxies, and how long a connection may do nothing.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect, retry};
use url::{Host, Url};

use super::innermost;
use crate::api::{Error, Options};

/// Until a connection stands. Giving up earlier is harmless: nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After this without an acknowledgement from the other kernel, a connection is dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are dropped before common proxies (60 to 75 s) drop them under a request.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Set one of them, and requests may take another way than to the host they name.
const PROXY_VARIABLES: [&str; 6] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// Connections, by the way they take.
pub(super) struct Pools {
    proxied: Client,
    direct: Client,
}

impl Pools {
    /// Fails where the CA file cannot be used.
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let proxied = client(options, false)?;
        let direct = match PROXY_VARIABLES
            .iter()
            .any(|name| std::env::var_os(name).is_some())
        {
            true => client(options, true)?,
            false => proxied.clone(),
        };
        Ok(Self { proxied, direct })
    }

    /// The pool for `url`: the system's proxies, but never for this machine itself.
    pub(super) fn to(&self, url: &Url) -> &Client {
        match is_loopback(url) {
            true => &self.direct,
            false => &self.proxied,
        }
    }
}

/// Whether `url` is on this machine, where no proxy can reach it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn client(options: &Options, direct: bool) -> Result<Client, Error> {
    // Another user of rustls in this process may have installed one; either is good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = authorities(options)?;
    let built = match &authorities {
        None => builder(options, direct).build(),
        Some(own) => builder(options, direct)
            .tls_certs_merge(own.clone())
            .build(),
    };
    match built {
        Ok(client) => Ok(client),
        // A machine without any certificate authority still reaches http:// on loopback; https:// then fails
        // by itself, since nobody is trusted.
        Err(err) if authorities.is_none() => {
            log::warn!("https:// will not work: {}", innermost(&err));
            let builder = builder(options, direct).tls_certs_only([]);
            builder.build().map_err(|err| no_tls(&err))
        }
        Err(err) => Err(no_tls(&err)),
    }
}

fn no_tls(err: &reqwest::Error) -> Error {
    Error::Local(format!("TLS cannot be set up: {}", innermost(err)))
}

fn builder(options: &Options, direct: bool) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(&options.user_agent)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_keepalive_interval(Duration::from_secs(5))
        .tcp_keepalive_retries(3)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    match direct {
        true => builder.no_proxy(),
        false => builder,
    }
}

/// The further certificate authorities that the user named.
fn authorities(options: &Options) -> Result<Option<Vec<Certificate>>, Error> {
    let Some(path) = &options.ca_file else {
        return Ok(None);
    };
    let unusable = |why: String| {
        Error::Local(format!(
            "the CA file {} cannot be used: {why}",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|err| unusable(err.to_string()))?;
    let authorities =
        Certificate::from_pem_bundle(&pem).map_err(|err| unusable(innermost(&err)))?;
    match authorities.is_empty() {
        true => Err(unusable("there is no PEM certificate in it".into())),
        false => Ok(Some(authorities)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        let check = |text: &str| is_loopback(&Url::parse(text).unwrap());
        assert!(check("http://127.0.0.2:5212/x"));
        assert!(check("https://[::1]/"));
        assert!(check("http://localhost:5212"));
        assert!(!check("http://localhost.example.com"));
        assert!(!check("http://10.0.0.1"));
    }

    #[test]
    fn a_ca_file_that_is_none_is_named() {
        let options = Options {
            address: "https://h".parse().unwrap(),
            user_agent: "test/1".into(),
            ca_file: Some("/dev/null".into()),
            timeout: Duration::from_secs(1),
            limit_down_bytes: 0,
            limit_up_bytes: 0,
        };
        let error = Pools::new(&options).err().unwrap().to_string();
        assert!(error.contains("/dev/null"), "{error}");
    }
}
