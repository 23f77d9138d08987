//! The namespace seen frame by frame: credit, limits, refusals, hostile bytes, faults, control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod control;
mod faults;
mod hostile;
mod links;
mod values;

use weir_emulator::{Emulator, EmulatorConfig, Groups, Incoming};

/// A namespace with hub `h` of two partitions and consumer group `g`.
async fn namespace() -> Emulator {
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".into(),
        hubs: vec!["h:2".parse().unwrap()],
        groups: Groups::Listed(vec!["g".into()]),
        control: Some("127.0.0.1:0".into()),
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.unwrap()
}

/// Events with one byte of data each.
fn fill(emulator: &Emulator, partition: u32, count: usize) {
    let event = Incoming { tail: bytes::Bytes::from_static(&[0, 0x53, 0x75, 0xa0, 1, b'x']), ..Incoming::default() };
    emulator.namespace().publish("h", partition, &vec![event; count]).unwrap();
}
