//! `weir:processor/state` and `timers`: a guest's way to what the host keeps for its partition ([`crate::state`]).
//!
//! When a call begins and what becomes of its changes is the dispatcher's affair. Here values are copied in and out, and a page of a scan is
//! bounded, since the host builds it outside of the guest's memory.

use wasmtime::Result;

use super::context::Context;
use super::text::size;
use super::v0_1::{state, timers};
use crate::model::Timestamp;

/// The most entries of a page.
const PAGE: usize = 1000;
/// Bytes of keys and values at which a page ends; one entry is always in it.
const PAGE_BYTES: usize = 1 << 20;

impl state::Host for Context {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.state.get(&key).map(Vec::from))
    }

    fn get_many(&mut self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        let values = self.state.get_many(keys.iter().map(String::as_str));
        // One key may be asked for again and again: what is copied has a bound of its own.
        let bytes: usize = values.iter().flatten().map(bytes::Bytes::len).sum();
        let most = self.options.limits.host_call_bytes;
        if bytes > most {
            wasmtime::bail!(
                "it asked for {} of its state at once; raise limits.host-call-bytes, or ask for less",
                size(bytes)
            );
        }
        Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<std::result::Result<(), String>> {
        Ok(self.state.set(&key, value.into()))
    }

    fn delete(&mut self, key: String) -> Result<()> {
        self.state.delete(&key);
        Ok(())
    }

    fn scan(&mut self, prefix: String, after: Option<String>, limit: u32) -> Result<Vec<(String, Vec<u8>)>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(PAGE);
        let found = self.state.scan(&prefix, after.as_deref(), limit);
        let mut bytes = 0;
        let page = found.into_iter().take_while(|(key, value)| {
            let first = bytes == 0;
            bytes += key.len() + value.len() + 1;
            first || bytes <= PAGE_BYTES
        });
        Ok(page.map(|(key, value)| (key.to_string(), Vec::from(value))).collect())
    }
}

impl timers::Host for Context {
    fn wake_at(&mut self, at: Timestamp) -> Result<()> {
        self.state.wake_at(at);
        Ok(())
    }
}
