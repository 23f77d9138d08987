//! What must be on the machine, looked for before it is needed so that its absence has one clear sentence.

use std::path::Path;

use crate::process::{Failure, Outcome, Run, Workspace, step};

const TARGET: &str = "wasm32-wasip2";
const OLDEST_NODE: u32 = 20;
const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// Makes sure that guests can be compiled. `rust-toolchain.toml` names the target, so rustup normally has it already.
pub(crate) fn wasm_target(workspace: &Workspace) -> Outcome<()> {
    let library = Run::new("rustc", workspace).args(["--print", "target-libdir", "--target", TARGET]).output();
    let installed = library.is_some_and(|directory| std::fs::read_dir(directory).is_ok_and(|mut d| d.next().is_some()));
    if installed {
        return Ok(());
    }
    step("Adding the target wasm32-wasip2 to the Rust toolchain");
    if Run::new("rustup", workspace).arg("--version").output().is_none() {
        return Err(Failure::new(
            "this Rust toolchain can't compile to wasm32-wasip2, and rustup is not there to add it",
            "install Rust with rustup (https://rustup.rs), or add your distribution's wasm32-wasip2 standard library",
        ));
    }
    Run::new("rustup", workspace)
        .args(["target", "add", TARGET])
        .run("rustup downloads from static.rust-lang.org; check the network, then try again")
}

/// Makes sure that there is a nightly toolchain, which libFuzzer needs for its instrumentation.
pub(crate) fn nightly(workspace: &Workspace) -> Outcome<()> {
    if Run::new("rustup", workspace).args(["run", "nightly", "rustc", "--version"]).output().is_some() {
        return Ok(());
    }
    step("Adding a nightly Rust toolchain, for the fuzzer only");
    Run::new("rustup", workspace)
        .args(["toolchain", "install", "nightly", "--profile", "minimal"])
        .run("rustup (https://rustup.rs) downloads from static.rust-lang.org; check both, then try again")
}

/// Makes sure that libFuzzer, which is C++, can be compiled.
pub(crate) fn cpp_compiler(workspace: &Workspace) -> Outcome<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    match Run::new(&compiler, workspace).arg("--version").output() {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            format!("the C++ compiler `{compiler}` is missing; libFuzzer is compiled with it"),
            "install it (Debian, Ubuntu: `apt-get install g++`), or name another one in the variable CXX",
        )),
    }
}

/// Makes sure that OpenSSL can be linked on Linux, where the official Azure SDK insists on it: installs its headers as root on
/// Debian, and elsewhere says how.
pub(crate) fn openssl(workspace: &Workspace) -> Outcome<()> {
    let told = ["OPENSSL_DIR", "OPENSSL_LIB_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    let found = || Run::new("pkg-config", workspace).args(["--modversion", "openssl"]).output().is_some();
    if !cfg!(target_os = "linux") || told || found() {
        return Ok(());
    }
    if Run::new("id", workspace).arg("-u").output().is_some_and(|id| id.trim() == "0")
        && Run::new("apt-get", workspace).arg("--version").output().is_some()
    {
        step("Installing OpenSSL's headers: apt-get install libssl-dev pkg-config");
        let advice = "install libssl-dev and pkg-config yourself, or name OpenSSL's directory in OPENSSL_DIR";
        Run::new("apt-get", workspace).args(["update", "-qq"]).run(advice)?;
        return Run::new("apt-get", workspace)
            .args(["install", "-qq", "-y", "--no-install-recommends", "libssl-dev", "pkg-config"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run(advice);
    }
    Err(Failure::new(
        "pkg-config does not find OpenSSL's headers; the official Azure SDK for Rust links OpenSSL on Linux",
        "install them (Debian, Ubuntu: `apt-get install libssl-dev pkg-config`; Fedora: `dnf install openssl-devel`)",
    ))
}

/// Makes sure that Node.js and npm are there.
pub(crate) fn node(workspace: &Workspace) -> Outcome<()> {
    let advice =
        "install Node.js 20 or later (https://nodejs.org), or run only the Rust tests: `cargo xtask test --rust`";
    let version = Run::new("node", workspace).arg("--version").output();
    match version.as_deref().and_then(|text| numbers(text).next()) {
        Some(major) if major >= OLDEST_NODE => {}
        Some(major) => {
            return Err(Failure::new(format!("Node.js {major} is too old for the JavaScript clients"), advice));
        }
        None => return Err(Failure::new("Node.js is missing; the JavaScript clients and Azurite need it", advice)),
    }
    match Run::new("npm", workspace).arg("--version").output() {
        Some(_) => Ok(()),
        None => Err(Failure::new("npm is missing, although Node.js is there", advice)),
    }
}

/// The name of a Python interpreter that is new enough and can make virtual environments.
pub(crate) fn python(workspace: &Workspace) -> Outcome<&'static str> {
    let new_enough = |name: &&str| {
        let version = Run::new(name, workspace).arg("--version").output();
        version.is_some_and(|text| {
            let mut numbers = numbers(&text);
            (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST_PYTHON
        })
    };
    let found = ["python3.11", "python3", "python"].into_iter().find(new_enough).ok_or_else(|| {
        Failure::new(
            "Python 3.11 or later is missing; the Python clients need it",
            "install it with its venv module and headers (Debian: `apt-get install python3-venv python3-dev`), or run only the \
             Rust tests: `cargo xtask test --rust`",
        )
    })?;
    // Debian splits `venv` in two: the half that puts pip into the environment is in the package.
    if Run::new(found, workspace).args(["-c", "import venv, ensurepip"]).output().is_none() {
        return Err(Failure::new(
            format!("`{found}` has no venv module; the Python clients are installed into a virtual environment"),
            "install it (Debian, Ubuntu: `apt-get install python3-venv`), or run only the Rust tests: `cargo xtask test --rust`",
        ));
    }
    Ok(found)
}

/// Prints the C compiler that Python would use, and its header.
const COMPILATION: &str = "\
import os, sysconfig
print(os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc')
print(os.path.join(sysconfig.get_path('include'), 'Python.h'))";

/// Makes sure that this Python can compile qpid-proton, which PyPI has only as sources for Linux.
pub(crate) fn python_compiles(workspace: &Workspace, python: &str) -> Outcome<()> {
    let said = Run::new(python, workspace).args(["-c", COMPILATION]).output().unwrap_or_default();
    let (compiler, header) = said.split_once('\n').unwrap_or((&said, ""));
    let compiler = compiler.split_whitespace().next().unwrap_or("cc");
    if Run::new(compiler, workspace).arg("--version").output().is_none() {
        return Err(Failure::new(
            format!(
                "the C compiler `{compiler}` is missing; qpid-proton, one of the Python clients, is compiled with it"
            ),
            "install it (Debian, Ubuntu: `apt-get install gcc libc6-dev`), or name another one in the variable CC",
        ));
    }
    if !Path::new(header).is_file() {
        return Err(Failure::new(
            format!(
                "the C header of `{python}` is missing ({header}); qpid-proton, one of the Python clients, is compiled with it"
            ),
            "install it (Debian, Ubuntu: `apt-get install python3-dev`)",
        ));
    }
    Ok(())
}

/// The numbers in a version's text, in order.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok())
}
