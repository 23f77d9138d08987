//! Faults on purpose: the part of the namespace that reliability tests stand on.
//!
//! A [`Fault`] says what happens ([`Action`]), to whom ([`Target`]), at which kind of moment ([`Moment`]), after how many
//! such moments and how often. At [`Moment::Now`] it strikes what is there; otherwise it is a standing rule that counts
//! what passes. Counting is exact: `detach` at `delivery` with `skip: 10` lets ten more events out, and not one more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::lock;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The link is detached with `amqp:link:detach-forced`.
    Detach,
    /// The link is detached with `amqp:link:stolen`.
    Steal,
    /// The link's session is ended with an error.
    EndSession,
    /// The connection is closed in good form, with `amqp:connection:forced`.
    Close,
    /// The connection is reset (RST), without a word.
    Reset,
    /// The connection goes half-open: bytes are neither read nor written, until the fault is lifted.
    Stall,
    /// The request is answered "server busy"; at a delivery, the link is detached with it.
    Busy,
    /// Tokens are refused with status 401; at an attach, the link is refused as unauthorised.
    Refuse,
    /// What the moment is about waits for [`Fault::delay_ms`].
    Delay,
    /// A send is taken in, but its answer is lost: the link is detached instead.
    LoseAnswer,
}

/// The kind of moment at which a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// When it is injected.
    Now,
    /// A link is attached.
    Attach,
    /// An event is pushed to a receiver (counted in events). A delay here holds back what arrives.
    Delivery,
    /// A transfer (an event or a batch) comes in. A delay here holds back its answer.
    Send,
    /// A token is put.
    Token,
    /// Properties are read.
    Properties,
}

/// Which end of a link, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A client that receives.
    Receiver,
    /// A client that sends.
    Sender,
}

/// Whom a fault is for; what is not said matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Target {
    /// A hub.
    pub hub: Option<String>,
    /// A partition. Senders to the hub match the partition that their transfer goes to.
    pub partition: Option<u32>,
    /// A consumer group.
    pub group: Option<String>,
    /// Receivers or senders only.
    pub role: Option<Role>,
    /// A connection, by its number.
    pub connection: Option<u64>,
}

/// What a moment is about, to be matched with targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    /// The hub, if it is about one.
    pub hub: Option<String>,
    /// The partition.
    pub partition: Option<u32>,
    /// The consumer group.
    pub group: Option<String>,
    /// The client's role.
    pub role: Option<Role>,
    /// The connection.
    pub connection: u64,
}

impl Target {
    /// Whether the target means this.
    #[must_use]
    pub fn matches(&self, scope: &Scope) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| match (wanted, is) {
            (None, _) => true,
            (Some(wanted), Some(is)) => wanted.eq_ignore_ascii_case(is),
            (Some(_), None) => false,
        };
        same(&self.hub, &scope.hub)
            && same(&self.group, &scope.group)
            && self.partition.is_none_or(|wanted| scope.partition == Some(wanted))
            && self.role.is_none_or(|wanted| scope.role == Some(wanted))
            && self.connection.is_none_or(|wanted| scope.connection == wanted)
    }

    /// Whether only the connection as a whole is meant.
    pub(crate) fn is_connection_wide(&self) -> bool {
        *self == Self { connection: self.connection, ..Self::default() }
    }
}

/// A fault, as a test or the control API states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// What happens.
    pub action: Action,
    /// When.
    pub at: Moment,
    /// To whom.
    #[serde(default)]
    pub target: Target,
    /// How many matching moments pass first.
    #[serde(default)]
    pub skip: u64,
    /// How often it strikes; `None`: until it is lifted.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// For how long it stands, in milliseconds; `None`: until it is lifted.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// The delay in milliseconds, for [`Action::Delay`].
    #[serde(default)]
    pub delay_ms: u64,
}

#[allow(clippy::unnecessary_wraps, reason = "the type of the field that serde fills")]
fn once() -> Option<u64> {
    Some(1)
}

impl Fault {
    /// A fault that strikes once, at this moment, whoever it is.
    #[must_use]
    pub fn new(action: Action, at: Moment) -> Self {
        Self { action, at, target: Target::default(), skip: 0, times: Some(1), for_ms: None, delay_ms: 0 }
    }

    /// Only for this target.
    #[must_use]
    pub fn on(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// After `skip` matching moments.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// That often; `None`: until lifted.
    #[must_use]
    pub fn times(mut self, times: impl Into<Option<u64>>) -> Self {
        self.times = times.into();
        self
    }

    /// For this long.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.for_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// A delay that stands until it is lifted.
    #[must_use]
    pub fn delay(at: Moment, by: Duration) -> Self {
        let delay_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { delay_ms, times: None, ..Self::new(Action::Delay, at) }
    }
}

/// A standing fault and what it has done so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// Its number, to lift it by.
    pub id: u64,
    /// The fault; `skip` and `times` are what is left of them.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often it has struck.
    pub hits: u64,
    #[serde(skip)]
    until: Option<Instant>,
}

/// What strikes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The number of the fault.
    pub id: u64,
    /// What happens.
    pub action: Action,
    /// The delay, if that is what happens.
    pub delay: Duration,
    /// How long a stall lasts.
    pub lasting: Option<Duration>,
}

impl Strike {
    pub(crate) fn of(id: u64, fault: &Fault) -> Self {
        let lasting = fault.for_ms.map(Duration::from_millis);
        Self { id, action: fault.action, delay: Duration::from_millis(fault.delay_ms), lasting }
    }
}

/// The standing faults of a namespace.
#[derive(Debug, Default)]
pub struct Faults {
    /// How many stand: the only thing that is looked at while there are none.
    standing: AtomicUsize,
    rules: Mutex<Vec<Standing>>,
}

impl Faults {
    /// Adds a standing fault.
    pub fn add(&self, id: u64, fault: Fault, now: Instant) {
        let until = fault.for_ms.map(|ms| now + Duration::from_millis(ms));
        let mut rules = lock(&self.rules);
        rules.push(Standing { id, fault, hits: 0, until });
        self.standing.store(rules.len(), Ordering::Release);
    }

    /// Lifts a fault; whether there was one.
    pub fn lift(&self, id: u64) -> bool {
        let mut rules = lock(&self.rules);
        let before = rules.len();
        rules.retain(|rule| rule.id != id);
        self.standing.store(rules.len(), Ordering::Release);
        rules.len() < before
    }

    /// Lifts all; returns their numbers.
    pub fn clear(&self) -> Vec<u64> {
        let mut rules = lock(&self.rules);
        self.standing.store(0, Ordering::Release);
        rules.drain(..).map(|rule| rule.id).collect()
    }

    /// What stands, used-up rules included, so that tests can see their hits.
    #[must_use]
    pub fn list(&self) -> Vec<Standing> {
        lock(&self.rules).clone()
    }

    /// Whether any stands.
    #[must_use]
    pub fn any(&self) -> bool {
        self.standing.load(Ordering::Acquire) > 0
    }

    /// A single moment has come: does something strike?
    pub fn strike(&self, at: Moment, scope: &Scope, now: Instant) -> Option<Strike> {
        let (passed, strike) = self.strike_within(at, scope, 1, now);
        (passed == 0).then_some(strike).flatten()
    }

    /// `count` moments are about to come: how many pass before one is struck, and by what. When a rule strikes behind
    /// the last of them already, that comes back too: whatever is counted, the strike follows at once.
    pub fn strike_within(&self, at: Moment, scope: &Scope, count: u64, now: Instant) -> (u64, Option<Strike>) {
        if !self.any() {
            return (count, None);
        }
        let mut rules = lock(&self.rules);
        let live = |rule: &Standing| {
            rule.fault.at == at
                && rule.fault.times != Some(0)
                && rule.until.is_none_or(|until| now < until)
                && rule.fault.target.matches(scope)
        };
        let first = rules.iter().enumerate().filter(|(_, rule)| live(rule)).min_by_key(|(_, rule)| rule.fault.skip);
        let Some((first, passed)) = first.map(|(index, rule)| (index, rule.fault.skip.min(count))) else {
            return (count, None);
        };
        // Deliveries are followed by the strike; requests are what is struck.
        let strikes = rules[first].fault.skip < count || (at == Moment::Delivery && rules[first].fault.skip == count);
        for rule in rules.iter_mut().filter(|rule| live(rule)) {
            rule.fault.skip -= passed;
        }
        if !strikes {
            return (passed, None);
        }
        let rule = &mut rules[first];
        rule.hits += 1;
        rule.fault.times = rule.fault.times.map(|times| times - 1);
        (passed, Some(Strike::of(rule.id, &rule.fault)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn scope(partition: u32) -> Scope {
        Scope { hub: Some("h".into()), partition: Some(partition), role: Some(Role::Receiver), ..Scope::default() }
    }

    #[test]
    fn a_counted_detach_lets_exactly_that_many_deliveries_out() {
        let (faults, now) = (Faults::default(), Instant::now());
        let target = Target { partition: Some(1), ..Target::default() };
        faults.add(1, Fault::new(Action::Detach, Moment::Delivery).on(target).after(10), now);
        assert_eq!(faults.strike_within(Moment::Delivery, &scope(0), 50, now), (50, None));
        assert_eq!(faults.strike_within(Moment::Delivery, &scope(1), 4, now), (4, None));
        let (passed, strike) = faults.strike_within(Moment::Delivery, &scope(1), 20, now);
        assert_eq!((passed, strike.unwrap().action), (6, Action::Detach));
        assert_eq!(faults.strike_within(Moment::Delivery, &scope(1), 20, now), (20, None));
        assert_eq!(faults.list()[0].hits, 1);
    }

    #[test]
    fn the_strike_follows_the_last_delivery_without_waiting_for_another() {
        let (faults, now) = (Faults::default(), Instant::now());
        faults.add(1, Fault::new(Action::Detach, Moment::Delivery).after(5), now);
        let (passed, strike) = faults.strike_within(Moment::Delivery, &scope(0), 5, now);
        assert_eq!((passed, strike.unwrap().id), (5, 1));
    }

    #[test]
    fn requests_are_struck_n_times_after_those_that_pass() {
        let (faults, now) = (Faults::default(), Instant::now());
        faults.add(7, Fault::new(Action::Busy, Moment::Send).after(1).times(2), now);
        let hits: Vec<bool> = (0..5).map(|_| faults.strike(Moment::Send, &scope(0), now).is_some()).collect();
        assert_eq!(hits, [false, true, true, false, false]);
        assert!(faults.lift(7) && !faults.lift(7));
    }

    #[test]
    fn a_timed_fault_ends_by_itself() {
        let (faults, now) = (Faults::default(), Instant::now());
        let fault = Fault::new(Action::Refuse, Moment::Token).times(None).lasting(Duration::from_secs(1));
        faults.add(1, fault, now);
        assert!(faults.strike(Moment::Token, &Scope::default(), now).is_some());
        assert!(faults.strike(Moment::Token, &Scope::default(), now + Duration::from_secs(2)).is_none());
    }
}
