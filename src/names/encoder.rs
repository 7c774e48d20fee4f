//! The exchange of characters, as rclone on Linux makes it (`rclone/rclone:lib/encoder/encoder.go`) for a remote whose
//! encoding is `Slash,Colon,Question,DoubleQuote,Asterisk,LtGt,Pipe,BackSlash,InvalidUtf8,Dot`: full-width look-alikes for
//! what the server refuses, the quote `‛` before a look-alike or a quote that is meant literally, and `‛` with two
//! hexadecimal digits for a byte that is no UTF-8. Names that hold a quote of their own rclone reads otherwise than it
//! writes them; here they come back.
//!
//! Every piece of the stored text stands for one piece of the name, so the text is read from the left without looking
//! back: [`decode`] of what [`encode`] made is the name again, byte for byte. The other way round that holds for what
//! `encode` could have made, and for nothing else. Never fails, whatever it is given.

/// Stands before what is meant literally (U+201B, rclone's quote).
pub(super) const QUOTE: char = '‛';

/// What the server refuses in a name (→ api part 1 §4.4), and the look-alike it is exchanged for. No name holds a `/`.
const LOOK_ALIKES: [(char, char); 8] = [
    ('\\', '＼'),
    (':', '：'),
    ('*', '＊'),
    ('?', '？'),
    ('"', '＂'),
    ('<', '＜'),
    ('>', '＞'),
    ('|', '｜'),
];

/// Whether the server refuses a name that holds this byte.
pub(super) fn is_refused(byte: u8) -> bool {
    LOOK_ALIKES
        .iter()
        .any(|(refused, _)| *refused == char::from(byte))
}

/// What the name `local` is exchanged for.
pub(super) fn encode(local: &[u8]) -> String {
    let mut stored = String::with_capacity(local.len());
    pieces(local, &mut |piece| {
        stored.push_str(piece);
        true
    });
    stored
}

/// As much of the beginning of [`encode`] as `most` bytes hold, and no half of a piece.
pub(super) fn encode_beginning(local: &[u8], most: usize) -> String {
    let mut stored = String::with_capacity(most);
    pieces(local, &mut |piece| {
        let fits = stored.len() + piece.len() <= most;
        if fits {
            stored.push_str(piece);
        }
        fits
    });
    stored
}

/// What `stored` was made of. What no name is exchanged for stays as it is.
pub(super) fn decode(stored: &[u8]) -> Vec<u8> {
    let mut local = Vec::with_capacity(stored.len());
    for chunk in stored.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(first) = rest.chars().next() {
            let behind = &rest[first.len_utf8()..];
            rest = behind;
            if first != QUOTE {
                push(&mut local, plain_of(first));
            } else if let Some(literal) = behind.chars().next().filter(|c| needs_quote(*c)) {
                push(&mut local, literal);
                rest = &behind[literal.len_utf8()..];
            } else if let Some(byte) = odd_byte(behind) {
                local.push(byte);
                rest = &behind[2..];
            } else {
                push(&mut local, QUOTE);
            }
        }
        local.extend_from_slice(chunk.invalid());
    }
    local
}

/// Gives what each piece of `local` is exchanged for to `take`, until that has enough.
fn pieces(local: &[u8], take: &mut dyn FnMut(&str) -> bool) {
    let mut buffer = [0; 8];
    for chunk in local.utf8_chunks() {
        for c in chunk.valid().chars() {
            let look_alike = LOOK_ALIKES.iter().find(|(refused, _)| *refused == c);
            let c = look_alike.map_or(c, |(_, look_alike)| *look_alike);
            let quote = if look_alike.is_none() && needs_quote(c) {
                QUOTE.encode_utf8(&mut buffer).len()
            } else {
                0
            };
            let end = quote + c.encode_utf8(&mut buffer[quote..]).len();
            // Only whole characters were written.
            if !std::str::from_utf8(&buffer[..end]).is_ok_and(&mut *take) {
                return;
            }
        }
        for byte in chunk.invalid() {
            if !take(&format!("{QUOTE}{byte:02X}")) {
                return;
            }
        }
    }
}

fn push(local: &mut Vec<u8>, c: char) {
    local.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The byte that two upper-case digits at the beginning of `text` stand for. No byte below 0x80 is written so: it would be
/// UTF-8, or a slash.
fn odd_byte(text: &str) -> Option<u8> {
    let digits = text.get(..2)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (digits.bytes().all(is_digit) && byte >= 0x80).then_some(byte)
}

fn needs_quote(c: char) -> bool {
    c == QUOTE || LOOK_ALIKES.iter().any(|(_, look_alike)| *look_alike == c)
}

fn plain_of(c: char) -> char {
    let known = LOOK_ALIKES.iter().find(|(_, look_alike)| *look_alike == c);
    known.map_or(c, |(plain, _)| *plain)
}
