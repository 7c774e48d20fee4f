//! Names for tests that are to hold for all of them: bytes without a pattern, and mixtures of what names are exchanged for,
//! what looks like it, and what is no text. Shared by the tests of this room and those through a mount.

/// Bytes of which names are mixed.
const PIECES: &[&[u8]] = &[
    // What the server refuses, its look-alikes, and the quote.
    b"\\",
    b":",
    b"*",
    b"?",
    b"\"",
    b"<",
    b">",
    b"|",
    "＼".as_bytes(),
    "：".as_bytes(),
    "＊".as_bytes(),
    "？".as_bytes(),
    "＂".as_bytes(),
    "＜".as_bytes(),
    "＞".as_bytes(),
    "｜".as_bytes(),
    "‛".as_bytes(),
    "‛‛".as_bytes(),
    "‛：".as_bytes(),
    // What rclone exchanges elsewhere.
    "／".as_bytes(),
    "．".as_bytes(),
    "．．".as_bytes(),
    "␀".as_bytes(),
    "␠".as_bytes(),
    "％".as_bytes(),
    // What looks like an exchanged byte, an escape, a mark, an id.
    "‛FF".as_bytes(),
    "‛ff".as_bytes(),
    "‛41".as_bytes(),
    "‛2F".as_bytes(),
    "‛C3‛A4".as_bytes(),
    "‛8".as_bytes(),
    b"FF",
    b"%",
    b"%2F",
    b"%2e%2e",
    b"%00",
    b"#",
    b"&",
    b"+",
    b";",
    b"=",
    "‛~".as_bytes(),
    "‛~0123456789abcdef0123456789abcdef".as_bytes(),
    b"~",
    b" (abcd)",
    b".cloudreve-fuse",
    // What is no UTF-8: alone, cut off, a slash too long, half of a pair.
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xe2\x80",
    b"\xe2\x80\x9b\x80",
    b"\xf0\x9f\x98",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xef\xbc",
    // Text of other kinds.
    "ä".as_bytes(),
    "a\u{308}".as_bytes(),
    "\u{301}".as_bytes(),
    "字".as_bytes(),
    "😀".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{fffd}".as_bytes(),
    b"\x01",
    b"\n",
    b"\r",
    b"\t",
    b"\x7f",
    b".",
    b"..",
    b"...",
    b" ",
    b"  ",
    b".txt",
    b".tar.gz",
    b"-",
    b"a",
    b"A",
    b"name",
    b"0",
];

/// Where the names come from.
pub(super) struct MadeUp(pub(super) u64);

impl MadeUp {
    /// Numbers below `below`, which is more than 0 (SplitMix64).
    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) as usize % below
    }

    /// A name that a file may have here.
    pub(super) fn name(&mut self) -> Vec<u8> {
        loop {
            let name = self.bytes();
            let is_name = (1..=255).contains(&name.len()) && name != b"." && name != b"..";
            if is_name && !name.iter().any(|byte| matches!(byte, b'/' | 0)) {
                return name;
            }
        }
    }

    /// Anything, `/` and NUL among it.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(4) {
            0 => 1 + self.below(8),
            1 => 250 + self.below(6),
            _ => 1 + self.below(255),
        };
        let kind = self.below(8);
        let same = PIECES[self.below(PIECES.len())];
        let mut bytes = Vec::new();
        while bytes.len() < length {
            match kind {
                0 => bytes.push(self.below(256) as u8),
                1 => bytes.push(1 + self.below(255) as u8),
                2 => bytes.extend_from_slice(same),
                3 => bytes.push(b'a' + self.below(26) as u8),
                _ => bytes.extend_from_slice(PIECES[self.below(PIECES.len())]),
            }
        }
        bytes.truncate(length);
        bytes
    }
}
