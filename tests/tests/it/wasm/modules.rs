//! What is said of modules, right and wrong ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use weir_host::guest::OpenReason;
use weir_host::wasm::{Compiled, Engine, EngineOptions, Grant, ModuleError, ModuleSource, inspect};
use weir_tests::guests::guest;

use super::support::*;

/// What the engine says of these bytes.
async fn refused(bytes: impl Into<Vec<u8>>) -> String {
    let source = ModuleSource::Bytes { name: "late.wasm".into(), bytes: bytes.into().into() };
    engine().load(source).await.expect_err("this is no processor").to_string()
}

async fn refused_text(text: &str) -> String {
    refused(wat::parse_str(text).unwrap()).await
}

fn component(imports: &str, exports: &[&str]) -> String {
    let exports: String = exports.iter().map(|name| format!("(export \"{name}\" (instance $empty))")).collect();
    format!("(component {imports} (component $nothing) (instance $empty (instantiate $nothing)) {exports})")
}

async fn refused_file(path: impl Into<PathBuf>) -> String {
    engine().load(ModuleSource::File(path.into())).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_not_a_component_is_told_what_to_build() {
    assert_eq!(
        refused("").await,
        "the module late.wasm can't be run: the file is empty; the build that should have written it probably failed or \
         is still running"
    );
    let sentence = refused("#!/usr/bin/env python3\n").await;
    assert!(sentence.contains("this is not WebAssembly (it begins with the text \"#!/usr/bin/e\")"), "{sentence}");
    assert!(sentence.contains("target/wasm32-wasip2/guest/NAME.wasm"), "{sentence}");
    let sentence = refused(b"\x7fELF\x02\x01".as_slice()).await;
    assert!(
        sentence.contains("an ELF header: a native or a precompiled binary, and those are never run"),
        "{sentence}"
    );
    assert!(refused([0xff, 0x00, 0x01]).await.contains("it begins with the bytes [ff, 00, 01]"));

    let sentence = refused_text("(module)").await;
    assert!(sentence.contains("a core WebAssembly module, not a component"), "{sentence}");
    assert!(sentence.contains("--target wasm32-wasip2"), "{sentence}");
}

#[tokio::test]
async fn a_component_of_another_world_is_named_by_what_it_exports() {
    let sentence = refused_text(&component("", &["wasi:cli/run@0.2.6"])).await;
    assert!(sentence.contains("no Weir processor: it exports wasi:cli/run@0.2.6"), "{sentence}");
    assert!(sentence.contains("crate weir-guest"), "{sentence}");
    assert!(refused_text("(component)").await.contains("it exports nothing"));
}

#[tokio::test]
async fn another_version_several_processors_and_missing_imports_have_their_sentences() {
    let sentence = refused_text(&component("", &["weir:processor/processor@0.2.0"])).await;
    assert!(
        sentence.contains("was built for weir:processor@0.2.0, and this host serves weir:processor@0.1.x"),
        "{sentence}"
    );

    let both = ["weir:processor/processor@0.1.0", "weir:processor/processor@0.2.0"];
    let sentence = refused_text(&component("", &both)).await;
    assert!(sentence.contains("several processors (0.1.0, 0.2.0)"), "{sentence}");

    let imports =
        "(import \"weir:processor/dreams@0.1.0\" (instance)) (import \"wasi:http/incoming-handler@0.2.4\" (instance))";
    let sentence = refused_text(&component(imports, &["weir:processor/processor@0.1.0"])).await;
    assert!(sentence.contains("weir:processor/dreams@0.1.0 (not a part of this host)"), "{sentence}");
    assert!(sentence.contains("wasi:http/incoming-handler@0.2.4 (not a part of this host)"), "{sentence}");
}

#[tokio::test]
async fn right_names_with_wrong_functions_are_found_when_linking() {
    let sentence = refused_text(&component("", &["weir:processor/processor@0.1.0"])).await;
    assert!(sentence.contains("the right names but not the right functions"), "{sentence}");
    assert!(sentence.contains("open"), "names the function: {sentence}");
    let import = "(import \"weir:processor/outputs@0.1.0\" (instance (export \"emit\" (func))))";
    let sentence = refused_text(&component(import, &["weir:processor/processor@0.1.0"])).await;
    assert!(sentence.contains("emit"), "{sentence}");
}

#[tokio::test]
async fn damage_is_found_before_or_by_the_compiler() {
    let whole = fs::read(guest("identity")).unwrap();
    let sentence = refused(&whole[..whole.len() / 2]).await;
    assert!(sentence.contains("damaged or cut off"), "{sentence}");
    let mut changed = whole.clone();
    // Somewhere in the code: which of the two notices depends on what it hits, but nothing ever runs it.
    for byte in &mut changed[whole.len() / 4..whole.len() / 4 + 64] {
        *byte = 0xff;
    }
    let sentence = refused(changed).await;
    assert!(sentence.contains("damaged"), "{sentence}");
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named_with_a_remedy() {
    let sentence = refused_file("no/such.wasm").await;
    assert!(
        sentence.starts_with("can't read the module no/such.wasm: ") && sentence.contains("build it first"),
        "{sentence}"
    );
    let directory = tempfile::tempdir().unwrap();
    assert!(refused_file(directory.path()).await.contains("give the .wasm file in it"));

    let big = directory.path().join("big.wasm");
    fs::File::create(&big).unwrap().set_len(2 << 20).unwrap();
    let engine = Engine::new(EngineOptions { max_module_bytes: 1 << 20, ..EngineOptions::default() }).unwrap();
    let error = engine.load(ModuleSource::File(big)).await.unwrap_err();
    assert!(matches!(error, ModuleError::TooLarge { .. }));
    assert!(error.to_string().contains("has more than 1 MiB"), "{error}");
}

#[tokio::test]
async fn a_guest_of_a_later_patch_version_runs() {
    let bytes = fs::read(guest("identity")).unwrap();
    // The same contract under a later patch version, wherever the component writes it.
    let (from, to) = ("@0.1.0", "@0.1.9");
    let mut later = bytes.clone();
    let mut at = 0;
    while let Some(found) = later[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        later[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
    }
    let report = inspect(&later);
    assert_eq!(report.contract.as_deref(), Some("weir:processor@0.1.9"));
    assert_eq!(report.problem(), None);
    let module = engine().load(ModuleSource::Bytes { name: "later".into(), bytes: later.into() }).await.unwrap();
    let mut guest = module.processor(options()).unwrap().open(opening(&json!({}), OpenReason::Restart)).await.unwrap();
    assert_eq!(bodies(&guest.process(batch(&["one"])).await.unwrap()), ["one"]);
}

#[test]
fn a_report_says_in_plain_words_what_a_guest_may_do() {
    let report = inspect(&fs::read(guest("misbehave")).unwrap());
    assert_eq!(report.problem(), None);
    let text = report.to_string();
    assert!(text.starts_with("This host can run it: a Weir processor for weir:processor@0.1.0.\n"), "{text}");
    for words in
        ["made with", "Rust", "Imports that the host provides:", "Imports that are there, but closed:", "no network"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let grant =
        |start: &str| report.imports.iter().find(|import| import.name.starts_with(start)).map(|import| import.grant);
    assert_eq!(grant("weir:processor/outputs@"), Some(Grant::Provided));
    assert_eq!(grant("wasi:cli/environment@"), Some(Grant::Denied));
    assert_eq!(grant("wasi:sockets/tcp@"), Some(Grant::Denied));

    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["contract"], "weir:processor@0.1.0");
    assert_eq!(json["problem"], json!(null));
    assert_eq!(json["imports"][0]["grant"], "provided");

    let wrong = inspect(b"\0asm\x01\0\0\0");
    assert!(wrong.to_string().starts_with("This host can't run it: this is a core WebAssembly module"), "{wrong}");
    assert!(serde_json::to_value(&wrong).unwrap()["problem"].as_str().unwrap().contains("core"));
}

#[test]
fn a_guest_of_the_kit_imports_state_only_if_it_uses_it() {
    let imports_state = |name: &str| {
        let report = inspect(&fs::read(guest(name)).unwrap());
        report.imports.iter().any(|import| import.name.starts_with("weir:processor/state@"))
    };
    // Both go event by event, where the kit holds back what an event changes.
    assert!(!imports_state("delays"));
    assert!(imports_state("dedupe"));
}

fn cached(directory: &Path) -> Engine {
    Engine::new(EngineOptions { cache: Some(directory.join("cache")), ..EngineOptions::default() }).unwrap()
}

#[tokio::test]
async fn compiled_code_is_kept_and_damaged_code_is_compiled_again() {
    let directory = tempfile::tempdir().unwrap();
    let load = async || {
        let module = cached(directory.path()).load(ModuleSource::File(guest("identity"))).await.unwrap();
        let mut guest =
            module.processor(options()).unwrap().open(opening(&json!({}), OpenReason::Restart)).await.unwrap();
        assert_eq!(bodies(&guest.process(batch(&["one"])).await.unwrap()), ["one"]);
        module.compiled()
    };
    assert_eq!(load().await, Compiled::Now);
    assert_eq!(load().await, Compiled::FromCache);

    let log = Log::capture();
    let entry = fs::read_dir(directory.path().join("cache")).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry.filter(|path| path.extension().is_some()).collect::<Vec<_>>();
    let [entry] = entry.as_slice() else { panic!("one entry, got {entry:?}") };
    let mut bytes = fs::read(entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(entry, bytes).unwrap();
    assert_eq!(load().await, Compiled::Now);
    assert_eq!(log.lines("its seal is broken").len(), 1);
    assert_eq!(load().await, Compiled::FromCache);
}
