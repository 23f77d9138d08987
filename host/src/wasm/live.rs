//! A store with a guest in it, and the rules of a call: begin, bound the time, classify what went wrong, check what came back.

use std::pin::pin;

use tokio::runtime::Handle;
use tokio::time::Instant;
use wasmtime::Store;

use super::budget::{Bounded, WaitedTooLong};
use super::context::{Context, Refused, Shared};
use super::module::Module;
use super::text::size;
use super::trap::{self, Work};
use super::v0_1::Guest;
use crate::guest::{Ack, Answer, Batch, CloseReason, Failure, GuestOutput, Opening, Origin, TrapCause, TrapReport};
use crate::model::{Event, Timestamp};

/// A live guest.
pub(super) struct Live {
    store: Store<Context>,
    guest: Guest,
}

impl Live {
    /// Instantiates and opens. Both count as one call.
    pub(super) async fn open(module: &Module, shared: Shared, opening: &Opening, io: Handle) -> Result<Self, Failure> {
        let host_call_bytes = shared.options.limits.host_call_bytes;
        let context = Context::new(module, shared, opening, io, Instant::now());
        // A directory that went away may come back.
        let context = context.map_err(|reason| Failure::Retry { after: None, reason })?;
        let mut store = Store::new(module.engine.wasmtime(), context);
        store.limiter(|context| &mut context.memory);
        store.set_hostcall_fuel(host_call_bytes);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().slices.tick()));
        let work = || Work("`open`".into());
        let opened = call(&mut store, None, work, async |store| {
            let guest = Guest::instantiate(&module.pre, store).await?;
            guest.open(store, opening).await.map(|opened| opened.map(|()| guest))
        });
        let opened = opened.await.map_err(Failure::Trap)?;
        // What a guest writes before it refuses says why.
        store.data_mut().settle(opened.is_ok());
        store.data_mut().flush(Instant::now());
        Ok(Self { guest: opened?, store })
    }

    /// Hands a batch over. After a trap the guest must not be called again.
    pub(super) async fn process(&mut self, batch: &Batch) -> Result<Answer, Failure> {
        let Self { store, guest } = self;
        let events = batch.events();
        fits(events, store.data()).map_err(Failure::Trap)?;
        let work = || Work(describe(events));
        let answered = call(store, Some(events), work, async |store| guest.process(store, events).await);
        let answered = answered.await.map_err(Failure::Trap)?;
        judge(store.data_mut(), answered, events.len())
    }

    /// Wakes the guest. No event is in hand. After a trap the guest must not be called again.
    pub(super) async fn tick(&mut self, now: Timestamp) -> Result<Answer, Failure> {
        let Self { store, guest } = self;
        let work = || Work("`tick`".into());
        let answered = call(store, Some(&[]), work, async |store| guest.tick(store, now).await);
        let answered = answered.await.map_err(Failure::Trap)?;
        judge(store.data_mut(), answered, 0)
    }

    /// Says good-bye. A failure here changes nothing any more.
    pub(super) async fn close(mut self, reason: CloseReason) {
        let Self { store, guest } = &mut self;
        let work = || Work("`close`".into());
        let closed = call(store, None, work, async |store| guest.close(store, reason).await).await;
        let context = store.data_mut();
        context.settle(closed.is_ok());
        context.flush(Instant::now());
        if let Err(report) = closed {
            tracing::warn!(processor = %context.options.name, partition = %context.partition, cause = %report.cause,
                stderr = report.stderr, "the guest broke in `close`: {}", report.message);
        }
    }
}

/// What an answer about so many events comes to, with what was emitted during the call.
fn judge(context: &mut Context, answered: Result<Ack, Failure>, events: usize) -> Result<Answer, Failure> {
    let outputs = std::mem::take(&mut context.outputs.collected);
    let answer = answered.map(|ack| Answer { ack, outputs });
    if let Ok(Answer { ack, outputs }) = &answer
        && let Err(message) = check(ack, outputs, events)
    {
        context.settle(false);
        return Err(Failure::Trap(trap::report(TrapCause::InvalidAnswer, message, context)));
    }
    context.settle(answer.is_ok());
    context.flush(Instant::now());
    answer
}

/// One call within its bounds.
async fn call<T>(
    store: &mut Store<Context>,
    events: Option<&[Event]>,
    work: impl FnOnce() -> Work,
    f: impl AsyncFnOnce(&mut Store<Context>) -> wasmtime::Result<T>,
) -> Result<T, TrapReport> {
    let context = store.data_mut();
    context.begin(events);
    let yielded = context.slices.refill();
    let time = context.options.limits.time;
    store.set_epoch_deadline(1);
    let ended = {
        let call = pin!(f(store));
        Bounded::new(call, yielded, time).await
    };
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            store.data_mut().settle(false);
            Err(trap::classify(&error, store.data(), &work()))
        }
        Err(WaitedTooLong) => {
            store.data_mut().settle(false);
            let Work(work) = work();
            let message = format!("it waited for more than {time:?} (during {work}); raise limits.time, or wait less");
            Err(trap::report(TrapCause::Deadline, message, store.data()))
        }
    }
}

/// A batch that can't fit is refused before it traps in the guest's allocator.
fn fits(events: &[Event], context: &Context) -> Result<(), TrapReport> {
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    if bytes < context.memory.limit {
        return Ok(());
    }
    let message = trap::out_of_memory(Refused::Memory(bytes), context, &describe(events));
    Err(trap::report(TrapCause::OutOfMemory, message, context))
}

fn describe(events: &[Event]) -> String {
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    match (events, events.first(), events.last()) {
        ([_], Some(only), _) => format!("event {} ({})", only.sequence_number, size(bytes)),
        (_, Some(first), Some(last)) => format!(
            "a batch of {} events, {} to {} ({})",
            events.len(),
            first.sequence_number,
            last.sequence_number,
            size(bytes)
        ),
        _ => "an empty batch".to_owned(),
    }
}

/// Whether an answer refers only to events of its batch. Sequence numbers are judged by whoever knows earlier batches.
fn check(ack: &Ack, outputs: &[GuestOutput], events: usize) -> Result<(), String> {
    let outside = |index: u32| usize::try_from(index).map_or(true, |index| index >= events);
    if ack.rejected.len() > events {
        return Err(format!("it rejects {} events of a batch of {events}", ack.rejected.len()));
    }
    if let Some(rejection) = ack.rejected.iter().find(|rejection| outside(rejection.index)) {
        return Err(format!("it rejects the event at index {}, and the batch has {events} events", rejection.index));
    }
    if let Some(redelivery) = ack.redeliver.as_ref().filter(|redelivery| outside(redelivery.index)) {
        return Err(format!("it wants the events from index {} again, and the batch has {events}", redelivery.index));
    }
    let origin = outputs.iter().find_map(|output| match output.origin {
        Some(Origin::Event(index)) if outside(index) => Some(index),
        _ => None,
    });
    match origin {
        Some(index) => {
            Err(format!("an output comes from the event at index {index}, and the batch has {events} events"))
        }
        None => Ok(()),
    }
}
