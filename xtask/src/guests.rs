//! Builds the example processors to WebAssembly components.

use std::fs;
use std::path::PathBuf;

use crate::prerequisites;
use crate::process::{Failure, Outcome, Workspace, cargo, step};

pub(crate) fn run() -> Outcome<()> {
    let workspace = Workspace::find();
    prerequisites::wasm_target(&workspace)?;
    for guest in build(&workspace)? {
        let size = fs::metadata(&guest).map_or(0, |file| file.len());
        println!("{} ({} KiB)", guest.display(), size.div_ceil(1024));
    }
    Ok(())
}

/// Builds every example that is a component and says where the files are.
pub(crate) fn build(workspace: &Workspace) -> Outcome<Vec<PathBuf>> {
    let names = names(workspace)?;
    step(&format!("Building the example processors to WebAssembly: {}", names.join(", ")));
    cargo(workspace, "build")
        .args(["--quiet", "--profile", "guest", "--target", "wasm32-wasip2"])
        .args(names.iter().flat_map(|name| ["-p", name]))
        .run("the errors above say what does not compile")?;
    let folder = folder(workspace);
    Ok(names.iter().map(|name| folder.join(format!("{}.wasm", name.replace('-', "_")))).collect())
}

/// Where the components are.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("wasm32-wasip2").join("guest")
}

/// The examples whose library is a `cdylib`; that is what makes a crate a component.
fn names(workspace: &Workspace) -> Outcome<Vec<String>> {
    let folder = workspace.root.join("examples");
    let unreadable =
        |error| Failure::new(format!("{} can't be read: {error}", folder.display()), "is the clone complete?");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap_or_default();
        if manifest.contains("\"cdylib\"") {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
