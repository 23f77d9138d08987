//! Text from guests, made fit for logs and errors: bounded, and without control characters that could forge lines or colours.

use std::fmt::Write;

/// At most `max` bytes of `text`, cut at a character, with control characters escaped. Line breaks are kept where `lines`.
pub(super) fn clean(text: &str, max: usize, lines: bool) -> String {
    let cut = text.floor_char_boundary(max);
    let (kept, rest) = text.split_at(cut);
    let mut clean = String::with_capacity(kept.len());
    for c in kept.chars() {
        match c {
            '\n' if lines => clean.push(c),
            '\t' => clean.push(c),
            c if c.is_control() || reorders(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    if !rest.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(clean, "… ({} more bytes)", rest.len());
    }
    clean
}

/// Characters that reorder what is shown after them.
pub(crate) fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A size as people write it.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 10 << 20 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(clean("a\nb\x1b[31m", 100, false), "a\\nb\\u{1b}[31m");
        assert_eq!(clean("a\nb", 100, true), "a\nb");
        assert_eq!(clean("\u{202e}abc", 100, true), "\\u{202e}abc");
        assert_eq!(clean("ääää", 3, true), "ä… (6 more bytes)");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(1536), "1 KiB");
        assert_eq!(size(12), "12 bytes");
    }
}
