//! `wasi:http` for guests: requests to what the deployment lists, and nowhere else.
//!
//! Deny by default, and by two questions. The URL's origin must be in the list. And the address that its name resolves to must be on the public
//! internet or in a listed network; the very addresses that were checked are connected to, so a name that resolves differently the
//! next time leads nowhere else. Redirects are handed to the guest and never followed: the guest's next request is checked like any
//! other. Proxies of the environment are not used, since behind one the address would be out of sight.
//!
//! Bodies are streamed in both directions, counted, and cut off at their limits; a request ends with its time. The work is done on the
//! host's I/O runtime, so that a guest that computes doesn't delay it; a guest that waits for it waits within its `limits.time`.

mod address;
mod allow;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream, LengthLimitError, Limited};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Body, Client, Request, Response, Url, redirect};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use self::allow::Allowed;
pub use self::allow::Origin;

/// Refusals that are noted in one call.
const NOTES: usize = 8;
/// Requests that may wait for their turn, for each that is under way.
const WAITING: usize = 4;
/// What a guest may write of a body at once: the host holds two of these for each request.
const CHUNK: usize = 64 << 10;
/// How long a connection is kept for the next request, and how many to one host.
const IDLE: (Duration, usize) = (Duration::from_secs(10), 4);
/// Names that are resolved at a time in this process. A look-up can't be cut off, and each takes one of the threads that files are read on.
const LOOKUPS: usize = 32;

static LOOKING_UP: Semaphore = Semaphore::const_new(LOOKUPS);

/// What a processor may reach by HTTP, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpGrant {
    /// Where requests may go.
    pub allow: Vec<Origin>,
    /// Networks beyond the public internet that names in `allow` may resolve to.
    pub networks: Vec<IpNet>,
    /// From the request to the end of the answer's body.
    pub timeout: Duration,
    /// Bytes of one request's body.
    pub request_bytes: usize,
    /// Bytes of one answer's body.
    pub response_bytes: usize,
    /// Requests of one instance under way at a time. Four times as many may wait for their turn; more are refused.
    pub concurrent: usize,
}

impl Default for HttpGrant {
    /// Nowhere.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            networks: Vec::new(),
            timeout: Duration::from_secs(10),
            request_bytes: 1 << 20,
            response_bytes: 8 << 20,
            concurrent: 16,
        }
    }
}

/// A processor's client. Its connections are shared by the instances.
pub(super) struct HttpClient {
    allowed: Arc<Allowed>,
    client: Client,
    grant: HttpGrant,
}

impl HttpClient {
    pub(super) fn new(grant: HttpGrant) -> Result<Self, String> {
        Self::with_lookup(grant, Arc::new(SystemLookup))
    }

    fn with_lookup(grant: HttpGrant, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        let allowed = Arc::new(Allowed { origins: grant.allow.clone(), networks: grant.networks.clone() });
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(grant.timeout)
            .pool_idle_timeout(IDLE.0)
            .pool_max_idle_per_host(IDLE.1)
            .dns_resolver(Arc::new(Checked { allowed: Arc::clone(&allowed), lookup }))
            .build()
            .map_err(|error| format!("no HTTP client can be made: {}", root(&error)))?;
        Ok(Self { allowed, client, grant })
    }
}

/// One instance's requests.
pub(super) struct Outgoing {
    client: Option<Arc<HttpClient>>,
    io: Handle,
    /// For requests that wait for their turn or are under way.
    places: Arc<Semaphore>,
    /// For those under way.
    permits: Arc<Semaphore>,
    notes: Notes,
}

impl Outgoing {
    /// `io`: where the work is done. No client: every request is refused.
    pub(super) fn new(client: Option<Arc<HttpClient>>, io: Handle) -> Self {
        let permits = client.as_ref().map_or(0, |client| client.grant.concurrent);
        let places = Arc::new(Semaphore::new(permits * (1 + WAITING)));
        Self { client, io, places, permits: Arc::new(Semaphore::new(permits)), notes: Notes::default() }
    }

    /// What was refused since the last time, each with the remedy.
    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }
}

/// Sentences for the log, from requests that may still be under way.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, note: String) {
        let mut notes = self.lock();
        if notes.len() < NOTES && !notes.contains(&note) {
            notes.push(note);
        }
    }
}

type Answered = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answered> + Send> {
        let Some(client) = self.client.clone() else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        let (io, permits, notes) = (self.io.clone(), Arc::clone(&self.permits), self.notes.clone());
        // Now, and not when it is this request's turn: what waits holds its body.
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let most = client.grant.concurrent;
            notes.add(format!(
                "HTTP: {most} requests are under way and {} wait; more are refused (grants.http.concurrent)",
                WAITING * most
            ));
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        };
        Box::new(async move {
            let request = client.admit(request, &notes)?;
            let permit = tokio::time::timeout(client.grant.timeout, permits.acquire_owned()).await;
            let Ok(Ok(permit)) = permit else {
                notes.add(format!(
                    "HTTP: no turn within {:?}: {} requests are under way, or their answers were not read to the end \
                     (grants.http.concurrent)",
                    client.grant.timeout, client.grant.concurrent
                ));
                return Err(Error::ConnectionLimitReached);
            };
            let response = client.send(request, options.unwrap_or_default(), &io).await.map_err(|error| {
                notes.add(error.detail);
                error.kind
            })?;
            let limit = client.grant.response_bytes;
            let response = http::Response::from(response).map(|body| {
                let body = Limited::new(body, limit).map_err(move |error| {
                    // Held until the body is read or dropped.
                    let _ = (&permit, &place);
                    failed_answer(&*error, limit)
                });
                body.boxed_unsync()
            });
            Ok((response, Box::new(async { Ok(()) }) as Box<_>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

/// Why a request came to nothing: for the guest, and in a sentence.
struct Failed {
    kind: Error,
    detail: String,
}

impl HttpClient {
    /// The request, if it may be sent.
    fn admit(&self, request: http::Request<WasiBody>, notes: &Notes) -> Result<Request, Error> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let allowed = match parts.method {
            _ if !url.username().is_empty() || url.password().is_some() => {
                Err(format!("the URL to {} names a user, and is refused", url.origin().ascii_serialization()))
            }
            http::Method::CONNECT => {
                Err(format!("a CONNECT to {} would be a tunnel, and is refused", url.origin().ascii_serialization()))
            }
            _ => self.allowed.admit(&url),
        };
        if let Err(refused) = allowed {
            notes.add(format!("HTTP: {refused}"));
            return Err(Error::HttpRequestDenied);
        }
        let mut request = Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        // As the guest spelled it; the client makes it of the URL that was checked.
        request.headers_mut().remove(http::header::HOST);
        if !body.is_end_stream() {
            let limited = Limited::new(body.map_err(|error| Box::new(error) as Boxed), self.grant.request_bytes);
            // Trailers have no place in the client's bodies.
            let data = BodyStream::new(limited).try_filter_map(async |frame| Ok(frame.into_data().ok()));
            *request.body_mut() = Some(Body::wrap_stream(data.map_ok(Bytes::from)));
        }
        Ok(request)
    }

    /// Sends it, and waits for the head of the answer.
    async fn send(&self, request: Request, options: RequestOptions, io: &Handle) -> Result<Response, Failed> {
        // The guest's own limits can only be shorter than the client's.
        let first_byte = options.first_byte_timeout.unwrap_or(Duration::MAX).min(self.grant.timeout);
        let sending = AbortOnDropHandle::new(io.spawn(self.client.execute(request)));
        let answered = match tokio::time::timeout(first_byte, sending).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => {
                return Err(Failed {
                    kind: Error::ConnectionTerminated,
                    detail: "HTTP: a request was cut off: the host is stopping".into(),
                });
            }
            Err(_) => {
                return Err(Failed {
                    kind: Error::HttpResponseTimeout,
                    detail: format!("HTTP: no answer within {first_byte:?}"),
                });
            }
        };
        let response = answered.map_err(|error| Failed {
            kind: failed_request(&error, self.grant.request_bytes),
            detail: format!("HTTP: {}", root(&error)),
        })?;
        match response.content_length() {
            Some(length) if length > self.grant.response_bytes as u64 => Err(Failed {
                kind: Error::HttpResponseBodySize(Some(length)),
                detail: format!("HTTP: an answer of {length} bytes is longer than grants.http.response-bytes"),
            }),
            _ => Ok(response),
        }
    }
}

type Boxed = Box<dyn StdError + Send + Sync>;

/// What the guest is told of a request that failed.
fn failed_request(error: &reqwest::Error, limit: usize) -> Error {
    if found::<Blocked>(error).is_some() {
        return Error::DestinationIpProhibited;
    }
    if found::<LengthLimitError>(error).is_some() {
        return Error::HttpRequestBodySize(Some(limit as u64));
    }
    if found::<Unresolved>(error).is_some() {
        return Error::DnsError { rcode: None, info_code: None };
    }
    match found::<std::io::Error>(error).map(std::io::Error::kind) {
        _ if error.is_timeout() => Error::HttpResponseTimeout,
        Some(std::io::ErrorKind::ConnectionRefused) => Error::ConnectionRefused,
        Some(std::io::ErrorKind::InvalidData) if error.is_connect() => Error::TlsProtocolError,
        _ if error.is_connect() => Error::DestinationUnavailable,
        _ => Error::ConnectionTerminated,
    }
}

/// What the guest is told of an answer's body that ended too early.
fn failed_answer(error: &(dyn StdError + 'static), limit: usize) -> Error {
    if found::<LengthLimitError>(error).is_some() {
        return Error::HttpResponseBodySize(Some(limit as u64));
    }
    match found::<reqwest::Error>(error) {
        Some(error) if error.is_timeout() => Error::HttpResponseTimeout,
        _ => Error::HttpResponseIncomplete,
    }
}

/// The first error of a kind among an error and its causes.
fn found<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The cause at the root of an error. (What is above it names the URL, whose query may hold a secret.)
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

/// Names to addresses: the system's resolver, or a test's.
trait Lookup: Send + Sync {
    fn lookup(&self, name: String) -> futures::future::BoxFuture<'static, std::io::Result<Vec<SocketAddr>>>;
}

struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> futures::future::BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let place = LOOKING_UP.acquire().await.map_err(std::io::Error::other)?;
            let lookup = tokio::task::spawn_blocking(move || {
                // Until it has really ended, whether or not anybody still waits for it.
                let _place = place;
                Ok((name.as_str(), 0).to_socket_addrs()?.collect())
            });
            lookup.await.map_err(std::io::Error::other)?
        })
    }
}

/// Resolves names to those of their addresses that may be reached.
struct Checked {
    allowed: Arc<Allowed>,
    lookup: Arc<dyn Lookup>,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, name) = (Arc::clone(&self.allowed), name.as_str().to_owned());
        let found = self.lookup.lookup(name.clone());
        Box::pin(async move {
            let found = found.await.map_err(|error| Box::new(Unresolved { name: name.clone(), error }) as Boxed)?;
            let (open, blocked): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| allowed.reaches(address.ip()));
            if open.is_empty() {
                return Err(Box::new(Blocked { name, addresses: blocked }) as Boxed);
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

/// A name that leads only to where guests may not go.
#[derive(Debug, thiserror::Error)]
struct Blocked {
    name: String,
    addresses: Vec<SocketAddr>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, addresses } = self;
        if addresses.is_empty() {
            return write!(f, "the name {name} has no address");
        }
        let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        write!(
            f,
            "{name} resolves to {}, which is not on the public internet; if the module may reach it, add its network to `networks` of \
             [processor.grants.http]",
            addresses.join(", ")
        )
    }
}

/// A name that the resolver doesn't know.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} can't be resolved: {error}")]
struct Unresolved {
    name: String,
    // Not a source: what is said is said here.
    error: std::io::Error,
}
