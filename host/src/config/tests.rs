//! Whole files: what is understood of good ones, and the exact sentence for each wrong one.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::path::Path;
use std::time::Duration;

use super::schema::{Fallback, Kind, ROOT, Section};
use super::*;

mod wrong;

const MINIMAL: &str = r#"
[namespace]
fully-qualified-namespace = "fleet.servicebus.windows.net"
[checkpoints]
directory = "checkpoints"
[[processor]]
name = "delays"
module = "delays.wasm"
event-hub = "flights"
dead-letter = { file = "rejected.ndjson" }
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("hunter2".into()),
        "HUB" => Some("flights".into()),
        "TENANT" | "API_TOKEN" => Some("contoso".into()),
        "BAD_HUB" => Some("hunter2 hunter2".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/weir/weir.toml"), &environment)
}

/// The mistakes of a text, one a line.
fn mistakes(text: &str) -> String {
    match parse(text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(ConfigError::Wrong { mistakes, .. }) => {
            mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
        Err(other) => panic!("{other}"),
    }
}

/// The mistakes of the minimal file (10 lines) with more lines at its end, which belong to its processor.
fn with(lines: &str) -> String {
    mistakes(&format!("{MINIMAL}{lines}"))
}

#[test]
fn the_smallest_file_gets_the_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.host.memory, 256 << 20);
    assert_eq!(config.host.shutdown_deadline, Duration::from_secs(25));
    let processor = &config.processors[0];
    assert_eq!(**processor.module, *Path::new("/etc/weir/delays.wasm"));
    assert_eq!(*processor.consumer_group, "$default");
    assert_eq!(processor.start, Start::Earliest);
    assert_eq!(processor.batch, BatchConfig { events: 500, bytes: 1 << 20, linger: Duration::from_millis(50) });
    assert_eq!(processor.namespace.credential, Credential::Default);
    assert_eq!(&**processor.config, "{}");
}

#[test]
fn grants_are_understood_and_their_secrets_never_printed() {
    let lines = r#"
        [processor.grants]
        clocks = true
        environment = { REGION = "west", TENANT = "a-${TOKEN}" }
        directories = { "/airports" = "airports" }
        secrets.token = { env = "TOKEN" }
        secrets.key = { file = "key.pem" }
        [processor.grants.http]
        allow = ["api.example.com", "http://10.1.2.3:8080"]
        networks = ["10.1.0.0/16"]
        response-bytes = "1 MiB"
    "#;
    let config = parse(&format!("{MINIMAL}{lines}")).unwrap();
    let grants = &config.processors[0].grants;
    assert!(grants.clocks && !grants.random);
    assert_eq!(*grants.environment["TENANT"], "a-hunter2");
    assert_eq!(*grants.directories["/airports"], Path::new("/etc/weir/airports"));
    assert!(matches!(&grants.secrets["token"], SecretConfig::Variable(value) if **value == "hunter2"));
    assert!(matches!(&grants.secrets["key"], SecretConfig::File(path) if **path == *Path::new("/etc/weir/key.pem")));
    let http = grants.http.as_ref().unwrap();
    assert_eq!(
        http.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://api.example.com", "http://10.1.2.3:8080"]
    );
    assert_eq!((http.response_bytes, http.request_bytes, http.timeout), (1 << 20, 1 << 20, Duration::from_secs(10)));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(parse(MINIMAL).unwrap().processors[0].grants, GrantsConfig::default());
}

#[test]
fn a_full_file_is_understood() {
    let config = parse(
        r#"
        [namespace]
        fully-qualified-namespace = "localhost"
        endpoint = "amqp://127.0.0.1:5672"
        credential = "none"
        [checkpoints]
        directory = "/var/lib/weir"
        [host]
        owner = "host-0"
        memory = "1 GiB"
        guest-threads = 2
        checkpoint-writes-per-minute = 600
        cache = "cache"
        [log]
        format = "json"
        level = "debug"
        [[processor]]
        name = "delays"
        module = "delays.wasm"
        event-hub = "${HUB}"
        consumer-group = "weir"
        start = { enqueued-time = "2026-01-01T00:00:00Z" }
        prefetch = 1_000
        batch = { events = 100, bytes = 65536, linger = "1 s" }
        config = { late-by-minutes = 30, key = "${TOKEN}", when = 2026-01-01T00:00:00Z, ratio = 0.5, list = ["$${x}"] }
        [processor.outputs.default]
        event-hub = "late"
        namespace = { fully-qualified-namespace = "other.servicebus.windows.net", credential = "cli" }
        [processor.outputs.audit]
        stdout = true
        [[processor]]
        name = "copies"
        namespace = { fully-qualified-namespace = "third.servicebus.windows.net" }
        module = "/opt/copies.wasm"
        event-hub = "flights"
        start = { sequence-number = 42 }
        dead-letter = { file = "rejected.ndjson" }
        "#,
    )
    .unwrap();
    assert_eq!(config.host.guest_threads, Some(2));
    assert_eq!(config.host.checkpoint_writes_per_minute, Some(600));
    assert_eq!(config.host.cache.as_deref(), Some(&PathBuf::from("/etc/weir/cache")));
    assert_eq!(config.log.format, LogFormat::Json);
    let [delays, copies] = &config.processors[..] else { panic!("two processors") };
    assert_eq!(*delays.event_hub, "flights");
    assert_eq!(delays.start, Start::EnqueuedTime(1_767_225_600_000));
    assert_eq!((delays.prefetch, delays.batch.bytes), (1000, 65536));
    assert_eq!(
        &**delays.config,
        r#"{"key":"hunter2","late-by-minutes":30,"list":["${x}"],"ratio":0.5,"when":"2026-01-01T00:00:00Z"}"#
    );
    let SinkConfig::EventHub { namespace, .. } = &delays.outputs["default"] else { panic!("a hub") };
    assert_eq!(namespace.credential, Credential::Cli);
    assert_eq!(delays.outputs["audit"], SinkConfig::Stdout);
    assert_eq!(copies.start, Start::SequenceNumber(42));
    assert_eq!(*copies.namespace.fully_qualified, "third.servicebus.windows.net");
    assert_eq!(copies.dead_letter, Some(SinkConfig::File(Given::plain("/etc/weir/rejected.ndjson".into()))));
    assert!(
        config.warnings[0]
            .starts_with("processor[delays].dead-letter is not set: the first event that the module rejects")
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && shown.contains("${TOKEN}"), "{shown}");
}

#[test]
fn every_mistake_has_its_sentence() {
    for (lines, expected) in wrong::LINES {
        assert_eq!(with(lines), expected.join("\n"), "{lines}");
    }
    for (text, expected) in wrong::FILES {
        assert_eq!(mistakes(text), expected.join("\n"), "{text}");
    }
}

#[test]
fn a_container_is_for_checkpoints_and_its_signature_is_never_printed() {
    let with = |lines: &str| parse(&MINIMAL.replace("directory = \"checkpoints\"", lines));
    let config = with("container = \"https://fleet.blob.core.windows.net/weir\"\ncredential = \"cli\"").unwrap();
    let CheckpointsConfig::Container { url, credential, expiry, exclusive } = config.checkpoints else {
        panic!("{config:?}")
    };
    assert_eq!((url.as_str(), credential), ("https://fleet.blob.core.windows.net/weir", Some(Credential::Cli)));
    assert_eq!((expiry, exclusive), (Duration::from_secs(60), false));
    let config = with("container = \"https://fleet.blob.core.windows.net/weir?sv=1&sig=hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let CheckpointsConfig::Container { url, .. } = config.checkpoints else { panic!("no container") };
    assert!(url.ends_with("sig=hunter2"));
    for (lines, why) in [
        ("container = \"https://fleet.blob.core.windows.net/Weir?sig=hunter2\"", "3 to 63 lower-case"),
        ("container = \"https://fleet.blob.core.windows.net/weir?sig=hunter2\"\ncredential = \"cli\"", "keep one"),
        ("container = \"fleet/weir\"", "is not the URL of a container"),
        ("container = \"http://fleet.blob.core.windows.net/weir\"", "no TLS"),
        ("container = \"https://fleet.blob.core.windows.net/weir\"\ndirectory = \"c\"", "remove one of them"),
        ("directory = \"c\"\ncredential = \"cli\"", "goes with container only"),
    ] {
        let error = with(lines).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.starts_with("1 mistake") && !error.contains("hunter2"),
            "{lines}: {error}"
        );
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let text = MINIMAL.replace("flights", "fli ghts").replace("directory", "directroy");
    let error = parse(&format!("{text}prefetch = 0\n")).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"4 mistakes in /etc/weir/weir.toml
  line 4: checkpoints names no place; add directory = "./checkpoints" for one host, or container = "https://…" for several
  line 5: checkpoints.directroy is unknown; did you mean "directory"?
  line 9: processor[delays].event-hub = "fli ghts" is not the name of an event hub; write it like "flights"
  line 11: processor[delays].prefetch = 0 is not a whole number from 1 to 100000"#
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nowhere/weir.toml")).unwrap_err().to_string();
    assert!(error.starts_with("can't read the configuration /nowhere/weir.toml: it isn't there; "), "{error}");
    let error = Config::load(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string();
    assert!(error.contains("it is a directory"), "{error}");
}

#[test]
fn the_examples_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path().join("weir.toml"));
    let files: Vec<_> = files.filter(|file| file.is_file()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.warnings, Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn a_mistake_in_a_processor_hides_none_between_processors() {
    let text = mistakes(&format!(
        r#"{MINIMAL}prefetch = 0
batch = {{ bytes = "1 GB", linger = 5 }}
[[processor]]
name = "copies"
prefetch = 0
event-hub = "flights"
batch = {{ bytes = "200 MiB", linger = 5 }}
outputs.default = {{ event-hub = "flights" }}
outputs.more = {{ file = "rejected.ndjson" }}
outputs.wrong = {{ }}
"#
    ));
    for expected in [
        "processor[copies].consumer-group and this event-hub are read by the processor delays already",
        "is also where outputs.default goes",
        "processor[copies] writes to the file \"/etc/weir/rejected.ndjson\" as the processor delays does",
        "processor[copies].batch.bytes = \"200 MiB\" is more than half of limits.memory (64 MiB)",
        "host.memory (256 MiB) is too small for the batches",
        "processor[copies].module is missing",
    ] {
        assert!(text.contains(expected), "{expected}\n in\n{text}");
    }
}

#[test]
fn equal_output_ids_in_one_hub_are_warned_of() {
    let file = |second: &str| {
        format!(
            r#"{MINIMAL}outputs.default = {{ event-hub = "out" }}
[[processor]]
name = "copies"
module = "m.wasm"
consumer-group = "copies"
dead-letter = {{ stdout = true }}
{second}
"#
        )
    };
    let warnings = |second: &str| parse(&file(second)).unwrap().warnings;
    let same = warnings("event-hub = \"flights\"\noutputs.late = { event-hub = \"Out\" }");
    let [warning] = &same[..] else { panic!("{same:?}") };
    assert!(
        warning
            .starts_with("processor[copies].outputs.late goes to the hub Out, as outputs of the processor delays do"),
        "{warning}"
    );
    let elsewhere = "namespace = { fully-qualified-namespace = \"other.servicebus.windows.net\" }";
    let same_name = format!(
        "event-hub = \"flights\"\n{elsewhere}\noutputs.late = {{ event-hub = \"out\", namespace = {{ fully-qualified-namespace = \
         \"fleet.servicebus.windows.net\" }} }}"
    );
    assert_eq!(warnings(&same_name).len(), 1, "ids don't name the namespace");
    for apart in [
        "event-hub = \"flights\"\noutputs.late = { event-hub = \"late\" }",
        "event-hub = \"others\"\noutputs.late = { event-hub = \"out\" }",
        "event-hub = \"others\"\noutputs.a = { event-hub = \"x\" }\noutputs.b = { event-hub = \"x\" }",
    ] {
        assert_eq!(warnings(apart), Vec::<String>::new(), "{apart}");
    }
}

#[test]
fn no_secret_is_in_an_error() {
    let text = MINIMAL.replace("delays.wasm", "${TOKEN}").replace("\"flights\"", "\"${BAD_HUB}\"");
    let error = parse(&format!("{text}config = {{ a = \"${{TOKEN}}\", b = \"${{NONE}}\" }}")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn what_is_allowed_but_hardly_meant_is_a_warning() {
    let config = parse(&format!("{MINIMAL}limits = {{ time = \"1 min\" }}")).unwrap();
    assert_eq!(
        config.warnings,
        [
            "processor[delays].limits.time (1 min) is longer than host.shutdown-deadline (25 s): a call that is running at shutdown \
          may be cut off, and its batch is processed again after the restart."
        ]
    );
}

/// The smallest file as a value, to put keys into.
fn minimal() -> toml::Table {
    MINIMAL.parse().unwrap()
}

fn value(literal: &str) -> toml::Value {
    format!("v = {literal}").parse::<toml::Table>().unwrap().remove("v").unwrap()
}

/// Calls `visit` with every section, the path to it and a way to make it in a file.
fn each_section(
    section: &'static Section,
    path: &[&'static str],
    visit: &mut dyn FnMut(&'static Section, &[&'static str]),
) {
    visit(section, path);
    for key in section.keys {
        let (inner, steps) = match key.kind {
            Kind::Table(inner) | Kind::Tables(inner) => (inner, vec![key.name]),
            Kind::Named(inner) => (inner, vec![key.name, "default"]),
            _ => continue,
        };
        each_section(inner, &[path, &steps].concat(), visit);
    }
}

/// The file with one more key, and what it needs beside it.
fn file_with(path: &[&str], section: &Section, name: &str, literal: &str) -> String {
    let mut file = minimal();
    let mut table = &mut file;
    for step in path {
        // A namespace goes with a hub only.
        if *step == "namespace" && !table.contains_key("module") && !table.contains_key("processor") {
            table.insert("event-hub".into(), "elsewhere".into());
        }
        if *step == "dead-letter" {
            table.insert("dead-letter".into(), toml::Table::new().into());
        }
        let next = table.entry(*step).or_insert_with(|| toml::Table::new().into());
        table = match next {
            toml::Value::Array(list) => list[0].as_table_mut().unwrap(),
            next => next.as_table_mut().unwrap(),
        };
    }
    for key in section.keys {
        if matches!(key.fallback, Fallback::Required) && !key.example.is_empty() {
            table.entry(key.name).or_insert_with(|| value(key.example));
        }
    }
    match name {
        "endpoint" => drop(table.insert("credential".into(), "none".into())),
        "container" | "credential" | "expiry" | "exclusive" if section.key("container").is_some() => {
            table.remove("directory");
            table.insert("container".into(), "https://fleet.blob.core.windows.net/weir".into());
        }
        "namespace" if section.key("stdout").is_some() => drop(table.insert("event-hub".into(), "elsewhere".into())),
        _ => {}
    }
    table.insert(name.into(), value(literal));
    toml::to_string(&file).unwrap()
}

#[test]
fn dead_letters_have_one_place() {
    let with = |place: &str| parse(&MINIMAL.replace("{ file = \"rejected.ndjson\" }", place));
    let place = |text: &str| with(text).unwrap().processors[0].dead_letter.clone().unwrap();
    assert_eq!(place("{ directory = \"/dead\" }"), SinkConfig::Directory(Given::plain("/dead".into())));
    let url = "https://a.blob.core.windows.net/dead?sig=secret";
    let container = place(&format!("{{ container = \"{url}\" }}"));
    assert_eq!(container, SinkConfig::Container { url: Given::plain(url.into()), credential: None });
    assert!(!format!("{container:?}").contains("secret"));
    for (wrong, why) in [
        ("{ directory = \"a\", credential = \"cli\" }", "credential = \"cli\" goes with container only; remove it"),
        ("{ directory = \"a\", file = \"b\" }", "dead-letter has 2 destinations (directory, file); keep one"),
        (
            "{ directory = \"a\", namespace = { fully-qualified-namespace = \"x.y\" } }",
            "goes with event-hub only; remove it",
        ),
        ("{ container = \"http://a.example/dead\" }", "has no TLS"),
        ("{}", "has no destination; add directory = "),
    ] {
        let error = with(wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn every_example_of_the_reference_is_accepted() {
    each_section(&ROOT, &[], &mut |section, path| {
        for key in section.keys.iter().filter(|key| !key.example.is_empty()) {
            let text = file_with(path, section, key.name, key.example);
            if let Err(error) = parse(&text) {
                panic!("{path:?} {} = {}: {error}\n{text}", key.name, key.example);
            }
        }
    });
}

#[test]
fn writing_a_default_out_changes_nothing() {
    let minimal = parse(MINIMAL).unwrap();
    each_section(&ROOT, &[], &mut |section, path| {
        // A table that grants something by being there.
        let expected = match section.key("allow") {
            Some(allow) => parse(&file_with(path, section, allow.name, allow.example)).unwrap(),
            None => minimal.clone(),
        };
        for key in section.keys {
            let Fallback::Value(default) = key.fallback else { continue };
            let found = parse(&file_with(path, section, key.name, default)).unwrap();
            if !path.contains(&"namespace") || path.len() == 1 {
                assert_eq!(found, expected, "{path:?} {}", key.name);
            }
        }
    });
}

#[test]
fn every_key_of_the_reference_is_read() {
    each_section(&ROOT, &[], &mut |section, path| {
        for key in section.keys {
            let wrong = if matches!(key.kind, Kind::Flag) { "5" } else { "false" };
            let text = file_with(path, section, key.name, wrong);
            let name = if (section.header, key.name) == ("[[processor]]", "name") {
                "processor[#1]"
            } else {
                "processor[delays]"
            };
            let mut place: Vec<_> = path.iter().map(|step| if *step == "processor" { name } else { *step }).collect();
            place.push(key.name);
            let place = place.join(".");
            let Err(ConfigError::Wrong { mistakes, .. }) = parse(&text) else {
                panic!("{place} = {wrong} was accepted")
            };
            assert!(mistakes.iter().any(|mistake| mistake.path == place), "{place}: {mistakes:?}\n{text}");
        }
    });
}

#[test]
fn the_reference_page_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(&file, reference_page()).unwrap();
    }
    let page = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        page == reference_page(),
        "docs/configuration.md differs from the keys in host/src/config/schema.rs; \
         write it anew with WEIR_WRITE_DOCS=1 cargo test --workspace --lib -- reference_page"
    );
}
