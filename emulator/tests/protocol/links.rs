//! Attaching, credit, drain, limits.

use weir_amqp::engine::Event;
use weir_amqp::message::MessageParts;
use weir_amqp::performative::{Attach, DeliveryState, condition};

use crate::client::{Client, EARLIEST, receiver};
use crate::{fill, namespace};

#[tokio::test]
async fn credit_is_honoured_and_drain_gives_the_rest_back() {
    let emulator = namespace().await;
    fill(&emulator, 0, 10);
    let mut client = Client::connect(emulator.address()).await;
    let link = client.receiver(0, EARLIEST, 3).await;
    for _ in 0..3 {
        client.delivery(link).await;
    }
    assert!(client.is_silent().await, "more than the credit came");
    client.engine.set_credit(link, 50).unwrap();
    client.engine.drain(link).unwrap();
    for _ in 0..7 {
        client.delivery(link).await;
    }
    client
        .wait(|event| matches!(event, Event::LinkFlow(flow) if flow.link == link && flow.credit == 0).then_some(()))
        .await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_its_condition() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let path = |hub: &str, group: &str, id: &str| format!("{hub}/ConsumerGroups/{group}/Partitions/{id}");
    let out_of_range = "com.microsoft:argument-out-of-range";
    for (attach, expected, says) in [
        (Attach::receiver("1", path("nope", "g", "0")), "amqp:not-found", "nope"),
        (Attach::receiver("2", path("h", "nope", "0")), "amqp:not-found", "nope"),
        (Attach::receiver("3", path("h", "g", "2")), out_of_range, "\"2\""),
        (Attach::receiver("4", path("h", "g", "00")), out_of_range, "\"00\""),
        (Attach::receiver("5", "h"), "amqp:not-found", "ConsumerGroups"),
        (Attach::sender("6", "nope"), "amqp:not-found", "nope"),
        (Attach::sender("7", "h/Partitions/-1"), out_of_range, "\"-1\""),
        (Attach::sender("8", ""), "amqp:not-found", "Partitions"),
        (receiver(0, "amqp.annotation.x-opt-offset > 'yesterday'"), "amqp:invalid-field", "yesterday"),
    ] {
        let name = attach.name.clone();
        let link = client.attach(attach).await;
        let error = client.detached(link).await;
        assert_eq!(error.condition, expected, "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
    // The connection and the session are as good as before.
    fill(&emulator, 0, 1);
    let link = client.receiver(0, EARLIEST, 1).await;
    client.delivery(link).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_link_only() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let link = client.attach(Attach::sender("s", "h/Partitions/1")).await;
    let largest = MessageParts::data(vec![7; (1 << 20) - 8]).encode();
    assert_eq!(largest.len(), 1 << 20);
    assert_eq!(client.send(link, 0, largest).await, Some(DeliveryState::Accepted));

    let small = client.attach(Attach::sender("t", "h/Partitions/1")).await;
    assert_eq!(client.send(small, 0, MessageParts::data("x").encode()).await, Some(DeliveryState::Accepted));
    // Past the limit that the server stated, as a client that ignores it would.
    let mut hostile = Client::connect(emulator.address()).await;
    let link = hostile.attach(Attach::sender("u", "h")).await;
    hostile.wait(|event| matches!(event, Event::LinkFlow(flow) if flow.link == link).then_some(())).await;
    hostile.raw(&crate::hostile::oversized_transfer()).await;
    let error = hostile.detached(link).await;
    assert_eq!(error.condition, condition::MESSAGE_SIZE_EXCEEDED);
    emulator.shutdown().await;
}

#[tokio::test]
async fn owner_levels_steal_and_are_refused() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let owner = |name: &str, level: i64| {
        let mut attach = receiver(0, EARLIEST);
        attach.name = name.into();
        attach.properties.insert("com.microsoft:epoch", level);
        attach
    };
    let first = client.attach(owner("first", 1)).await;
    let second = client.attach(owner("second", 1)).await;
    assert_eq!(client.detached(first).await.condition, condition::LINK_STOLEN);
    let lower = client.attach(owner("lower", 0)).await;
    assert_eq!(client.detached(lower).await.condition, condition::LINK_STOLEN);
    let none = client.attach(receiver(0, EARLIEST)).await;
    assert_eq!(client.detached(none).await.condition, condition::LINK_STOLEN);
    fill(&emulator, 0, 1);
    client.engine.set_credit(second, 1).unwrap();
    client.delivery(second).await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn at_most_five_receivers_share_a_partition() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    for n in 0..6 {
        let link = client.attach(Attach { name: n.to_string(), ..receiver(0, EARLIEST) }).await;
        if n == 5 {
            assert_eq!(client.detached(link).await.condition, condition::RESOURCE_LIMIT_EXCEEDED);
        }
    }
    emulator.shutdown().await;
}
