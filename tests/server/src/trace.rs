//! What was asked and answered, a line each, in the file that `CLOUDREVE_TEST_SERVER_TRACE` names: for who searches by hand
//! for what became of one file. All servers of a process write to the same one.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::reply::{Body, Reply};
use crate::serve::Asked;

/// Bytes of a body that are written out.
const SHOWN: usize = 1500;

fn file() -> Option<&'static Mutex<File>> {
    static FILE: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    let open = || {
        let path = std::env::var_os("CLOUDREVE_TEST_SERVER_TRACE")?;
        Some(Mutex::new(
            File::options().create(true).append(true).open(path).ok()?,
        ))
    };
    FILE.get_or_init(open).as_ref()
}

/// Writes down what `asked` came to, if somebody wants to know.
pub(crate) fn write(asked: &Asked, reply: &Reply) {
    let Some(file) = file() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let (of_day, millis) = (now.as_secs() % 86_400, now.subsec_millis());
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let query: Vec<_> = asked
        .query
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let body = shown(&asked.body);
    let answer = match &reply.body {
        Body::Bytes(bytes) => shown(bytes),
        _ => String::new(),
    };
    let (method, path, status) = (&asked.method, &asked.path, reply.status.as_u16());
    let line = format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{millis:03} {method} {path} {} {body} → {status} {answer}\n",
        query.join("&")
    );
    // It is only for reading along.
    file.lock().unwrap().write_all(line.as_bytes()).ok();
}

/// Text as it is, on one line; of all else how long it is.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.starts_with(b"{") => {
            let short: String = text.chars().take(SHOWN).collect();
            short.replace('\n', " ")
        }
        _ => format!("({} bytes)", bytes.len()),
    }
}
