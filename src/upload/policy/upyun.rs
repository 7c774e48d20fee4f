//! UPYUN: one form with everything in it. UPYUN tells the server later, so the file changes some time after the form was
//! accepted.

use std::sync::Arc;

use bytes::Bytes;

use super::Transfer;
use super::store::{ask, code_of, go_on, no_storage, only_url};
use crate::api::{Error, Part};

/// What UPYUN says of a form that it took.
const ACCEPTED: &str = "200";

/// Sends the form, unless it was accepted already.
pub(super) async fn send(t: &Transfer<'_>) -> Result<(), Error> {
    if t.progress.is_done(0) {
        return Ok(());
    }
    let url = only_url(t)?;
    let boundary = boundary()?;
    let kind = format!("multipart/form-data; boundary={boundary}");
    t.repeat(|| async {
        go_on(t)?;
        let file = (t.body)(0..t.size_bytes);
        let form = form(t, &boundary, file);
        let answer = ask(t, "POST", url, &[("Content-Type", &kind)], form).await?;
        match code_of(&answer.body).as_deref() {
            Some(ACCEPTED) => Ok(()),
            _ => Err(no_storage()),
        }
    })
    .await?;
    t.progress.chunk_done(0, t.size_bytes, "").await;
    Ok(())
}

/// A line that is in no content, as far as chance goes.
fn boundary() -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|err| Error::Local(err.to_string()))?;
    Ok(format!("----------{:032x}", u128::from_ne_bytes(random)))
}

/// The fields, the file last.
fn form(t: &Transfer<'_>, boundary: &str, file: Part) -> Part {
    let mut head = String::new();
    let fields = [
        ("policy", &t.session.upload_policy),
        ("authorization", &t.session.credential),
        ("content-type", &t.session.mime_type),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        head += &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }
    head += &format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    around(head.into(), file, format!("\r\n--{boundary}--\r\n").into())
}

/// `inner` between two texts. No piece reaches over an edge.
fn around(head: Bytes, inner: Part, tail: Bytes) -> Part {
    let (start, end) = (head.len() as u64, head.len() as u64 + inner.len);
    let text = |text: &Bytes, offset: u64, most: usize| {
        // An offset below the length of a text in memory.
        let from = (offset as usize).min(text.len());
        text.slice(from..from.saturating_add(most).min(text.len()))
    };
    Part {
        len: end + tail.len() as u64,
        in_memory: inner.in_memory,
        read: Arc::new(move |offset, most| {
            if offset < start {
                return Ok(text(&head, offset, most));
            }
            if offset >= end {
                return Ok(text(&tail, offset - end, most));
            }
            let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
            (inner.read)(offset - start, most.min(left))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_the_same_in_pieces_of_any_size() {
        let part = around(
            "head".into(),
            Part::from(Bytes::from("content")),
            "tail".into(),
        );
        assert_eq!(part.len, 15);
        for most in 1..20 {
            let mut whole = Vec::new();
            while (whole.len() as u64) < part.len {
                let piece = (part.read)(whole.len() as u64, most).unwrap();
                assert!((1..=most).contains(&piece.len()));
                whole.extend_from_slice(&piece);
            }
            assert_eq!(whole, b"headcontenttail");
        }
    }
}
