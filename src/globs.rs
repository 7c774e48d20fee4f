//! Patterns of names, as a shell has them.
//!
//! A pattern is matched against one name, never a path, from its beginning to its end, byte for byte as programs here see
//! it: `*` is any text, also none and also a leading dot; `?` one character; `[a-z_]` one of these, `[!a-z]` one that is
//! none of these; `\` takes the special meaning from what follows it.

use std::fmt;

/// One pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    /// Any text.
    Any,
    /// Any character.
    One,
    /// This character.
    This(char),
    /// A character that lies in one of these ranges, both ends included; or, if `not`, in none.
    Of {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no pattern, in words for who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It has a slash.
    #[error("a pattern is one name, without '/'")]
    Path,
    /// A set has no end, or nothing in it.
    #[error("'[' has no ']' that ends it ('\\[' is the character itself)")]
    OpenSet,
    /// The last character is a backslash.
    #[error("nothing follows its last '\\'")]
    OpenEscape,
}

impl Glob {
    /// The pattern that `text` is.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        if text.contains('/') {
            return Err(GlobError::Path);
        }
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            parts.push(match char {
                // Several are one, and would only take longer.
                '*' if parts.last() == Some(&Part::Any) => continue,
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::This(chars.next().ok_or(GlobError::OpenEscape)?),
                '[' => {
                    let (set, rest) = set(chars.as_str()).ok_or(GlobError::OpenSet)?;
                    chars = rest.chars();
                    set
                }
                char => Part::This(char),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Whether `name` is of this kind. A byte that is no UTF-8 counts as a character of its own, which only `*`, `?` and a
    /// `[!…]` stand for.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where it goes on if this way leads nowhere: behind the last `*`, which then stands for a character more.
        let mut back = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    part += 1;
                    back = Some((part, at));
                    continue;
                }
                Some(one) => {
                    if let Some((char, len)) = first(&name[at..])
                        && one.is(char)
                    {
                        (part, at) = (part + 1, at + len);
                        continue;
                    }
                }
                None if at == name.len() => return true,
                None => {}
            }
            let Some((again, from)) = back else {
                return false;
            };
            let Some((_, len)) = first(&name[from..]) else {
                return false;
            };
            (part, at) = (again, from + len);
            back = Some((part, at));
        }
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Part {
    /// Whether it stands for this character; none is a byte that is in no character.
    fn is(&self, char: Option<char>) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::This(this) => char == Some(*this),
            Self::Of { not, ranges } => {
                let is_in = |char| ranges.iter().any(|(a, z)| (*a..=*z).contains(&char));
                char.is_some_and(is_in) != *not
            }
        }
    }
}

/// What follows a `[`, and the rest of the pattern. A `]` that comes first is one of the set.
fn set(text: &str) -> Option<(Part, &str)> {
    let inside = text.strip_prefix(['!', '^']);
    let not = inside.is_some();
    let mut chars = inside.unwrap_or(text).chars();
    let mut ranges = Vec::new();
    loop {
        let mut first = chars.next()?;
        if first == ']' && !ranges.is_empty() {
            return Some((Part::Of { not, ranges }, chars.as_str()));
        }
        if first == '\\' {
            first = chars.next()?;
        }
        let mut last = first;
        if let Some(rest) = chars.as_str().strip_prefix('-')
            && !rest.starts_with(']')
        {
            chars = rest.chars();
            last = match chars.next()? {
                '\\' => chars.next()?,
                last => last,
            };
        }
        ranges.push((first, last));
    }
}

/// The first character of these bytes and its length; a byte that begins none is one by itself.
fn first(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    bytes.first()?;
    let longest = &bytes[..bytes.len().min(4)];
    let text = match std::str::from_utf8(longest) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&longest[..error.valid_up_to()]).unwrap_or_default(),
    };
    Some(match text.chars().next() {
        Some(char) => (Some(char), char.len_utf8()),
        None => (None, 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(glob: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::parse(glob).unwrap();
        for name in yes {
            assert!(glob.matches(name.as_bytes()), "{glob:?} is {name}");
        }
        for name in no {
            assert!(!glob.matches(name.as_bytes()), "{glob:?} is not {name}");
        }
    }

    #[test]
    fn a_pattern_is_the_whole_name() {
        check("4913", &["4913"], &["", "491", "49130", "x4913"]);
        check(
            "*.tmp",
            &[".tmp", "a.tmp", ".a.tmp", "a.tmp.tmp"],
            &["tmp", "a.tmp~", "a.TMP"],
        );
        check(".~lock.*#", &[".~lock.a b.odt#"], &["~lock.a#", ".~lock.a"]);
        check("*~", &["~", "ä~"], &["~a"]);
        check("?", &["a", "ä", "文"], &["", "ab"]);
        check("a*b*c", &["abc", "axbxbxc"], &["ab", "acb", "abcx"]);
        check("**", &["", "x"], &[]);
        check("", &[""], &["x"]);
    }

    #[test]
    fn sets_and_escapes_mean_what_they_do_in_a_shell() {
        check("*.sw[a-p]", &[".x.swp", ".swa"], &[".swx", ".sw"]);
        check("[!.]*", &["a", "ab"], &[".a", ""]);
        check("[^.]*", &["a"], &[".a"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[ä-ü]", &["ö"], &["o"]);
        check(r"\*\[[\]x]", &["*[]", "*[x"], &["a[]", r"\*[]"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_too() {
        let is = |glob: &str, name: &[u8]| Glob::parse(glob).unwrap().matches(name);
        assert!(is("*.tmp", b"\xff\xfe.tmp"));
        assert!(is("?", b"\xff") && !is("?", b"\xff\xff"));
        assert!(is("[!a]", b"\xff") && !is("[a]", b"\xff"));
        // Cut in the middle of a character.
        let cut = &"aä".as_bytes()[..2];
        assert!(is("a?", cut) && !is("a??", cut));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let error = |glob| Glob::parse(glob).unwrap_err();
        assert_eq!(error("a/b"), GlobError::Path);
        assert_eq!(error("tmp/"), GlobError::Path);
        for open in ["[", "[]", "[a", "[!]", "[a-", "[\\"] {
            assert_eq!(error(open), GlobError::OpenSet, "{open}");
        }
        assert_eq!(error("a\\"), GlobError::OpenEscape);
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let glob = Glob::parse(&format!("{}b", "*a".repeat(100))).unwrap();
        assert!(!glob.matches(&[b'a'; 255]));
        assert!(!glob.matches(&[b'b'; 255]));
    }
}
