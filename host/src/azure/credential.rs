//! Who the host is for the namespace: a choice of Microsoft Entra credentials, and none for a namespace on the own machine.
//!
//! Nothing here takes a secret: the identity comes from where the host runs. Tokens are fetched when they are first needed,
//! and a choice that can't work here (no workload identity in this pod, say) is refused when the namespace is made.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration, OffsetDateTime};
use azure_identity::{
    AzureCliCredential, DeveloperToolsCredential, ManagedIdentityCredential, WorkloadIdentityCredential,
};

/// How the host proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The first that gives a token: workload identity (if the pod has one), the Azure CLI or `azd` of a developer's machine,
    /// managed identity.
    #[default]
    Default,
    /// The managed identity of the machine or service that the host runs on (user-assigned: `AZURE_CLIENT_ID`).
    ManagedIdentity,
    /// The federated identity of a Kubernetes pod.
    WorkloadIdentity,
    /// Whoever is signed in to the Azure CLI.
    Cli,
    /// Nobody. For a local namespace without TLS only.
    None,
}

const NAMES: [(Credential, &str); 5] = [
    (Credential::Default, "default"),
    (Credential::ManagedIdentity, "managed-identity"),
    (Credential::WorkloadIdentity, "workload-identity"),
    (Credential::Cli, "cli"),
    (Credential::None, "none"),
];

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(c, _)| c == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Credential {
    type Err = UnknownCredential;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(c, _)| *c).ok_or_else(|| UnknownCredential(name.into()))
    }
}

/// A credential's name that isn't one.
#[derive(Debug, thiserror::Error)]
#[error("unknown credential `{0}`: use default, managed-identity, workload-identity, cli or none")]
pub struct UnknownCredential(String);

impl Credential {
    /// The SDK's object for the choice.
    pub(super) fn token_source(self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(match self {
            Self::Default => Arc::new(Chain::new()),
            Self::ManagedIdentity => managed_identity()?,
            Self::WorkloadIdentity => WorkloadIdentityCredential::new(None)?,
            Self::Cli => AzureCliCredential::new(None)?,
            Self::None => Arc::new(Anonymous),
        })
    }
}

fn managed_identity() -> azure_core::Result<Arc<ManagedIdentityCredential>> {
    let user_assigned_id = std::env::var("AZURE_CLIENT_ID").ok().map(azure_identity::UserAssignedId::ClientId);
    ManagedIdentityCredential::new(Some(azure_identity::ManagedIdentityCredentialOptions {
        user_assigned_id,
        ..Default::default()
    }))
}

/// The default choice. Managed identity comes last, since asking for it where there is none takes long to fail.
#[derive(Debug)]
struct Chain(Vec<(&'static str, azure_core::Result<Arc<dyn TokenCredential>>)>);

impl Chain {
    fn new() -> Self {
        fn link<T: TokenCredential + 'static>(
            made: azure_core::Result<Arc<T>>,
        ) -> azure_core::Result<Arc<dyn TokenCredential>> {
            made.map(|c| c as Arc<dyn TokenCredential>)
        }
        Self(vec![
            ("workload identity", link(WorkloadIdentityCredential::new(None))),
            ("developer tools", link(DeveloperToolsCredential::new(None))),
            ("managed identity", link(managed_identity())),
        ])
    }
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let mut tried = Vec::new();
        for (name, credential) in &self.0 {
            match credential {
                Err(error) => tried.push(format!("{name}: {error}")),
                Ok(credential) => match credential.get_token(scopes, options.clone()).await {
                    Ok(token) => return Ok(token),
                    Err(error) => tried.push(format!("{name}: {error}")),
                },
            }
        }
        let tried = format!("no credential of the default chain gave a token ({})", tried.join("; "));
        Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, tried))
    }
}

/// A local namespace takes any token.
#[derive(Debug)]
struct Anonymous;

#[async_trait]
impl TokenCredential for Anonymous {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("local", OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}
