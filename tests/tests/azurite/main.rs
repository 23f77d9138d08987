//! What needs a container in Azure Blob Storage, against Azurite. `cargo xtask test` starts one and says in `WEIR_BLOBS` where it is;
//! without it these tests fail, so that nothing is skipped without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod checkpoints;
mod faults;
mod fleet;
mod keda;
mod letters;
mod store;

/// The URL of Azurite's account.
fn account() -> String {
    std::env::var("WEIR_BLOBS")
        .expect("WEIR_BLOBS says where Azurite is; run this suite by `cargo xtask test --clients blobs`")
}
