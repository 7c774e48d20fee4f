//! Signed URLs of the stores: each kind of store by its own parameters, all refusing what was altered.
//!
//! What is signed is the method, the path, the query and, of some requests, headers: a client must send exactly those
//! (→ api part 2 §6).

use std::time::Duration;

use crate::clock::Time;
use crate::policy::StoragePolicy;
use crate::serve::Asked;
use crate::sign::digest;
use crate::site::Site;
use crate::uri::percent;

/// What a signed URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Part,
    Complete,
}

/// A request that is to be signed.
pub(crate) struct Presign<'a> {
    pub(crate) policy: StoragePolicy,
    pub(crate) purpose: Purpose,
    /// Decoded, with its slash.
    pub(crate) path: &'a str,
    pub(crate) query: Vec<(&'static str, String)>,
    /// Bytes of its body, where the length is signed.
    pub(crate) length: u64,
}

/// Why a store does not accept a URL: status and code.
pub(crate) type Refusal = (u16, &'static str);

/// The names of the headers that are under the signature.
fn signed_headers(policy: StoragePolicy, purpose: Purpose) -> &'static [&'static str] {
    use StoragePolicy::{Cos, Ks3, Obs, Oss, S3};
    match (policy, purpose) {
        (S3, Purpose::Part) => &["content-length"],
        (Cos, Purpose::Part) => &["content-length", "content-type"],
        (Cos, Purpose::Complete) => &["x-cos-forbid-overwrite"],
        (Oss, Purpose::Complete) => &[
            "content-type",
            "x-oss-complete-all",
            "x-oss-forbid-overwrite",
        ],
        (Ks3 | Oss | Obs, Purpose::Part) | (Ks3 | Obs, Purpose::Complete) => &["content-type"],
        _ => &[],
    }
}

/// What a client has to send in such a header.
fn expected_header(name: &str, length: u64) -> String {
    match name {
        "content-length" => length.to_string(),
        "content-type" => "application/octet-stream".to_owned(),
        "x-oss-complete-all" => "yes".to_owned(),
        _ => "true".to_owned(),
    }
}

/// The parameters that carry the signature and its end.
fn seal_names(policy: StoragePolicy) -> &'static [&'static str] {
    match policy {
        StoragePolicy::Oss => &["x-oss-date", "x-oss-expires", "x-oss-signature"],
        StoragePolicy::Ks3 | StoragePolicy::Obs => &["Expires", "Signature"],
        StoragePolicy::Cos => &["q-sign-time", "q-signature"],
        StoragePolicy::Qiniu => &["e", "token"],
        StoragePolicy::Upyun => &["_upt"],
        _ => &["X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature"],
    }
}

/// Their values, in the same order.
fn seal_values(
    policy: StoragePolicy,
    now: Time,
    lifetime: Duration,
    signature: &str,
) -> Vec<String> {
    let (begin, seconds) = (now.unix_seconds(), lifetime.as_secs());
    let end = begin + seconds as i64;
    match policy {
        StoragePolicy::Ks3 | StoragePolicy::Obs => vec![end.to_string(), signature.to_owned()],
        StoragePolicy::Cos => vec![format!("{begin};{end}"), signature.to_owned()],
        StoragePolicy::Qiniu => vec![end.to_string(), format!("access-key:{signature}")],
        StoragePolicy::Upyun => vec![format!("{}{end}", &signature[..8])],
        _ => {
            let date = Time::from_millis(begin * 1000)
                .rfc3339()
                .replace(['-', ':'], "");
            vec![date, seconds.to_string(), signature.to_owned()]
        }
    }
}

/// The signature in a URL, and its end in unix seconds.
fn unseal(policy: StoragePolicy, asked: &Asked) -> Option<(String, i64)> {
    let names = seal_names(policy);
    let param = |at: usize| asked.param(names.get(at)?);
    match policy {
        StoragePolicy::Ks3 | StoragePolicy::Obs => {
            Some((param(1)?.to_owned(), param(0)?.parse().ok()?))
        }
        StoragePolicy::Cos => {
            let end = param(0)?.split_once(';')?.1;
            Some((param(1)?.to_owned(), end.parse().ok()?))
        }
        StoragePolicy::Qiniu => {
            let signature = param(1)?.split_once(':')?.1;
            Some((signature.to_owned(), param(0)?.parse().ok()?))
        }
        StoragePolicy::Upyun => {
            let (signature, end) = param(0)?.split_at_checked(8)?;
            Some((signature.to_owned(), end.parse().ok()?))
        }
        _ => {
            let begin = moment(param(0)?)?.unix_seconds();
            Some((param(2)?.to_owned(), begin + param(1)?.parse::<i64>().ok()?))
        }
    }
}

/// Reads `20261123T235449Z`.
fn moment(date: &str) -> Option<Time> {
    let part = |range: std::ops::Range<usize>| date.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
    Time::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// Parameters that every URL of such a store carries beside.
fn constants(policy: StoragePolicy, signed: &[&str]) -> Vec<(&'static str, String)> {
    let own = |name, value: &str| (name, value.to_owned());
    match policy {
        StoragePolicy::S3 => vec![
            own("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            own(
                "X-Amz-Credential",
                "AKEXAMPLE/20261123/us-east-1/s3/aws4_request",
            ),
            (
                "X-Amz-SignedHeaders",
                [signed, &["host"]].concat().join(";"),
            ),
        ],
        StoragePolicy::Ks3 => vec![own("KSSAccessKeyId", "AKEXAMPLE")],
        StoragePolicy::Oss => vec![own("x-oss-signature-version", "OSS4-HMAC-SHA256")],
        StoragePolicy::Cos => vec![own("q-sign-algorithm", "sha1"), own("q-ak", "AKEXAMPLE")],
        StoragePolicy::Obs => vec![own("AccessKeyId", "AKEXAMPLE")],
        _ => Vec::new(),
    }
}

impl Site {
    /// A signature of 64 hexadecimal digits over anything.
    pub(crate) fn store_signature(&self, text: &str) -> String {
        let sign = self.signer.path(&format!("store {text}"), Time(0));
        let hex = digest(&sign)
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        hex[..64].to_owned()
    }

    fn signature_of<'a>(
        &self,
        policy: StoragePolicy,
        purpose: Purpose,
        path: &str,
        end: i64,
        query: impl Iterator<Item = (&'a str, &'a str)>,
        header: impl Fn(&str) -> String,
    ) -> String {
        let mut query: Vec<_> = query.collect();
        query.sort_unstable();
        let headers: Vec<_> = signed_headers(policy, purpose)
            .iter()
            .map(|name| (name, header(name)))
            .collect();
        self.store_signature(&format!(
            "{policy:?} {purpose:?} {path} {end} {query:?} {headers:?}"
        ))
    }

    /// A URL of the store that is good for one purpose, for so long.
    pub(crate) fn presigned(
        &mut self,
        asked: Presign<'_>,
        now: Time,
        lifetime: Duration,
    ) -> String {
        let (policy, purpose) = (asked.policy, asked.purpose);
        let mut query = constants(policy, signed_headers(policy, purpose));
        query.extend(asked.query);
        let end = now.unix_seconds() + lifetime.as_secs() as i64;
        let signature = self.signature_of(
            policy,
            purpose,
            asked.path,
            end,
            query.iter().map(|(name, value)| (*name, value.as_str())),
            |name| expected_header(name, asked.length),
        );
        let seal = seal_values(policy, now, lifetime, &signature);
        let noted = seal.last().cloned().unwrap_or_default();
        self.secrets.note(&noted);
        query.extend(seal_names(policy).iter().copied().zip(seal));
        let mut url = self.store_address.clone();
        for segment in asked.path.split('/').skip(1) {
            url.push('/');
            percent::escape(segment, &mut url);
        }
        for (at, (name, value)) in query.iter().enumerate() {
            url.push(if at == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            percent::escape(value, &mut url);
        }
        url
    }

    /// Refuses a URL that was not made for this purpose, was altered, or has ended.
    pub(crate) fn check_presigned(
        &self,
        policy: StoragePolicy,
        purpose: Purpose,
        asked: &Asked,
    ) -> Result<(), Refusal> {
        let (signature, end) = unseal(policy, asked).ok_or((403, "AccessDenied"))?;
        let path = percent::decode(&asked.path).unwrap_or_default();
        let names = seal_names(policy);
        let query = asked
            .query
            .iter()
            .filter(|(name, _)| !names.contains(&name.as_str()))
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let expected = self.signature_of(policy, purpose, &path, end, query, |name| {
            asked.header(name).unwrap_or_default().to_owned()
        });
        let same = match policy {
            StoragePolicy::Upyun => expected[..8] == signature,
            _ => expected == signature,
        };
        if !same {
            return Err((403, "SignatureDoesNotMatch"));
        }
        if end < asked.now.unix_seconds() {
            return Err((403, "AccessDenied"));
        }
        Ok(())
    }
}
