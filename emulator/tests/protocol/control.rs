//! The control API as `curl` would use it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Client, EARLIEST};
use crate::{fill, namespace};

async fn call(address: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn hubs_are_made_grown_and_read() {
    let emulator = namespace().await;
    let control = emulator.control_address().unwrap();
    let (status, hub) = call(control, "PUT", "/hubs/new", &json!({ "partitions": 2 })).await;
    assert_eq!((status, hub["partitions"].as_array().unwrap().len()), (201, 2));
    assert_eq!(call(control, "PUT", "/hubs/new", &json!({ "partitions": 2 })).await.0, 409);
    assert_eq!(call(control, "PUT", "/hubs/-", &json!({ "partitions": 2 })).await.0, 400);
    assert_eq!(call(control, "PUT", "/hubs/other", &json!({ "partitons": 2 })).await.0, 422);
    let (status, hub) = call(control, "POST", "/hubs/new/partitions", &json!({ "add": 3 })).await;
    assert_eq!((status, hub["partitions"].as_array().unwrap().len()), (200, 5));
    assert_eq!(call(control, "POST", "/hubs/new/partitions", &json!({ "add": 1020 })).await.0, 400);
    fill(&emulator, 1, 3);
    let (_, hub) = call(control, "GET", "/hubs/H", &Value::Null).await;
    assert_eq!(hub["partitions"][1]["events"], 3);
    assert_eq!(hub["partitions"][1]["last-enqueued-sequence-number"], 2);
    assert_eq!(hub["partitions"][0]["last-enqueued-ms"], Value::Null);
    let (status, error) = call(control, "GET", "/hubs/nope", &Value::Null).await;
    assert_eq!(status, 404);
    assert!(error["error"].as_str().unwrap().contains("it has: h, new"), "{error}");
    emulator.shutdown().await;
}

#[tokio::test]
async fn faults_are_injected_listed_and_lifted() {
    let emulator = namespace().await;
    let control = emulator.control_address().unwrap();
    fill(&emulator, 0, 5);
    let fault = json!({ "action": "detach", "at": "delivery", "skip": 2, "target": { "hub": "h", "partition": 0 } });
    let (status, injected) = call(control, "POST", "/faults", &fault).await;
    assert_eq!((status, &injected["struck"]), (201, &json!(0)));
    let mut client = Client::connect(emulator.address()).await;
    let link = client.receiver(0, EARLIEST, 10).await;
    for _ in 0..2 {
        client.delivery(link).await;
    }
    client.detached(link).await;
    let (_, standing) = call(control, "GET", "/faults", &Value::Null).await;
    assert_eq!((&standing[0]["id"], &standing[0]["hits"]), (&injected["id"], &json!(1)));
    assert_eq!(call(control, "DELETE", &format!("/faults/{}", injected["id"]), &Value::Null).await.0, 204);
    assert_eq!(call(control, "GET", "/faults", &Value::Null).await.1, json!([]));
    let unknown = json!({ "action": "detach", "at": "delivery", "ship": 2 });
    assert_eq!(call(control, "POST", "/faults", &unknown).await.0, 422);

    let (_, connections) = call(control, "GET", "/connections", &Value::Null).await;
    assert_eq!(connections[0]["container"], "test");
    assert_eq!(call(control, "POST", "/faults", &json!({ "action": "reset", "at": "now" })).await.1["struck"], 1);
    client.end_of_stream().await.unwrap_err();
    emulator.shutdown().await;
}
