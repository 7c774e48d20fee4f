//! What a mount needs of a server, and of the accounts stored for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Check;
use crate::accounts::Accounts;
use crate::address::Address;
use crate::api::{Api, ClientId, Credentials, Error, Options, Told};
use crate::commands::{run_with_api, run_with_apis};
use crate::config::environment::Environment;
use crate::config::{Local, unsafe_address};
use crate::failure::Failure;
use crate::uri::FileUri;

/// Clocks that differ by more confuse people reading times; the server itself refuses tokens "from the future"
/// without any grace, which is why we go by its clock.
const SKEW_NOTED_SECONDS: i64 = 5;

/// Longest wait for the beginning of the stream of changes, which comes at once.
const EVENTS_PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for the name's addresses.
const DNS_PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the way there, the server, the accounts.
pub(super) fn check(
    address: &Address,
    local: &Local,
    environment: &Environment,
) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    if let Some(warning) = unsafe_address(address) {
        checks.push(Check::note(address.to_string(), warning, ""));
    }
    let options = local.api_options(address.clone());
    let api = match Api::new(options.clone(), Credentials::Anonymous) {
        Ok(api) => api,
        Err(err) => {
            checks.push(Check::broken(
                address.to_string(),
                err.to_string(),
                "check --ca-file",
            ));
            return Ok(checks);
        }
    };
    checks.extend(run_with_api(&api, async {
        Ok(reach(&api, environment).await)
    })?);
    let reachable = checks
        .iter()
        .all(|check| check.verdict != super::Verdict::Broken);
    if reachable {
        checks.push(clock(api.health().clock_skew_seconds));
        checks.extend(accounts(address, &options, &local.accounts())?);
    }
    Ok(checks)
}

async fn reach(api: &Api, environment: &Environment) -> Vec<Check> {
    let address = api.address();
    let proxy = proxy(address, environment);
    let mut checks = vec![match proxy {
        // Names are then looked up by the proxy.
        Some(name) => Check::fine(
            "proxy",
            format!("{name} is set; NO_PROXY may except this server"),
        ),
        None => names(address).await,
    }];
    let answered = api.ping().await;
    checks.push(server(address, answered));
    checks
}

/// The variable that names the proxy on the way to `address`; what is on this machine is asked directly.
fn proxy(address: &Address, environment: &Environment) -> Option<&'static str> {
    let is_here = matches!(
        address.url().host_str(),
        Some("localhost" | "127.0.0.1" | "[::1]")
    );
    let variables: &[&'static str] = match (is_here, address.url().scheme()) {
        (true, _) => &[],
        (false, "https") => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        (false, _) => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    variables
        .iter()
        .copied()
        .find(|name| environment.get(name).is_some())
}

async fn names(address: &Address) -> Check {
    let host = address
        .url()
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let what = format!("DNS {host}");
    let port = address.url().port_or_known_default().unwrap_or(443);
    let looked_up = tokio::time::timeout(DNS_PATIENCE, tokio::net::lookup_host((host, port))).await;
    match looked_up {
        Ok(Ok(found)) => {
            let mut found: Vec<String> = found.map(|found| found.ip().to_string()).collect();
            found.dedup();
            Check::fine(what, found.join(", "))
        }
        Ok(Err(err)) => Check::broken(
            what,
            err.to_string(),
            "check the address, and /etc/resolv.conf",
        ),
        Err(_) => Check::broken(
            what,
            "no answer within 10 s",
            "check /etc/resolv.conf and the network",
        ),
    }
}

fn server(address: &Address, answered: Result<String, Error>) -> Check {
    let what = address.to_string();
    match answered {
        Ok(version) if version.starts_with('4') => {
            Check::fine(what, format!("Cloudreve {version} answers"))
        }
        Ok(version) => Check::broken(
            what,
            format!("Cloudreve {version} answers"),
            "this program speaks to Cloudreve V4; update the server",
        ),
        Err(Error::Transport { what: said, source }) => {
            let is_tls = format!("{said} {source:?}")
                .to_lowercase()
                .contains("certificate");
            let fix = match is_tls {
                true => {
                    "check the server's certificate; for an authority of your own use --ca-file"
                }
                false => {
                    "check address and network; where a page came instead of an answer, a proxy or captive portal is in the way"
                }
            };
            Check::broken(what, said, fix)
        }
        Err(Error::Timeout(after)) => Check::broken(
            what,
            format!("no answer within {after:?}"),
            "check address, network and firewall",
        ),
        Err(err) => Check::broken(what, err.to_string(), "the server's log tells more"),
    }
}

fn clock(skew_seconds: i64) -> Check {
    const WHAT: &str = "clock";
    match skew_seconds {
        skew if skew.abs() <= SKEW_NOTED_SECONDS => Check::fine(WHAT, "agrees with the server's"),
        skew => {
            let side = if skew > 0 { "ahead of" } else { "behind" };
            let found = format!(
                "the server's is {} s {side} ours; mounts go by the server's",
                skew.abs()
            );
            Check::note(WHAT, found, "set the wrong one: timedatectl set-ntp true")
        }
    }
}

/// Whether the accounts stored for the server still work.
fn accounts(
    address: &Address,
    options: &Options,
    accounts: &Accounts,
) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let names = accounts.names().unwrap_or_default();
    // What cannot be read was said before, where all accounts were looked at.
    let here = |name: &String| matches!(accounts.load(name), Ok(Some(account)) if account.address == *address);
    for name in names.into_iter().filter(here) {
        let store = Arc::new(accounts.token_store(&name));
        let api = Api::new(options.clone(), Credentials::Stored(store));
        let (asked, told) = match &api {
            Ok(api) => run_with_apis(&[Some(api.clone())], async {
                let asked = api.user().await;
                let told = match &asked {
                    Err(Error::SignedOut(_)) => None,
                    _ => Some(first_word(api).await),
                };
                Ok((asked, told))
            })?,
            Err(err) => (Err(err.clone()), None),
        };
        let what = format!("account {name}");
        let events = told.map(|told| events(&name, told));
        checks.push(match asked {
            Ok(user) => Check::fine(
                what,
                format!("signed in as {}", user.email.unwrap_or(user.nickname)),
            ),
            Err(Error::Denied { .. }) => Check::fine(what, "signed in"),
            // It says the command to type itself.
            Err(err @ Error::SignedOut(_)) => Check::broken(what, err.to_string(), ""),
            Err(err) => Check::broken(
                what,
                err.to_string(),
                "try again; the server's log tells more",
            ),
        });
        checks.extend(events);
    }
    Ok(checks)
}

/// What the stream of what changes in the account's files says first.
async fn first_word(api: &Api) -> Result<Option<Told>, Error> {
    let root = FileUri::parse_wire("cloudreve://my/")
        .map_err(|_| Error::Local("the root of the account has no name".to_owned()))?;
    let word = async {
        let mut events = api.events(&root, &ClientId::random()).await?;
        events.next(EVENTS_PATIENCE).await
    };
    let word = timeout(EVENTS_PATIENCE, word).await;
    word.unwrap_or(Err(Error::Timeout(EVENTS_PATIENCE)))
}

fn events(account: &str, told: Result<Option<Told>, Error>) -> Check {
    let what = format!("events for {account}");
    let without =
        "changes made elsewhere show within --metadata-ttl, and not some 5 s after they are made";
    match told {
        Ok(Some(_)) => Check::fine(what, "the stream of changes begins at once"),
        Err(Error::Unsupported) => Check::note(
            what,
            format!("the server has none, or its administrator switched them off: {without}"),
            "update the server to 4.11 or later, or switch on its event push",
        ),
        Err(Error::Timeout(_)) => Check::note(
            what,
            format!(
                "nothing of the stream came within {} s: {without}",
                EVENTS_PATIENCE.as_secs()
            ),
            "let the proxy in front of the server not buffer it (nginx: proxy_buffering off)",
        ),
        Ok(None) => Check::note(
            what,
            format!("the stream ended before it said anything: {without}"),
            "let the proxy in front of the server keep it open (nginx: proxy_read_timeout 1h)",
        ),
        Err(err) => Check::note(
            what,
            format!("{err}: {without}"),
            "try again; the server's log tells more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_page_in_the_way_and_an_old_server_are_broken_with_their_fixes() {
        let address: Address = "https://h".parse().unwrap();
        let page = Error::Transport {
            what: "not Cloudreve's answer: text/html".into(),
            source: None,
        };
        assert!(server(&address, Err(page)).fix.contains("captive portal"));
        let tls = Error::Transport {
            what: "no connection".into(),
            source: Some(Arc::new(std::io::Error::other("invalid peer certificate"))),
        };
        assert!(server(&address, Err(tls)).fix.contains("--ca-file"));
        assert_eq!(
            server(&address, Ok("3.8.3".into())).verdict,
            Verdict::Broken
        );
        assert_eq!(server(&address, Ok("4.18.0".into())).verdict, Verdict::Fine);
    }

    #[test]
    fn a_stream_that_tells_nothing_is_noted_with_its_fix() {
        let check = |told, verdict, words: &str| {
            let check = events("home", told);
            assert_eq!(check.verdict, verdict, "{}", check.found);
            let said = format!("{} {}", check.found, check.fix);
            assert!(said.contains(words), "{said}");
        };
        check(Ok(Some(Told::Subscribed)), Verdict::Fine, "at once");
        check(Ok(None), Verdict::Note, "proxy_read_timeout");
        let silent = Err(Error::Timeout(EVENTS_PATIENCE));
        check(silent, Verdict::Note, "proxy_buffering");
        check(Err(Error::Unsupported), Verdict::Note, "administrator");
    }

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(clock(-3).verdict, Verdict::Fine);
        assert!(clock(-60).found.contains("60 s behind"));
        assert!(clock(60).found.contains("60 s ahead"));
    }
}
