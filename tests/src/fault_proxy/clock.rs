//! Moves the times in an answer. HTTP's dates all have the same length, so they are replaced where they are.

use std::time::Duration;

use azure_core::time::{parse_rfc7231, to_rfc7231};

use super::http::find;

/// The length of `Wed, 25 Nov 2026 08:00:00 GMT`.
const DATE: usize = 29;

/// Moves the `Date` of an answer, and with `all` also every `Last-Modified`, in headers and lists.
pub(super) fn shift(answer: &mut [u8], seconds: i64, all: bool) {
    // Names of headers come in any case.
    let folded = answer.to_ascii_lowercase();
    let after: &[&[u8]] =
        if all { &[b"\r\ndate: ", b"\r\nlast-modified: ", b"<last-modified>"] } else { &[b"\r\ndate: "] };
    for mark in after {
        let mut from = 0;
        while let Some(found) = folded.get(from..).and_then(|rest| find(rest, mark)) {
            from += found + mark.len();
            let Some(date) = answer.get_mut(from..from + DATE) else { break };
            let parsed = std::str::from_utf8(date).ok().and_then(|text| parse_rfc7231(text).ok());
            let Some(parsed) = parsed else { continue };
            let by = Duration::from_secs(seconds.unsigned_abs());
            let moved = to_rfc7231(&if seconds < 0 { parsed - by } else { parsed + by });
            if moved.len() == DATE {
                date.copy_from_slice(moved.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\ndate: Wed, 25 Nov 2026 23:58:00 GMT\r\nLast-Modified: Wed, 25 Nov 2026 23:57:00 GMT\r\n\r\n\
                          <Last-Modified>Wed, 25 Nov 2026 23:56:00 GMT</Last-Modified><Last-Modified>soon</Last-Modified>";

    fn shifted(seconds: i64, all: bool) -> String {
        let mut answer = ANSWER.as_bytes().to_vec();
        shift(&mut answer, seconds, all);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn dates_are_moved_where_they_are() {
        let later = ANSWER.replace("Wed, 25 Nov 2026 23:58:00", "Thu, 26 Nov 2026 00:03:00");
        assert_eq!(shifted(300, false), later);
        let later = later.replace("Wed, 25 Nov 2026 23:57:00", "Thu, 26 Nov 2026 00:02:00");
        assert_eq!(shifted(300, true), later.replace("Wed, 25 Nov 2026 23:56:00", "Thu, 26 Nov 2026 00:01:00"));
        assert_eq!(shifted(-60, false), ANSWER.replace("23:58:00", "23:57:00"));
    }
}
