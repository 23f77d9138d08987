//! A word on clocks that disagree. No ownership hangs on this host's clock; signatures, tokens and whoever reads logs do.

use std::time::Duration;

use azure_core::time::OffsetDateTime;

/// Further apart than any answer is under way, and less than what services tolerate (15 minutes for a request's date).
const NOTED: Duration = Duration::from_secs(60);

/// What to say of a service's time and ours, if they are far apart.
pub(super) fn apart(service: OffsetDateTime, ours: OffsetDateTime) -> Option<String> {
    let apart = (ours - service).unsigned_abs();
    let how = if ours > service { "ahead of" } else { "behind" };
    (apart > NOTED).then(|| {
        format!(
            "this host's clock is {} s {how} that of the storage account: partitions are shared all the same, by the account's clock alone, but \
             tokens and signatures may be refused, and times in logs mislead; set it, by NTP for example",
            apart.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn clocks_far_apart_are_worth_a_word() {
        let noon = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(43_200);
        assert_eq!(apart(noon, noon + Duration::from_secs(60)), None);
        assert_eq!(apart(noon, noon - Duration::from_secs(60)), None);
        assert!(apart(noon, noon + Duration::from_secs(300)).unwrap().contains("300 s ahead of"));
        assert!(apart(noon, noon - Duration::from_secs(300)).unwrap().contains("300 s behind"));
    }
}
