//! `weir dead-letters show`: all of a letter.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;

use super::{Desk, Filter};
use crate::cli::failure::Failure;
use crate::cli::harmless;
use crate::cli::print_line;
use crate::dead_letter::{self, is_ours};
use crate::model::{Output, Property, Value};

/// Print all of a letter: why, whence, and the event
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters show weir.toml flights/0/7/rejected
  weir dead-letters show weir.toml flights/0/7/rejected --json | jq .body

A body that is no text is printed as base64.")]
pub(super) struct ShowArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML")]
    config: PathBuf,
    /// The letter's id, as `list` prints it
    #[arg(value_name = "ID")]
    id: String,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
    /// Print it as JSON, as it is stored
    #[arg(long)]
    json: bool,
}

pub(super) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let desk = Desk::find(&args.config, args.processor.as_deref())?;
    let (selected, _) = desk.select(std::slice::from_ref(&args.id), &Filter::default()).await?;
    for (entry, _) in selected {
        let letter = desk.shelf.read(&entry).await.map_err(Failure::failed)?;
        let letter =
            letter.ok_or_else(|| Failure::failed(format!("{} is gone: somebody removed it just now", args.id)))?;
        print_line(&match args.json {
            true => json(&letter.output)?,
            false => for_people(&letter.output),
        })?;
    }
    Ok(())
}

fn json(letter: &Output) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("can't print: {error}"));
    let text = dead_letter::write(letter).map_err(|error| failed(&error))?;
    String::from_utf8(text).map(|text| text.trim_end().to_owned()).map_err(|error| failed(&error))
}

fn for_people(letter: &Output) -> String {
    let mut lines = vec![format!("id: {}", letter.id)];
    let (ours, own): (Vec<_>, Vec<_>) = letter.properties.iter().partition(|property| is_ours(&property.key));
    let line = |property: &Property| {
        let value = match &property.value {
            Value::Text(text) => harmless(text, &['\n', '\t']).trim_end().replace('\n', "\n    "),
            other => json_value(letter, property).unwrap_or_else(|| format!("{other:?}")),
        };
        format!("{}: {value}", harmless(&property.key, &[]))
    };
    lines.extend(ours.into_iter().map(|property| line(property).trim_start_matches("weir-").to_owned()));
    lines.push(String::new());
    let event = [
        ("key", &letter.partition_key),
        ("content-type", &letter.content_type),
        ("message-id", &letter.message_id),
        ("correlation-id", &letter.correlation_id),
    ];
    lines.extend(event.iter().filter_map(|(name, value)| Some(format!("{name}: {}", harmless(value.as_ref()?, &[])))));
    lines.extend(own.into_iter().map(|property| format!("property {}", line(property))));
    let bytes = letter.body.len();
    match std::str::from_utf8(&letter.body) {
        Ok(text) => lines.extend([format!("body ({bytes} bytes):"), harmless(text, &['\n', '\t'])]),
        Err(_) => lines.extend([format!("body ({bytes} bytes, base64):"), BASE64_STANDARD.encode(&letter.body)]),
    }
    lines.join("\n")
}

/// A property's value as it stands in the letter's JSON.
fn json_value(letter: &Output, property: &Property) -> Option<String> {
    let alone = Output { properties: vec![property.clone()], body: Default::default(), ..letter.clone() };
    let json: serde_json::Value = serde_json::from_str(&json(&alone).ok()?).ok()?;
    Some(json.get("properties")?.get(&*property.key)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::tests::letter_of;
    use crate::testing::event;

    #[test]
    fn everything_is_shown_and_nothing_moves_the_cursor() {
        let mut letter = letter_of("flights", "delays", &event(9, "a\u{1b}b\nc"));
        letter.properties.push(Property { key: "own".into(), value: Value::Uuid([7; 16]) });
        letter.partition_key = Some("AA".into());
        let text = for_people(&letter);
        for line in [
            "id: flights/3/9/rejected",
            "cause: rejected",
            "reason: not a flight",
            "attempts: 1",
            "origin-sequence-number: 9",
            "key: AA",
            "property own: {\"uuid\":\"07070707-0707-0707-0707-070707070707\"}",
            "body (5 bytes):",
            "a\\u{1b}b",
            "c",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        letter.body = vec![0xff, 0].into();
        assert!(for_people(&letter).ends_with("body (2 bytes, base64):\n/wA="));
    }
}
