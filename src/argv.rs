//! The command line as other users see it.
//!
//! A share's password may be part of the URI or link that was typed, and every user of a machine can read every
//! command line (`/proc/PID/cmdline`, ps(1)). So it is overwritten there, as other programs that take a password in
//! a URL do. Between start and that moment it can be seen; a credentials file is for those who mind.

use std::ops::Range;

/// Overwrites passwords in this process's command line with `*`. What was read of it before stays as it was typed.
///
/// Does nothing where the kernel does not tell where the command line lies; that hides nothing, and breaks nothing.
pub fn hide_passwords() {
    let (Ok(line), Some(start)) = (std::fs::read("/proc/self/cmdline"), start_of_arguments())
    else {
        return;
    };
    let mut offset = 0;
    for argument in line.split(|byte| *byte == 0) {
        for at in password(argument) {
            #[expect(
                unsafe_code,
                reason = "the kernel shows others this memory and nothing else"
            )]
            // SAFETY: `start` is where the kernel placed the arguments for this process, writable memory that
            // lives as long as it, and `offset + at` lies within what was just read from there. Nobody else
            // reads it now: there is one thread, and what it needed of its arguments it has copied.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<u8>(start + offset + at)
                    .write_volatile(b'*');
            }
        }
        offset += argument.len() + 1;
    }
}

/// `arg_start`, the 48th field of proc_pid_stat(5); the second one, the program's name in brackets, may hold anything.
fn start_of_arguments() -> Option<usize> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let behind_name = stat.rsplit_once(')')?.1;
    let start = behind_name.split_whitespace().nth(48 - 3)?.parse().ok()?;
    (start != 0).then_some(start)
}

/// Where in `argument` a share's password stands: `cloudreve://ID:PASSWORD@share`, also percent-encoded within a
/// page's address, or `https://host/s/ID/PASSWORD`.
fn password(argument: &[u8]) -> Range<usize> {
    let text = String::from_utf8_lossy(argument).to_ascii_lowercase();
    if text.len() != argument.len() {
        // Not UTF-8: no place on a drive can be typed so.
        return 0..0;
    }
    in_uri(&text, "cloudreve://", ":", "@share")
        .or_else(|| in_uri(&text, "cloudreve%3a%2f%2f", "%3a", "%40share"))
        .or_else(|| in_uri(&text, "cloudreve%3a//", "%3a", "%40share"))
        .or_else(|| in_link(&text))
        .unwrap_or(0..0)
}

fn in_uri(text: &str, scheme: &str, colon: &str, end: &str) -> Option<Range<usize>> {
    let id = text.find(scheme)? + scheme.len();
    let end = id + text[id..].find(end)?;
    let start = id + text[id..end].find(colon)? + colon.len();
    Some(start..end)
}

fn in_link(text: &str) -> Option<Range<usize>> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return None;
    }
    let id = text.find("/s/")? + 3;
    let start = id + text[id..].find('/')? + 1;
    let length = text[start..]
        .find(['/', '?', '#'])
        .unwrap_or(text.len() - start);
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argument: &str, hidden: &str) {
        assert_eq!(&argument[password(argument.as_bytes())], hidden);
    }

    #[test]
    fn passwords_are_found_in_every_form_that_can_be_pasted() {
        check("cloudreve://AbCd:se%40me@share/docs", "se%40me");
        check("Cloudreve://AbCd:sesame@SHARE", "sesame");
        check("https://h/s/AbCd/sesame", "sesame");
        check("https://h/cloud/s/AbCd/sesame/?x=1", "sesame");
        check(
            "https://h/home?path=cloudreve%3A%2F%2FAbCd%3Asesame%40share%2Fdocs",
            "sesame",
        );
        check(
            "https://h/home?path=cloudreve%3A//AbCd%3Asesame%40share",
            "sesame",
        );
    }

    #[test]
    fn nothing_else_is_touched() {
        for argument in [
            "cloudreve://my/a:b",
            "cloudreve://AbCd@share/x:y",
            "https://h/s/AbCd",
            "/mnt/s/x/y",
            "-o",
        ] {
            check(argument, "");
        }
    }

    #[test]
    fn the_kernel_tells_where_the_command_line_is() {
        assert!(start_of_arguments().is_some());
    }
}
