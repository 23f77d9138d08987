//! Grants as an operator writes them, through the command: what is granted arrives, what is secret stays so, what is missing is said.

use std::fs;

use serde_json::json;
use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, Weir, command, run, run_with_input};

use crate::cli::{Namespace, configuration_of, is_for_people, json_lines, path};

/// Sends these commands to a courier with these grants. What the run ended with, and what was fetched.
fn fetch(directory: &TempDir, grants: &str, commands: &[&str]) -> (Ended, Vec<String>) {
    let namespace = Namespace::start(&["flights:1"]);
    let file = configuration_of("courier", directory, &namespace.endpoint, grants);
    let lines: String = commands.iter().map(|command| format!("{}\n", json!({ "body": command }))).collect();
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "flights"], &lines).expect_code(0);
    let mut weir = command(["run", path(&file), "--until-caught-up", "--log-level", "debug"]);
    let ended = Weir::start(weir.env("API_TOKEN", "hunter2").env("REGION", "west")).end();
    let out = fs::read_to_string(directory.path().join("out.ndjson")).unwrap_or_default();
    let bodies = json_lines(&out).iter().map(|output| output["body"].as_str().unwrap().to_owned()).collect();
    (ended, bodies)
}

#[test]
fn what_is_granted_arrives_and_no_secret_is_printed() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    fs::write(directory.path().join("data/airports.csv"), "JFK").unwrap();
    fs::write(directory.path().join("key.pem"), "hunter3\n").unwrap();
    let grants = r#"
        [processor.grants]
        clocks = true
        random = true
        environment = { REGION = "${REGION}" }
        directories = { "/data" = "data" }
        secrets.token = { env = "API_TOKEN" }
        secrets.key = { file = "key.pem" }
        http = { allow = ["http://localhost:1"] }
    "#;
    let commands =
        ["env:REGION", "env:API_TOKEN", "read:/data/airports.csv", "secret:token", "secret:key", "secret:none"];
    let (ended, got) =
        fetch(&directory, grants, &[&commands[..], &["get:http://localhost:1/", "get:http://example.com/"]].concat());
    let ended = ended.expect_code(0);
    assert_eq!(got[..5], ["west", "error: environment variable not found", "JFK", "hunter2", "hunter3"]);
    assert!(got[5].contains("\"none\" is not granted; add it to [processor.grants.secrets]"), "{}", got[5]);
    for line in ["`networks` of [processor.grants.http]", "http://example.com is not granted"] {
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
    }
    let printed = ended.stdout + &ended.stderr;
    assert!(!printed.contains("hunter"), "{printed}");
}

#[test]
fn what_is_missing_is_said_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let (ended, got) = fetch(&directory, "grants.clocks = true", &["env:REGION"]);
    let ended = ended.expect_code(1);
    assert_eq!(got, Vec::<String>::new());
    is_for_people(&ended);
    let said = ended.stderr.split_once("processor `copies` does not run: ").expect(&ended.stderr).1;
    assert!(said.contains("if it may have that, add:\n  [processor.grants]\n"), "{said}");
    assert!(said.contains("\n  http = {") && !said.contains("clocks"), "{said}");

    // `check` says the same beforehand, and what it says can be pasted.
    let report = run(["check", guest("courier").to_str().unwrap()]).expect_code(0).stdout;
    let pasted = report.split_once("\n  [processor.grants]\n").expect(&report).1;
    assert!(pasted.contains("clocks = true") && pasted.contains("http = {"), "{report}");
    let (ended, _) =
        fetch(&directory, &format!("[processor.grants]\n{}", pasted.replace("VARIABLE", "API_TOKEN")), &[]);
    ended.expect_code(0);
}

#[test]
fn a_trial_has_the_grants_of_a_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("grants.toml");
    let commands = format!("{}\n", json!({ "body": "env:REGION" }));
    let module = guest("courier");
    let dev =
        |more: &[&str]| run_with_input([&["dev", module.to_str().unwrap(), "--events", "-"], more].concat(), &commands);
    let refused = dev(&[]).expect_code(1);
    assert!(refused.stderr.contains("granted for trying out: clocks = true"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("needs what it is not granted") && refused.stderr.contains("--grants"),
        "{}",
        refused.stderr
    );

    fs::write(&file, "clocks = tru").unwrap();
    let wrong = dev(&["--grants", path(&file)]).expect_code(2);
    is_for_people(&wrong);
    assert!(wrong.stderr.contains("grants.toml") && wrong.stderr.contains("line 1: not TOML"), "{}", wrong.stderr);

    let grants = r#"
        clocks = true
        random = true
        environment = { REGION = "west" }
        secrets.token = { file = "nowhere" }
        http = { allow = ["https://api.example.com"] }
    "#;
    fs::write(&file, grants).unwrap();
    let ended = dev(&["--grants", path(&file)]).expect_code(0);
    assert_eq!(json_lines(&ended.stdout)[0]["body"], "west");
}
