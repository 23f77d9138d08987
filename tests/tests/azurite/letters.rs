//! Dead letters in a container.

use weir_host::azure::{BlobContainer, LetterContainer, Patience};
use weir_host::dead_letter::read;
use weir_host::seams::{Sink as _, Written};
use weir_host::testing::conformance;

use crate::store::World;

fn letters(url: &str) -> LetterContainer {
    LetterContainer::new(BlobContainer::new(url, None, Patience::default()).unwrap())
}

#[tokio::test]
async fn conforms() {
    let world = World::new().await;
    let letters = letters(&world.url);
    conformance::sink(&letters, async || {
        let mut stored = Vec::new();
        for processor in ["one", "two"] {
            for place in letters.list(("n", "hub"), processor).await.unwrap() {
                stored.push(read(&letters.read(&place).await.unwrap().unwrap().0).unwrap());
            }
        }
        stored
    })
    .await;
    let blobs = world.blobs().await;
    assert!(blobs.contains_key("hub@n/0/one/7.json") && blobs.contains_key("hub@n/0/two/7.json"), "{:?}", blobs.keys());

    // What was written again since it was read stays; what is gone is gone.
    let place = letters.list(("n", "hub"), "one").await.unwrap().remove(7);
    let (text, old) = letters.read(&place).await.unwrap().unwrap();
    letters.publish(&[read(&text).unwrap()]).await.unwrap();
    assert_eq!(letters.remove(&place, &old).await.unwrap(), Written::Conflict);
    let (_, new) = letters.read(&place).await.unwrap().unwrap();
    assert_eq!(letters.remove(&place, &new).await.unwrap(), Written::Done(()));
    assert_eq!(letters.read(&place).await.unwrap(), None);
    assert_eq!(letters.remove(&place, &new).await.unwrap(), Written::Done(()));
}

#[tokio::test]
async fn a_container_that_is_missing_is_named() {
    let error = letters(&format!("{}/weir-missing", crate::account())).list(("n", "hub"), "one").await.unwrap_err();
    assert!(error.to_string().contains("weir-missing does not exist; create it"), "{error}");
}
