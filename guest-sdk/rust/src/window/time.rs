//! Times as the windows have them: milliseconds in a range in which no sum overflows, and as text that sorts as they do.

use crate::state::raw;

use std::time::Duration;

/// Event times lie within 10^15 ms of 1970: about 31,700 years.
pub(super) const RANGE: i64 = 1_000_000_000_000_000;

/// No span is longer: the ends of windows stay within twice the range, and every sum far from the limits of its type.
pub(super) const LONGEST: Duration = Duration::from_millis(RANGE as u64 / 2);

/// The offset that makes every end positive.
const BIAS: i64 = 2 * RANGE;

/// A time in a key: 16 digits, in the order of the times. Without their first digit (for times since 1970) they are the milliseconds.
pub(super) fn digits(time: i64) -> String {
    format!("{:016}", time.saturating_add(BIAS).max(0))
}

/// Reads what [`digits`] wrote, and the rest of the key behind a `/`.
pub(super) fn split(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_once('/')?;
    Some((digits.parse::<i64>().ok()?.checked_sub(BIAS)?, rest))
}

/// The time of the first key under a prefix, behind which [`digits`] stand.
pub(super) fn first_under(prefix: &str) -> Option<i64> {
    let (key, _) = raw::scan_by(prefix, 1).next()?;
    Some(split(key.get(prefix.len()..)?)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_text_and_come_back() {
        let times = [-2 * RANGE, -RANGE, -1, 0, 1, 999, 1_357_034_400_000, RANGE, 2 * RANGE];
        let text = times.map(digits);
        assert!(text.is_sorted() && text.iter().all(|text| text.len() == 16), "{text:?}");
        for (time, text) in times.iter().zip(text) {
            assert_eq!(split(&format!("{text}/a/b")), Some((*time, "a/b")));
        }
        assert_eq!(digits(1_357_034_400_000), "2001357034400000");
        assert_eq!(split("no digits/a"), None);
    }
}
