//! What a file is, told from its names alone: no compiler runs, so a wrong module is refused in milliseconds.
//!
//! [`inspect`] reads a component's outermost imports and exports. Whether functions have the right types is checked after
//! compilation, when the module is linked.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use super::imports::Imports;

use super::text::size;

/// The package that this host serves, and its version line: any 0.1.x guest fits, as long as all it imports is there.
const PACKAGE: &str = "weir:processor";
const SERVED: (u64, u64) = (0, 1);

/// Everything that can be said of a file before it is compiled. [`fmt::Display`] writes it in plain words.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its size.
    pub bytes: usize,
    /// Its digest (BLAKE3, hexadecimal): what identifies a module in logs and in the cache.
    pub digest: String,
    /// Whether it is a component at all.
    pub component: bool,
    /// The contract that it was built for, such as `weir:processor@0.1.0`.
    pub contract: Option<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it imports, and what becomes of that here.
    pub imports: Vec<Capability>,
    /// Whether it keeps state in the host, or asks to be woken.
    pub keeps_state: bool,
    /// What its processor must be granted.
    pub needs: BTreeSet<Need>,
    /// What it was made with, as far as it says, such as `Rust` or `wit-component 0.254.0`.
    pub made_with: Vec<String>,
    /// Why this host can't run it. `None`: it can.
    #[serde(serialize_with = "sentence")]
    problem: Option<Problem>,
}

fn sentence<S: serde::Serializer>(problem: &Option<Problem>, serializer: S) -> Result<S::Ok, S::Error> {
    problem.as_ref().map(ToString::to_string).serialize(serializer)
}

impl Report {
    /// Notes an import. One that brings types and nothing to call needs no grant.
    fn import(&mut self, name: String, calls: bool) {
        let (capability, need) = capability(name);
        self.needs.extend(need.filter(|_| calls));
        let kept = ["weir:processor/state@", "weir:processor/timers@"];
        self.keeps_state |= calls && kept.iter().any(|interface| capability.name.starts_with(interface));
        self.imports.push(match need {
            Some(_) if !calls => Capability { grant: Grant::Provided, meaning: "types alone", ..capability },
            _ => capability,
        });
    }

    /// Why this host can't run it. `None`: it can.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }
}

/// One import.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    /// Its full name, such as `wasi:cli/environment@0.2.6`.
    pub name: String,
    /// What the host does about it.
    pub grant: Grant,
    /// What that means for the guest, in plain words.
    pub meaning: &'static str,
}

/// What the host does about an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// It is there and works.
    Provided,
    /// It is there if the processor is granted it (`[processor.grants]`).
    Granted,
    /// It can be called, but there is nothing behind it unless the processor is granted something: no files, no variables. And
    /// never a network.
    Denied,
    /// The host doesn't have it: the module is refused.
    Missing,
}

/// What a module can only have by a grant, told from its imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// The time.
    Clocks,
    /// Random numbers.
    Random,
    /// Secrets by name.
    Secrets,
    /// Outgoing HTTP.
    Http,
}

impl fmt::Display for Need {
    /// As it is granted under `[processor.grants]`, with an example where there is more to say than yes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clocks => "clocks = true",
            Self::Random => "random = true",
            Self::Secrets => "secrets = { NAME = { env = \"VARIABLE\" } }",
            Self::Http => "http = { allow = [\"https://api.example.com\"] }",
        })
    }
}

/// Why a file can't be run. Each says what to build or do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing in it.
    #[error("the file is empty; the build that should have written it probably failed or is still running")]
    Empty,
    /// Something else.
    #[error(
        "this is not WebAssembly (it begins with {0}); give the .wasm file that the guest's build writes, \
         for example target/wasm32-wasip2/guest/NAME.wasm"
    )]
    NotWasm(String),
    /// WebAssembly, but no component.
    #[error(
        "this is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2` \
         (or wrap it with `wasm-tools component new`)"
    )]
    CoreModule,
    /// Truncated or damaged.
    #[error("the component is damaged or cut off: {0}; build or copy it again")]
    Damaged(String),
    /// A component of some other world.
    #[error(
        "this is a component, but no Weir processor: it exports {0}, where `weir:processor/processor` is expected; \
         implement the world `event-processor` of weir:processor (in Rust: crate weir-guest)"
    )]
    OtherWorld(String),
    /// A processor, of a version that this host doesn't serve.
    #[error(
        "it was built for {PACKAGE}@{0}, and this host serves {PACKAGE}@{major}.{minor}.x; \
         build it again with a guest kit for {major}.{minor}, or run a host that serves {0}",
        major = SERVED.0, minor = SERVED.1
    )]
    OtherVersion(String),
    /// Several processors in one component.
    #[error("it exports several processors ({0}), and which one to run is not clear; build one component for each")]
    Several(String),
    /// It needs what the host doesn't have.
    #[error("it imports {0}, which this host does not provide; remove what needs it, or run a host that has it")]
    MissingImports(String),
}

/// Says what `bytes` are and whether this host can run them. Doesn't compile, doesn't run anything.
pub fn inspect(bytes: &[u8]) -> Report {
    let mut report = Report {
        bytes: bytes.len(),
        digest: blake3::hash(bytes).to_hex().to_string(),
        component: false,
        contract: None,
        exports: Vec::new(),
        imports: Vec::new(),
        keeps_state: false,
        needs: BTreeSet::new(),
        made_with: Vec::new(),
        problem: None,
    };
    report.problem = read(bytes, &mut report).err();
    report
}

fn read(bytes: &[u8], report: &mut Report) -> Result<(), Problem> {
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Problem::NotWasm(beginning(bytes)));
    }
    scan(bytes, report)?;
    judge(report)
}

/// What a file begins with, for someone who wonders what they passed.
fn beginning(bytes: &[u8]) -> String {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => {
            "an ELF header: a native or a precompiled binary, and those are never run".into()
        }
        [b'P', b'K', ..] => "a zip header".into(),
        [0x1f, 0x8b, ..] => "a gzip header: unpack it first".into(),
        _ => {
            let head = &bytes[..bytes.len().min(12)];
            if head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
                format!("the text {:?}", String::from_utf8_lossy(head))
            } else {
                format!("the bytes {head:02x?}")
            }
        }
    }
}

/// Collects the names of the outermost component. What is nested in it is skipped over by its length.
fn scan(bytes: &[u8], report: &mut Report) -> Result<(), Problem> {
    let damaged = |e: wasmparser::BinaryReaderError| Problem::Damaged(e.to_string());
    let (mut depth, mut imports) = (0u32, Imports::default());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Problem::CoreModule),
            Payload::Version { .. } if depth == 0 => report.component = true,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            // Nested modules say what they were compiled with, so this is read at any depth.
            Payload::CustomSection(custom) => {
                if let wasmparser::KnownCustom::Producers(fields) = custom.as_known() {
                    // Only a courtesy: a producers section that can't be read is no reason to refuse.
                    for value in fields.into_iter().flatten().flat_map(|field| field.values).flatten() {
                        let tool = format!("{} {}", value.name, value.version).trim_end().to_owned();
                        if !report.made_with.contains(&tool) {
                            report.made_with.push(tool);
                        }
                    }
                }
            }
            _ if depth > 0 => {}
            Payload::ComponentTypeSection(types) => imports.types(types).map_err(damaged)?,
            Payload::ComponentAliasSection(aliases) => imports.aliases(aliases).map_err(damaged)?,
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    let (name, calls) = (import.name, imports.import(&import));
                    report.import(full_name(name.name, name.version_suffix), calls);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(damaged)?;
                    imports.export(&export);
                    let name = export.name;
                    report.exports.push(full_name(name.name, name.version_suffix));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names are written with their whole version, or with a canonical one (`@0.1`) and the rest beside it (`.2`).
fn full_name(name: &str, suffix: Option<&str>) -> String {
    format!("{name}{}", suffix.unwrap_or_default())
}

/// Whether the names make a processor that this host can run.
fn judge(report: &mut Report) -> Result<(), Problem> {
    let versions: Vec<String> = report
        .exports
        .iter()
        .filter_map(|name| name.strip_prefix(PACKAGE)?.strip_prefix("/processor"))
        .map(|rest| rest.strip_prefix('@').unwrap_or(rest).to_owned())
        .collect();
    let version = match versions.as_slice() {
        [] => return Err(Problem::OtherWorld(list(&report.exports))),
        [version] => version,
        several => return Err(Problem::Several(list(several))),
    };
    report.contract = Some(format!("{PACKAGE}@{version}"));
    if line_of(version) != Some(SERVED) {
        return Err(Problem::OtherVersion(version.clone()));
    }
    let missing: Vec<&Capability> = report.imports.iter().filter(|import| import.grant == Grant::Missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.iter().map(|import| format!("{} ({})", import.name, import.meaning)).collect();
    Err(Problem::MissingImports(list(&missing)))
}

/// Major and minor of a version.
fn line_of(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.join(", "),
    }
}

/// What the host does about an import, by its name without the version. WASI 0.2.x is served whatever its x.
fn capability(name: String) -> (Capability, Option<Need>) {
    let (plain, version) = name.split_once('@').unwrap_or((&name, ""));
    let expected = if plain.starts_with("wasi:") { (0, 2) } else { SERVED };
    let (grant, meaning) = match plain {
        _ if line_of(version) != Some(expected) => (Grant::Missing, "a version that is not served here"),
        "weir:processor/types" => (Grant::Provided, "the contract's types"),
        "weir:processor/logging" => (Grant::Provided, "log lines, into the host's log"),
        "weir:processor/outputs" => (Grant::Provided, "outputs, to the targets of the deployment"),
        "weir:processor/fields" => (Grant::Provided, "which metadata is handed over"),
        "weir:processor/state" => (Grant::Provided, "keys and values that move with the partition"),
        "weir:processor/timers" => (Grant::Provided, "waking up without an event"),
        "weir:processor/secrets" => (Grant::Granted, "secrets by name"),
        "weir:processor/metrics" => (Grant::Provided, "metrics, into those of the host"),
        "wasi:io/error" | "wasi:io/poll" | "wasi:io/streams" => (Grant::Provided, "streams and waiting"),
        "wasi:clocks/wall-clock" | "wasi:clocks/monotonic-clock" => (Grant::Granted, "the time"),
        "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => {
            (Grant::Granted, "random numbers")
        }
        "wasi:cli/exit" => (Grant::Provided, "exit: it ends the instance and counts as a failure"),
        "wasi:cli/stdout" | "wasi:cli/stderr" => (Grant::Provided, "kept in part, and written to the host's log"),
        "wasi:cli/stdin" => (Grant::Denied, "standard input is empty"),
        "wasi:cli/environment" => (Grant::Denied, "no arguments, and only those variables that are granted"),
        "wasi:cli/terminal-input"
        | "wasi:cli/terminal-output"
        | "wasi:cli/terminal-stdin"
        | "wasi:cli/terminal-stdout"
        | "wasi:cli/terminal-stderr" => (Grant::Denied, "there is no terminal"),
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => {
            (Grant::Denied, "only those directories that are granted, to read")
        }
        "wasi:sockets/instance-network"
        | "wasi:sockets/network"
        | "wasi:sockets/ip-name-lookup"
        | "wasi:sockets/tcp"
        | "wasi:sockets/tcp-create-socket"
        | "wasi:sockets/udp"
        | "wasi:sockets/udp-create-socket" => (Grant::Denied, "no network"),
        "wasi:http/types" | "wasi:http/outgoing-handler" => (Grant::Granted, "outgoing HTTP"),
        _ => (Grant::Missing, "not a part of this host"),
    };
    let need = match plain {
        _ if grant != Grant::Granted => None,
        "weir:processor/secrets" => Some(Need::Secrets),
        _ if plain.starts_with("wasi:clocks/") => Some(Need::Clocks),
        _ if plain.starts_with("wasi:random/") => Some(Need::Random),
        _ => Some(Need::Http),
    };
    (Capability { name, grant, meaning }, need)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => writeln!(
                f,
                "This host can run it: a Weir processor for {}.",
                self.contract.as_deref().unwrap_or(PACKAGE)
            )?,
            Some(problem) => writeln!(f, "This host can't run it: {problem}.")?,
        }
        writeln!(f, "\n  size       {}\n  digest     {}", size(self.bytes), self.digest)?;
        if !self.made_with.is_empty() {
            writeln!(f, "  made with  {}", self.made_with.join(", "))?;
        }
        if !self.exports.is_empty() {
            writeln!(f, "  exports    {}", self.exports.join(", "))?;
        }
        for (grant, title) in [
            (Grant::Provided, "Imports that the host provides"),
            (Grant::Granted, "Imports that must be granted"),
            (Grant::Denied, "Imports that are there, but closed"),
            (Grant::Missing, "Imports that the host does not have"),
        ] {
            let imports: Vec<&Capability> = self.imports.iter().filter(|import| import.grant == grant).collect();
            if imports.is_empty() {
                continue;
            }
            writeln!(f, "\n{title}:")?;
            let width = imports.iter().map(|import| import.name.len()).max().unwrap_or(0);
            for import in imports {
                writeln!(f, "  {:width$}  {}", import.name, import.meaning)?;
            }
        }
        if !self.needs.is_empty() {
            writeln!(f, "\nIn weir.toml, if it may have that:\n\n  [processor.grants]")?;
            self.needs.iter().try_for_each(|need| writeln!(f, "  {need}"))?;
        }
        Ok(())
    }
}
