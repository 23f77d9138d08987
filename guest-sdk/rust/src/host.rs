//! What a guest asks of its host during a call. Natively there is none: [`testing`](crate::testing) stands in.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::weir::processor::{
    fields::select as select_fields,
    logging::log,
    metrics::{counter_add, gauge_set, histogram_record},
    secrets::get as secret,
    state,
    timers::wake_at,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::stand_in::{
    counter_add, gauge_set, histogram_record, log, now, secret, select_fields, state, wake_at,
};

/// The host's clock, as WASI has it, in milliseconds since 1970.
#[cfg(target_arch = "wasm32")]
pub(crate) fn now() -> i64 {
    crate::timers::timestamp(std::time::SystemTime::now())
}
