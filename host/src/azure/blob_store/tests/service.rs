//! A blob service in memory, behind the SDK's own client: what goes wrong is scripted or thrown by a seed, and time is tokio's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use azure_core::Bytes;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request, StatusCode, Transport};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Fine,
    /// Answered with this status and code; not done.
    Refused(u16, &'static str),
    /// Done, and answered with a 500.
    DoneButFailed,
    /// Done, but the connection ends without an answer.
    DoneButCut,
    /// Not done, and the connection ends without an answer.
    Cut,
    /// Not done: there is no connection.
    Unreachable,
    /// Not done, and never answered.
    Hangs,
    /// Done, and never answered.
    DoneButHangs,
}

const FATES: [Fate; 7] = [
    Fate::Refused(503, "ServerBusy"),
    Fate::DoneButFailed,
    Fate::DoneButCut,
    Fate::Cut,
    Fate::Unreachable,
    Fate::Hangs,
    Fate::DoneButHangs,
];

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) body: Bytes,
    etag: u64,
    written: Instant,
}

#[derive(Debug)]
struct State {
    began: Instant,
    writes: u64,
    /// Blobs on a page of a list.
    page: usize,
    blobs: BTreeMap<String, Stored>,
    script: VecDeque<Fate>,
    /// How likely a fault is when the script is over.
    faults: f64,
    rng: SmallRng,
    log: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Service(Arc<Mutex<State>>);

impl Service {
    pub(super) fn new(seed: u64, faults: f64) -> Self {
        Self(Arc::new(Mutex::new(State {
            began: Instant::now(),
            writes: 0,
            page: 2,
            blobs: BTreeMap::new(),
            script: VecDeque::new(),
            faults,
            rng: SmallRng::seed_from_u64(seed),
            log: Vec::new(),
        })))
    }

    pub(super) fn transport(&self) -> Transport {
        Transport::new(Arc::new(self.clone()))
    }

    /// What befalls the next requests, in order.
    pub(super) fn script<const N: usize>(&self, fates: [Fate; N]) {
        self.lock().script.extend(fates);
    }

    /// The requests since the last call: method and blob.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().log)
    }

    /// Writes a blob past everything, as another client would.
    pub(super) fn put(&self, name: &str, metadata: &[(&str, &str)], body: &'static [u8]) {
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.lock().write(name.to_owned(), metadata, Bytes::from_static(body));
    }

    /// Rewrites a blob's metadata and keeps its body, as SetMetadata does.
    pub(super) fn set_metadata(&self, name: &str, metadata: &[(&str, &str)]) {
        let body = self.blob(name).unwrap().body;
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.lock().write(name.to_owned(), metadata, body);
    }

    pub(super) fn blob(&self, name: &str) -> Option<Stored> {
        self.lock().blobs.get(name).cloned()
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().blobs.remove(name);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().blobs.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn fate(&mut self) -> Fate {
        self.script.pop_front().unwrap_or_else(|| match self.rng.random_bool(self.faults) {
            true => FATES[self.rng.random_range(0..FATES.len())],
            false => Fate::Fine,
        })
    }

    fn write(&mut self, name: String, metadata: BTreeMap<String, String>, body: Bytes) -> u64 {
        self.writes += 1;
        self.blobs.insert(name, Stored { metadata, body, etag: self.writes, written: Instant::now() });
        self.writes
    }

    fn answer(&self, status: u16, headers: &[(&str, String)], body: Bytes) -> AsyncRawResponse {
        let mut all = Headers::new();
        all.insert("date", to_rfc7231(&self.time(Instant::now())));
        for (name, value) in headers {
            all.insert((*name).to_owned(), value.clone());
        }
        AsyncRawResponse::from_bytes(StatusCode::from(status), all, body)
    }

    fn refusal(&self, status: u16, code: &str) -> AsyncRawResponse {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>In plain words.\nIds.</Message></Error>"
        );
        self.answer(status, &[("x-ms-error-code", code.to_owned())], Bytes::from(body))
    }

    fn time(&self, at: Instant) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + (at - self.began)
    }

    fn serve(&mut self, request: &Request) -> AsyncRawResponse {
        let url = request.url();
        let path: Vec<&str> = url.path().trim_start_matches('/').splitn(2, '/').collect();
        if url.query_pairs().any(|(key, value)| key == "comp" && value == "list") {
            let given =
                |key| url.query_pairs().find(|(k, _)| k == key).map(|(_, v)| v.into_owned()).unwrap_or_default();
            return self.answer(200, &[], Bytes::from(self.list(&given("prefix"), &given("marker"))));
        }
        let name = decode(path.get(1).copied().unwrap_or_default());
        let header = |name: &'static str| request.headers().get_optional_str(&name.into()).map(str::to_owned);
        let found = self.blobs.get(&name).cloned();
        let matches = |stored: &Stored| header("if-match").is_none_or(|etag| etag == format!("\"{:x}\"", stored.etag));
        match (request.method(), found) {
            (Method::Put, Some(_)) if header("if-none-match").is_some() => self.refusal(409, "BlobAlreadyExists"),
            (Method::Put, None) if header("if-match").is_some() => self.refusal(412, "ConditionNotMet"),
            (_, Some(stored)) if !matches(&stored) => self.refusal(412, "ConditionNotMet"),
            (Method::Put, _) => {
                let own =
                    |(k, v): (&azure_core::http::headers::HeaderName, &azure_core::http::headers::HeaderValue)| {
                        Some((k.as_str().strip_prefix("x-ms-meta-")?.to_owned(), v.as_str().to_owned()))
                    };
                let metadata = request.headers().iter().filter_map(own).collect();
                let Body::Bytes(body) = request.body().clone() else { unreachable!("bodies are bytes") };
                let etag = self.write(name, metadata, body);
                self.answer(201, &[("etag", format!("\"{etag:x}\""))], Bytes::new())
            }
            (_, None) => self.refusal(404, "BlobNotFound"),
            (Method::Delete, _) => {
                self.blobs.remove(&name);
                self.answer(202, &[], Bytes::new())
            }
            (method, Some(stored)) => {
                let mut headers: Vec<(String, String)> =
                    stored.metadata.iter().map(|(k, v)| (format!("x-ms-meta-{k}"), v.clone())).collect();
                headers.push(("etag".into(), format!("\"{:x}\"", stored.etag)));
                let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
                let body = if method == Method::Head { Bytes::new() } else { stored.body.clone() };
                self.answer(200, &headers, body)
            }
        }
    }

    /// A page of a list; few blobs are on one, so that every test turns pages.
    fn list(&self, prefix: &str, marker: &str) -> String {
        let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
        let mut found = self.blobs.range(marker.to_owned()..).filter(|(name, _)| name.starts_with(prefix));
        let page: Vec<_> = found.by_ref().take(self.page).collect();
        let next = found.next().map(|(name, _)| text(name)).unwrap_or_default();
        let blobs = page.into_iter().map(|(name, stored)| {
            let metadata = stored.metadata.iter().map(|(k, v)| format!("<{k}>{}</{k}>", text(v))).collect::<String>();
            format!(
                "<Blob><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified><Etag>{:x}</Etag></Properties><Metadata>{metadata}\
                 </Metadata></Blob>",
                text(name),
                to_rfc7231(&self.time(stored.written)),
                stored.etag,
            )
        });
        let blobs = blobs.collect::<String>();
        format!(
            "<?xml version=\"1.0\"?><EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"
        )
    }
}

fn decode(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

#[async_trait]
impl HttpClient for Service {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let fate = {
            let mut state = self.lock();
            let url = request.url();
            let name = decode(url.path().trim_start_matches('/').split_once('/').map_or("*", |(_, name)| name));
            state.log.push(format!("{} {name}", request.method()));
            state.fate()
        };
        let broken = |kind: ErrorKind| Err(Error::with_message(kind, "as the test wants it"));
        match fate {
            Fate::Fine => Ok(self.lock().serve(request)),
            Fate::Refused(status, code) => Ok(self.lock().refusal(status, code)),
            Fate::DoneButFailed => {
                let mut state = self.lock();
                state.serve(request);
                Ok(state.refusal(500, "InternalError"))
            }
            Fate::DoneButCut => {
                self.lock().serve(request);
                broken(ErrorKind::Io)
            }
            Fate::Cut => broken(ErrorKind::Io),
            Fate::Unreachable => broken(ErrorKind::Connection),
            Fate::Hangs | Fate::DoneButHangs => {
                if fate == Fate::DoneButHangs {
                    self.lock().serve(request);
                }
                sleep(std::time::Duration::from_secs(180)).await;
                broken(ErrorKind::Io)
            }
        }
    }
}
