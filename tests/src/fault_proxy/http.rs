//! As much HTTP/1.1 as the proxy needs: requests with a length, answers up to the end of the connection.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any head that the SDK sends.
const LONGEST_HEAD: usize = 64 << 10;

/// What a request asks the blob service for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The list of a container's blobs.
    List,
    /// A blob, or something else.
    Get,
    /// A blob's metadata.
    Head,
    /// A write of a blob or its metadata.
    Put,
    /// The removal of a blob.
    Delete,
}

/// A whole request.
pub(super) struct Request {
    pub(super) operation: Operation,
    /// Without its query.
    pub(super) path: String,
    pub(super) sequence_number: Option<i64>,
    /// As it is sent on, with its body.
    bytes: Vec<u8>,
}

/// Reads a request; `None`: there is none.
pub(super) async fn read(connection: &mut TcpStream) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(invalid("the head has no end"));
        }
        if connection.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = match header(&text, "content-length") {
        Some(length) => length.parse().map_err(|_| invalid("the length is no number"))?,
        None if header(&text, "transfer-encoding").is_some() => return Err(invalid("a body without a length")),
        None => 0,
    };
    while bytes.len() < head + length {
        if connection.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let operation = match method {
        "GET" if query.split('&').any(|pair| pair == "comp=list") => Operation::List,
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        "PUT" => Operation::Put,
        "DELETE" => Operation::Delete,
        _ => return Err(invalid("a method that no blob client uses")),
    };
    let sequence_number = header(&text, "x-ms-meta-sequencenumber").and_then(|number| number.parse().ok());
    // The SDK writes the slashes of a blob's name like this.
    let path = path.replace("%2F", "/").replace("%24", "$");
    // One request per connection: the answer then ends where the connection does.
    let kept = text.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let kept: Vec<_> = kept.filter(|line| !line.is_empty()).collect();
    let mut sent = format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).into_bytes();
    sent.extend_from_slice(&bytes[head..head + length]);
    Ok(Some(Request { operation, path, sequence_number, bytes: sent }))
}

/// Sends a request on, and reads the whole answer.
pub(super) async fn ask(upstream: &str, request: &Request) -> Result<Vec<u8>> {
    let mut service = TcpStream::connect(upstream).await?;
    service.write_all(&request.bytes).await?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The status of an answer.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// An answer in the service's form.
pub(super) fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>As the test wants it.</Message></Error>"
    );
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {code}\r\nx-ms-error-code: {code}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nconnection: \
         close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Puts a line behind the status of an answer.
pub(super) fn add_header(answer: &mut Vec<u8>, line: &str) {
    if let Some(end) = find(answer, b"\r\n") {
        answer.splice(end..end, format!("\r\n{line}").into_bytes());
    }
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
