//! Frames of an event stream, taken from its bytes as they come.
//!
//! The part of <https://html.spec.whatwg.org/multipage/server-sent-events.html> that matters: lines end as they like, a space
//! behind the colon may be there or not, comments and fields of other names are passed by. Holds no more than one frame, and
//! no frame that is longer than any change's could be.

/// Longest frame: hundreds of changes of the longest paths. What is longer is nobody's event.
const LONGEST_FRAME_BYTES: usize = 4 << 20;

/// One frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// What it is; empty where it does not say.
    pub(super) name: String,
    /// Its lines of data, with line ends between.
    pub(super) data: Vec<u8>,
}

/// It is longer than a frame may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What came of the frame that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    line: Vec<u8>,
    frame: Frame,
    has_data: bool,
    /// The last line ended with CR: an LF now is part of that.
    after_cr: bool,
}

impl Frames {
    /// Takes the frames that `bytes` complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut complete = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                self.check()?;
                break;
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.check()?;
            complete.extend(self.end_line());
        }
        Ok(complete)
    }

    fn check(&self) -> Result<(), TooLong> {
        let held = self.line.len() + self.frame.data.len();
        match held > LONGEST_FRAME_BYTES {
            true => Err(TooLong),
            false => Ok(()),
        }
    }

    /// An empty line ends a frame.
    fn end_line(&mut self) -> Option<Frame> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.has_data = false;
            let frame = std::mem::take(&mut self.frame);
            return (frame != Frame::default()).then_some(frame);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.frame.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push(b'\n');
                }
                self.frame.data.extend_from_slice(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, data: &str) -> Frame {
        Frame {
            name: name.to_owned(),
            data: data.as_bytes().to_vec(),
        }
    }

    /// The text gives these frames, in whatever pieces it comes.
    #[track_caller]
    fn check(text: &str, expected: &[Frame]) {
        for size in 1..=text.len() {
            let mut frames = Frames::default();
            let pieces = text.as_bytes().chunks(size);
            let taken: Vec<_> = pieces
                .flat_map(|piece| frames.take(piece).unwrap())
                .collect();
            assert_eq!(taken, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn frames_are_the_same_however_lines_end_and_colons_stand() {
        let expected = [frame("event", "{\"a\": 1}"), frame("keep-alive", "<nil>")];
        for end in ["\n", "\r\n", "\r"] {
            for colon in [":", ": "] {
                let text = "event:event|data:{\"a\": 1}||event:keep-alive|data:<nil>||";
                let text = text.replace("event:", &format!("event{colon}"));
                let text = text.replace("data:", &format!("data{colon}"));
                check(&text.replace('|', end), &expected);
            }
        }
    }

    #[test]
    fn what_is_no_event_is_passed_by_and_half_a_frame_is_none() {
        check(": a comment\n\n\n\nid:7\nretry: 5\n\n", &[]);
        check("event:event\ndata:half", &[]);
        check("event\ndata\n\n", &[]);
        check("event:x\n\ndata:y\n\n", &[frame("x", ""), frame("", "y")]);
        check(
            "event:x\ndata:a\ndata:\ndata:b\n\n",
            &[frame("x", "a\n\nb")],
        );
    }

    #[test]
    fn the_frames_of_a_real_stream_are_read() {
        let recorded = "event:subscribed\ndata:<nil>\n\nevent:event\ndata:{\"type\":\"create\",\"file_id\":\"9r9hl\",\"from\":\"/d\",\"to\":\"\"}\n\n";
        let json = r#"{"type":"create","file_id":"9r9hl","from":"/d","to":""}"#;
        check(
            recorded,
            &[frame("subscribed", "<nil>"), frame("event", json)],
        );
    }

    #[test]
    fn a_frame_without_end_takes_bounded_memory() {
        let long = "x".repeat(64 << 10);
        for piece in [
            format!("data:{long}"),
            long.clone(),
            format!("data:{long}\n"),
        ] {
            let mut frames = Frames::default();
            let taken = (0..1000).find(|_| frames.take(piece.as_bytes()).is_err());
            assert!(taken.is_some_and(|pieces| pieces <= 65), "{taken:?}");
        }
    }
}
