//! How long a host may trust an ownership that it renews. Pure arithmetic: times come in, a verdict goes out.
//!
//! A renewal counts from the moment its request was *sent*. The store writes later than that and judges expiry by its own
//! write, so a host that stops by this reckoning has stopped before anybody else may take over, whatever the network
//! did to the request or to its answer:
//!
//! ```text
//! sent ──────── renew ─────────────────── fence ──── expiry
//!  0             20 s                      50 s       60 s after the write, which is after `sent`
//! ```
//!
//! The tenancy also ends itself when it does nothing any more: a pump that isn't healthy is not renewed. What passes
//! within the time to the fence (a link that attaches again) costs nothing; what stays ends the tenancy, and another
//! host may try.

use std::fmt;
use std::time::Duration;

/// A time on this host's monotonic clock, counted from any moment that stays the same while the process lives.
pub(crate) type Moment = Duration;

/// The times of every ownership of a fleet; all hosts must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// When a record that wasn't written counts as abandoned. Shorter: a slow store costs ownerships. Longer: the
    /// partitions of a dead host lie unread.
    pub(crate) expiry: Duration,
    /// When a renewal is due. Two must fit before the fence, or one lost answer ends the tenancy.
    pub(crate) renew: Duration,
    /// When dispatch and commits stop. The rest up to the expiry is for whatever is under way.
    pub(crate) fence: Duration,
    /// Between two tries.
    pub(crate) retry: Duration,
}

impl Terms {
    /// The usual proportions: with 60 s, a renewal after 20 s, tried again every 5 s, and the fence after 50 s.
    pub(crate) fn of(expiry: Duration) -> Self {
        Self { expiry, renew: expiry / 3, fence: expiry * 5 / 6, retry: expiry / 12 }
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::of(Duration::from_secs(60))
    }
}

/// Why a pump's ownership is not renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// No link is attached.
    Detached,
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detached => "no link is attached",
        })
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing, until then.
    Wait(Moment),
    /// Send a renewal, and give up waiting for its answer at `until`.
    Renew {
        /// The fence, or the next try.
        until: Moment,
    },
    /// A renewal is due but withheld. Look again when the health changes, at the latest then: it is the fence.
    Withheld {
        /// Why.
        because: Vec<Ailment>,
        /// When the tenancy ends if nothing changes.
        until: Moment,
    },
    /// The tenancy is over: no dispatch, no commit.
    Fenced,
}

/// The lease of one tenancy; in exclusive mode, of the host's heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    terms: Terms,
    /// When the last request that succeeded was sent.
    renewed: Moment,
    /// When the last request was sent, if it hasn't succeeded.
    tried: Option<Moment>,
    /// Once over, always over.
    fenced: bool,
}

impl Lease {
    /// Begins with a claim that was sent at this time and succeeded.
    pub(crate) fn new(terms: Terms, claim_sent: Moment) -> Self {
        Self { terms, renewed: claim_sent, tried: None, fenced: false }
    }

    /// When dispatch and commits end, as of now.
    pub(crate) fn fence(&self) -> Moment {
        self.renewed + self.terms.fence
    }

    /// Whether dispatch and commits may go on.
    pub(crate) fn holds(&self, now: Moment) -> bool {
        !self.fenced && now < self.fence()
    }

    /// What to do now, with everything that is wrong with the pump.
    pub(crate) fn judge(&mut self, now: Moment, ailments: &[Ailment]) -> Verdict {
        if !self.holds(now) {
            self.fenced = true;
            return Verdict::Fenced;
        }
        let retry = self.tried.map(|at| at + self.terms.retry);
        let due = (self.renewed + self.terms.renew).max(retry.unwrap_or_default());
        if now < due {
            // A try that nobody answers must not outlast the fence.
            return Verdict::Wait(due.min(self.fence()));
        }
        if !ailments.is_empty() {
            return Verdict::Withheld { because: ailments.to_vec(), until: self.fence() };
        }
        Verdict::Renew { until: (now + self.terms.retry).min(self.fence()) }
    }

    /// A renewal was sent.
    pub(crate) fn sent(&mut self, at: Moment) {
        self.tried = Some(at);
    }

    /// The renewal that was sent at this time succeeded. Too late for a tenancy that is over, and an older answer never
    /// takes back what a newer one gave.
    pub(crate) fn renewed(&mut self, sent: Moment, now: Moment) {
        if !self.holds(now) {
            self.fenced = true;
            return;
        }
        self.renewed = self.renewed.max(sent);
        if self.tried.is_some_and(|tried| tried <= sent) {
            self.tried = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn lease() -> Lease {
        Lease::new(Terms::default(), s(100))
    }

    #[test]
    fn the_usual_terms() {
        let terms = Terms { expiry: s(60), renew: s(20), fence: s(50), retry: s(5) };
        assert_eq!(Terms::default(), terms);
    }

    #[test]
    fn a_renewal_is_due_after_twenty_seconds_and_the_fence_falls_after_fifty() {
        let mut lease = lease();
        assert_eq!(lease.judge(s(100), &[]), Verdict::Wait(s(120)));
        assert_eq!(lease.judge(s(119), &[]), Verdict::Wait(s(120)));
        assert_eq!(lease.judge(s(120), &[]), Verdict::Renew { until: s(125) });
        assert!(lease.holds(s(149)));
        assert!(!lease.holds(s(150)));
        assert_eq!(lease.judge(s(150), &[]), Verdict::Fenced);
    }

    #[test]
    fn what_counts_is_when_the_renewal_was_sent() {
        let mut lease = lease();
        lease.sent(s(120));
        lease.renewed(s(120), s(128));
        assert_eq!(lease.fence(), s(170), "not 178");
        assert_eq!(lease.judge(s(130), &[]), Verdict::Wait(s(140)));
    }

    #[test]
    fn a_try_without_an_answer_is_repeated_up_to_the_fence() {
        let mut lease = lease();
        lease.sent(s(120));
        assert_eq!(lease.judge(s(121), &[]), Verdict::Wait(s(125)));
        assert_eq!(lease.judge(s(125), &[]), Verdict::Renew { until: s(130) });
        lease.sent(s(147));
        assert_eq!(lease.judge(s(148), &[]), Verdict::Wait(s(150)), "the fence comes before the next try");
        assert_eq!(lease.judge(s(150), &[]), Verdict::Fenced);
    }

    #[test]
    fn a_fence_that_fell_stays_down() {
        let mut lease = lease();
        lease.sent(s(149));
        lease.renewed(s(149), s(151));
        assert_eq!(lease.judge(s(152), &[]), Verdict::Fenced, "the answer came after the fence");
        assert!(!lease.holds(s(149)), "nor does a clock bring it back");
    }

    #[test]
    fn an_old_answer_takes_nothing_back() {
        let mut lease = lease();
        lease.sent(s(120));
        lease.sent(s(125));
        lease.renewed(s(125), s(126));
        lease.renewed(s(120), s(127));
        assert_eq!(lease.fence(), s(175));
        let mut lease = self::lease();
        lease.sent(s(120));
        lease.sent(s(125));
        lease.renewed(s(120), s(126));
        assert_eq!(lease.judge(s(140), &[]), Verdict::Renew { until: s(145) }, "the later try is still open, and over");
    }

    #[test]
    fn a_pump_that_is_not_healthy_is_not_renewed() {
        let ailment = Ailment::Detached;
        let mut lease = lease();
        assert_eq!(lease.judge(s(110), &[ailment]), Verdict::Wait(s(120)), "nothing is due yet");
        let withheld = Verdict::Withheld { because: vec![ailment], until: s(150) };
        assert_eq!(lease.judge(s(130), &[ailment]), withheld);
        assert_eq!(lease.judge(s(140), &[]), Verdict::Renew { until: s(145) }, "it passed in time");
        assert_eq!(lease.judge(s(150), &[ailment]), Verdict::Fenced);
    }

    proptest! {
        /// Whatever is sent, answered and lost: nothing is dispatched once the store may call the record abandoned.
        #[test]
        fn the_fence_falls_before_the_expiry(
            steps in prop::collection::vec((0u64..12_000, 0u64..9_000, any::<bool>(), any::<bool>()), 1..60)
        ) {
            let terms = Terms::default();
            let ms = Duration::from_millis;
            let mut now = ms(0);
            let mut lease = Lease::new(terms, now);
            // When the store wrote last: at any time between the request and its answer.
            let mut written = now;
            for (pause, delay, applied, answered) in steps {
                now += ms(pause);
                prop_assert!(!lease.holds(now) || now < written + terms.expiry);
                if let Verdict::Renew { until } = lease.judge(now, &[]) {
                    prop_assert!(until <= lease.fence());
                    let sent = now;
                    lease.sent(sent);
                    if applied {
                        written = sent + ms(delay / 2);
                        now = sent + ms(delay);
                        if answered {
                            lease.renewed(sent, now);
                        }
                    }
                }
                prop_assert!(lease.fence() <= written + terms.expiry);
            }
        }
    }
}
