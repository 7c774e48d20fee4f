//! Opaque ids, as the server's hashids: short, typed, different on each site, and of no meaning to a client.
//!
//! → api part 1 §4.6. An id of one kind is not an id of another; the id of entity 0 is the site's "no content"
//! constant. Also the site's dice: uuids and secrets from one seed, so that a run can be repeated.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Ids fill this many bits, which makes four to six characters; enough for 134 million numbers of each kind.
const BITS: u32 = 30;
const HALF: u32 = BITS / 2;

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    User,
    File,
    Entity,
    Share,
    Group,
    Policy,
}

/// Makes and reads the ids of one site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    salt: u64,
}

impl Ids {
    pub(crate) fn new(salt: u64) -> Self {
        Self { salt }
    }

    pub(crate) fn encode(self, kind: Kind, number: u64) -> String {
        let mut value = self.scramble((number as u32) << 3 | kind as u32, false);
        let mut text = Vec::with_capacity(6);
        while value > 0 || text.len() < 4 {
            text.push(ALPHABET[(value % 62) as usize]);
            value /= 62;
        }
        text.reverse();
        String::from_utf8(text).unwrap_or_default()
    }

    /// The number, or none if the text is not an id of this kind; case matters.
    pub(crate) fn decode(self, kind: Kind, text: &str) -> Option<u64> {
        if text.is_empty() || text.len() > 6 {
            return None;
        }
        let mut value = 0_u64;
        for byte in text.bytes() {
            value = value * 62 + ALPHABET.iter().position(|c| *c == byte)? as u64;
        }
        let plain = self.scramble(u32::try_from(value).ok().filter(|v| v >> BITS == 0)?, true);
        let number = u64::from(plain >> 3);
        (plain & 7 == kind as u32 && self.encode(kind, number) == text).then_some(number)
    }

    /// A Feistel network of four rounds: a permutation of all 30-bit values.
    fn scramble(self, value: u32, back: bool) -> u32 {
        let mask = (1 << HALF) - 1;
        let (mut left, mut right) = (value >> HALF & mask, value & mask);
        for round in 0..4_u64 {
            let round = if back { 3 - round } else { round };
            let key = |half: u32| (mix(u64::from(half) ^ self.salt ^ round << 40) as u32) & mask;
            if back {
                (left, right) = (right ^ key(left), left);
            } else {
                (left, right) = (right, left ^ key(right));
            }
        }
        left << HALF | right
    }
}

/// One step of splitmix64: cheap, and good enough to look random.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The site's source of everything that must look random.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 up to, but not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.number(), self.number());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 48 & 0x3fff | 0x8000,
            b & 0xffff_ffff_ffff
        )
    }

    /// Letters and digits, as in the server's codes and secrets.
    pub(crate) fn text(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(ALPHABET[(self.number() % 62) as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_number_of_one_kind_on_one_site() {
        let ids = Ids::new(7);
        for number in (0..3000).chain([1 << 20, (1 << 27) - 1]) {
            let id = ids.encode(Kind::File, number);
            assert!((4..=6).contains(&id.len()), "{id}");
            assert_eq!(ids.decode(Kind::File, &id), Some(number));
            assert_eq!(ids.decode(Kind::Entity, &id), None);
            assert_ne!(Ids::new(8).encode(Kind::File, number), id);
        }
        assert_eq!(ids.decode(Kind::File, "not-an-id"), None);
        assert_eq!(ids.decode(Kind::File, ""), None);
    }
}
