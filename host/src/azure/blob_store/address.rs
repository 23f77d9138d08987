//! Where a container is, and who the host is for it.

use azure_core::http::Url;

use crate::azure::Credential;

/// The account that every Azurite has.
const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";

/// What authorises requests to Azurite's development account: a shared access signature (account, blobs, all rights, until 2099) made with
/// the account's published key. It is no secret. The SDK can't sign with a shared key; this way the local store takes the same road as a
/// signature in production, and nothing here signs anything.
pub const DEVELOPMENT_SAS: &str = "sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2099-12-31T00%3A00%3A00Z&spr=https%2Chttp\
                               &sig=f12BHyGfFZCe8KRa2xZPJMW55GyBfv9kgctRQoXmtcA%3D";

/// A container's URL with what authorises requests to it.
pub(super) struct Address {
    /// With its SAS, if it has one.
    pub(super) url: Url,
    /// `None`: the URL authorises.
    pub(super) credential: Option<Credential>,
}

/// Why a container can't be used as described.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not the URL of a container.
    #[error("`{0}` is not a container: write `https://ACCOUNT.blob.core.windows.net/CONTAINER`")]
    Url(String),
    /// Not a name that a container can have.
    #[error("`{0}` can't be a container's name: it has 3 to 63 lower-case letters, digits and single hyphens")]
    Name(String),
    /// Readable on the wire.
    #[error("`{0}` has no TLS, and what authorises the requests would be readable on the wire: use `https://`")]
    Exposed(String),
    /// Two who could authorise.
    #[error(
        "the URL of container `{0}` carries a shared access signature, and there is a credential `{1}` beside it: keep one"
    )]
    Both(String, Credential),
    /// Nobody to authorise.
    #[error("container `{0}` needs a credential, or a URL with a shared access signature: `none` is for Azurite only")]
    Anonymous(String),
    /// The credential can't be made here.
    #[error("credential `{0}` can't be used here: {1}")]
    Credential(Credential, String),
}

impl Address {
    /// `credential`: `None` where the user named none.
    pub(super) fn parse(text: &str, credential: Option<Credential>) -> Result<Self, ContainerError> {
        let without_secret = text.split(['?', '#']).next().unwrap_or_default();
        let wrong = || ContainerError::Url(without_secret.into());
        let mut url = Url::parse(text).map_err(|_| wrong())?;
        let segments: Vec<String> =
            url.path_segments().into_iter().flatten().filter(|s| !s.is_empty()).map(str::to_owned).collect();
        // One segment with the account in the host's name, two where the account is in the path.
        let (account, name) = match &*segments {
            [name] => (None, name),
            [account, name] => (Some(account.as_str()), name),
            _ => return Err(wrong()),
        };
        let web = matches!(url.scheme(), "http" | "https");
        if !web || url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() || url.fragment().is_some() {
            return Err(wrong());
        }
        if !is_container_name(name) {
            return Err(ContainerError::Name(name.clone()));
        }
        let shown = without_secret.to_owned();
        let signed = url.query_pairs().any(|(key, _)| key == "sig");
        if url.query().is_some() && !signed {
            return Err(wrong());
        }
        let development = account == Some(DEVELOPMENT_ACCOUNT);
        let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() == "http" && !development && !(signed && local) {
            return Err(ContainerError::Exposed(shown));
        }
        url.set_path(&segments.join("/"));
        let credential = match (signed, credential) {
            (true, None | Some(Credential::None)) => None,
            (true, Some(credential)) => return Err(ContainerError::Both(shown, credential)),
            (false, None | Some(Credential::None)) if development => {
                url.set_query(Some(DEVELOPMENT_SAS));
                None
            }
            (false, Some(Credential::None)) => return Err(ContainerError::Anonymous(shown)),
            (false, Some(_)) if url.scheme() == "http" => return Err(ContainerError::Exposed(shown)),
            (false, credential) => Some(credential.unwrap_or_default()),
        };
        Ok(Self { url, credential })
    }
}

fn is_container_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=63).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(url: &str, credential: Option<Credential>) -> Result<(String, Option<Credential>), String> {
        Address::parse(url, credential).map(|a| (a.url.to_string(), a.credential)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_token_a_signature_or_azurite() {
        let (url, who) = parse("https://a.blob.core.windows.net/weir", None).unwrap();
        assert_eq!((url.as_str(), who), ("https://a.blob.core.windows.net/weir", Some(Credential::Default)));
        let (_, who) = parse("https://a.blob.core.windows.net/weir/", Some(Credential::Cli)).unwrap();
        assert_eq!(who, Some(Credential::Cli));
        let sas = "https://a.blob.core.windows.net/weir?sv=2021-12-02&sig=abc%3D";
        assert_eq!(parse(sas, None), Ok((sas.to_owned(), None)));
        let (url, who) = parse("http://127.0.0.1:10000/devstoreaccount1/weir", None).unwrap();
        assert!(url.starts_with("http://127.0.0.1:10000/devstoreaccount1/weir?sv=") && who.is_none(), "{url}");
    }

    #[test]
    fn what_would_not_work_or_not_be_safe_is_refused_without_the_secret() {
        for (url, credential, why) in [
            ("weir", None, "not a container"),
            ("https://a.blob.core.windows.net", None, "not a container"),
            ("https://a.blob.core.windows.net/a/b/c", None, "not a container"),
            ("https://a.blob.core.windows.net/weir?x=1", None, "not a container"),
            ("ftp://a/weir", None, "not a container"),
            ("https://a.blob.core.windows.net/Weir", None, "can't be a container's name"),
            ("http://a.blob.core.windows.net/weir", None, "no TLS"),
            ("http://a.blob.core.windows.net/weir?sig=secret", None, "no TLS"),
            ("http://127.0.0.1:10000/devstoreaccount1/weir", Some(Credential::Cli), "no TLS"),
            ("https://a.blob.core.windows.net/weir?sig=secret", Some(Credential::Cli), "keep one"),
            ("https://a.blob.core.windows.net/weir", Some(Credential::None), "needs a credential"),
        ] {
            let error = parse(url, credential).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
