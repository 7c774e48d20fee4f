//! What a new session tells its client about the store: URLs, tokens, upload ids (→ api part 2 §5.2).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::BytesMut;
use serde_json::{Value, json};

use crate::clock::Time;
use crate::policy::StoragePolicy;
use crate::presign::{Presign, Purpose};
use crate::site::{Site, Upload};
use crate::store::{Fragments, Multipart};

type Fields = Vec<(&'static str, Value)>;

impl Site {
    /// Opens the upload at the store, and gives the fields of the session's answer that belong to it.
    pub(super) fn credential(
        &mut self,
        session: &str,
        upload: &Upload,
        name: &str,
        mime_type: &str,
        now: Time,
    ) -> Fields {
        if upload.relay {
            return Vec::new();
        }
        let mime_type = match mime_type {
            "" => "application/octet-stream",
            said => said,
        };
        match upload.policy {
            StoragePolicy::Local => Vec::new(),
            StoragePolicy::Remote => self.node_credential(session, upload),
            StoragePolicy::Qiniu => self.qiniu_credential(session, upload, name, mime_type),
            StoragePolicy::Upyun => self.upyun_credential(session, upload, name, mime_type),
            StoragePolicy::OneDrive => self.onedrive_credential(session, upload),
            _ => self.bucket_credential(session, upload, name, now),
        }
    }

    fn node_credential(&mut self, session: &str, upload: &Upload) -> Fields {
        let path = format!("/api/v4/slave/upload/{session}");
        let sign = self.signer.path(&format!("POST {path}"), upload.expires);
        self.secrets
            .note(sign.split('=').next().unwrap_or_default());
        vec![
            (
                "upload_urls",
                json!([format!("{}{path}", self.store_address)]),
            ),
            ("credential", format!("Bearer Cr {sign}").into()),
        ]
    }

    /// A name in the store that no other upload has.
    fn save_path(&mut self, upload: &Upload, name: &str) -> String {
        format!("uploads/{}/{}_{name}", upload.user, self.dice.text(8))
    }

    fn open_multipart(&mut self, session: &str, upload: &Upload) -> (String, String) {
        let (id, credential) = (self.dice.uuid(), self.dice.text(40));
        let multipart = Multipart {
            session: session.to_owned(),
            parts: BTreeMap::new(),
            credential: credential.clone(),
            expires: upload.expires,
        };
        self.store.multiparts.insert(id.clone(), multipart);
        (id, credential)
    }

    fn bucket_credential(
        &mut self,
        session: &str,
        upload: &Upload,
        name: &str,
        now: Time,
    ) -> Fields {
        let policy = upload.policy;
        let path = format!("/{}-bucket/{}", policy.name(), self.save_path(upload, name));
        let (id, _) = self.open_multipart(session, upload);
        // Signed a moment after the session began: a second less is left (→ api part 2 §5.2).
        let lifetime = self
            .settings
            .upload_session_ttl
            .saturating_sub(Duration::from_secs(1));
        let lengths = match upload.size {
            0 => vec![0],
            size => (0..size.div_ceil(upload.chunk_size))
                .map(|index| (size - index * upload.chunk_size).min(upload.chunk_size))
                .collect(),
        };
        let mut urls = Vec::with_capacity(lengths.len());
        for (index, length) in lengths.into_iter().enumerate() {
            let part = Presign {
                policy,
                purpose: Purpose::Part,
                path: &path,
                query: vec![
                    ("partNumber", (index + 1).to_string()),
                    ("uploadId", id.clone()),
                ],
                length,
            };
            urls.push(self.presigned(part, now, lifetime));
        }
        let mut query = vec![("uploadId", id.clone())];
        if matches!(policy, StoragePolicy::Oss | StoragePolicy::Obs) {
            let url = self.callback_url(session, upload);
            let callback = json!({"callbackUrl": url, "callbackBodyType": "application/json"});
            query.push(("callback", STANDARD.encode(callback.to_string())));
        }
        let complete = Presign {
            policy,
            purpose: Purpose::Complete,
            path: &path,
            query,
            length: 0,
        };
        let complete = self.presigned(complete, now, lifetime);
        vec![
            ("upload_id", id.into()),
            ("upload_urls", urls.into()),
            ("completeURL", complete.into()),
        ]
    }

    fn callback_url(&self, session: &str, upload: &Upload) -> String {
        format!(
            "{}/api/v4/callback/{}/{session}/{}",
            self.site_url(),
            upload.policy.name(),
            upload.secret
        )
    }

    fn qiniu_credential(
        &mut self,
        session: &str,
        upload: &Upload,
        name: &str,
        mime_type: &str,
    ) -> Fields {
        let path = self.save_path(upload, name);
        let (id, token) = self.open_multipart(session, upload);
        self.secrets.note(&token);
        let object = URL_SAFE.encode(&path);
        let url = format!(
            "{}/qiniu-up/buckets/bucket/objects/{object}/uploads/{id}",
            self.store_address
        );
        vec![
            ("upload_id", id.into()),
            ("upload_urls", json!([url])),
            ("credential", token.into()),
            ("mime_type", mime_type.into()),
        ]
    }

    fn upyun_credential(
        &mut self,
        session: &str,
        upload: &Upload,
        name: &str,
        mime_type: &str,
    ) -> Fields {
        let policy = json!({
            "bucket": "bucket",
            "save-key": self.save_path(upload, name),
            "expiration": upload.expires.unix_seconds(),
            "notify-url": self.callback_url(session, upload),
            "content-length": upload.size,
            "content-length-range": format!("0,{}", upload.size),
        });
        let policy = STANDARD.encode(policy.to_string());
        let credential = self.upyun_signature(&policy);
        self.secrets.note(&credential);
        vec![
            (
                "upload_urls",
                json!([format!("{}/upyun-form/bucket", self.store_address)]),
            ),
            ("upload_policy", policy.into()),
            ("credential", credential.into()),
            ("mime_type", mime_type.into()),
        ]
    }

    /// What authorizes a form with this policy.
    pub(super) fn upyun_signature(&self, policy: &str) -> String {
        let signature = self.store_signature(&format!("upyun POST /bucket {policy}"));
        format!("UPYUN operator:{}", &signature[..28])
    }

    fn onedrive_credential(&mut self, session: &str, upload: &Upload) -> Fields {
        let token = self.dice.text(48);
        self.secrets.note(&token);
        let fragments = Fragments {
            session: session.to_owned(),
            received: BytesMut::new(),
            expires: upload.expires,
        };
        self.store.fragments.insert(token.clone(), fragments);
        let url = format!("{}/onedrive/session/{token}", self.store_address);
        vec![("upload_urls", json!([url]))]
    }
}
