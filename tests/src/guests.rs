//! Guests for tests are real components, built from this workspace when a test first asks for them.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Builds the guest `name` (a package of this workspace) once per process and says where its component is.
///
/// Cargo decides whether there is anything to do, so an edited guest is never tested in an old build. The build has a target
/// directory of its own: the cargo that runs the tests may hold the lock of the usual one. `WEIR_GUESTS_TARGET_DIR` puts it elsewhere.
///
/// # Panics
///
/// When the guest does not build: a test can't go on without it.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    // A test that failed to build its guest leaves the map as it was.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.get_or_insert_default().entry(name.to_owned()).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = match (env::var_os("WEIR_GUESTS_TARGET_DIR"), env::var_os("CARGO_TARGET_DIR")) {
        (Some(guests), _) => PathBuf::from(guests),
        (None, Some(target)) => root.join(target).join("guests"),
        (None, None) => root.join("target").join("guests"),
    };
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--locked",
            "--quiet",
            "--package",
            name,
            "--profile",
            "guest",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&root)
        // Flags of the host's build (coverage, sanitizers) mean nothing to a guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap_or_else(|error| panic!("could not run cargo for the guest {name}: {error}"));
    assert!(output.status.success(), "the guest {name} does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join("wasm32-wasip2/guest").join(format!("{}.wasm", name.replace('-', "_")))
}
