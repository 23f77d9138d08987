//! The words of the errors: what a kind of value is, and which key was probably meant.

use std::net::SocketAddr;

use super::schema::{Kind, Section};

/// What would be right, as the end of a sentence that began with key and value.
pub(crate) fn kind_in_words(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Name => "is not a text; write it in quotes".into(),
        Kind::Host => "is not a host name; write it like \"fleet.servicebus.windows.net\"".into(),
        Kind::Endpoint => {
            "is not an endpoint; write it like \"amqp://127.0.0.1:5672\" or \"amqps://gateway.example\"".into()
        }
        Kind::Hub => "is not the name of an event hub; write it like \"flights\"".into(),
        Kind::Group => "is not the name of a consumer group; write it like \"$default\"".into(),
        Kind::Path => "is not a path; write it in quotes".into(),
        Kind::Duration(min, max) => format!("is not a duration between \"{min}\" and \"{max}\""),
        Kind::Size(min, max) => format!("is not a size between \"{min}\" and \"{max}\""),
        Kind::Count(min, i64::MAX) => format!("is not a whole number from {min} on"),
        Kind::Count(min, max) => format!("is not a whole number from {min} to {max}"),
        Kind::Flag => "is neither true nor false".into(),
        Kind::Choice(choices) => format!("is not one of {}", quoted(choices)),
        Kind::Start => "is not a start position; write \"earliest\", \"latest\", { sequence-number = 42 } or \
                        { enqueued-time = \"2026-01-01T00:00:00Z\" }"
            .into(),
        Kind::Partitions => "is not a list of partition ids; write it like [\"0\", \"3\"]".into(),
        Kind::Texts => "is not a table of texts; write it like { NAME = \"value\" }".into(),
        Kind::Variable => "is not the name of a variable; use letters, digits and _, without \"$\"".into(),
        Kind::Origins => "is not a list of origins; write it like [\"https://api.example.com\"]".into(),
        Kind::Networks => "is not a list of networks; write it like [\"10.1.0.0/16\"]".into(),
        Kind::Table(_) | Kind::Tables(_) | Kind::Named(_) | Kind::Free => "is not a table".into(),
    }
}

/// Checks a text by its kind.
pub(crate) fn check_text(kind: Kind, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("holds the control character {:?}", control));
    }
    let word = |extra: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    let fits = match kind {
        Kind::Name if !word("-_.") || text.len() > 128 => {
            return Err("is not a name; use letters, digits, \"-\", \"_\" and \".\"".into());
        }
        Kind::Host => {
            if text.to_lowercase().contains("endpoint=") {
                return Err(
                    "is a connection string; write the host name alone, such as \"fleet.servicebus.windows.net\", \
                            and choose a credential"
                        .into(),
                );
            }
            if let Some((scheme, rest)) = text.split_once("://") {
                let host = rest.trim_end_matches('/');
                return Err(format!("has a scheme; write the host name alone: drop \"{scheme}://\", leaving {host:?}"));
            }
            word("-.") && !text.starts_with('.')
        }
        Kind::Endpoint => endpoint_fits(text),
        Kind::Hub => word("-_.") && text.len() <= 256,
        Kind::Group => (word("-_.") || text.eq_ignore_ascii_case("$default")) && text.len() <= 256,
        Kind::Variable => word("_") && !text.starts_with(|c: char| c.is_ascii_digit()),
        _ => true,
    };
    if fits { Ok(()) } else { Err(kind_in_words(kind)) }
}

fn endpoint_fits(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("amqp://").or_else(|| text.strip_prefix("amqps://")) else { return false };
    let rest = rest.trim_end_matches('/');
    if rest.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "5671"));
    let host_fits = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Why a key is unknown: the key that was probably meant, the section it belongs to, or the keys there are.
pub(crate) fn nearest(name: &str, section: &Section) -> String {
    let known = section.keys.iter().map(|key| key.name);
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-");
    let near = known
        .clone()
        .map(|key| (strsim::damerau_levenshtein(&plain(name), key), key))
        .min()
        .filter(|(distance, key)| *distance <= 1 + key.len().min(name.len()) / 4);
    if let Some((_, key)) = near {
        return format!("is unknown; did you mean {key:?}?");
    }
    for key in section.keys {
        if let Kind::Table(inner) = key.kind
            && inner.key(&plain(name)).is_some()
        {
            return format!(
                "is unknown here; it belongs under {:?}: {} = {{ {} = … }}",
                key.name,
                key.name,
                plain(name)
            );
        }
    }
    format!("is unknown; there are {}", known.collect::<Vec<_>>().join(", "))
}

/// `"a", "b" or "c"`.
pub(crate) fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}
