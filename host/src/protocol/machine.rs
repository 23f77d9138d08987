//! One host's dealings with one partition, as a machine: inputs and the time come in, actions go out.
//!
//! ```text
//! idle ─► claiming ─► loading ─► fencing ─► running ─► releasing ─► idle
//!   ▲         └───────────┴─────────┴──────────┘ lost, fenced, stolen, refused: what was there is dropped
//! ```
//!
//! While it runs, three things go on beside each other: events (one at a time with the guest), one commit or the question
//! what became of it, and one renewal.

#![allow(clippy::expect_used, reason = "a simulation that breaks its own rules must stop")]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::rules::{Rule, Rules};
use super::store::{Condition, Part, Reply, Request, Stored};
use super::{Sequence, State};
use crate::ack::Tracker;
use crate::guest::{Ack, Progress};
use crate::lease::{Ailment, Lease, Moment, Terms, Verdict};
use crate::model::Event;

#[derive(Debug)]
pub(super) enum Input {
    /// Take it, if the ownership still has this ETag. `seen`: the checkpoint as it was listed.
    Claim {
        expected: u64,
        seen: Stored,
    },
    /// Finish and release.
    Drain,
    /// A listing shows that another has it.
    Lost,
    /// The store's answer, or that there is none (`None`).
    Answer {
        serial: u64,
        reply: Option<Reply>,
    },
    Attached {
        attempt: u64,
        link: u64,
    },
    Event {
        link: u64,
        sequence: Sequence,
    },
    /// In exclusive mode: a sign of this host, sent at this time, was written.
    Signed {
        sent: Moment,
    },
    LinkLost {
        link: u64,
        stolen: bool,
    },
    /// The guest is done with an event.
    Guest {
        tenancy: u64,
        sequence: Sequence,
        hold: bool,
    },
    /// An event's outputs are durable.
    Accepted {
        tenancy: u64,
        sequence: Sequence,
    },
    /// Time has passed.
    Tick,
}

#[derive(Debug)]
pub(super) enum Action {
    Send { serial: u64, request: Request },
    Attach { attempt: u64, after: Sequence },
    Detach { link: u64 },
    Dispatch { tenancy: u64, sequence: Sequence },
    Publish { tenancy: u64, sequence: Sequence },
    Over(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Claiming,
    Loading,
    Fencing,
    Running,
    Releasing,
}

/// A commit whose outcome isn't known: the write is under way, or the question what is stored.
#[derive(Debug)]
struct Commit {
    serial: u64,
    sequence: Sequence,
    state: State,
    part: Part,
}

#[derive(Debug)]
pub(super) struct Machine {
    rules: Rules,
    terms: Terms,
    cadence: Duration,
    /// Nothing is renewed: the host's signs stand for it.
    exclusive: bool,
    pub(super) phase: Phase,
    draining: bool,
    serials: u64,
    /// The claim, read, fence or release under way, and when it was sent.
    control: Option<(u64, Moment)>,
    renewal: Option<(u64, Moment)>,
    commit: Option<Commit>,
    seen: Option<Stored>,
    pub(super) generation: u64,
    /// The ETag of the claim: nothing else has ever been called so, whatever becomes of generations.
    pub(super) tenancy: u64,
    ownership: u64,
    lease: Option<Lease>,
    etag: u64,
    committed: Sequence,
    committed_at: Moment,
    loaded: State,
    memory: State,
    tracker: Tracker,
    /// Outputs accepted up to here.
    accepted: Sequence,
    /// Events whose outputs wait for their turn; those of the first are under way.
    outgoing: VecDeque<Sequence>,
    attempt: u64,
    pub(super) link: Option<u64>,
    /// The link has delivered something new.
    warm: bool,
    received: Sequence,
    buffer: VecDeque<Sequence>,
    with_guest: Option<Sequence>,
}

impl Machine {
    pub(super) fn new(rules: Rules, terms: Terms, cadence: Duration, exclusive: bool) -> Self {
        Self {
            rules,
            terms,
            cadence,
            exclusive,
            phase: Phase::Idle,
            draining: false,
            serials: 0,
            control: None,
            renewal: None,
            commit: None,
            seen: None,
            generation: 0,
            tenancy: 0,
            ownership: 0,
            lease: None,
            etag: 0,
            committed: 0,
            committed_at: Moment::ZERO,
            loaded: State::new(),
            memory: State::new(),
            tracker: Tracker::new(None),
            accepted: 0,
            outgoing: VecDeque::new(),
            attempt: 0,
            link: None,
            warm: false,
            received: 0,
            buffer: VecDeque::new(),
            with_guest: None,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn input(&mut self, now: Moment, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Claim { expected, seen } if self.phase == Phase::Idle => {
                self.phase = Phase::Claiming;
                self.draining = false;
                self.seen = (!self.rules.on(Rule::ReadAfterClaim)).then_some(seen);
                let condition = self.ownership_condition(expected);
                self.ask(now, Request::Claim(condition), out);
            }
            Input::Drain => self.draining = self.phase != Phase::Idle,
            Input::Lost if self.phase != Phase::Idle => self.end("another has it in the listing", out),
            Input::Answer { serial, reply } => self.answer(now, serial, reply, out),
            Input::Attached { attempt, link } if attempt == self.attempt && self.phase == Phase::Running => {
                self.link = Some(link);
                self.warm = false;
            }
            Input::Attached { link, .. } => out.push(Action::Detach { link }),
            Input::Event { link, sequence } if self.link == Some(link) => self.receive(sequence, out),
            Input::Signed { sent } => {
                if let Some(lease) = &mut self.lease {
                    lease.renewed(sent, now);
                }
            }
            Input::LinkLost { link, stolen } if self.link == Some(link) => {
                self.link = None;
                if stolen && self.rules.on(Rule::ReclaimStolen) {
                    self.end("the link was stolen", out);
                } else {
                    self.attach(out);
                }
            }
            Input::Guest { tenancy, sequence, hold }
                if tenancy == self.tenancy && self.with_guest == Some(sequence) =>
            {
                self.with_guest = None;
                self.memory.push((sequence, tenancy));
                let progress = if hold { Progress::Hold } else { Progress::All };
                let ack = Ack { progress, rejected: Vec::new(), redeliver: None };
                self.tracker.apply(&[event(sequence)], &ack).expect("the answer keeps to the contract");
                if self.rules.on(Rule::OutputsFirst) {
                    self.outgoing.push_back(sequence);
                    if self.outgoing.len() == 1 {
                        out.push(Action::Publish { tenancy, sequence });
                    }
                }
            }
            Input::Accepted { tenancy, sequence }
                if tenancy == self.tenancy && self.outgoing.pop_front_if(|first| *first == sequence).is_some() =>
            {
                self.accepted = sequence;
                let next = self.outgoing.front();
                out.extend(next.map(|sequence| Action::Publish { tenancy, sequence: *sequence }));
            }
            _ => {}
        }
        if self.phase == Phase::Running {
            self.proceed(now, out);
        }
    }

    /// Whatever can go on by itself.
    fn proceed(&mut self, now: Moment, out: &mut Vec<Action>) {
        let ailments: &[Ailment] = if self.link.is_some() || self.draining { &[] } else { &[Ailment::Detached] };
        match self.lease.as_mut().map(|lease| lease.judge(now, ailments)) {
            Some(Verdict::Fenced) | None => return self.end("it was not renewed in time", out),
            Some(Verdict::Renew { .. }) if self.exclusive => {}
            Some(Verdict::Renew { .. }) => {
                let condition = self.ownership_condition(self.ownership);
                let serial = self.send(Request::Renew(condition), out);
                self.renewal = Some((serial, now));
                if let Some(lease) = &mut self.lease {
                    lease.sent(now);
                }
            }
            Some(Verdict::Wait(_) | Verdict::Withheld { .. }) => {}
        }
        if self.draining
            && let Some(link) = self.link.take()
        {
            self.attempt += 1;
            out.push(Action::Detach { link });
        }
        if self.with_guest.is_none()
            && !self.draining
            && let Some(sequence) = self.buffer.pop_front()
        {
            self.with_guest = Some(sequence);
            out.push(Action::Dispatch { tenancy: self.tenancy, sequence });
        }
        let position = self.committable();
        let due = now >= self.committed_at + self.cadence || self.draining;
        if self.commit.is_none() && position > self.committed && due {
            let state = self.state_at(position);
            let part = if self.rules.on(Rule::OneWrite) { Part::Both } else { Part::State };
            self.write(now, position, state, part, out);
        }
        let finished = self.with_guest.is_none() && self.watermark() <= self.committed && self.commit.is_none();
        if self.draining && (finished || !self.rules.on(Rule::DrainFirst)) {
            self.phase = Phase::Releasing;
            let condition = self.ownership_condition(self.ownership);
            self.ask(now, Request::Release(condition), out);
        }
    }

    fn watermark(&self) -> Sequence {
        self.tracker.watermark().map_or(0, |position| position.sequence_number)
    }

    fn committable(&self) -> Sequence {
        let finished = if self.rules.on(Rule::AcknowledgedPrefix) { self.watermark() } else { self.received };
        if self.rules.on(Rule::OutputsFirst) && self.rules.on(Rule::AcknowledgedPrefix) {
            finished.min(self.accepted)
        } else {
            finished
        }
    }

    fn state_at(&self, position: Sequence) -> State {
        self.memory.iter().filter(|(event, _)| *event <= position).copied().collect()
    }

    fn receive(&mut self, sequence: Sequence, out: &mut Vec<Action>) {
        if self.rules.on(Rule::ResumeAfterLast) && sequence <= self.received {
            // A link that begins too early is skipped over; one that steps back is cut.
            if self.warm
                && let Some(link) = self.link.take()
            {
                out.push(Action::Detach { link });
                self.attach(out);
            }
            return;
        }
        self.warm = true;
        self.received = sequence;
        self.buffer.push_back(sequence);
    }

    fn attach(&mut self, out: &mut Vec<Action>) {
        self.attempt += 1;
        let resume = self.rules.on(Rule::ResumeAfterLast);
        let after = if resume { self.received } else { self.committed };
        out.push(Action::Attach { attempt: self.attempt, after });
    }

    fn ownership_condition(&self, expected: u64) -> Condition {
        self.rules.on(Rule::ClaimByCondition).then_some(expected)
    }

    fn send(&mut self, request: Request, out: &mut Vec<Action>) -> u64 {
        self.serials += 1;
        out.push(Action::Send { serial: self.serials, request });
        self.serials
    }

    fn ask(&mut self, now: Moment, request: Request, out: &mut Vec<Action>) {
        let serial = self.send(request, out);
        self.control = Some((serial, now));
    }

    fn write(&mut self, now: Moment, sequence: Sequence, state: State, part: Part, out: &mut Vec<Action>) {
        let condition = self.rules.on(Rule::CommitByCondition).then_some(self.etag);
        let (generation, mark, content) = (self.generation, self.tenancy, state.clone());
        let request = Request::Commit { condition, generation, mark, sequence, state: content, part };
        let serial = self.send(request, out);
        self.commit = Some(Commit { serial, sequence, state, part });
        self.committed_at = now;
    }

    fn answer(&mut self, now: Moment, serial: u64, reply: Option<Reply>, out: &mut Vec<Action>) {
        if let Some((_, sent)) = self.control.take_if(|(s, _)| *s == serial) {
            self.controlled(now, sent, reply, out);
        } else if let Some((_, sent)) = self.renewal.take_if(|(s, _)| *s == serial) {
            match (reply, &mut self.lease) {
                (Some(Reply::Written(etag)), Some(lease)) => {
                    self.ownership = etag;
                    lease.renewed(sent, now);
                }
                (Some(_), _) => self.end("another has the ownership", out),
                (None, _) => {}
            }
        } else if let Some(commit) = self.commit.take_if(|c| c.serial == serial) {
            self.committed(now, commit, reply, out);
        }
    }

    fn controlled(&mut self, now: Moment, sent: Moment, reply: Option<Reply>, out: &mut Vec<Action>) {
        match (self.phase, reply) {
            (Phase::Claiming, Some(Reply::Claimed { etag, generation })) => {
                (self.ownership, self.tenancy, self.generation) = (etag, etag, generation);
                self.lease = Some(Lease::new(self.terms, sent));
                match self.seen.take() {
                    Some(seen) => self.load(now, seen, out),
                    None => self.read(now, out),
                }
            }
            (Phase::Loading, Some(Reply::Found(found))) => self.load(now, found, out),
            (Phase::Fencing, Some(Reply::Written(etag))) => {
                self.etag = etag;
                self.begin(out);
            }
            // Whatever it was that wrote, the checkpoint is another now.
            (Phase::Loading | Phase::Fencing, _) => self.read(now, out),
            (Phase::Releasing, _) => self.end("released", out),
            _ => self.end("not claimed", out),
        }
    }

    fn read(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.phase = Phase::Loading;
        if self.lease.as_ref().is_some_and(|lease| lease.holds(now)) {
            self.ask(now, Request::Read, out);
        } else {
            self.end("it took too long to load", out);
        }
    }

    fn load(&mut self, now: Moment, found: Stored, out: &mut Vec<Action>) {
        let newer = found.generation.is_some_and(|generation| generation > self.generation);
        if newer && self.rules.on(Rule::NewerGeneration) {
            return self.end("a newer generation was here", out);
        }
        if found.state_number != found.sequence && self.rules.on(Rule::StateNumber) {
            return self.end("the state is not the checkpoint's", out);
        }
        self.etag = found.etag;
        self.committed = found.sequence;
        self.loaded = found.state;
        if self.rules.on(Rule::Fence) && found.etag != 0 {
            self.phase = Phase::Fencing;
            let (generation, mark) = (self.generation, self.tenancy);
            self.ask(now, Request::Fence { condition: Some(found.etag), generation, mark }, out);
        } else {
            self.begin(out);
        }
    }

    fn begin(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Running;
        if self.memory.is_empty() || self.rules.on(Rule::Forget) {
            self.memory = self.loaded.clone();
        }
        let position = (self.committed > 0).then(|| event(self.committed).position());
        self.tracker = Tracker::new(position);
        self.accepted = self.committed;
        self.received = self.committed;
        self.attach(out);
    }

    /// What became of a commit, or of the question about it.
    fn committed(&mut self, now: Moment, commit: Commit, reply: Option<Reply>, out: &mut Vec<Action>) {
        match reply {
            Some(Reply::Written(etag)) if commit.part == Part::State => {
                self.etag = etag;
                self.write(now, commit.sequence, commit.state, Part::Position, out);
            }
            Some(Reply::Written(etag)) => self.stands(commit.sequence, etag, out),
            Some(Reply::Found(found)) if !self.rules.on(Rule::Reconcile) => self.etag = found.etag,
            Some(Reply::Found(found)) => match self.settle(&found, commit.sequence) {
                Settled::Committed => self.stands(commit.sequence, found.etag, out),
                Settled::Again => self.write(now, commit.sequence, commit.state, commit.part, out),
                Settled::Over => self.end("another wrote the checkpoint", out),
            },
            _ => {
                let serial = self.send(Request::Read, out);
                self.commit = Some(Commit { serial, ..commit });
            }
        }
    }

    /// The committer's `reconcile`, in the simulation's vocabulary: it is mine, or untouched, or somebody else's.
    fn settle(&self, found: &Stored, sequence: Sequence) -> Settled {
        let mine = if self.rules.on(Rule::OwnMark) {
            found.mark == self.tenancy
        } else {
            found.generation == Some(self.generation)
        };
        if mine && found.sequence == sequence {
            Settled::Committed
        } else if found.etag == self.etag {
            Settled::Again
        } else {
            Settled::Over
        }
    }

    fn stands(&mut self, sequence: Sequence, etag: u64, out: &mut Vec<Action>) {
        self.etag = etag;
        if !self.rules.on(Rule::OutputsFirst) {
            let late = (self.committed + 1..=sequence).map(|n| Action::Publish { tenancy: self.tenancy, sequence: n });
            out.extend(late);
        }
        self.committed = sequence;
    }

    /// The tenancy is over, and so is everything that was made for it.
    fn end(&mut self, why: &'static str, out: &mut Vec<Action>) {
        if let Some(link) = self.link {
            out.push(Action::Detach { link });
        }
        let memory = if self.rules.on(Rule::Forget) { State::new() } else { std::mem::take(&mut self.memory) };
        let (serials, attempt) = (self.serials, self.attempt + 1);
        *self = Self { serials, attempt, memory, ..Self::new(self.rules, self.terms, self.cadence, self.exclusive) };
        out.push(Action::Over(why));
    }
}

/// What a stored checkpoint says of a write whose outcome is open.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Committed,
    Again,
    Over,
}

fn event(sequence: Sequence) -> Event {
    Event {
        sequence_number: sequence,
        offset: ByteString::new(),
        enqueued_time: 0,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
        body: Bytes::new(),
    }
}
