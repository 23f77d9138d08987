//! A guest for tests: it fetches what the bodies of its events name, and emits what it got, or `error: …`.
//!
//! | command | what it fetches |
//! |---|---|
//! | `get:URL` `follow:URL` | an answer as `STATUS BODY`; `follow` goes after redirects by itself |
//! | `post:N:URL` | the answer to a body of N bytes |
//! | `env:NAME` | a variable |
//! | `read:PATH` `list:PATH` `write:PATH` | a file, the names in a directory, whether it could write |
//! | `secret:NAME` | a secret |
//! | `now` | whether the time is later than 2020 |

use std::time::{Duration, SystemTime};

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;
use weir_guest::{Event, Failure, NoConfig, Opening, Outcome, Output, Outputs, Processor, export, secrets};

/// More hops than anybody means.
const HOPS: usize = 5;

struct Courier;

impl Processor for Courier {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        let command = event.text()?;
        let (verb, argument) = command.split_once(':').unwrap_or((command, ""));
        let fetched = match verb {
            "get" => get(argument, 0),
            "follow" => get(argument, HOPS),
            "post" => {
                let (bytes, url) = argument.split_once(':').unwrap_or(("0", argument));
                post(url, bytes.parse().unwrap_or_default())
            }
            "env" => std::env::var(argument).map_err(|e| e.to_string()),
            "read" => std::fs::read_to_string(argument).map_err(|e| e.to_string()),
            "write" => std::fs::write(argument, "written").map(|()| "written".into()).map_err(|e| e.to_string()),
            "list" => list(argument),
            "secret" => secrets::text(argument).map_err(|e| e.to_string()),
            "now" => Ok((SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800) < SystemTime::now()).to_string()),
            _ => Err("no such command".to_owned()),
        };
        out.emit(Output::new(fetched.unwrap_or_else(|error| format!("error: {error}"))));
        Ok(())
    }
}

export!(Courier);

fn list(path: &str) -> Result<String, String> {
    let entries = std::fs::read_dir(path).map_err(|e| e.to_string())?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names.join(","))
}

fn get(url: &str, hops: usize) -> Result<String, String> {
    let response = send(url, Method::Get, 0)?;
    let location = response.headers().get("location").into_iter().next();
    match location {
        Some(location) if hops > 0 => get(&String::from_utf8_lossy(&location), hops - 1),
        _ => Ok(format!("{} {}", response.status(), body(&response)?)),
    }
}

fn post(url: &str, bytes: usize) -> Result<String, String> {
    let response = send(url, Method::Post, bytes)?;
    Ok(format!("{} {}", response.status(), body(&response)?))
}

/// Sends a request with so many bytes of body and waits for the head of the answer.
fn send(url: &str, method: Method, bytes: usize) -> Result<IncomingResponse, String> {
    let wrong = |()| format!("not a request: {url}");
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("not a URL: {url}"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&method).map_err(wrong)?;
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(wrong)?;
    let sink = request.body().map_err(wrong)?;
    let answer = handle(request, None).map_err(|e| e.to_string())?;
    let written = write(&sink, bytes);
    OutgoingBody::finish(sink, None).map_err(|e| e.to_string())?;
    answer.subscribe().block();
    let answered = answer.get().ok_or("no answer after waiting for it")?.map_err(|()| "the answer was taken")?;
    // What the host says of the request counts for more than how far its body got.
    let response = answered.map_err(|e| e.to_string())?;
    written.map(|()| response)
}

fn write(body: &OutgoingBody, bytes: usize) -> Result<(), String> {
    let stream = body.write().map_err(|()| "the body was taken")?;
    for chunk in vec![b'x'; bytes].chunks(4096) {
        stream.blocking_write_and_flush(chunk).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn body(response: &IncomingResponse) -> Result<String, String> {
    let body = response.consume().map_err(|()| "the body was taken")?;
    let stream = body.stream().map_err(|()| "the stream was taken")?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(StreamError::LastOperationFailed(error)) => {
                let why = wasip2::http::types::http_error_code(&error);
                return Err(why.map_or_else(|| error.to_debug_string(), |why| why.to_string()));
            }
        }
    }
}
