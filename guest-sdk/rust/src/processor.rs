//! The trait that a guest implements, and the loop that turns per-event outcomes into one answer.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ack::millis;
use crate::{Ack, CloseReason, Event, Failure, Opening, Outcome, Outputs, Problem, Redelivery, host, state};

/// A stream processor: one value per partition, given that partition's events in order.
///
/// Implement [`event`](Self::event) or [`process`](Self::process).
pub trait Processor: Sized + 'static {
    /// The deployment's `config` table. A table that doesn't fit stops the partition at open, with the key and the reason.
    /// Derive it with `deny_unknown_fields`, so that a misspelt key is noticed; [`NoConfig`] if there is nothing to configure.
    type Config: DeserializeOwned;

    /// Begins with a partition. `opening` says which one, why, and where processing goes on.
    fn open(config: Self::Config, opening: &Opening) -> Result<Self, Failure>;

    /// Processes one event. See [`Problem`] for what an error does.
    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        let _ = (event, out);
        Err(Problem::fatal("this processor implements neither `event` nor `process`"))
    }

    /// Processes a batch. The default calls [`event`](Self::event) for each event through [`each`].
    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        each(events, out, |event, out| self.event(event, out))
    }

    /// Called when a time has come that was asked for with [`timers`](crate::timers); `now` is in milliseconds since 1970. Outputs need a
    /// [key](crate::Output::from_key) as their origin. Answer as for a batch of no events; the default says that nothing new is finished.
    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        let _ = (now, out);
        Ok(Ack::hold())
    }

    /// Ends. Nothing that is done here counts any more; logging works.
    fn close(self, reason: CloseReason) {
        let _ = reason;
    }
}

/// For [`Processor::Config`]: takes an empty table only.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Calls `handle` for each event and answers for the batch.
///
/// Outputs get the event's index as origin. An event that ends in an error emits nothing and changes no state; rejections are collected;
/// the first retry ends the batch there (`redeliver`); a fatal problem fails the batch.
pub fn each(
    events: Vec<Event>,
    out: &mut Outputs,
    mut handle: impl FnMut(Event, &mut Outputs) -> Outcome,
) -> Result<Ack, Failure> {
    let mut ack = Ack::all();
    for (index, event) in (0..).zip(events) {
        let (sequence_number, before) = (event.sequence_number, out.len());
        out.enter(index);
        state::begin();
        let outcome = handle(event, out);
        out.leave();
        let Err(problem) = outcome else {
            state::keep().map_err(|why| Failure::Fatal(format!("event {sequence_number}: {why}")))?;
            continue;
        };
        state::drop_pending();
        out.truncate(before);
        match problem {
            Problem::Reject(reason) => ack = ack.reject(index, reason),
            Problem::Retry { after, reason } => {
                ack.redeliver = Some(Redelivery { index, after: after.map(millis), reason });
                break;
            }
            Problem::Fatal(reason) => return Err(Failure::Fatal(format!("event {sequence_number}: {reason}"))),
        }
    }
    Ok(ack)
}

impl Opening {
    /// Says which parts of [`Metadata`](crate::Metadata) the events shall carry; leaving out what isn't read makes each event
    /// cheaper. Names: `offset`, `content-type`, `message-id`, `correlation-id`, `properties`, `property:<key>`. Without a call, all.
    ///
    /// Fails on a name that the host doesn't know: the guest was built for a newer one.
    pub fn select_fields(&self, fields: &[&str]) -> Result<(), Failure> {
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        let unknown = host::select_fields(&fields);
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Failure::Fatal(format!("this host doesn't know the event fields {}", unknown.join(", "))))
    }
}

/// Opens a processor: the host's opening, typed.
pub(crate) fn open<P: Processor>(opening: &Opening) -> Result<P, Failure> {
    P::open(config(&opening.config)?, opening)
}

/// Reads the `config` table. Its JSON was made by the host from the deployment's TOML, so positions in it would tell nobody
/// anything: the message names the key instead.
fn config<C: DeserializeOwned>(json: &str) -> Result<C, Failure> {
    let json = if matches!(json.trim(), "" | "null") { "{}" } else { json };
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let position = format!(" at line {} column {}", inner.line(), inner.column());
        let text = inner.to_string();
        let why = text.strip_suffix(position.as_str()).unwrap_or(&text);
        match path.as_str() {
            "." => Failure::Fatal(format!("the processor's config doesn't fit: {why}")),
            key => Failure::Fatal(format!("the processor's config doesn't fit, key `{key}`: {why}")),
        }
    })
}
