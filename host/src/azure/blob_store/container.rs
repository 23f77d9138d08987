//! Requests to one container: each with a time limit, repeated where repeating is safe, and with errors that say what is certain.
//!
//! The SDK's own retries are off. It repeats a write whose first attempt may have taken place; the second then meets a changed ETag, and
//! the host would take its own write for a lost race. Here every write carries a random number of its own (`weirwrite`), so that a
//! refusal after an open attempt can be looked into: the number in the blob tells whose write it was.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::{ClientOptions, Etag, RequestContent, RetryOptions, Transport};
use azure_core::time::{OffsetDateTime, parse_rfc7231};
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlobClientUploadOptions, BlobContainerClientListBlobsOptions, BlobItem,
    ListBlobsIncludeItem,
};
use azure_storage_blob::{
    BlobContainerClient, BlobContainerClientOptions, BlobServiceClient, BlobServiceClientOptions, StorageError,
};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::time::{sleep, timeout};

use super::address::{Address, ContainerError};
use super::clock;
use super::layout::{Metadata, WRITE};
use super::store::BlobStore;
use crate::azure::Credential;
use crate::model::{ETag, Scope};
use crate::retry::{Next, RetryPolicy, chance};
use crate::seams::{StoreError, Written};

/// How patiently a container is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long one attempt may take; large state gets a second more for each 256 KiB. An attempt that takes longer may have taken place.
    pub attempt: Duration,
    /// Attempts and the pauses between them.
    pub retry: RetryPolicy,
}

impl Default for Patience {
    fn default() -> Self {
        let retry =
            RetryPolicy { attempts: 3, backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(2) };
        Self { attempt: Duration::from_secs(4), retry }
    }
}

/// A container in Azure Blob Storage that the hosts of a fleet share. Cheap to clone; nothing is connected before it is used.
#[derive(Clone)]
pub struct BlobContainer(Arc<Inner>);

struct Inner {
    client: BlobContainerClient,
    service: Option<BlobServiceClient>,
    /// For messages, without its query.
    name: String,
    patience: Patience,
    /// Whether it was said that old versions of blobs are kept.
    versions_noted: AtomicBool,
}

impl fmt::Debug for BlobContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the URL with its query, which may be a secret.
        f.debug_tuple("BlobContainer").field(&self.0.name).finish()
    }
}

/// A blob as it was listed.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) metadata: Metadata,
    pub(super) etag: ETag,
    pub(super) age: Option<Duration>,
}

/// A blob as it was read.
pub(super) struct Blob {
    pub(super) metadata: Metadata,
    pub(super) etag: ETag,
    pub(super) body: Bytes,
}

/// What a write replaces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'a> {
    /// Nothing: there must be no blob.
    Absent,
    /// The blob with this ETag.
    Matches(&'a ETag),
    /// Whatever is there.
    Any,
}

impl<'a> From<Option<&'a ETag>> for Condition<'a> {
    fn from(expected: Option<&'a ETag>) -> Self {
        expected.map_or(Self::Absent, Self::Matches)
    }
}

/// What came of one attempt that did not succeed.
#[derive(Debug)]
enum Fault {
    /// Its condition does not hold.
    Conflict,
    /// There is no such blob.
    Missing,
    /// It did not take place, and would not the next time either.
    Refused(String),
    /// It did not take place.
    NotDone(String),
    /// It may have taken place.
    Open(String),
}

impl BlobContainer {
    /// Describes a container: `https://ACCOUNT.blob.core.windows.net/CONTAINER`, with a shared access signature as its query or with a
    /// credential (`None`: the default one). Azurite's development account
    /// (`http://127.0.0.1:10000/devstoreaccount1/CONTAINER`) needs neither.
    pub fn new(url: &str, credential: Option<Credential>, patience: Patience) -> Result<Self, ContainerError> {
        Self::with_transport(url, credential, patience, None)
    }

    /// Whether [`BlobContainer::new`] could take these: for a configuration that is checked before anything is used.
    pub fn check_url(url: &str, credential: Option<Credential>) -> Result<(), ContainerError> {
        Address::parse(url, credential).map(drop)
    }

    pub(super) fn with_transport(
        url: &str,
        credential: Option<Credential>,
        patience: Patience,
        transport: Option<Transport>,
    ) -> Result<Self, ContainerError> {
        let Address { url, credential } = Address::parse(url, credential)?;
        let mut shown = url.clone();
        shown.set_query(None);
        let client_options = ClientOptions { retry: RetryOptions::none(), transport, ..ClientOptions::default() };
        let tokens = match credential {
            Some(credential) => {
                Some(credential.token_source().map_err(|e| ContainerError::Credential(credential, e.to_string()))?)
            }
            None => None,
        };
        let wrong = |_| ContainerError::Url(shown.to_string());
        let mut account = url.clone();
        let service = account
            .path_segments_mut()
            .map(|mut path| {
                path.pop();
            })
            .ok()
            .and_then(|()| {
                let options = BlobServiceClientOptions { client_options: client_options.clone(), ..Default::default() };
                BlobServiceClient::new(account, tokens.clone(), Some(options)).ok()
            });
        let options = BlobContainerClientOptions { client_options, ..Default::default() };
        let client = BlobContainerClient::new(url, tokens, Some(options)).map_err(wrong)?;
        let name = shown.to_string();
        Ok(Self(Arc::new(Inner { client, service, name, patience, versions_noted: AtomicBool::new(false) })))
    }

    /// The checkpoint store of a scope.
    pub fn store(&self, scope: &Scope) -> BlobStore {
        BlobStore::new(self.clone(), scope)
    }

    /// Creates the container where it is missing: for tests and local storage. Containers of a fleet are made by who runs it.
    pub async fn create(&self) -> Result<(), StoreError> {
        self.read(|| async {
            match self.0.client.create(None).await {
                Err(error) if code(&error) == Some("ContainerAlreadyExists") => Ok(()),
                created => created.map(drop),
            }
        })
        .await
        .map(drop)
    }

    /// Asks whether the container can be used at all, and what about it will hurt: full sentences, to be shown.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        let missing = || StoreError::Determinate(format!("{}: the list is missing", self.0.name));
        let now = self.read(|| self.look()).await?.ok_or_else(missing)?;
        let mut warnings = Vec::new();
        warnings.extend(now.and_then(|now| clock::apart(now, OffsetDateTime::now_utc())));
        // Rights on the account are more than a host needs; without them nothing can be said.
        if let Some(service) = &self.0.service
            && let Ok(Ok(properties)) = timeout(self.0.patience.attempt, service.get_properties(None)).await
            && let Ok(properties) = properties.into_model()
            && properties.delete_retention_policy.is_some_and(|policy| policy.enabled == Some(true))
        {
            warnings.push(format!(
                "soft delete is on for the blobs of {}: every checkpoint and renewal leaves a deleted copy that is paid for; switch it off for \
                 this account, or use another one",
                self.0.name
            ));
        }
        Ok(warnings)
    }

    /// The blobs under a prefix, with metadata; `deleted` and old versions are not among them.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.read(|| self.list_once(prefix)).await?;
        listed.ok_or_else(|| StoreError::Determinate(format!("{}: the list is missing", self.0.name)))
    }

    /// Asks for one blob, whichever, to see whether the container answers; says the time at the service.
    async fn look(&self) -> azure_core::Result<Option<OffsetDateTime>> {
        let options = BlobContainerClientListBlobsOptions { maxresults: Some(1), ..Default::default() };
        let page = self.0.client.list_blobs(Some(options))?.into_pages().try_next().await?;
        Ok(page.and_then(|page| date(page.headers())))
    }

    async fn list_once(&self, prefix: &str) -> azure_core::Result<Vec<Listed>> {
        let options = BlobContainerClientListBlobsOptions {
            prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
            include: Some(vec![ListBlobsIncludeItem::Metadata]),
            ..Default::default()
        };
        let mut pages = self.0.client.list_blobs(Some(options))?.into_pages();
        let mut listed = Vec::new();
        while let Some(page) = pages.try_next().await? {
            let now = date(page.headers());
            listed.extend(page.into_model()?.blob_items.into_iter().filter_map(|item| Listed::new(item, now)));
        }
        Ok(listed)
    }

    /// Reads a blob of about this size; `None`: there is none.
    pub(super) async fn get(&self, name: &str, size: usize) -> Result<Option<Blob>, StoreError> {
        let blob = self.0.client.blob_client(name);
        self.read_within(self.limit(size), || async {
            let found = blob.download(None).await?;
            let etag = found.properties.etag.as_ref().map(normal).unwrap_or_else(|| ETag(String::new()));
            Ok(Blob { metadata: found.properties.metadata, etag, body: found.body.collect().await? })
        })
        .await
    }

    /// Reads a blob's metadata; `None`: there is none.
    pub(super) async fn head(&self, name: &str) -> Result<Option<(Metadata, ETag)>, StoreError> {
        let blob = self.0.client.blob_client(name);
        self.read(|| async {
            let found = blob.get_properties(None).await?;
            Ok((metadata(found.headers()), etag(found.headers())))
        })
        .await
    }

    /// Writes a blob in one request.
    pub(super) async fn put(
        &self,
        name: &str,
        condition: Condition<'_>,
        mut metadata: Metadata,
        body: Bytes,
    ) -> Result<Written<ETag>, StoreError> {
        let write = format!("{:016x}", rand::random::<u64>());
        metadata.insert(WRITE.to_owned(), write.clone());
        let limit = self.limit(body.len());
        let mut open = false;
        let mut failures = 0;
        loop {
            let attempt = self.put_once(name, condition, metadata.clone(), body.clone());
            let fault = match timeout(limit, attempt).await {
                Ok(Ok(etag)) => return Ok(Written::Done(etag)),
                Ok(Err(error)) => self.understand(&error),
                Err(_) => Fault::Open(self.no_answer(limit)),
            };
            let words = match fault {
                Fault::Missing if !matches!(condition, Condition::Matches(_)) => {
                    return Err(StoreError::Determinate(format!("{}: blob {name} can't be written", self.0.name)));
                }
                Fault::Conflict | Fault::Missing if !open => return Ok(Written::Conflict),
                Fault::Conflict | Fault::Missing => return self.whose(name, &write).await,
                Fault::Refused(words) if open => return Err(StoreError::Indeterminate(words)),
                Fault::Refused(words) => return Err(StoreError::Determinate(words)),
                Fault::NotDone(words) => words,
                Fault::Open(words) => {
                    open = true;
                    words
                }
            };
            failures += 1;
            match self.0.patience.retry.after(failures, None, chance()) {
                Next::Again(pause) => sleep(pause).await,
                Next::GiveUp if open => return Err(StoreError::Indeterminate(words)),
                Next::GiveUp => return Err(StoreError::Determinate(words)),
            }
        }
    }

    async fn put_once(
        &self,
        name: &str,
        condition: Condition<'_>,
        metadata: Metadata,
        body: Bytes,
    ) -> azure_core::Result<ETag> {
        let quoted = |etag: &ETag| Etag::from(format!("\"{}\"", etag.0));
        let options = BlobClientUploadOptions {
            if_match: match condition {
                Condition::Matches(etag) => Some(quoted(etag)),
                _ => None,
            },
            if_none_match: matches!(condition, Condition::Absent).then(|| Etag::from("*")),
            metadata: Some(metadata),
            // In parts, the last request alone would be conditional.
            partition_size: Some(NonZero::<u64>::MAX),
            ..Default::default()
        };
        let blob = self.0.client.blob_client(name);
        let written = blob.upload(RequestContent::from(body.to_vec()), Some(options)).await?;
        if written.version_id.is_some() && !self.0.versions_noted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                container = self.0.name,
                "versioning is on for this storage account: every checkpoint and renewal leaves an old version that is paid for; switch it \
                 off, or let a lifecycle rule remove them"
            );
        }
        Ok(written.etag.as_ref().map(normal).unwrap_or_else(|| ETag(String::new())))
    }

    /// Decides a refusal that came after an attempt with an open outcome.
    async fn whose(&self, name: &str, write: &str) -> Result<Written<ETag>, StoreError> {
        let found = self.head(name).await.map_err(|e| StoreError::Indeterminate(e.to_string()))?;
        let mine = |m: &Metadata| m.iter().any(|(k, v)| k.eq_ignore_ascii_case(WRITE) && v == write);
        Ok(found.filter(|(m, _)| mine(m)).map_or(Written::Conflict, |(_, etag)| Written::Done(etag)))
    }

    /// Removes a blob if it still has this ETag (`None`: whatever it has). It may be gone already.
    pub(super) async fn delete(&self, name: &str, expected: Option<&ETag>) -> Result<Written<()>, StoreError> {
        let blob = self.0.client.blob_client(name);
        let quoted = expected.map(|etag| Etag::from(format!("\"{}\"", etag.0)));
        let removed = self.repeat(self.0.patience.attempt, || async {
            let options = BlobClientDeleteOptions { if_match: quoted.clone(), ..Default::default() };
            blob.delete(Some(options)).await
        });
        match removed.await {
            Ok(_) | Err(Fault::Missing) => Ok(Written::Done(())),
            Err(Fault::Conflict) => Ok(Written::Conflict),
            Err(Fault::Open(words)) => Err(StoreError::Indeterminate(words)),
            Err(Fault::Refused(words) | Fault::NotDone(words)) => Err(StoreError::Determinate(words)),
        }
    }

    /// How long one attempt may take that moves so many bytes.
    fn limit(&self, bytes: usize) -> Duration {
        self.0.patience.attempt + Duration::from_secs((bytes / (256 << 10)) as u64)
    }

    async fn read<T, F>(&self, attempt: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        self.read_within(self.0.patience.attempt, attempt).await
    }

    /// Repeats a read until it is answered. `None`: what was asked for isn't there.
    async fn read_within<T, F>(&self, limit: Duration, attempt: impl Fn() -> F) -> Result<Option<T>, StoreError>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        match self.repeat(limit, attempt).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Fault::Missing) => Ok(None),
            Err(Fault::Conflict) => Err(StoreError::Determinate(format!("{}: a condition failed", self.0.name))),
            Err(Fault::Refused(words) | Fault::NotDone(words) | Fault::Open(words)) => {
                Err(StoreError::Determinate(words))
            }
        }
    }

    /// Repeats what may be repeated whatever came of it before.
    async fn repeat<T, F>(&self, limit: Duration, attempt: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        let mut failures = 0;
        loop {
            let fault = match timeout(limit, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => self.understand(&error),
                Err(_) => Fault::Open(self.no_answer(limit)),
            };
            if !matches!(fault, Fault::NotDone(_) | Fault::Open(_)) {
                return Err(fault);
            }
            failures += 1;
            match self.0.patience.retry.after(failures, None, chance()) {
                Next::Again(pause) => sleep(pause).await,
                Next::GiveUp => return Err(fault),
            }
        }
    }

    fn no_answer(&self, limit: Duration) -> String {
        format!("{}: no answer within {limit:?}", self.0.name)
    }

    fn understand(&self, error: &azure_core::Error) -> Fault {
        let name = &self.0.name;
        let ErrorKind::HttpResponse { status, .. } = error.kind() else {
            let words = format!("{name}: {}", deepest(error));
            return match error.kind() {
                ErrorKind::Connection => Fault::NotDone(format!(
                    "{name} can't be reached ({}); is its URL right, and the way to it open?",
                    deepest(error)
                )),
                ErrorKind::Credential => Fault::NotDone(words),
                _ => Fault::Open(words),
            };
        };
        let code = code(error).unwrap_or("no code");
        let words = || format!("{name}: status {} ({code}){}", u16::from(*status), message(error));
        match (u16::from(*status), code) {
            (_, "ContainerNotFound") => Fault::Refused(format!(
                "container {name} does not exist; create it (`az storage container create --name … --account-name … --auth-mode login`), or \
                 correct its URL"
            )),
            (412, "ConditionNotMet" | "no code") | (409, "BlobAlreadyExists") => Fault::Conflict,
            (404, _) => Fault::Missing,
            (401 | 403, _) => Fault::Refused(format!("{}; {}", words(), advice(code))),
            (429, _) => Fault::NotDone(words()),
            (408 | 500.., _) => Fault::Open(words()),
            _ => Fault::Refused(words()),
        }
    }
}

impl Listed {
    fn new(item: BlobItem, now: Option<OffsetDateTime>) -> Option<Self> {
        let properties = item.properties.unwrap_or_default();
        let age = |written: OffsetDateTime| Duration::try_from(now? - written).ok().or(Some(Duration::ZERO));
        Some(Self {
            name: item.name?,
            metadata: item.metadata.and_then(|m| m.values).unwrap_or_default(),
            etag: normal(properties.etag.as_ref()?),
            age: properties.last_modified.and_then(age),
        })
    }
}

/// Lists write ETags without quotes, headers with.
fn normal(etag: &Etag) -> ETag {
    ETag(etag.as_ref().trim_matches('"').to_owned())
}

fn header<'a>(headers: &'a Headers, name: &'static str) -> Option<&'a str> {
    headers.get_optional_str(&HeaderName::from_static(name))
}

fn etag(headers: &Headers) -> ETag {
    normal(&Etag::from(header(headers, "etag").unwrap_or_default()))
}

/// The service's clock.
fn date(headers: &Headers) -> Option<OffsetDateTime> {
    header(headers, "date").and_then(|date| parse_rfc7231(date).ok())
}

fn metadata(headers: &Headers) -> Metadata {
    let own = |(name, value): (&HeaderName, &azure_core::http::headers::HeaderValue)| {
        let key = name.as_str().strip_prefix("x-ms-meta-")?;
        Some((key.to_owned(), value.as_str().to_owned()))
    };
    headers.iter().filter_map(own).collect()
}

/// The service's own code for what went wrong.
fn code(error: &azure_core::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::HttpResponse { error_code: Some(code), raw_response: Some(raw), .. } => {
            // Without the header, the SDK puts a description of the status here.
            header(raw.headers(), "x-ms-error-code").map(|_| code.as_str())
        }
        _ => None,
    }
}

/// The service's own words, if it gave some, on one line.
fn message(error: &azure_core::Error) -> String {
    let ErrorKind::HttpResponse { status, raw_response, .. } = error.kind() else { return String::new() };
    let raw = raw_response.as_deref().cloned().map(Box::new);
    let kind = ErrorKind::HttpResponse { status: *status, error_code: None, raw_response: raw };
    let said = StorageError::try_from(kind.into_error()).ok().and_then(|e| e.message).unwrap_or_default();
    // What follows the first line are ids and times.
    match said.lines().next().unwrap_or_default().trim().trim_end_matches('.') {
        "" => String::new(),
        line => format!(": {line}"),
    }
}

/// The innermost cause has the plainest words, and no URL with a signature in it.
fn deepest(error: &azure_core::Error) -> String {
    if matches!(error.kind(), ErrorKind::Credential) {
        return error.to_string();
    }
    let mut layer: &dyn std::error::Error = error;
    while let Some(inner) = layer.source() {
        layer = inner;
    }
    match layer.to_string() {
        words if words.contains("sig=") => "the request failed".into(),
        words => words,
    }
}

/// What to do about a refusal.
fn advice(code: &str) -> &'static str {
    match code {
        "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions" => {
            "give this identity the role `Storage Blob Data Contributor` on the container, or a signature the rights to read, add, create, \
             write, delete and list"
        }
        "AuthorizationFailure" => {
            "the account's firewall does not let this host in, or the signature lacks rights (read, add, create, write, delete, list)"
        }
        "AuthenticationFailed" | "NoAuthenticationInformation" => {
            "the account does not accept this identity or signature: has the signature expired, is this host's clock right, is it the right \
             account?"
        }
        _ => "check the credential and its rights on the container",
    }
}
