//! Windows against two models: one that goes over the events one by one with plain lists, and one that knows them all from the start.
#![allow(clippy::unwrap_used, reason = "a test")]

mod windows {
    mod cases;
    mod model;
    mod probe;
    mod properties;
}
