//! Runs the client suites: each against a namespace of its own, each printing `ok NAME` or `FAIL NAME: why` per case. The checkpoint
//! store's suite against Azurite is a Rust test, and needs only Node.js.

use std::path::Path;
use std::thread;

use crate::clients::Python;
use crate::guests;
use crate::process::{Failure, Outcome, Run, Server, Workspace, cargo, step};
use crate::test::{Count, summary};

/// One script of `tests/clients`.
struct Suite {
    name: &'static str,
    about: &'static str,
    language: Language,
    script: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Language {
    Python,
    JavaScript,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "python",
        about: "azure-eventhub for Python: every form of sending and receiving",
        language: Language::Python,
        script: "conformance.py",
    },
    Suite {
        name: "python-group",
        about: "two Python consumers sharing a group through Azurite",
        language: Language::Python,
        script: "shared_group.py",
    },
    Suite {
        name: MIXED,
        about: "two Python processors, one in JavaScript and one `weir` sharing a group through Azurite",
        language: Language::Python,
        script: "mixed_group.py",
    },
    Suite {
        name: "python-sdk",
        about: "azure-eventhub's own live tests",
        language: Language::Python,
        script: "sdk_suite.py",
    },
    Suite {
        name: "proton",
        about: "qpid-proton, an AMQP engine that is not ours",
        language: Language::Python,
        script: "proton_interop.py",
    },
    Suite {
        name: "js",
        about: "@azure/event-hubs for JavaScript: every form of sending and receiving",
        language: Language::JavaScript,
        script: "conformance.mjs",
    },
    Suite {
        name: "rhea",
        about: "rhea, an AMQP engine that is not ours",
        language: Language::JavaScript,
        script: "rhea.mjs",
    },
];

/// The suite with hosts of ours beside the official clients; it needs a processor.
const MIXED: &str = "mixed-group";

/// The suite of the checkpoint store in Azure Blob Storage.
const BLOBS: &str = "blobs";

/// Runs the named suites (none named: all), side by side since they mostly wait. Their output comes out whole.
pub(crate) fn run(workspace: &Workspace, javascript: &Path, python: &Python, names: &[String]) -> Outcome<Count> {
    let known: Vec<_> = SUITES.iter().map(|suite| suite.name).chain([BLOBS]).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::new(
            format!("there is no client suite `{unknown}`"),
            format!("the suites are: {}", known.join(", ")),
        ));
    }
    let chosen = SUITES.iter().filter(|suite| names.is_empty() || names.iter().any(|name| name == suite.name));
    if chosen.clone().any(|suite| suite.name == MIXED) {
        guests::build(workspace)?;
    }
    let (_azurite, blobs) = azurite(workspace, javascript)?;
    let mut total = Count::default();
    if names.is_empty() || names.iter().any(|name| name == BLOBS) {
        total.add(&blob_store(workspace, &blobs)?);
    }
    step("Running the official clients against the local namespace");
    let outcomes = thread::scope(|scope| {
        let running: Vec<_> =
            chosen.map(|suite| (suite, scope.spawn(|| one(suite, workspace, javascript, python, &blobs)))).collect();
        running.into_iter().map(|(suite, thread)| (suite, thread.join())).collect::<Vec<_>>()
    });
    for (suite, outcome) in outcomes {
        let (count, output) = outcome.map_err(|_| {
            Failure::new(format!("running `{}` panicked", suite.name), "the message above says where")
        })??;
        println!("\n--- {}: {}\n{output}    {} passed, {} failed", suite.name, suite.about, count.passed, count.failed);
        total.add(&count);
    }
    Ok(total)
}

fn blob_store(workspace: &Workspace, blobs: &str) -> Outcome<Count> {
    step("Running the checkpoint store against Azurite");
    let mut count = Count::default();
    let succeeded = cargo(workspace, "test")
        .args(["--workspace", "--features", "weir-tests/azurite", "--test", "azurite"])
        .env("WEIR_BLOBS", blobs)
        .lines(|line| {
            println!("{line}");
            count.add(&summary(line));
        })?;
    if !succeeded && count.failed == 0 || count.passed + count.failed == 0 {
        return Err(Failure::new("the checkpoint store's suite did not run to its end", "the messages above say why"));
    }
    Ok(count)
}

fn one(
    suite: &Suite,
    workspace: &Workspace,
    javascript: &Path,
    python: &Python,
    blobs: &str,
) -> Outcome<(Count, String)> {
    let namespace = Namespace::start(workspace)?;
    let script = match suite.language {
        Language::Python => Run::new(&python.interpreter, workspace)
            .env("PYTHONUNBUFFERED", "1")
            .env("WEIR_SDK_SOURCE", &python.sdk)
            .env("WEIR_COMMAND", workspace.binary("weir"))
            .env("WEIR_GUESTS", guests::folder(workspace))
            .arg(workspace.root.join("tests/clients/python").join(suite.script)),
        Language::JavaScript => Run::new("node", workspace).arg(javascript.join(suite.script)),
    };
    let mut count = Count::default();
    let mut output = String::new();
    let succeeded = script
        .env("WEIR_ENDPOINT", &namespace.endpoint)
        .env("WEIR_CONTROL", &namespace.control)
        .env("WEIR_BLOBS", blobs)
        .lines(|line| {
            if line.starts_with("ok ") {
                count.passed += 1;
            } else if line.starts_with("FAIL ") {
                count.failed += 1;
            }
            output = std::mem::take(&mut output) + "    " + line + "\n";
        })?;
    if !succeeded && count.failed == 0 || count.passed + count.failed == 0 {
        output += &format!("    FAIL {}: the script ended before it had run its cases\n", suite.name);
        count.failed += 1;
    }
    Ok((count, output))
}

/// A namespace in a process of its own, in memory.
struct Namespace {
    _server: Server,
    /// `host:port` that speaks AMQP.
    endpoint: String,
    /// `host:port` of the HTTP control.
    control: String,
}

impl Namespace {
    fn start(workspace: &Workspace) -> Outcome<Self> {
        let mut addresses = Vec::new();
        let (server, addresses) = Run::new(workspace.binary("weir"), workspace)
            .args(["emulator", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            // Suites make their own hubs; the command wants one to begin with.
            .args(["--hub", "spare:1"])
            .serve(|line| {
                addresses.extend(local_address(line));
                addresses.dedup();
                (addresses.len() == 2).then(|| std::mem::take(&mut addresses))
            })?;
        let [endpoint, control] = <[String; 2]>::try_from(addresses)
            .map_err(|_| Failure::new("the namespace did not say its addresses", "run `weir emulator` by hand"))?;
        Ok(Self { _server: server, endpoint, control })
    }
}

/// Starts the blob store on a free port. Its account and key are the well-known ones.
pub(crate) fn azurite(workspace: &Workspace, javascript: &Path) -> Outcome<(Server, String)> {
    let (server, address) = Run::new("node", workspace)
        .arg(javascript.join("node_modules/azurite/dist/src/blob/main.js"))
        .args(["--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"])
        .serve(|line| line.contains("listens on").then(|| local_address(line)).flatten())?;
    Ok((server, format!("http://{address}/devstoreaccount1")))
}

/// The first `127.0.0.1:port` of a line.
fn local_address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_line_for_people() {
        assert_eq!(local_address("listening on http://127.0.0.1:41234/").as_deref(), Some("127.0.0.1:41234"));
        assert_eq!(local_address("listening on nothing"), None);
    }
}
