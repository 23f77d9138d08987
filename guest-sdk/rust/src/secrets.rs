//! Secrets that the deployment grants to this processor.
//!
//! ```no_run
//! # fn main() -> Result<(), weir_guest::secrets::SecretError> {
//! let token = weir_guest::secrets::text("api-token")?;
//! # Ok(()) }
//! ```
//!
//! The host reads a secret when it is asked for, so ask anew where a rotated one matters, once per batch at most. It never writes one anywhere;
//! neither should a processor: not into logs, reasons or outputs.

use std::fmt;

use crate::{Failure, Problem, host};

/// A secret that can't be had: it is not granted, or its file can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError(String);

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretError {}

/// Like [`Problem`]'s. A secret that stays away stops the partition, when the attempts of `retry` are used up.
impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::retry(error.0)
    }
}

/// A file that is just being replaced is there again soon.
impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        Self::retry(error.0)
    }
}

/// A secret's bytes.
pub fn bytes(name: &str) -> Result<Vec<u8>, SecretError> {
    host::secret(name).map_err(SecretError)
}

/// A secret as text, without the line break that ends most files.
pub fn text(name: &str) -> Result<String, SecretError> {
    let text = String::from_utf8(bytes(name)?).map_err(|_| SecretError(format!("the secret {name:?} is not text")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
