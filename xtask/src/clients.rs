//! Sets up the official clients: exactly the versions that the lock files name, once per version of the lock file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::prerequisites;
use crate::process::{Failure, Outcome, Run, Workspace, step};

const SDK: &str = "azure_eventhub-5.15.1";

/// Installs the JavaScript clients and Azurite where the scripts find them. Returns the scripts' folder.
pub(crate) fn javascript(workspace: &Workspace) -> Outcome<PathBuf> {
    prerequisites::node(workspace)?;
    let folder = workspace.root.join("tests/clients/js");
    let modules = folder.join("node_modules");
    once(&folder.join("package-lock.json"), &modules.join(".weir-lock"), || {
        step("Installing the JavaScript clients and Azurite (npm ci, about a minute)");
        // No install scripts: nothing here needs one.
        Run::new("npm", workspace)
            .within(&folder)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .run("npm downloads from registry.npmjs.org; check the network, then try again")
    })?;
    Ok(folder)
}

/// What the Python clients are run with.
pub(crate) struct Python {
    /// The interpreter of the virtual environment.
    pub(crate) interpreter: PathBuf,
    /// The sources of `azure-eventhub`, for its tests.
    pub(crate) sdk: PathBuf,
}

/// Installs the Python clients into a virtual environment, and unpacks the sources of `azure-eventhub` for its tests.
pub(crate) fn python(workspace: &Workspace) -> Outcome<Python> {
    let folder = workspace.clients().join("python");
    let interpreter = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let sources = workspace.clients().join("sdk");
    let requirements = workspace.root.join("tests/clients/python/requirements.txt");
    let system = prerequisites::python(workspace)?;
    once(&requirements, &folder.join(".weir-lock"), || {
        prerequisites::python_compiles(workspace, system)?;
        step("Installing the Python clients into a virtual environment (about two minutes; qpid-proton is compiled)");
        Run::new(system, workspace)
            .args(["-m", "venv", "--clear"])
            .arg(&folder)
            .run("is the target directory writable?")?;
        pip(&interpreter, workspace)
            .args([
                "install",
                "--quiet",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-binary",
                "python-qpid-proton",
            ])
            .arg("-r")
            .arg(&requirements)
            .run("pip downloads from pypi.org and compiles qpid-proton; the lines above say which of the two failed")
    })?;
    once(&requirements, &sources.join(".weir-lock"), || {
        step("Fetching the sources of azure-eventhub, for its own tests");
        let pinned = workspace.root.join("tests/clients/python/sdk-source.txt");
        pip(&interpreter, workspace)
            .args(["download", "--quiet", "--require-hashes", "--no-deps", "--no-binary", ":all:", "--dest"])
            .arg(&sources)
            .arg("-r")
            .arg(&pinned)
            .run("pip downloads from pypi.org; check the network, then try again")?;
        Run::new(&interpreter, workspace)
            .args(["-m", "tarfile", "-e"])
            .arg(sources.join(format!("{SDK}.tar.gz")))
            .arg(&sources)
            .run("the downloaded archive is broken; remove it, then try again")
    })?;
    Ok(Python { interpreter, sdk: sources.join(SDK) })
}

fn pip(interpreter: &Path, workspace: &Workspace) -> Run {
    Run::new(interpreter, workspace).args(["-m", "pip", "--disable-pip-version-check", "--no-input"])
}

/// Does `work` unless `stamp` says that it was done for exactly this lock file.
fn once(lock: &Path, stamp: &Path, work: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| {
            Failure::new(format!("{path}: {error}"), "is the clone complete, and the disk writable?")
        }
    };
    let wanted = fs::read(lock).map_err(failed(lock))?;
    if fs::read(stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    work()?;
    fs::write(stamp, wanted).map_err(failed(stamp))
}
