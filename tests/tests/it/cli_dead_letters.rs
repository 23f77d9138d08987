//! `weir dead-letters` over a directory, a file and an event hub: what a real guest rejected is listed, shown, sent back, removed.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, run, run_with_input};

use crate::cli::{Namespace, is_for_people, json_lines, path};

/// Two processors over one hub whose letters share a place.
fn configuration(directory: &TempDir, namespace: &Namespace, place: &str) -> std::path::PathBuf {
    let file = directory.path().join("weir.toml");
    let processor = |name: &str, group: &str, place: &str| {
        format!(
            r#"
            [[processor]]
            name = "{name}"
            consumer-group = "{group}"
            module = "{}"
            event-hub = "flights"
            start = "earliest"
            outputs.default.file = "{name}.ndjson"
            grants.clocks = true
            dead-letter = {place}
            "#,
            guest("misbehave").display()
        )
    };
    let text = format!(
        r#"
        [namespace]
        fully-qualified-namespace = "localhost"
        endpoint = "{}"
        credential = "none"
        [checkpoints]
        directory = "checkpoints"
        [host]
        owner = "test"
        cache = "cache"
        {}
        {}
        "#,
        namespace.endpoint,
        processor("ann", "a", place),
        processor("bob", "b", &place.replace("FILE", "bob").replace("dead.ndjson", "bob-dead.ndjson")),
    );
    fs::write(&file, text).unwrap();
    file
}

fn letters(action: &str, file: &Path, arguments: &[&str]) -> Ended {
    run(["dead-letters", action, path(file), "--processor", "ann"].iter().chain(arguments))
}

fn listed(file: &Path, processor: &str) -> Vec<Value> {
    let ended = run(["dead-letters", "list", path(file), "--processor", processor, "--json"]).expect_code(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn ids(heads: &[Value]) -> Vec<&str> {
    heads.iter().map(|head| head["id"].as_str().unwrap()).collect()
}

/// Three of five events are rejected by each of the two processors.
fn rejected(place: &str) -> (Namespace, TempDir, std::path::PathBuf) {
    let namespace = Namespace::start(&["flights:1", "again:1", "dead:2"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, place);
    // One key, so that they keep their order.
    let lines = concat!(
        "{\"body\":\"fine\",\"key\":\"AA\"}\n",
        "{\"body\":\"reject\",\"key\":\"AA\",\"properties\":{\"unit\":\"min\"},\"message-id\":\"m-1\"}\n",
        "{\"body\":\"fine\",\"key\":\"AA\"}\n",
        "{\"body\":\"reject\",\"key\":\"AA\"}\n",
        "{\"body\":\"reject\",\"key\":\"AA\"}\n",
    );
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "flights"], lines).expect_code(0);
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    (namespace, directory, file)
}

fn tail(namespace: &Namespace, hub: &str) -> Vec<Value> {
    let ended = run(["tail", "--endpoint", &namespace.endpoint, "--hub", hub, "--until-caught-up"]).expect_code(0);
    json_lines(&ended.stdout)
}

#[test]
fn letters_in_a_directory_are_listed_shown_sent_back_and_discarded() {
    let (namespace, directory, file) = rejected("{ directory = \"dead\" }");
    let heads = listed(&file, "ann");
    let [first, second, third] = ids(&heads)[..] else { panic!("{heads:?}") };
    assert_eq!(first, "flights/0/1/rejected");
    assert_eq!((&heads[0]["cause"], &heads[0]["processor"]), (&"rejected".into(), &"ann".into()));
    assert_eq!(listed(&file, "bob").len(), 3, "nobody's letters replaced another's");
    let table = letters("list", &file, &[]).expect_code(0);
    assert!(table.stdout.starts_with("id") && table.stdout.lines().count() == 4, "{}", table.stdout);
    assert!(letters("list", &file, &["--cause", "trap"]).expect_code(0).stdout.is_empty());
    assert!(letters("list", &file, &["--partition", "7"]).expect_code(0).stdout.is_empty());
    let which = run(["dead-letters", "list", path(&file)]).expect_code(2);
    assert!(which.stderr.contains("which processor? Add --processor with one of ann, bob"), "{}", which.stderr);

    let shown = letters("show", &file, &[first]).expect_code(0).stdout;
    for line in ["cause: rejected", "origin-sequence-number: 1", "key: AA", "property unit: min", "body (6 bytes):"] {
        assert!(shown.lines().any(|found| found == line), "{line} is missing in\n{shown}");
    }
    let missing = letters("redrive", &file, &[first, "flights/0/9/rejected"]).expect_code(1);
    assert!(
        missing.stderr.contains("there is no letter flights/0/9/rejected of processor `ann`"),
        "{}",
        missing.stderr
    );
    is_for_people(&missing);
    assert_eq!(listed(&file, "ann").len(), 3, "all or nothing");

    // Back to where it came from, where it is rejected once more: by both, under a number of its own.
    let sent = letters("redrive", &file, &[first]).expect_code(0);
    assert!(sent.stderr.starts_with("1 letter sent to flights, 1 removed from the directory"), "{}", sent.stderr);
    assert_eq!(ids(&listed(&file, "ann")), [second, third]);
    let events = tail(&namespace, "flights");
    let back = events.last().unwrap();
    assert_eq!((&back["body"], &back["key"], &back["message-id"]), (&events[1]["body"], &"AA".into(), &"m-1".into()));
    assert_eq!(back["properties"], serde_json::json!({"unit": "min", "weir-redriven-from": first}));
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    assert_eq!(ids(&listed(&file, "ann")), [second, third, "flights/0/5/rejected"]);

    letters("redrive", &file, &[second, "--to-hub", "again"]).expect_code(0);
    assert_eq!(tail(&namespace, "again").len(), 1);
    assert_eq!(ids(&listed(&file, "ann")), [third, "flights/0/5/rejected"]);

    let unasked = letters("discard", &file, &["--all"]).expect_code(2);
    assert!(unasked.stderr.contains("nothing was removed: nobody is at the terminal"), "{}", unasked.stderr);
    assert_eq!(listed(&file, "ann").len(), 2);
    // What is broken is named, and stands in nobody's way.
    let broken = directory.path().join("dead/flights@localhost/0/ann/4711.json");
    fs::write(&broken, "{").unwrap();
    let discarded = letters("discard", &file, &["--all", "--yes"]).expect_code(1);
    assert!(discarded.stderr.starts_with("2 letters removed\n"), "{}", discarded.stderr);
    assert!(discarded.stderr.contains("4711.json is not a letter"), "{}", discarded.stderr);
    fs::remove_file(broken).unwrap();
    assert_eq!(listed(&file, "ann"), [] as [Value; 0]);
    assert_eq!(listed(&file, "bob").len(), 4, "the other processor's stay");
}

#[test]
fn letters_run_through_a_module_here_and_stay() {
    let (namespace, _directory, file) = rejected("{ directory = \"dead\" }");
    let module = guest("identity");
    let tried = letters("redrive", &file, &["--all", "--module", path(&module)]).expect_code(0);
    let outputs = json_lines(&tried.stdout);
    assert_eq!(outputs.iter().map(|output| &output["body"]).collect::<Vec<_>>(), ["reject"; 3]);
    assert!(tried.stderr.ends_with("nothing was sent or removed\n"), "{}", tried.stderr);
    assert_eq!(listed(&file, "ann").len(), 3);
    assert_eq!(tail(&namespace, "flights").len(), 5);
}

#[test]
fn letters_in_a_file_are_sent_back_and_stay() {
    let (namespace, _directory, file) = rejected("{ file = \"dead.ndjson\" }");
    let heads = listed(&file, "ann");
    assert_eq!(heads.len(), 3);
    let first = ids(&heads)[0];
    let shown = letters("show", &file, &[first, "--json"]).expect_code(0).stdout;
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["body"], "reject");
    let sent = letters("redrive", &file, &["--all", "--to-hub", "again"]).expect_code(0);
    assert!(sent.stderr.contains("3 letters sent to again; they stay in the file"), "{}", sent.stderr);
    assert_eq!(tail(&namespace, "again").len(), 3);
    assert_eq!(listed(&file, "ann"), heads);
    let refused = letters("discard", &file, &["--all", "--yes"]).expect_code(2);
    assert!(refused.stderr.contains("letters can't be taken out of the file"), "{}", refused.stderr);
    is_for_people(&refused);
}

#[test]
fn letters_in_an_event_hub_are_sent_back_and_discarded_and_other_events_passed_over() {
    let (namespace, _directory, file) = rejected("{ event-hub = \"dead\" }");
    // Somebody else's event, and one that only looks like a letter.
    let foreign = "{\"body\":\"hello\"}\n{\"body\":\"hello\",\"properties\":{\"weir-cause\":\"rejected\"}}\n";
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "dead"], foreign).expect_code(0);

    let heads = listed(&file, "ann");
    let [first, second, third] = ids(&heads)[..] else { panic!("{heads:?}") };
    assert_eq!(first, "flights/0/1/rejected");
    assert_eq!(listed(&file, "bob").len(), 3, "letters of one id are told by their processor");
    let table = letters("list", &file, &["--cause", "rejected", "--partition", "0"]).expect_code(0);
    assert_eq!(table.stdout.lines().count(), 4, "{}", table.stdout);
    assert_eq!(
        table.stderr,
        "2 events in the event hub dead are no letters, and passed over\n3 letters in the event hub dead\n"
    );

    let shown = letters("show", &file, &[first]).expect_code(0).stdout;
    for line in ["cause: rejected", "origin-sequence-number: 1", "key: AA", "property unit: min", "body (6 bytes):"] {
        assert!(shown.lines().any(|found| found == line), "{line} is missing in\n{shown}");
    }
    letters("show", &file, &["flights/0/9/rejected"]).expect_code(1);

    let tried = letters("redrive", &file, &["--all", "--module", path(&guest("identity"))]).expect_code(0);
    assert_eq!(json_lines(&tried.stdout).len(), 3);
    let sent = letters("redrive", &file, &[second, third, "--to-hub", "again"]).expect_code(0);
    assert!(sent.stderr.contains("2 letters sent to again, 2 removed from the event hub dead"), "{}", sent.stderr);
    assert_eq!(tail(&namespace, "again").len(), 2);
    assert_eq!(ids(&listed(&file, "ann")), [first], "the others are settled");
    assert_eq!(listed(&file, "bob").len(), 3, "nobody else's");
    letters("redrive", &file, &[first]).expect_code(0);
    let events = tail(&namespace, "flights");
    let back = events.last().unwrap();
    assert_eq!((&back["body"], &back["key"], &back["message-id"]), (&events[1]["body"], &"AA".into(), &"m-1".into()));
    assert_eq!(back["properties"], serde_json::json!({"unit": "min", "weir-redriven-from": first}));
    assert_eq!(listed(&file, "ann"), Vec::<Value>::new());

    // It fails once more, as another event: a letter of its own. And somebody writes the first letter again, as a host does that was
    // killed before its checkpoint: it counts again.
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    let again = listed(&file, "ann");
    assert_eq!(again.len(), 1, "{again:?}");
    let dead = tail(&namespace, "dead");
    let is_anns = |event: &&Value| {
        let properties = &event["properties"];
        properties["weir-output-id"] == first && properties["weir-origin-processor"] == "ann"
    };
    let mut letter = dead.iter().find(is_anns).unwrap().clone();
    assert!(dead.iter().any(|event| event["properties"]["weir-settled"] == first));
    letter
        .as_object_mut()
        .unwrap()
        .retain(|key, _| ["body", "key", "properties", "message-id"].contains(&key.as_str()));
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "dead"], &format!("{letter}\n")).expect_code(0);
    assert_eq!(listed(&file, "ann").len(), 2);

    // A hub of the same name in another namespace has letters with the same ids: neither hides the other, nor is settled with it.
    letter["properties"]["weir-origin-namespace"] = "elsewhere".into();
    letter["body"] = "from elsewhere".into();
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "dead"], &format!("{letter}\n")).expect_code(0);
    let shown = letters("show", &file, &[first]).expect_code(0).stdout;
    assert!(shown.contains("body (6 bytes):\nreject"), "{shown}");

    let discarded = letters("discard", &file, &["--all", "--yes"]).expect_code(0);
    assert!(discarded.stderr.contains("2 letters removed"), "{}", discarded.stderr);
    assert_eq!(listed(&file, "ann"), Vec::<Value>::new());
    let there = file.with_file_name("elsewhere.toml");
    let text = fs::read_to_string(&file).unwrap().replace("\"localhost\"", "\"elsewhere\"");
    fs::write(&there, text).unwrap();
    assert_eq!(ids(&listed(&there, "ann")), [first], "theirs is open still");
}
