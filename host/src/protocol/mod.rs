//! The partition protocol in a seeded simulation: hosts, a store and a broker in virtual time, with everything that can go
//! wrong between them, and the invariants checked at every write.
//!
//! It lives in the library's tests, not in `tests/`, because it runs the library's own decisions: the balancer claims,
//! the lease fences, the tracker says what may be committed. What the pump does around them with tasks and channels is
//! here a machine without I/O ([`machine`]): one host's dealings with one partition, from the claim to the release.
//!
//! The invariants ([`check`]):
//!
//! 1. A checkpoint never moves backwards.
//! 2. It covers only what a guest has acknowledged.
//! 3. One committed lineage: the state at k has the effect of each event up to k once, in order.
//! 4. The outputs of what is committed were accepted before.
//! 5. Two hosts may process an event; one commits it.
//! 6. A planned move between healthy hosts repeats nothing.
//! 7. A dead host's partitions are read again within the expiry and two cycles.
//!
//! And in the end, when the weather has cleared, everything is committed.
//!
//! Every rule of the protocol can be switched off ([`Rule`]). Without a rule that safety needs, the simulation must find
//! a violation: that is what says that it looks. To see more than CI does, and to see a failing seed again:
//!
//! ```text
//! WEIR_PROTOCOL_SEEDS=1000000 cargo test --workspace --lib -- protocol::tests::every_story_holds
//! WEIR_PROTOCOL_SEED=4711 cargo test --workspace --lib -- protocol::tests::replay --nocapture
//! ```

mod broker;
mod check;
mod cycle;
mod machine;
mod rules;
mod store;
mod tests;
mod weather;
mod world;

/// The position of an event; the first is 1, 0 is before it.
type Sequence = i64;

/// The effects of events: which event, and in which tenancy it was applied.
type State = Vec<(Sequence, u64)>;
