//! Durations and sizes as people write them: `"250 ms"`, `"1 min 30 s"`, `"64 MiB"`, `1048576`.
//!
//! A unit is never guessed: a bare number is no duration, and `"64 M"` is refused because it means two different sizes.

use std::time::Duration;

/// Unit, its aliases, milliseconds.
const TIMES: [(&str, &[&str], u64); 5] = [
    ("ms", &["msec", "millisecond", "milliseconds"], 1),
    ("s", &["sec", "secs", "second", "seconds"], 1_000),
    ("min", &["m", "mins", "minute", "minutes"], 60_000),
    ("h", &["hour", "hours"], 3_600_000),
    ("d", &["day", "days"], 86_400_000),
];

/// Unit, bytes.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a duration: one or more numbers with a unit each, such as `250 ms`, `1.5 h`, `1 min 30 s`. Whole milliseconds.
///
/// # Errors
/// A clause that says what is wrong and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXAMPLE: &str = "write it like \"250 ms\", \"10 s\" or \"5 min\"";
    let mut total = 0u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("is empty; {EXAMPLE}"));
    }
    while !rest.is_empty() {
        let (number, unit, after) = quantity(rest).ok_or_else(|| format!("is not a duration; {EXAMPLE}"))?;
        let factor = match unit {
            "" => return Err(format!("has no unit; {EXAMPLE}")),
            unit => TIMES.iter().find(|(name, aliases, _)| *name == unit || aliases.contains(&unit)).map(|t| t.2),
        };
        let factor =
            factor.ok_or_else(|| format!("has an unknown unit {unit:?} (known: ms, s, min, h, d); {EXAMPLE}"))?;
        let milliseconds = scaled(number, factor)
            .ok_or_else(|| format!("is not a whole number of milliseconds in range; {EXAMPLE}"))?;
        total = total.checked_add(milliseconds).ok_or("is too long")?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Reads a size in bytes: a number and `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB` or `TiB`; without unit it is bytes.
///
/// # Errors
/// A clause that says what is wrong and what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const EXAMPLE: &str = "write it like \"64 MiB\", \"1 MB\" or 1048576";
    let (number, unit, rest) = quantity(text.trim()).ok_or_else(|| format!("is not a size; {EXAMPLE}"))?;
    if !rest.is_empty() {
        return Err(format!("is not a size; {EXAMPLE}"));
    }
    if let "K" | "k" | "M" | "m" | "G" | "g" | "T" = unit {
        let unit = unit.to_uppercase();
        let small = if unit == "K" { "k" } else { &unit };
        return Err(format!(
            "is ambiguous; write \"{number} {unit}iB\" (powers of 1024) or \"{number} {small}B\" (powers of 1000)"
        ));
    }
    let bytes = match unit {
        "" => Some(1),
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes),
    };
    let bytes = bytes
        .ok_or_else(|| format!("has an unknown unit {unit:?} (known: B, kB, KiB, MB, MiB, GB, GiB, TiB); {EXAMPLE}"))?;
    scaled(number, bytes).ok_or_else(|| format!("is not a whole number of bytes in range; {EXAMPLE}"))
}

/// Writes a duration so that [`parse_duration`] reads it back: in the largest unit that needs no fraction.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, _, factor): &&(&str, &[&str], u64)| milliseconds >= *factor && milliseconds.is_multiple_of(*factor);
    match TIMES.iter().rev().find(fits) {
        Some((unit, _, factor)) => format!("{} {unit}", milliseconds / factor),
        None => "0 ms".into(),
    }
}

/// Writes a size so that [`parse_size`] reads it back: in the largest power of 1024 that needs no fraction.
pub fn format_size(bytes: u64) -> String {
    let fits = |(unit, factor): &&(&str, u64)| {
        (*unit == "B" || unit.ends_with("iB")) && bytes >= *factor && bytes.is_multiple_of(*factor)
    };
    match SIZES.iter().rev().find(fits) {
        Some((unit, factor)) => format!("{} {unit}", bytes / factor),
        None => "0 B".into(),
    }
}

/// Splits `12.5 ms rest` into number, unit and rest.
fn quantity(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number, unit, rest.trim_start()))
}

/// `number × factor`, exact or nothing.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if fraction.len() > 12 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor.into())?;
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? * u128::from(factor) };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    (parts % scale == 0).then_some(())?;
    u64::try_from(whole.checked_add(parts / scale)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, milliseconds) in [
            ("250 ms", 250),
            ("10s", 10_000),
            ("5 min", 300_000),
            ("5m", 300_000),
            ("1.5 h", 5_400_000),
            ("1 min 30 s", 90_000),
            ("1m30s", 90_000),
            (" 2 days ", 172_800_000),
            ("0 s", 0),
            ("1_000 ms", 1_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("1 MB", 1_000_000),
            ("1MB", 1_000_000),
            ("1.5 GiB", 3 << 29),
            ("512 b", 512),
            ("1048576", 1 << 20),
            ("1 KB", 1_000),
            ("4kib", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for (text, error) in [
            ("", "is empty; write it like \"250 ms\", \"10 s\" or \"5 min\""),
            ("50", "has no unit; write it like"),
            ("-1 s", "is not a duration; write it like"),
            ("5 mim", "has an unknown unit \"mim\" (known: ms, s, min, h, d); write it like"),
            ("0.5 ms", "is not a whole number of milliseconds in range"),
            ("1.2.3 s", "is not a whole number of milliseconds in range"),
            ("99999999999999999999 d", "is not a whole number of milliseconds in range"),
            ("1 s and a bit", "is not a duration"),
        ] {
            let found = parse_duration(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
        for (text, error) in [
            ("64 M", "is ambiguous; write \"64 MiB\" (powers of 1024) or \"64 MB\" (powers of 1000)"),
            ("8k", "is ambiguous; write \"8 KiB\" (powers of 1024) or \"8 kB\" (powers of 1000)"),
            ("many", "is not a size; write it like \"64 MiB\", \"1 MB\" or 1048576"),
            ("1 MiB 3 B", "is not a size"),
            ("3 XB", "has an unknown unit \"XB\""),
            ("0.3 B", "is not a whole number of bytes"),
        ] {
            let found = parse_size(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in any::<u64>(), small in 0u64..200_000_000) {
            for n in [number, small] {
                prop_assert_eq!(parse_size(&format_size(n)), Ok(n));
                let duration = Duration::from_millis(n);
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
