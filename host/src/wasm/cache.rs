//! Compiled modules, kept between starts. A Python guest compiles for ten seconds and loads from here in milliseconds.
//!
//! wasmtime trusts compiled code as it trusts itself, so what is loaded must be what this host wrote. Three things see to that:
//! the directory and its key belong to this process's user and to nobody else, else the engine refuses to start; an entry is
//! named after the module's content and everything that wasmtime compiled it with; and it begins with a MAC over its name and
//! code under that key, checked on the very bytes that are then loaded. A damaged entry is replaced, and the log says so. Compiled
//! code is never accepted from anywhere else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rand::RngCore;
use wasmtime::component::Component;

use super::engine::EngineError;

const KEY_FILE: &str = "key";
const KEY: usize = blake3::KEY_LEN;
const MAC: usize = blake3::OUT_LEN;
const SUFFIX: &str = "weirmodule";
/// Entries that are kept, the latest used ones. Every new wasmtime or module adds one.
const ENTRIES: usize = 64;

/// An open cache directory.
pub(super) struct Cache {
    directory: PathBuf,
    key: [u8; KEY],
    /// Digest of everything that compiled code depends on apart from the module.
    compatibility: blake3::Hash,
}

/// What the cache knows of a module.
pub(super) enum Lookup {
    /// Compiled code, checked and loaded.
    Hit(Component),
    /// Never seen, or dropped.
    Miss,
    /// Something is there that this host did not write, or not whole.
    Corrupt(String),
}

impl Cache {
    /// Opens a directory, or creates it. Refuses one that others could write to.
    pub(super) fn open(path: &Path, engine: &wasmtime::Engine) -> Result<Self, EngineError> {
        let key = prepare(path).map_err(|problem| EngineError::Cache { path: path.to_owned(), problem })?;
        let mut hasher = Blake(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory: path.to_owned(), key, compatibility: hasher.0.finalize() })
    }

    fn name(&self, digest: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(digest.as_bytes()).update(self.compatibility.as_bytes());
        format!("{}.{SUFFIX}", hasher.finalize().to_hex())
    }

    fn mac(&self, name: &str, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes()).update(&[0]).update(code);
        hasher.finalize()
    }

    /// Looks a module up by its digest.
    pub(super) fn load(&self, digest: &str, engine: &wasmtime::Engine) -> Lookup {
        let name = self.name(digest);
        let path = self.directory.join(&name);
        let (file, entry) = match read(&path) {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::NotFound => return Lookup::Miss,
            Err(e) => return Lookup::Corrupt(e.to_string()),
        };
        let Some((mac, code)) = entry.split_first_chunk::<MAC>() else {
            return Lookup::Corrupt("it is too short".into());
        };
        // `blake3::Hash` compares in constant time.
        if self.mac(&name, code) != blake3::Hash::from_bytes(*mac) {
            return Lookup::Corrupt("its seal is broken".into());
        }
        #[allow(unsafe_code, reason = "wasmtime can't check compiled code; the seal that was just verified can")]
        // SAFETY: `deserialize` needs bytes that wasmtime's `serialize` made and that nobody changed. `store` seals only such
        // bytes, with a key that only this user can read, and the seal of exactly these bytes (a private copy) was just verified.
        // They were compiled with equal settings by an equal wasmtime, else the name would differ; wasmtime checks that again.
        let loaded = unsafe { Component::deserialize(engine, code) };
        match loaded {
            Ok(component) => {
                // Which entries are in use; an old date only means that this one is dropped earlier.
                let _ = file.set_modified(SystemTime::now());
                Lookup::Hit(component)
            }
            Err(e) => Lookup::Corrupt(format!("{e:#}")),
        }
    }

    /// Keeps a compiled module.
    pub(super) fn store(&self, digest: &str, component: &Component) -> io::Result<()> {
        let name = self.name(digest);
        let code = component.serialize().map_err(|e| io::Error::other(format!("{e:#}")))?;
        let mac = self.mac(&name, &code);
        let temporary = write_temporary(&self.directory, &[mac.as_bytes(), &code])?;
        fs::rename(&temporary, self.directory.join(&name)).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        self.prune()
    }

    /// Drops the entries that were not used for longest.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == SUFFIX) {
                entries.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        entries.sort_by(|a, b| b.cmp(a));
        entries.iter().skip(ENTRIES).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn read(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((file, bytes))
}

/// Makes sure of the directory and its key; the error says what to do.
fn prepare(path: &Path) -> Result<[u8; KEY], String> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| format!("can't create it: {e}"))?;
    let directory = fs::symlink_metadata(path).map_err(|e| format!("can't look at it: {e}"))?;
    if !directory.is_dir() {
        return Err("it is not a directory".into());
    }
    private(&directory, "the directory", 0o700)?;
    let key = path.join(KEY_FILE);
    create_key(path, &key).map_err(|e| format!("can't write its key: {e}"))?;
    let metadata = fs::symlink_metadata(&key).map_err(|e| format!("can't look at its key: {e}"))?;
    private(&metadata, "its key", 0o600)?;
    let bytes = fs::read(&key).map_err(|e| format!("can't read its key: {e}"))?;
    bytes.try_into().map_err(|_| "its key is damaged; delete the directory, it is filled again".into())
}

/// Whether a file or directory is ours alone. As the owner is the effective user, nobody else (but root) can change that.
fn private(metadata: &fs::Metadata, what: &str, mode: u32) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(format!(
            "{what} belongs to user {}, and this process runs as user {user}; give the cache a directory of its own",
            metadata.uid()
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "{what} is open to other users (mode {:o}); if nobody else could write to it until now, run `chmod {mode:o}`, \
             else delete it",
            metadata.mode() & 0o777
        ));
    }
    Ok(())
}

/// Creates the key unless there is one. A link appears whole or not at all, and the first of two processes wins.
fn create_key(directory: &Path, key: &Path) -> io::Result<()> {
    if key.exists() {
        return Ok(());
    }
    let mut bytes = [0; KEY];
    rand::rng().fill_bytes(&mut bytes);
    let temporary = write_temporary(directory, &[&bytes])?;
    let linked = fs::hard_link(&temporary, key);
    fs::remove_file(&temporary)?;
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Writes a file that only this user can read, under a name that nothing looks for.
fn write_temporary(directory: &Path, parts: &[&[u8]]) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let path = directory.join(format!(".{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(path)
}

/// Feeds what wasmtime hashes into a digest without collisions.
struct Blake(blake3::Hasher);

impl Hasher for Blake {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        digest.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn engine() -> wasmtime::Engine {
        wasmtime::Engine::default()
    }

    fn entry(cache: &Cache) -> PathBuf {
        cache.directory.join(cache.name("digest"))
    }

    fn corrupt(lookup: Lookup) -> String {
        match lookup {
            Lookup::Corrupt(why) => why,
            Lookup::Hit(_) => panic!("loaded what it should refuse"),
            Lookup::Miss => panic!("not found"),
        }
    }

    #[test]
    fn loads_only_what_it_stored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        let engine = engine();
        let cache = Cache::open(&path, &engine).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(cache.load("digest", &engine), Lookup::Miss));
        let component = Component::from_binary(&engine, COMPONENT).unwrap();
        cache.store("digest", &component).unwrap();
        assert!(matches!(cache.load("digest", &engine), Lookup::Hit(_)));
        assert!(matches!(cache.load("other", &engine), Lookup::Miss));
        // The next process has the same key.
        assert!(matches!(Cache::open(&path, &engine).unwrap().load("digest", &engine), Lookup::Hit(_)));
    }

    #[test]
    fn refuses_changed_short_foreign_and_renamed_entries() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        let engine = engine();
        let cache = Cache::open(&path, &engine).unwrap();
        let component = Component::from_binary(&engine, COMPONENT).unwrap();
        cache.store("digest", &component).unwrap();
        let good = fs::read(entry(&cache)).unwrap();

        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(entry(&cache), &changed).unwrap();
        assert_eq!(corrupt(cache.load("digest", &engine)), "its seal is broken");

        fs::write(entry(&cache), &good[..10]).unwrap();
        assert_eq!(corrupt(cache.load("digest", &engine)), "it is too short");

        fs::write(entry(&cache), component.serialize().unwrap()).unwrap();
        assert_eq!(corrupt(cache.load("digest", &engine)), "its seal is broken");

        fs::write(cache.directory.join(cache.name("other")), &good).unwrap();
        assert_eq!(corrupt(cache.load("other", &engine)), "its seal is broken");
    }

    #[test]
    fn refuses_a_directory_that_is_open_to_others() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Cache::open(directory.path(), &engine()).err().unwrap().to_string();
        assert!(refused.contains("is open to other users (mode 777)"), "{refused}");
        assert!(refused.contains("chmod 700"), "{refused}");
    }

    #[test]
    fn refuses_a_key_that_others_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        drop(Cache::open(&path, &engine()).unwrap());
        fs::set_permissions(path.join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Cache::open(&path, &engine()).err().unwrap().to_string();
        assert!(refused.contains("its key is open to other users"), "{refused}");
    }

    #[test]
    fn keeps_the_latest_used_entries() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine();
        let cache = Cache::open(&directory.path().join("cache"), &engine).unwrap();
        let component = Component::from_binary(&engine, COMPONENT).unwrap();
        cache.store("digest", &component).unwrap();
        let old = SystemTime::UNIX_EPOCH;
        File::open(entry(&cache)).unwrap().set_modified(old).unwrap();
        for n in 0..ENTRIES {
            cache.store(&n.to_string(), &component).unwrap();
        }
        assert!(matches!(cache.load("digest", &engine), Lookup::Miss));
        assert!(matches!(cache.load("0", &engine), Lookup::Hit(_)));
    }
}
