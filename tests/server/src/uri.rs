//! File URIs as the server reads them: Go's `net/url`, then a cleaned path (→ api part 1 §4.1–4.3).

use self::percent::{decode, escape};
use crate::reply::Failure;

/// Which of the four file systems a URI is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    My,
    Share,
    Trash,
    SharedWithMe,
}

/// What is refused by the file system's capabilities, before anybody looks for the object (→ api part 1 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Create, rename, upload, metadata, share, copy from.
    Change,
    Download,
    SoftDelete,
    /// Delete for good.
    Delete,
    Restore,
    /// Move from: out of the trash too.
    MoveFrom,
}

impl Realm {
    pub(crate) fn may(self, action: Action) -> bool {
        match (self, action) {
            (Self::My, Action::Restore) => false,
            (Self::My, _) => true,
            (Self::Share | Self::SharedWithMe, action) => action == Action::Download,
            (Self::Trash, action) => {
                matches!(action, Action::Delete | Action::Restore | Action::MoveFrom)
            }
        }
    }
}

/// A URI, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct FileUri {
    pub(crate) realm: Realm,
    /// User or share id before the `@`, decoded; empty if there is none.
    pub(crate) id: String,
    pub(crate) password: String,
    pub(crate) segments: Vec<String>,
    /// `cloudreve://…` up to the path as the caller spelled it: children come back under it.
    pub(crate) base: String,
    /// Query of a search; otherwise ignored.
    pub(crate) query: String,
    /// What followed an unencoded `#`: it names nothing, and is echoed.
    pub(crate) fragment: Option<String>,
}

impl FileUri {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let unknown = || Failure::new(40001, "unknown uri");
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(unknown());
        }
        // An unencoded # or ? ends the path in silence (→ api part 1 §4.2).
        let (text, fragment) = match text.split_once('#') {
            Some((before, fragment)) => (before, Some(fragment.to_owned())),
            None => (text, None),
        };
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = text.split_once("://").ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("cloudreve") {
            return Err(unknown());
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (id, password) = user.split_once(':').unwrap_or((user, ""));
        let realm = match host.to_ascii_lowercase().as_str() {
            "my" => Realm::My,
            "share" => Realm::Share,
            "trash" => Realm::Trash,
            "shared_with_me" => Realm::SharedWithMe,
            _ => return Err(Failure::unclassified()),
        };
        Ok(Self {
            realm,
            id: decode(id).ok_or_else(unknown)?,
            password: decode(password).ok_or_else(unknown)?,
            segments: clean(&decode(path).ok_or_else(unknown)?),
            base: format!("cloudreve://{authority}"),
            query: query.to_owned(),
            fragment,
        })
    }

    /// Refuses what the file system cannot do, for whoever asks, whether the object is there or not.
    pub(crate) fn require(&self, action: Action) -> Result<(), Failure> {
        if self.realm.may(action) {
            return Ok(());
        }
        // The flag of the capability, printed as if it were a character.
        let flag = match action {
            Action::Download => r"\a",
            Action::Change | Action::MoveFrom => r"\b",
            Action::Delete => r"\x0e",
            Action::SoftDelete => r"\x10",
            Action::Restore => r"\x11",
        };
        let chain =
            format!("Not supported action: action '{flag}' is not supported under current fs");
        Err(Failure::not_supported().chained(chain))
    }

    /// The root of the trash or of `shared_with_me`, which have no object of their own.
    pub(crate) fn is_bare_root(&self) -> bool {
        matches!(self.realm, Realm::Trash | Realm::SharedWithMe) && self.segments.is_empty()
    }

    /// The URI in the server's own spelling, without query; of a root, without a slash.
    pub(crate) fn text(&self) -> String {
        let mut text = self.base.clone();
        for segment in &self.segments {
            text.push('/');
            escape(segment, &mut text);
        }
        text
    }
}

/// Resolves empty segments, `.` and `..`, encoded or not: nothing of them reaches a name.
fn clean(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name.to_owned()),
        }
    }
    segments
}

/// Percent encoding and decoding of paths, queries and forms.
pub(crate) mod percent {
    use std::borrow::Cow;

    /// Where the bytes that are not UTF-8 live in our names: the last private characters of Unicode, one for each
    /// byte. The server keeps such bytes; a `String` cannot.
    const ODD_BYTES: u32 = 0x10_ff00;

    fn odd_byte(c: char) -> Option<u8> {
        u8::try_from(u32::from(c).checked_sub(ODD_BYTES)?).ok()
    }

    /// Appends `text` as JavaScript's `encodeURIComponent` writes it, which the server uses for names.
    pub(crate) fn escape(text: &str, out: &mut String) {
        escape_but("-_.!~*'()", text, out);
    }

    fn escape_but(plain: &str, text: &str, out: &mut String) {
        let mut buffer = [0; 4];
        for c in text.chars() {
            if c.is_ascii_alphanumeric() || plain.contains(c) {
                out.push(c);
            } else if let Some(byte) = odd_byte(c) {
                escape_byte(byte, out);
            } else {
                c.encode_utf8(&mut buffer)
                    .bytes()
                    .for_each(|byte| escape_byte(byte, out));
            }
        }
    }

    /// Appends `text` as Go's `url.PathEscape` writes it, which the server uses in content URLs.
    pub(crate) fn escape_segment(text: &str, out: &mut String) {
        escape_but("-_.~$&+=:@", text, out);
    }

    fn escape_byte(byte: u8, out: &mut String) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }

    /// Whether a name has no bytes that are not UTF-8.
    pub(crate) fn is_text(name: &str) -> bool {
        !name.contains(|c| odd_byte(c).is_some())
    }

    /// A name as JSON shows it: what is not UTF-8 is U+FFFD, a byte each (→ api part 1 §4.2).
    pub(crate) fn shown(name: &str) -> Cow<'_, str> {
        if is_text(name) {
            return Cow::Borrowed(name);
        }
        name.chars()
            .map(|c| if odd_byte(c).is_some() { '\u{fffd}' } else { c })
            .collect()
    }

    /// The text with each `%XX` replaced; none if an escape is malformed.
    pub(crate) fn decode(text: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                bytes.push((high << 4 | low) as u8);
            } else {
                bytes.push(byte);
            }
        }
        let mut decoded = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            decoded.push_str(chunk.valid());
            let odd = chunk.invalid().iter();
            decoded.extend(odd.filter_map(|byte| char::from_u32(ODD_BYTES + u32::from(*byte))));
        }
        Some(decoded)
    }

    /// The pairs of a query or form; pairs with malformed escapes are dropped, as Go does.
    pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
        let plain = |text: &str| decode(&text.replace('+', " "));
        let split = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((plain(key)?, plain(value)?))
        };
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter_map(split)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn segments(text: &str) -> Vec<String> {
        FileUri::parse(text)
            .map(|uri| uri.segments)
            .unwrap_or_else(|failure| panic!("{text}: {}", failure.code))
    }

    #[test]
    fn paths_are_decoded_then_cleaned() {
        assert_eq!(
            segments("cloudreve://my/a//b/./c/%2E%2E/d/"),
            ["a", "b", "d"]
        );
        assert_eq!(segments("cloudreve://my/a%2Fb"), ["a", "b"]);
        assert_eq!(segments("cloudreve://my/a+b%20c%23"), ["a+b c#"]);
        assert_eq!(segments("cloudreve://my/a#b"), ["a"]);
        assert!(segments("cloudreve://my").is_empty());
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_kept_and_shown_as_replacements() {
        let names = segments("cloudreve://my/a%FF%FEb");
        let mut path = String::new();
        percent::escape(&names[0], &mut path);
        assert_eq!(
            (path.as_str(), &*percent::shown(&names[0])),
            ("a%FF%FEb", "a\u{fffd}\u{fffd}b")
        );
    }

    #[test]
    fn what_is_not_a_uri_of_the_server_has_the_code_of_the_server() {
        for (text, code) in [
            ("my/a", 40001),
            ("http://my/a", 40001),
            ("cloudreve://my/%zz", 40001),
            ("cloudreve://my:80/", -1),
            ("cloudreve:///x", -1),
            ("cloudreve://other/x", -1),
        ] {
            assert_eq!(
                FileUri::parse(text).map_err(|failure| failure.code).err(),
                Some(code),
                "{text}"
            );
        }
    }

    #[test]
    fn children_come_back_under_the_spelling_of_the_caller() {
        let uri = FileUri::parse("cloudreve://AbC:p%2Fw@SHARE/x y/ü").ok();
        let uri = uri.map(|uri| (uri.id.clone(), uri.password.clone(), uri.text()));
        let expected = (
            "AbC".to_owned(),
            "p/w".to_owned(),
            "cloudreve://AbC:p%2Fw@SHARE/x%20y/%C3%BC".to_owned(),
        );
        assert_eq!(uri, Some(expected));
    }
}
