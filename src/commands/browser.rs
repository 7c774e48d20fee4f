//! Signing in with the browser: authorization code and PKCE (→ api part 1 §3.8).
//!
//! The person consents on the server's own page; the code comes back to a listener on this machine where the
//! redirect leads there, or is pasted.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::address::Address;
use crate::api::{Api, Error};
use crate::commands::captcha;
use crate::commands::terminal::Terminal;
use crate::commands::{say, told};
use crate::config::environment::Environment;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::tokens::Tokens;

/// The desktop client that every installation is seeded with (→ inventory/migration.go, migrateOAuthClient).
const DESKTOP_CLIENT: &str = "393a1839-f52e-498e-9972-e77cc2241eee";

/// Its secret: a constant in the server's public source, the same everywhere, so that this is a public client in all
/// but name and PKCE is what protects the code. Not a secret of anybody's.
const DESKTOP_SECRET: &str = "8GaQIu3lOSdqYoDHi9cR8IZ4pvuMH8ya";

const DESKTOP_REDIRECT: &str = "/callback/desktop";

/// All scopes the desktop client is registered with. A consent with fewer would invalidate the tokens of the official
/// desktop program of the same user: the server keeps one grant for each user and client.
const DESKTOP_SCOPES: &str =
    "profile email openid offline_access UserInfo.Write Workflow.Write Files.Write Shares.Write";

/// What a client of one's own has to be registered with, literally.
const OWN_SCOPES: &str = "openid offline_access UserInfo.Write Files.Write Shares.Write";

/// How long the person may take: so long a code lives on the server.
const PATIENCE: Duration = Duration::from_secs(600);

/// Most that is read of a browser's request; a code has 128 characters.
const REQUEST_MAX_BYTES: usize = 16 << 10;

/// As which program we ask.
pub(super) struct Client {
    id: String,
    secret: Secret,
    redirect: String,
    scopes: &'static str,
}

impl Client {
    /// The server's own desktop client, or the one the administrator registered for us.
    pub(super) fn decide(
        id: Option<String>,
        redirect: Option<String>,
        secret: Option<Secret>,
    ) -> Result<Self, Failure> {
        let Some(id) = id else {
            return Ok(Self {
                id: DESKTOP_CLIENT.to_owned(),
                secret: Secret::new(DESKTOP_SECRET),
                redirect: DESKTOP_REDIRECT.to_owned(),
                scopes: DESKTOP_SCOPES,
            });
        };
        let secret = secret.ok_or_else(|| {
            Failure::usage("--oauth-client needs its secret in CLOUDREVE_OAUTH_SECRET")
        })?;
        let redirect = redirect.ok_or_else(|| {
            Failure::usage(
                "--oauth-client needs --oauth-redirect, a redirect URL registered for it",
            )
        })?;
        Ok(Self {
            id,
            secret,
            redirect,
            scopes: OWN_SCOPES,
        })
    }
}

/// One try at signing in: what goes with the request and must come back or be shown again.
struct Attempt {
    state: String,
    verifier: Secret,
}

impl Attempt {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            state: random()?,
            verifier: Secret::new(random()?),
        })
    }

    fn page(&self, address: &Address, client: &Client) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose().as_bytes()));
        let mut page = address.page("/session/authorize");
        page.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", &client.redirect)
            .append_pair("scope", client.scopes)
            .append_pair("state", &self.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        page
    }

    /// The code in what came back: a whole link, or the code alone.
    fn code(&self, pasted: &str) -> Result<Secret, Failure> {
        let pasted = pasted.trim();
        let query = match pasted.split_once('?') {
            Some((_, query)) => query.split('#').next().unwrap_or_default(),
            None if pasted.contains("code=") => pasted,
            None if !pasted.is_empty()
                && pasted
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c)) =>
            {
                return Ok(Secret::new(pasted));
            }
            None => {
                return Err(Failure::failed(
                    "that is neither a link with 'code=' in it nor a code",
                ));
            }
        };
        let value = |key: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.into_owned())
        };
        match (value("code"), value("state"), value("error")) {
            (_, _, Some(error)) => Err(Failure::failed(format!("the server's page said: {error}"))),
            (Some(_), Some(state), _) if state != self.state => Err(Failure::failed(
                "that link belongs to another sign-in; open the link above and paste what it leads to",
            )),
            (Some(code), ..) if !code.is_empty() => Ok(Secret::new(code)),
            _ => Err(Failure::failed(
                "there is no 'code=' in that link; paste the whole link the page leads to",
            )),
        }
    }
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|err| Failure::failed(format!("no randomness: {err}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Signs in by the browser.
pub(super) async fn sign_in(
    api: &Api,
    client: &Client,
    terminal: Option<Terminal>,
    environment: &Environment,
) -> Result<Tokens, Failure> {
    let address = api.address().clone();
    match api.oauth_app(&client.id).await {
        Ok(_) => {}
        Err(Error::NotFound | Error::Unsupported) => {
            return Err(Failure::failed(format!(
                "{address} has no such OAuth client, or is older than 4.12: sign in with --username instead"
            )));
        }
        Err(err) => return Err(told(&address, &err)),
    }
    let listener = listener(&client.redirect).await?;
    if listener.is_none() && terminal.is_none() {
        return Err(Failure::failed(
            "--browser needs a terminal to paste the answer into, or --oauth-redirect http://127.0.0.1:PORT/…",
        ));
    }
    let attempt = Attempt::new()?;
    let page = attempt.page(&address, client);
    say(&format!(
        "Open this link, and allow the access:\n\n  {page}\n"
    ));
    if ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| environment.get(name).is_some())
    {
        captcha::open(page.as_str());
    }
    let answered = tokio::time::timeout(
        PATIENCE,
        answer(&attempt, &client.redirect, listener, terminal),
    );
    let code = answered
        .await
        .map_err(|_| Failure::failed("no answer within ten minutes; begin again"))??;
    let tokens = api
        .oauth_exchange(&client.id, &client.secret, &code, &attempt.verifier)
        .await;
    tokens.map_err(|err| told(&address, &err))
}

/// The code, from whichever way brings it first.
async fn answer(
    attempt: &Attempt,
    redirect: &str,
    listener: Option<TcpListener>,
    terminal: Option<Terminal>,
) -> Result<Secret, Failure> {
    match (listener, terminal) {
        (Some(listener), Some(terminal)) => tokio::select! {
            code = listen(attempt, redirect, &listener) => code,
            code = pasted(attempt, terminal) => code,
        },
        (Some(listener), None) => listen(attempt, redirect, &listener).await,
        (None, Some(terminal)) => pasted(attempt, terminal).await,
        (None, None) => Err(Failure::failed(
            "there is no way for the answer to come back",
        )),
    }
}

async fn pasted(attempt: &Attempt, terminal: Terminal) -> Result<Secret, Failure> {
    let question =
        "Paste the address that the browser then shows (it has 'code=' in it), or the code";
    loop {
        match attempt.code(&terminal.line(question).await?) {
            Ok(code) => return Ok(code),
            Err(failure) => say(&failure.to_string()),
        }
    }
}

/// Listens where the redirect leads, if that is this machine and a port of its own.
async fn listener(redirect: &str) -> Result<Option<TcpListener>, Failure> {
    let Ok(url) = Url::parse(redirect) else {
        return Ok(None);
    };
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let (true, "http", Some(port)) = (is_here, url.scheme(), url.port()) else {
        return Ok(None);
    };
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let bound = TcpListener::bind((host, port)).await;
    bound.map(Some).map_err(|err| {
        Failure::failed(format!(
            "--oauth-redirect {redirect}: it cannot be listened on: {err}"
        ))
    })
}

/// Answers browsers until one brings the code; what else asks (an icon, a scanner) is told that there is nothing.
async fn listen(
    attempt: &Attempt,
    redirect: &str,
    listener: &TcpListener,
) -> Result<Secret, Failure> {
    let path = Url::parse(redirect)
        .map(|url| url.path().to_owned())
        .unwrap_or_default();
    loop {
        let (stream, _) = listener
            .accept()
            .await
            .map_err(|err| Failure::failed(format!("{redirect}: {err}")))?;
        match tokio::time::timeout(Duration::from_secs(10), serve(attempt, &path, stream)).await {
            Ok(Ok(Some(code))) => return Ok(code),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(err)) => log::debug!("a browser's connection: {err}"),
        }
    }
}

async fn serve(
    attempt: &Attempt,
    path: &str,
    mut stream: TcpStream,
) -> std::io::Result<Option<Secret>> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX_BYTES {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request);
    let target = request
        .strip_prefix("GET ")
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_default();
    let code = match target.split('?').next() == Some(path) {
        true => attempt.code(target),
        false => Err(Failure::failed("there is nothing here")),
    };
    let (status, words) = match &code {
        Ok(_) => ("200 OK", "Signed in. You can close this page.".to_owned()),
        Err(failure) => ("404 Not Found", failure.to_string()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}",
        words.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(code.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        // The pair of RFC 7636, appendix B.
        Attempt {
            state: "xyz".to_owned(),
            verifier: Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        }
    }

    #[test]
    fn the_link_carries_the_challenge_and_never_the_verifier() {
        let address = "https://h/cloud".parse().unwrap();
        let page = attempt().page(&address, &Client::decide(None, None, None).unwrap());
        let text = page.as_str();
        assert!(
            text.starts_with(
                "https://h/cloud/session/authorize?response_type=code&client_id=393a1839"
            ),
            "{text}"
        );
        assert!(text.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"), "{text}");
        assert!(
            text.contains("redirect_uri=%2Fcallback%2Fdesktop&scope=profile+email+openid+"),
            "{text}"
        );
        assert!(!text.contains("dBjftJ"), "{text}");
    }

    #[test]
    fn the_code_is_found_in_whatever_the_person_pastes() {
        for pasted in [
            "https://h/callback/desktop?code=abc123&state=xyz",
            " cloudreve://mount?state=xyz&code=abc123&user_id=lpua \n",
            "code=abc123&state=xyz",
            "abc123",
        ] {
            assert_eq!(
                attempt().code(pasted),
                Ok(Secret::new("abc123")),
                "{pasted}"
            );
        }
    }

    #[test]
    fn a_link_of_another_sign_in_is_refused() {
        for (pasted, word) in [
            (
                "https://h/callback/desktop?code=abc&state=other",
                "another sign-in",
            ),
            (
                "https://h/callback/desktop?error=access_denied",
                "access_denied",
            ),
            ("https://h/callback/desktop?state=xyz", "code="),
            ("what?", "code="),
            ("", "neither"),
        ] {
            let said = attempt().code(pasted).unwrap_err().to_string();
            assert!(said.contains(word), "{pasted}: {said}");
        }
    }

    #[tokio::test]
    async fn the_listener_takes_the_code_from_the_redirect_and_nothing_from_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let redirect = format!("http://{address}/done");
        let ask = |target: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let browser = async {
            assert!(ask("/favicon.ico").await.starts_with("HTTP/1.1 404"));
            assert!(
                ask("/done?code=abc&state=stolen")
                    .await
                    .starts_with("HTTP/1.1 404")
            );
            assert!(ask("/done?code=abc&state=xyz").await.contains("Signed in"));
        };
        let attempt = attempt();
        let (code, ()) = tokio::join!(listen(&attempt, &redirect, &listener), browser);
        assert_eq!(code, Ok(Secret::new("abc")));
    }

    #[test]
    fn a_client_of_ones_own_needs_its_secret_and_redirect() {
        assert!(
            Client::decide(Some("id".into()), None, None)
                .err()
                .unwrap()
                .to_string()
                .contains("CLOUDREVE_OAUTH_SECRET")
        );
        let secret = Some(Secret::new("s"));
        assert!(
            Client::decide(Some("id".into()), None, secret)
                .err()
                .unwrap()
                .to_string()
                .contains("--oauth-redirect")
        );
    }
}
