//! What resolves where is a matter of the network; here it is a matter of the test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A resolver that knows some names.
struct Book(&'static [(&'static str, &'static [&'static str])]);

impl Lookup for Book {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        let found = self.0.iter().find(|(known, _)| *known == name).map(|(_, addresses)| *addresses);
        Box::pin(async move {
            let found = found.ok_or_else(|| std::io::Error::other("no such name"))?;
            Ok(found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
        })
    }
}

fn client(allow: &[&str], networks: &[&str], book: Book) -> HttpClient {
    let grant = HttpGrant {
        allow: allow.iter().map(|origin| origin.parse().unwrap()).collect(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..HttpGrant::default()
    };
    HttpClient::with_lookup(grant, Arc::new(book)).unwrap()
}

async fn get(client: &HttpClient, url: &str) -> Result<u16, Failed> {
    let request = Request::new(http::Method::GET, Url::parse(url).unwrap());
    let answer = client.send(request, RequestOptions::default(), &Handle::current()).await;
    answer.map(|response| response.status().as_u16())
}

#[tokio::test]
async fn a_name_that_resolves_to_metadata_is_not_connected_to() {
    let book = Book(&[
        ("metadata.test", &["169.254.169.254"]),
        ("six.test", &["fd00:ec2::254", "::ffff:169.254.169.254"]),
        ("platform.test", &["168.63.129.16"]),
        ("empty.test", &[]),
    ]);
    let client = client(&["http://*.test"], &["10.0.0.0/8"], book);
    for (url, words) in [
        ("http://metadata.test/", "metadata.test resolves to 169.254.169.254, which is not on the public internet"),
        ("http://six.test/", "resolves to fd00:ec2::254, ::ffff:169.254.169.254, which"),
        ("http://platform.test/", "resolves to 168.63.129.16"),
        ("http://empty.test/", "the name empty.test has no address"),
    ] {
        let failed = get(&client, url).await.unwrap_err();
        assert!(matches!(failed.kind, Error::DestinationIpProhibited), "{url}: {:?}", failed.kind);
        assert!(failed.detail.contains(words), "{url}: {}", failed.detail);
    }
    let failed = get(&client, "http://unknown.test/").await.unwrap_err();
    assert!(matches!(failed.kind, Error::DnsError { .. }), "{:?}", failed.kind);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_reached_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    };
    let book = Book(&[("mixed.test", &["169.254.169.254", "127.0.0.1"])]);
    let origin = format!("http://mixed.test:{port}");
    let client = client(&[&origin], &["127.0.0.0/8"], book);
    let url = format!("{origin}/x?y");
    let (head, status) = tokio::join!(serve, get(&client, &url));
    assert_eq!(status.map_err(|failed| failed.detail).unwrap(), 204);
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
}
