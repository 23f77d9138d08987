//! The command line itself: that it is consistent, understood, and explains itself.
#![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command};

const COMMANDS: [&str; 9] = ["run", "dev", "emulator", "send", "tail", "check", "checkpoints", "dead-letters", "state"];

/// Commands of commands.
const ACTIONS: [(&str, &[&str]); 3] = [
    ("checkpoints", &["set", "import"]),
    ("dead-letters", &["list", "show", "redrive", "discard"]),
    ("state", &["get", "scan", "export", "import"]),
];

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_explains_itself_with_examples() {
    let mut cli = Cli::command();
    let names: Vec<_> = cli.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert_eq!(names, COMMANDS);
    let top = cli.render_long_help().to_string();
    assert!(top.contains("Exit codes: 0 all went well"), "{top}");
    for name in COMMANDS {
        assert!(top.contains(name), "{name} is missing in\n{top}");
        let command = cli.find_subcommand_mut(name).unwrap();
        assert!(command.get_about().is_some(), "{name} has no first sentence");
        let help = command.render_long_help().to_string();
        assert!(help.contains(&format!("Examples:\n  weir {name}")) || help.contains(" | weir "), "{help}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {} has no help", argument.get_id());
        }
        for line in command
            .get_after_help()
            .into_iter()
            .flat_map(|text| text.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
        {
            assert!(line.chars().count() <= 98, "would wrap on a usual terminal: {line}");
        }
    }
}

/// `docs/cli.md`: an introduction and what `--help` says.
fn reference_page() -> String {
    let mut page = include_str!("reference.md").to_owned();
    let mut cli = Cli::command().term_width(100);
    cli.build();
    for name in COMMANDS {
        let help = cli.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        page.push_str(&format!("\n## `weir {name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
        let actions = ACTIONS.iter().filter(|(command, _)| *command == name).flat_map(|(_, actions)| *actions);
        for action in actions {
            let help = action_help(&mut cli, name, action);
            page.push_str(&format!("\n### `weir {name} {action}`\n\n```text\n{help}\n```\n"));
        }
    }
    page
}

fn action_help(cli: &mut clap::Command, name: &str, action: &str) -> String {
    let help =
        cli.find_subcommand_mut(name).unwrap().find_subcommand_mut(action).unwrap().render_long_help().to_string();
    help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[test]
fn every_action_explains_itself_with_examples() {
    let mut cli = Cli::command();
    cli.build();
    for (name, actions) in ACTIONS {
        let command = cli.find_subcommand_mut(name).unwrap();
        let names: Vec<_> = command.get_subcommands().map(|action| action.get_name().to_owned()).collect();
        assert_eq!(names, actions);
        for action in actions {
            let help = action_help(&mut cli, name, action);
            assert!(help.contains(&format!("Examples:\n  weir {name} {action}")), "{help}");
            let after = help.split_once("Examples:").unwrap().1;
            for line in after.lines() {
                assert!(line.chars().count() <= 98, "would wrap on a usual terminal: {line}");
            }
        }
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::write(&file, reference_page()).unwrap();
    }
    let page = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        page == reference_page(),
        "docs/cli.md differs from `--help`; write it anew with WEIR_WRITE_DOCS=1 cargo test --workspace --lib -- reference_page"
    );
}

#[test]
fn the_command_lines_of_the_documentation_are_understood() {
    for line in [
        "weir run weir.toml --until-caught-up",
        "weir run weir.toml --log-format json --log-level info,weir::guest=debug",
        "weir --log-level debug run",
        "weir dev delays.wasm",
        "weir dev delays.wasm --events in.ndjson --partitions 4 --data ./try --keep-running",
        "weir dev delays.wasm --config {} --output late --output audit",
        "weir emulator --listen 127.0.0.1:5672 --hub flights:4 --hub out:2",
        "weir emulator --listen 127.0.0.1:0 --hub flights:4 --control 127.0.0.1:0 --data d --retention 2h --retention-size 1GiB",
        "weir send --endpoint amqp://127.0.0.1:5672 --hub flights in.ndjson",
        "weir send --config weir.toml --processor delays --lines --key UA",
        "weir send --namespace fleet.servicebus.windows.net --credential cli --hub flights --partition 0 -",
        "weir tail --config weir.toml --from latest --count 10",
        "weir tail --endpoint amqp://127.0.0.1:5672 --hub out --from 2026-01-01T00:00:00Z --partition 0 --partition 1",
        "weir check delays.wasm --json",
        "weir checkpoints weir.toml --json",
        "weir checkpoints --log-level debug",
        "weir checkpoints set weir.toml --all --to earliest",
        "weir checkpoints set weir.toml --processor delays --partition 0,3 --to 2026-01-01T00:00:00Z --force --yes",
        "weir checkpoints set --partition 0 --partition 3 --to 4711 --dry-run --drop-state --log-format json",
        "weir checkpoints import weir.toml --from same --from-group old --from-hub old --from-namespace old",
        "weir dead-letters list",
        "weir dead-letters list weir.toml --processor delays --partition 0,3 --cause trap,deadline --json",
        "weir dead-letters show weir.toml flights/0/7/rejected",
        "weir dead-letters redrive weir.toml flights/0/7/rejected flights/0/8/rejected --to-hub again",
        "weir dead-letters redrive weir.toml --all --cause rejected --module delays.wasm",
        "weir dead-letters discard weir.toml --all --yes",
        "weir checkpoints import --from https://a.blob.core.windows.net/old --from-credential cli --force --dry-run --yes",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_command_lines_are_refused_with_a_hint() {
    for (line, hint) in [
        ("weir checkpoint weir.toml", "'checkpoints'"),
        ("weir checkpoints set weir.toml --to latest", "--partition <ID,…>"),
        ("weir checkpoints set weir.toml --to latest --all --partition 0", "cannot be used with"),
        ("weir checkpoints set weir.toml --all --to yesterday", "write earliest, latest, a sequence number, or a time"),
        ("weir checkpoints weir.toml --to latest", "--to"),
        ("weir checkpoints import weir.toml", "--from <CONTAINER>"),
        ("weir dead-letters weir.toml", "'weir.toml'"),
        ("weir dead-letters redrive weir.toml", "<ID>..."),
        ("weir dead-letters discard weir.toml a/0/1 --all", "cannot be used with"),
        ("weir dead-letters redrive weir.toml --all --to-hub a --module m.wasm", "cannot be used with"),
        ("weir run --until-cought-up", "'--until-caught-up'"),
        ("weir emulator", "--hub <NAME[:PARTITIONS]>"),
        ("weir emulator --hub flights:0", "write NAME:PARTITIONS, such as flights:4, or NAME for one partition"),
        ("weir emulator --hub a:1 --retention 5", "has no unit"),
        ("weir emulator --hub a:1 --retention-size 5M", "is ambiguous"),
        ("weir dev m.wasm --keep-running", "--events"),
        ("weir dev m.wasm --partitions 0", "0 is not in 1..=1024"),
        ("weir tail --hub a --from yesterday", "write earliest, latest, a sequence number, or a time"),
        ("weir send --hub a --key k --partition 0", "cannot be used with"),
        ("weir send --config weir.toml --endpoint amqp://a:1", "cannot be used with"),
        ("weir send --hub a --credential sas", "unknown credential `sas`"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(hint), "{line}: {error}");
    }
}

#[test]
fn a_hub_is_found_by_options_or_asked_for() {
    let ask = |line: &str| {
        let Command::Send(args) = parse(line).unwrap().command else { panic!("not send") };
        args.hub
            .find()
            .map(|hub| (hub.namespace.fully_qualified_namespace().to_owned(), hub.name))
            .map_err(|e| e.to_string())
    };
    let local = ask("weir send --endpoint amqp://127.0.0.1:5672 --hub a");
    assert_eq!(local, Ok(("localhost".into(), "a".into())));
    assert!(ask("weir send --hub a").is_err_and(|e| e.starts_with("which namespace? Add --namespace")));
    assert!(ask("weir send --endpoint amqp://127.0.0.1:5672").is_err_and(|e| e.starts_with("which hub? Add --hub")));
    assert!(
        ask("weir send --hub a --endpoint amqp://127.0.0.1:1 --credential cli").is_err_and(|e| e.contains("no TLS"))
    );
    assert!(ask("weir send --config /nowhere/weir.toml").is_err_and(|e| e.contains("/nowhere/weir.toml")));
}
