//! From the component's exports to the guest's [`Processor`](crate::Processor).

/// Makes a [`Processor`](crate::Processor) the component's own. Once per crate, which must be a `cdylib`.
///
/// Natively it only checks the type: the exports' names mean nothing to a system linker.
#[macro_export]
macro_rules! export {
    ($processor:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::rt::Guest for Component {
                fn open(opening: $crate::Opening) -> ::core::result::Result<(), $crate::Failure> {
                    $crate::rt::open::<$processor>(&opening)
                }
                fn process(
                    events: ::std::vec::Vec<$crate::Event>,
                ) -> ::core::result::Result<$crate::Ack, $crate::Failure> {
                    $crate::rt::process(events)
                }
                fn tick(now: i64) -> ::core::result::Result<$crate::Ack, $crate::Failure> {
                    $crate::rt::tick(now)
                }
                fn close(reason: $crate::CloseReason) {
                    $crate::rt::close(reason)
                }
            }

    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_a_processor<P: $crate::Processor>() {}
            is_a_processor::<$processor>();
        };
    };
}

/// What [`export!`] expands to. An instance serves one partition, one call at a time.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(missing_docs, reason = "for the macro's expansion only")]
pub mod rt {
    use std::cell::RefCell;

    pub use crate::bindings::exports::weir::processor::processor::Guest;
    use crate::bindings::weir::processor::outputs::emit as emit_to_host;
    use crate::{Ack, CloseReason, Event, Failure, Opening, Outputs, Processor, processor};

    trait Live {
        fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure>;
        fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure>;
        fn close(self: Box<Self>, reason: CloseReason);
    }

    impl<P: Processor> Live for P {
        fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
            Processor::process(self, events, out)
        }
        fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
            Processor::tick(self, now, out)
        }
        fn close(self: Box<Self>, reason: CloseReason) {
            Processor::close(*self, reason);
        }
    }

    thread_local! {
        static LIVE: RefCell<Option<(Box<dyn Live>, Outputs)>> = const { RefCell::new(None) };
    }

    pub fn open<P: Processor>(opening: &Opening) -> Result<(), Failure> {
        let live = processor::open::<P>(opening)?;
        LIVE.set(Some((Box::new(live), Outputs::default())));
        Ok(())
    }

    pub fn process(events: Vec<Event>) -> Result<Ack, Failure> {
        call("process", |processor, out| processor.process(events, out))
    }

    pub fn tick(now: i64) -> Result<Ack, Failure> {
        call("tick", |processor, out| processor.tick(now, out))
    }

    fn call(
        name: &str,
        call: impl FnOnce(&mut dyn Live, &mut Outputs) -> Result<Ack, Failure>,
    ) -> Result<Ack, Failure> {
        LIVE.with_borrow_mut(|live| {
            let Some((processor, out)) = live else {
                return Err(Failure::Fatal(format!("the host called `{name}` before `open`")));
            };
            let answer = call(processor.as_mut(), out).and_then(|ack| emit(out).map(|()| ack));
            out.list().clear();
            answer
        })
    }

    fn emit(out: &mut Outputs) -> Result<(), Failure> {
        if out.is_empty() {
            return Ok(());
        }
        emit_to_host(out.list()).map_err(|why| Failure::Fatal(format!("the host refused the batch's outputs: {why}")))
    }

    pub fn close(reason: CloseReason) {
        if let Some((processor, _)) = LIVE.take() {
            processor.close(reason);
        }
    }
}
