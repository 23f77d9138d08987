//! Every fault, as a client meets it.

use std::time::Duration;

use weir_amqp::engine::{CloseReason, Event};
use weir_amqp::message::{Message, MessageParts};
use weir_amqp::performative::{Attach, DeliveryState};
use weir_amqp::wire::{Map, Value};
use weir_emulator::faults::Role;
use weir_emulator::{Action, Fault, Moment, Target};

use crate::client::{Client, EARLIEST};
use crate::{fill, namespace};

fn partition(id: u32) -> Target {
    Target { hub: Some("H".into()), partition: Some(id), role: Some(Role::Receiver), ..Target::default() }
}

#[tokio::test]
async fn now_strikes_the_links_that_match_and_no_others() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let struck = client.receiver(0, EARLIEST, 10).await;
    let spared = client.receiver(1, EARLIEST, 10).await;
    fill(&emulator, 0, 1);
    fill(&emulator, 1, 1);
    client.delivery(struck).await;
    client.delivery(spared).await;
    let inject = |action, id| emulator.namespace().inject(&Fault::new(action, Moment::Now).on(partition(id))).struck;
    assert_eq!(inject(Action::Detach, 0), 1);
    assert_eq!(client.detached(struck).await.condition, "amqp:link:detach-forced");
    assert_eq!(inject(Action::Detach, 0), 0, "it is gone");
    fill(&emulator, 1, 1);
    client.delivery(spared).await;
    assert_eq!(inject(Action::EndSession, 1), 1);
    client.wait(|event| matches!(event, Event::SessionEnded { error: Some(_), .. }).then_some(())).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_detach_after_k_deliveries_lets_exactly_k_out() {
    let emulator = namespace().await;
    fill(&emulator, 0, 300);
    let mut client = Client::connect(emulator.address()).await;
    emulator.namespace().inject(&Fault::new(Action::Detach, Moment::Delivery).on(partition(0)).after(270));
    let link = client.receiver(0, EARLIEST, 1000).await;
    for _ in 0..270 {
        client.delivery(link).await;
    }
    assert_eq!(client.detached(link).await.condition, "amqp:link:detach-forced");
    let standing = emulator.namespace().standing_faults();
    assert_eq!((standing[0].hits, standing[0].fault.times), (1, Some(0)));
    emulator.shutdown().await;
}

#[tokio::test]
async fn reset_and_close_end_the_connection_each_in_its_way() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    assert_eq!(emulator.namespace().inject(&Fault::new(Action::Reset, Moment::Now)).struck, 1);
    let error = client.end_of_stream().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut client = Client::connect(emulator.address()).await;
    emulator.namespace().inject(&Fault::new(Action::Close, Moment::Now));
    let CloseReason::Peer(Some(error)) = client.closed().await else { panic!() };
    assert_eq!(error.condition, "amqp:connection:forced");
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_stalled_connection_is_silent_until_the_fault_is_lifted() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let link = client.receiver(0, EARLIEST, 10).await;
    fill(&emulator, 0, 1);
    client.delivery(link).await;
    let fault = emulator.namespace().inject(&Fault::new(Action::Stall, Moment::Now).on(partition(0)));
    assert_eq!(fault.struck, 1);
    fill(&emulator, 0, 1);
    assert!(client.is_silent().await);
    emulator.namespace().lift(fault.id);
    client.delivery(link).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_stall_with_a_time_ends_by_itself() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let link = client.receiver(0, EARLIEST, 10).await;
    fill(&emulator, 0, 1);
    client.delivery(link).await;
    let fault = Fault::new(Action::Stall, Moment::Now).lasting(Duration::from_millis(50));
    assert_eq!(emulator.namespace().inject(&fault).struck, 1);
    fill(&emulator, 0, 1);
    client.delivery(link).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn sends_are_refused_lost_and_delayed() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let link = client.attach(Attach::sender("s", "h/Partitions/0")).await;
    let message = || MessageParts::data("x").encode();
    emulator.namespace().inject(&Fault::new(Action::Busy, Moment::Send).after(1).times(1));
    assert_eq!(client.send(link, 0, message()).await, Some(DeliveryState::Accepted));
    let Some(DeliveryState::Rejected { error: Some(error) }) = client.send(link, 0, message()).await else { panic!() };
    assert_eq!(error.condition, "com.microsoft:server-busy");

    let delay = Duration::from_millis(50);
    let slow = emulator.namespace().inject(&Fault::delay(Moment::Send, delay));
    let before = std::time::Instant::now();
    assert_eq!(client.send(link, 0, message()).await, Some(DeliveryState::Accepted));
    assert!(before.elapsed() >= delay);
    emulator.namespace().lift(slow.id);

    // Taken in, but the client never hears of it.
    emulator.namespace().inject(&Fault::new(Action::LoseAnswer, Moment::Send));
    client.engine.send(link, &Default::default(), &[message()]).unwrap();
    assert_eq!(client.detached(link).await.condition, "amqp:link:detach-forced");
    let state = emulator.namespace().hub("h").unwrap().partition("0").unwrap().state(0);
    assert_eq!(state.last, 2, "the first, the delayed and the lost one; not the rejected one");
    emulator.shutdown().await;
}

#[tokio::test]
async fn deliveries_wait_while_a_delay_stands() {
    let emulator = namespace().await;
    fill(&emulator, 0, 3);
    let delay = Duration::from_millis(50);
    let fault = emulator.namespace().inject(&Fault::delay(Moment::Delivery, delay));
    let mut client = Client::connect(emulator.address()).await;
    let before = std::time::Instant::now();
    let link = client.receiver(0, EARLIEST, 10).await;
    for _ in 0..3 {
        client.delivery(link).await;
    }
    assert!(before.elapsed() >= delay);
    assert!(emulator.namespace().standing_faults()[0].hits >= 1);
    emulator.namespace().lift(fault.id);
    fill(&emulator, 0, 1);
    client.delivery(link).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn tokens_and_links_are_refused() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    emulator.namespace().inject(&Fault::new(Action::Refuse, Moment::Token));
    assert_eq!(put_token(&mut client, "1").await, 401);
    assert_eq!(put_token(&mut client, "2").await, 202);
    emulator.namespace().inject(&Fault::new(Action::Busy, Moment::Attach));
    let link = client.receiver(0, EARLIEST, 1).await;
    assert_eq!(client.detached(link).await.condition, "com.microsoft:server-busy");
    emulator.shutdown().await;
}

/// Puts a token as the SDKs do, and reads the status of the answer.
async fn put_token(client: &mut Client, id: &str) -> i64 {
    let mut reply = Attach::receiver(format!("cbs-r{id}"), "$cbs");
    reply.target.as_mut().unwrap().address = Some(format!("reply-{id}"));
    let reply = client.attach(reply).await;
    client.engine.set_credit(reply, 10).unwrap();
    let request = client.attach(Attach::sender(format!("cbs-s{id}"), "$cbs")).await;
    let mut message = MessageParts::value("a token");
    message.properties.message_id = Some(id.into());
    message.properties.reply_to = Some(format!("reply-{id}"));
    let ask = [("operation", "put-token"), ("type", "jwt"), ("name", "amqp://localhost/h/Partitions/0")];
    message.application_properties = ask.into_iter().collect();
    assert_eq!(client.send(request, 0, message.encode()).await, Some(DeliveryState::Accepted));
    let answer = Message::parse(client.delivery(reply).await.payload).unwrap();
    let correlation =
        answer.properties().unwrap().unwrap().correlation_id.and_then(|id| id.as_str().map(str::to_owned));
    assert_eq!(correlation.as_deref(), Some(id));
    let status: Map = answer.application_properties().unwrap().to_map().unwrap();
    status.get("status-code").and_then(Value::as_i64).unwrap()
}
