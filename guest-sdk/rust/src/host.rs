//! What a guest asks of its host during a call. Natively there is none: [`testing`](crate::testing) stands in.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::weir::processor::{
    fields::select as select_fields,
    logging::log,
    metrics::{counter_add, gauge_set, histogram_record},
    secrets::get as secret,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::stand_in::{counter_add, gauge_set, histogram_record, log, secret, select_fields};
