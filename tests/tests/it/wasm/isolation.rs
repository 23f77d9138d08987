//! What a guest can't do to its neighbours, to the host, or find out about the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use weir_host::guest::{Batch, Failure};
use weir_host::model::Event;
use weir_host::wasm::ProcessorOptions;

use super::support::*;

/// Far more than anything here takes; only a hang meets it.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn nothing_of_the_machine_is_visible() {
    let found = obey(&["environment"]).await;
    let nothing = "variables 0, arguments 0, files false, network false, listening false, names false";
    assert_eq!(found, Err(Failure::Fatal(nothing.into())));
}

/// One guest thread and one I/O thread: whoever holds either one stops everything.
#[tokio::test(flavor = "current_thread")]
async fn a_hog_stops_neither_its_neighbours_nor_the_heartbeat() {
    let engine = engine();
    let mut hog = misbehave(&engine, in_time(10 * LONG)).await;
    let mut neighbour = misbehave(&engine, options()).await;
    let beats = Arc::new(AtomicU32::new(0));
    let heart = tokio::spawn({
        let beats = Arc::clone(&beats);
        async move {
            loop {
                sleep(Duration::from_millis(5)).await;
                beats.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let hog = tokio::spawn(async move { hog.process(batch(&["loop"])).await });
    let work = async {
        for _ in 0..100 {
            let answer = neighbour.process(batch(&["one", "two"])).await.unwrap();
            assert_eq!(bodies(&answer), ["one", "two"]);
        }
        let so_far = beats.load(Ordering::Relaxed);
        while beats.load(Ordering::Relaxed) < so_far + 50 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, work).await.expect("the neighbour and the heartbeat go on");
    assert!(!hog.is_finished(), "the hog was there all the time");
    hog.abort();
    heart.abort();
}

/// An event whose body tells when nobody holds it any more, and thus when its store is gone.
fn traced(command: &str) -> (Batch, Bytes) {
    let body = Bytes::from(command.as_bytes().to_vec());
    let event = Event { body: body.clone(), ..event(1, "") };
    (Batch::new(vec![event]), body)
}

async fn is_freed(body: &Bytes) {
    let began = Instant::now();
    while !body.is_unique() {
        assert!(began.elapsed() < LONG, "the guest still runs");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn dropping_a_call_ends_the_instance() {
    let (engine, log) = (engine(), Log::capture());
    for (name, command) in [("dropped-busy", "loop"), ("dropped-asleep", "sleep:3600000")] {
        let options = ProcessorOptions { name: name.into(), ..in_time(100 * LONG) };
        let mut guest = misbehave(&engine, options).await;
        // The guest says that it is at work, and then works for ever.
        let (mut events, body) = (vec![event(0, "log:1")], Bytes::from(command.as_bytes().to_vec()));
        events.push(Event { body: body.clone(), ..event(1, "") });
        let at_work = async {
            while log.lines(&format!("processor={name}")).is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            answer = guest.process(Batch::new(events)) => panic!("it answered: {answer:?}"),
            begun = timeout(LONG, at_work) => begun.expect("the call begins"),
        }
        is_freed(&body).await;
        assert!(trap(guest.process(batch(&["one"])).await).message.contains("gone"));
    }
}

#[tokio::test]
async fn dropping_an_instance_frees_it() {
    let engine = engine();
    let mut guest = misbehave(&engine, in_time(100 * LONG)).await;
    let (batch, body) = traced("loop");
    let call = tokio::spawn(async move { guest.process(batch).await });
    // The task owns the instance: both end here.
    call.abort();
    is_freed(&body).await;
}

#[tokio::test]
async fn the_engine_may_be_dropped_first_and_anywhere() {
    let engine = engine();
    let module = module(&engine, "misbehave").await;
    let mut guest = misbehave(&engine, options()).await;
    drop(engine);
    assert!(guest.process(batch(&["one"])).await.is_ok());
    drop(module);
    assert!(guest.process(batch(&["two"])).await.is_ok());
    drop(guest);
}
