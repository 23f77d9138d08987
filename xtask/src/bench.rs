//! Runs the benchmarks.

use std::fs;

use crate::clients;
use crate::guests;
use crate::prerequisites;
use crate::process::{Failure, Outcome, Workspace, cargo, step};
use crate::suites;

/// The benchmark that needs Azurite, and with it Node.js.
const FLEET: &str = "fleet";

pub(crate) fn run(only: &[String]) -> Outcome<()> {
    let workspace = Workspace::find();
    let benches = benches(&workspace);
    if let Some(unknown) = only.iter().find(|name| !benches.iter().any(|(_, bench)| bench == *name)) {
        let known: Vec<_> = benches.iter().map(|(_, bench)| bench.as_str()).collect();
        return Err(Failure::new(
            format!("there is no benchmark `{unknown}`"),
            format!("the benchmarks are: {}", known.join(", ")),
        ));
    }
    let is_chosen = |bench: &str| only.is_empty() || only.iter().any(|name| name == bench);
    prerequisites::openssl(&workspace)?;
    prerequisites::wasm_target(&workspace)?;
    // Before anything is built: a missing Node.js is said first.
    let javascript = if is_chosen(FLEET) { Some(clients::javascript(&workspace)?) } else { None };
    guests::build(&workspace)?;
    for bench in benches.iter().map(|(_, bench)| bench.as_str()).filter(|bench| is_chosen(bench)) {
        step(&format!("Benchmark `{bench}` (release mode; the first build takes several minutes)"));
        let azurite = match &javascript {
            Some(folder) if bench == FLEET => Some(suites::azurite(&workspace, folder)?),
            _ => None,
        };
        let blobs = azurite.as_ref().map_or("", |(_, address)| address);
        // With the features of the whole workspace, so that the benchmarks share one build of the dependencies.
        cargo(&workspace, "bench")
            .args(["--quiet", "--workspace", "--bench", bench])
            .env("WEIR_BLOBS", blobs)
            .run("a benchmark that fails could not measure; the message above says why")?;
    }
    Ok(())
}

/// Package and name of every file in a `benches` folder.
fn benches(workspace: &Workspace) -> Vec<(String, String)> {
    let folders =
        [("weir-amqp", "amqp"), ("weir-emulator", "emulator"), ("weir-host", "host"), ("weir-tests", "tests")];
    let mut found = Vec::new();
    for (package, folder) in folders {
        let Ok(files) = fs::read_dir(workspace.root.join(folder).join("benches")) else { continue };
        for path in files.flatten().map(|file| file.path()) {
            if let (Some("rs"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_stem()) {
                found.push((package.to_owned(), name.to_string_lossy().into_owned()));
            }
        }
    }
    found.sort();
    found
}
