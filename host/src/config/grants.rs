//! `[processor.grants]`: what a module may use, as it stands in the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;

use super::given::Given;
use super::read::Table;
use super::schema::Kind;
use super::text::{check_text, kind_in_words};
use crate::wasm::HttpGrant;

/// `grants`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrantsConfig {
    /// The time.
    pub clocks: bool,
    /// Random numbers.
    pub random: bool,
    /// Variables.
    pub environment: BTreeMap<String, Given<String>>,
    /// Directories to read, by the path that the module sees.
    pub directories: BTreeMap<String, Given<PathBuf>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretConfig>,
    /// Outgoing HTTP.
    pub http: Option<HttpGrant>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretConfig {
    /// A variable of the host's environment; it prints as its name.
    Variable(Given<String>),
    /// A file.
    File(Given<PathBuf>),
}

/// `None`: something in it is wrong.
pub(super) fn grants(table: &Table<'_>) -> Option<GrantsConfig> {
    let (clocks, random) = (table.flag("clocks"), table.flag("random"));
    let environment = texts(table, "environment", |name| {
        (name.is_empty() || name.contains(['=', '\0'])).then_some("has a name that no variable can have")
    });
    let directories = texts(table, "directories", |path| {
        (!path.starts_with('/'))
            .then_some("has a path that does not begin with \"/\"; the module sees it as an absolute one")
    });
    let directories = directories.map(|directories| {
        let place = |path: Given<String>| path.map(|path| table.place(&path));
        directories.into_iter().map(|(seen, path)| (seen, place(path))).collect()
    });
    let secrets: Vec<_> =
        table.named("secrets").into_iter().map(|(name, table)| Some((name, secret(&table)?))).collect();
    let http = table.has("http").then(|| http(&table.table("http")));
    Some(GrantsConfig {
        clocks: clocks?,
        random: random?,
        environment: environment?,
        directories: directories?,
        secrets: secrets.into_iter().collect::<Option<_>>()?,
        http: match http {
            Some(http) => Some(http?),
            None => None,
        },
    })
}

/// A table of texts. `wrong`: what is wrong with a key.
fn texts(
    table: &Table<'_>,
    name: &str,
    wrong: impl Fn(&str) -> Option<&'static str>,
) -> Option<BTreeMap<String, Given<String>>> {
    if !table.has(name) {
        return Some(BTreeMap::new());
    }
    let shape = || kind_in_words(Kind::Texts);
    table.value(name, |value| {
        let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            if let Some(wrong) = wrong(key) {
                return Err(format!("{wrong}: {key:?}"));
            }
            let text = value.get_ref().as_str().ok_or_else(shape)?;
            Ok((key.to_string(), table.interpolated(text)?))
        };
        value.as_table().ok_or_else(shape)?.iter().map(entry).collect()
    })
}

fn secret(table: &Table<'_>) -> Option<SecretConfig> {
    let (variable, file) = (table.text("env"), table.file("file"));
    match (table.has("env"), table.has("file")) {
        // The name itself from the environment: an error about it would print what may be the secret.
        (true, false) if variable.as_ref().is_some_and(Given::is_secret) => {
            table.note("env", kind_in_words(Kind::Variable));
            None
        }
        (true, false) => match table.interpolated(&format!("${{{}}}", *variable?)) {
            Ok(value) => Some(SecretConfig::Variable(value)),
            Err(why) => {
                table.note("env", why);
                None
            }
        },
        (false, true) => file.map(SecretConfig::File),
        (true, true) => {
            table.note("file", "stands beside env, and a secret has one place; remove one of them");
            None
        }
        (false, false) => {
            table.note_whole("names no place; add env = \"VARIABLE\" or file = \"/run/secrets/…\"");
            None
        }
    }
}

fn http(table: &Table<'_>) -> Option<HttpGrant> {
    let (allow, networks) = (list(table, "allow", Kind::Origins), list(table, "networks", Kind::Networks));
    let timeout = table.duration("timeout");
    let (request_bytes, response_bytes) = (table.size("request-bytes"), table.size("response-bytes"));
    let concurrent = table.count("concurrent");
    Some(HttpGrant {
        allow: allow?,
        networks: networks?,
        timeout: timeout?,
        request_bytes: usize::try_from(request_bytes?).ok()?,
        response_bytes: usize::try_from(response_bytes?).ok()?,
        concurrent: usize::try_from(concurrent?).ok()?,
    })
}

/// A list of texts that are each read as a `T`, whose error completes a sentence.
fn list<T: std::str::FromStr<Err: ToString>>(table: &Table<'_>, name: &str, kind: Kind) -> Option<Vec<T>> {
    table.value(name, |value| {
        let shape = || kind_in_words(kind);
        let entry = |value: &toml::Spanned<DeValue<'_>>| {
            let text = table.interpolated(value.get_ref().as_str().ok_or_else(shape)?)?;
            check_text(kind, &text).map_err(|why| format!("{why} in one place"))?;
            text.parse().map_err(|why: T::Err| format!("holds {text:?}, which {}", cause(kind, why.to_string())))
        };
        value.as_array().ok_or_else(shape)?.iter().map(entry).collect()
    })
}

/// What is wrong with an entry, as the end of a sentence.
fn cause(kind: Kind, why: String) -> String {
    match kind {
        Kind::Networks => "is no network; write it like \"10.1.0.0/16\" or \"10.1.2.3/32\"".into(),
        _ => why,
    }
}
