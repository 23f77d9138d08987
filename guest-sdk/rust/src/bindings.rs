//! What wit-bindgen makes of `wit/processor.wit`. Generated code only; the kit's own words for it are in the other modules.
#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    rust_2018_idioms,
    unreachable_pub,
    unsafe_code,
    reason = "generated: the canonical ABI needs raw memory, and not every type of the contract carries a doc comment"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "event-processor",
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "::weir_guest::bindings",
});
