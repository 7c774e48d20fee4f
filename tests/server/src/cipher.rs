//! AES-256-CTR, in which clients bring what a storage is to hold (→ api part 2 §2.6).

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use serde_json::{Value, json};

use crate::ids::Dice;

/// As clients and the server call it.
pub(crate) const ALGORITHM: &str = "aes-256-ctr";

/// The key of one entity.
#[derive(Clone, Debug)]
pub(crate) struct Cipher {
    key: [u8; 32],
    iv: [u8; 16],
}

impl Cipher {
    /// A new one.
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let mut byte = |_| dice.number() as u8;
        Self {
            key: std::array::from_fn(&mut byte),
            iv: std::array::from_fn(&mut byte),
        }
    }

    /// As a client is told.
    pub(crate) fn view(&self) -> Value {
        json!({
            "algorithm": ALGORITHM, "key": null,
            "key_plain_text": STANDARD.encode(self.key), "iv": STANDARD.encode(self.iv),
        })
    }

    /// What a client brought, in clear.
    pub(crate) fn open(&self, sealed: Bytes) -> Bytes {
        let mut bytes = BytesMut::from(sealed);
        Ctr128BE::<Aes256>::new(&self.key.into(), &self.iv.into()).apply_keystream(&mut bytes);
        bytes.freeze()
    }
}
