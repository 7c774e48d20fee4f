//! Encryption on the way to a storage whose policy wants it: the storage never sees what is in a file.
//!
//! The server makes a key for each upload and deciphers what is read through it (→ api part 2 §2.6). Under one key goes one
//! content only: a session is of one generation of a file, and a piece that is sent again is the same bytes. Sizes and
//! places of bytes stay what they are, so chunks, ranges and going on in the middle need nothing of their own.

use std::sync::Arc;

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherError, StreamCipherSeek};

use crate::api::{CIPHER, Error, Part, Session};

/// Bytes of a key, …
const KEY_BYTES: usize = 32;
/// … and of the counter that the first sixteen bytes of a file are enciphered with.
const COUNTER_BYTES: usize = 16;

/// How the content of one session is enciphered. Has no `Debug`: it is a key.
#[derive(Clone)]
pub(super) struct Cipher(Option<Keyed>);

#[derive(Clone)]
struct Keyed {
    key: [u8; KEY_BYTES],
    counter: [u8; COUNTER_BYTES],
}

impl Cipher {
    /// What this session wants. [`Error::Refused`] where that cannot be done: nothing is sent in clear to a storage whose
    /// content was to be enciphered. What the server relays, it enciphers itself.
    pub(super) fn of(session: &Session) -> Result<Self, Error> {
        let refused = |said: &str| Error::Refused {
            code: 0,
            said: said.to_owned(),
        };
        let Some(wanted) = &session.encrypt_metadata else {
            return match session.encryption && !session.relay {
                true => Err(refused("its storage wants encryption, and it gave no key")),
                false => Ok(Self(None)),
            };
        };
        if wanted.algorithm != CIPHER {
            return Err(refused(
                "its storage wants encryption of a kind unknown here",
            ));
        }
        let keyed = Keyed {
            key: decoded(&wanted.key_plain_text).ok_or_else(|| refused("its key is none"))?,
            counter: decoded(&wanted.iv).ok_or_else(|| refused("its key is none"))?,
        };
        Ok(Self(Some(keyed)))
    }

    /// `part`, whose first byte is byte `start` of the content, as the storage gets it.
    pub(super) fn part(&self, start: u64, part: Part) -> Part {
        let Some(keyed) = self.0.clone() else {
            return part;
        };
        Part {
            len: part.len,
            read: Arc::new(move |offset, most| {
                let clear = (part.read)(offset, most)?;
                let sealed = keyed.apply(start.saturating_add(offset), clear);
                sealed.map_err(std::io::Error::other)
            }),
            in_memory: part.in_memory,
        }
    }
}

impl Keyed {
    /// Bytes that lie at `at`, enciphered: in place where nobody else has them.
    fn apply(&self, at: u64, bytes: Bytes) -> Result<Bytes, StreamCipherError> {
        let mut bytes = BytesMut::from(bytes);
        let mut stream = Ctr128BE::<Aes256>::new(&self.key.into(), &self.counter.into());
        stream.try_seek(at)?;
        stream.try_apply_keystream(&mut bytes)?;
        Ok(bytes.freeze())
    }
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Encryption;

    fn keyed() -> Keyed {
        Keyed {
            key: std::array::from_fn(|at| at as u8),
            // Its lower half overflows within the first blocks.
            counter: *b"\x00\x00\x00\x00\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff\xff\xfe",
        }
    }

    fn session(encrypt_metadata: Option<Encryption>, encryption: bool, relay: bool) -> Session {
        let session = serde_json::json!({"session_id": "s", "expires": 0});
        Session {
            encrypt_metadata,
            encryption,
            relay,
            ..serde_json::from_value(session).unwrap()
        }
    }

    fn metadata(algorithm: &str, key_bytes: usize, iv_bytes: usize) -> Option<Encryption> {
        Some(Encryption {
            algorithm: algorithm.into(),
            key_plain_text: STANDARD.encode(vec![1; key_bytes]),
            iv: STANDARD.encode(vec![2; iv_bytes]),
        })
    }

    #[test]
    fn content_is_enciphered_as_openssl_does_it() {
        // openssl enc -aes-256-ctr -K 000102…1f -iv 0000000000000007fffffffffffffffe
        let clear = b"Sixteen bytes...and a few of the next blocks, and of the third";
        let sealed = "3e0d9f3f7afc370d1f0203e7265fc775e4996978a71f587545210d226e848bfa\
                      3c2d83eacea6f6cf78c480fec2d370642d03f4342cf2806e04444917d41a";
        let got = keyed().apply(0, Bytes::from_static(clear)).unwrap();
        let hex: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, sealed);
    }

    #[test]
    fn every_piece_of_a_content_is_enciphered_as_in_the_whole() {
        let clear: Vec<u8> = (0..200).collect();
        let whole = keyed().apply(0, clear.clone().into()).unwrap();
        let cipher = Cipher(Some(keyed()));
        for start in 0..70 {
            let rest = Part::from(Bytes::from(clear[start..].to_vec()));
            let part = cipher.part(start as u64, rest);
            for offset in [0, 1, 15, 16, 17, 33, 100] {
                let piece = (part.read)(offset as u64, 29).unwrap();
                let at = start + offset;
                assert_eq!(piece, whole[at..(at + 29).min(200)], "{start} + {offset}");
            }
        }
    }

    #[test]
    fn a_piece_far_behind_counts_beyond_32_bits_of_blocks() {
        let zeros = || Bytes::from(vec![0; 32]);
        let counter = u128::from_be_bytes(keyed().counter) + (1 << 36);
        let there = Keyed {
            counter: counter.to_be_bytes(),
            ..keyed()
        };
        let far = keyed().apply(1 << 40, zeros()).unwrap();
        assert_eq!(there.apply(0, zeros()).unwrap(), far);
    }

    #[test]
    fn nothing_goes_in_clear_where_encryption_was_wanted() {
        let is_clear =
            |session: &Session| Cipher::of(session).map(|cipher| cipher.0.is_none()).ok();
        assert_eq!(is_clear(&session(None, false, false)), Some(true));
        // The server does it.
        assert_eq!(is_clear(&session(None, true, true)), Some(true));
        assert_eq!(is_clear(&session(None, true, false)), None);
        let good = metadata(CIPHER, KEY_BYTES, COUNTER_BYTES);
        assert_eq!(is_clear(&session(good, true, false)), Some(false));
        for bad in [
            ("aes-512", 32, 16),
            (CIPHER, 31, 16),
            (CIPHER, 32, 12),
            (CIPHER, 0, 0),
        ] {
            let bad = metadata(bad.0, bad.1, bad.2);
            assert_eq!(is_clear(&session(bad, true, false)), None);
        }
    }
}
