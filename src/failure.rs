//! Why a command ended without doing its work: one line for the person who typed it.

use std::fmt;

/// What went wrong, with what was given, and what to do; and who is to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Who is to mend it; decides the exit code.
    pub kind: FailureKind,
    line: String,
}

/// Who is to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The person who typed the command: unknown option, malformed value, a permission they can get.
    Usage,
    /// Something outside: network, server, disk.
    Failed,
}

impl Failure {
    /// What was typed or set cannot be meant.
    pub fn usage(line: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Usage,
            line: one_line(line.into()),
        }
    }

    /// It was meant, and did not work.
    pub fn failed(line: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Failed,
            line: one_line(line.into()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Failure {}

/// `err` and all that caused it, in a line.
pub fn chain(err: &dyn std::error::Error) -> String {
    let mut line = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let text = err.to_string();
        // Some libraries repeat their cause in their own words.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = err.source();
    }
    line
}

fn one_line(text: String) -> String {
    text.split('\n')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_was_made_of() {
        assert_eq!(Failure::failed("a\n  b\n\n").to_string(), "a; b");
    }
}
