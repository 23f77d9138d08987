//! Which partition a partition key belongs to.
//!
//! The service hashes the key with Bob Jenkins' lookup3 (`hashlittle2`, both seeds 0; public domain,
//! <http://burtleburtle.net/bob/c/lookup3.c>), xors the two halves, keeps the low 16 bits as a signed number and takes
//! the remainder by the number of partitions. The buffered producers of the SDKs compute the same on the client.

/// The partition of `key` in a hub of `partitions` partitions.
#[must_use]
pub fn partition_of_key(key: &str, partitions: u32) -> u32 {
    let remainder = i32::from(key_hash(key.as_bytes())) % i32::try_from(partitions.max(1)).unwrap_or(i32::MAX);
    remainder.unsigned_abs()
}

/// The service's 16-bit hash of a partition key.
#[must_use]
pub fn key_hash(key: &[u8]) -> i16 {
    let (c, b) = lookup3(key);
    ((c ^ b) & 0xffff) as u16 as i16
}

/// lookup3 over bytes: returns (primary, secondary), in its words `c` and `b`.
fn lookup3(key: &[u8]) -> (u32, u32) {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32);
    let [mut a, mut b, mut c] = [start; 3];
    if key.is_empty() {
        return (c, b);
    }
    // The last block, of 1 to 12 bytes, takes the final mix instead of the ordinary one.
    let last = (key.len() - 1) / 12 * 12;
    let (body, rest) = key.split_at(last);
    for block in body.chunks_exact(12) {
        let [x, y, z] = words(block);
        (a, b, c) = mix(a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
    }
    let [x, y, z] = words(rest);
    let (c, b) = finish(a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
    (c, b)
}

/// Three little-endian words of at most 12 bytes, padded with zeros.
fn words(block: &[u8]) -> [u32; 3] {
    let mut padded = [0_u8; 12];
    padded[..block.len()].copy_from_slice(block);
    let word = |at: usize| u32::from_le_bytes([padded[at], padded[at + 1], padded[at + 2], padded[at + 3]]);
    [word(0), word(4), word(8)]
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    let step = |x: &mut u32, y: &mut u32, z: u32, by: u32| {
        // x loses y, is stirred with y's bits, and y gains z.
        *x = x.wrapping_sub(*y) ^ y.rotate_left(by);
        *y = y.wrapping_add(z);
    };
    step(&mut a, &mut c, b, 4);
    step(&mut b, &mut a, c, 6);
    step(&mut c, &mut b, a, 8);
    step(&mut a, &mut c, b, 16);
    step(&mut b, &mut a, c, 19);
    step(&mut c, &mut b, a, 4);
    (a, b, c)
}

fn finish(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32) {
    let step = |x: &mut u32, y: u32, by: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(by));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    (c, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Produced by `@azure/event-hubs` 6.0.4 (`hashPartitionKey`, and `mapPartitionKeyToId` for 4 and 32 partitions).
    #[test]
    fn agrees_with_the_sdk() {
        for (key, hash, of_4, of_32) in [
            ("", 0, 0, 0),
            ("a", -16220, 0, 28),
            ("7", -15263, 3, 31),
            ("131", 30562, 2, 2),
            ("UA", 12484, 0, 4),
            ("N14228", -20688, 0, 16),
            ("flight", -32530, 2, 18),
            ("abcdefghijk", -2676, 0, 20),
            ("abcdefghijkl", -2373, 1, 5),
            ("abcdefghijklm", -31855, 3, 15),
            ("7149583486996073602", 12977, 1, 17),
            ("8fb3c5e8-4b1c-4a35-9e59-8e6d0e6e7a11", -32321, 1, 1),
            ("Zürich–東京", 28025, 1, 25),
            ("a much longer partition key, several rounds of the mixer long", -14333, 1, 29),
        ] {
            assert_eq!(key_hash(key.as_bytes()), hash, "{key:?}");
            assert_eq!(partition_of_key(key, 4), of_4, "{key:?} of 4");
            assert_eq!(partition_of_key(key, 32), of_32, "{key:?} of 32");
        }
    }
}
