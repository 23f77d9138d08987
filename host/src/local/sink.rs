//! Outputs as newline-delimited JSON, to a file or to standard output.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::durable::{create_directories, sync_entry};
use crate::model::Output;
use crate::ndjson::write_output;
use crate::seams::{Sink, SinkError};

/// Appends to a file, one JSON object a line.
///
/// A publish is one write and one flush to the disk, so what was accepted survives a crash of the machine. A publish
/// that fails half way is taken back. A line that a crash cut short is removed when the file is opened again; it was
/// never accepted, so it comes again.
#[derive(Clone, Debug)]
pub struct FileSink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Mutex<File>,
}

/// Why a file can't take outputs.
#[derive(Debug, thiserror::Error)]
pub enum SinkOpenError {
    /// Somebody else appends to it.
    #[error("{} is already written to by another output or process; give each output a file of its own", .0.display())]
    InUse(PathBuf),
    /// The file system says no.
    #[error("can't append to {}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl FileSink {
    /// Opens a file to append to, creating it and its directory where needed. Outputs that go to the same file share
    /// one sink.
    pub fn open(path: &Path) -> Result<Self, SinkOpenError> {
        let io = |error| SinkOpenError::Io { path: path.into(), error };
        if let Some(directory) = path.parent() {
            create_directories(directory).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SinkOpenError::InUse(path.into())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        remove_cut_line(&mut file).and_then(|()| sync_entry(path)).map_err(io)?;
        Ok(Self { inner: Arc::new(Inner { path: path.into(), file: Mutex::new(file) }) })
    }
}

/// Leaves the file at the end of its last whole line.
fn remove_cut_line(file: &mut File) -> io::Result<()> {
    const BLOCK: u64 = 64 * 1024;
    let len = file.seek(SeekFrom::End(0))?;
    let mut end = len;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|b| *b == b'\n') {
            end = start + newline as u64 + 1;
            break;
        }
        end = start;
    }
    if end < len {
        const HEAD: &[u8] = b"{\"id\":";
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(end))?;
        Read::by_ref(file).take(HEAD.len() as u64).read_to_end(&mut head)?;
        if !HEAD.starts_with(&head) {
            // Not a line of ours: leave it alone and begin a new one.
            file.seek(SeekFrom::End(0))?;
            return file.write_all(b"\n");
        }
        tracing::warn!(
            bytes = len - end,
            "removed a line that was cut short; its output was never accepted and comes again"
        );
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(())
}

impl Inner {
    fn append(&self, lines: &[u8]) -> Result<(), SinkError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e: io::Error| SinkError::Permanent(format!("can't append to {}: {e}", self.path.display()));
        let before = file.stream_position().map_err(failed)?;
        file.write_all(lines).and_then(|()| file.sync_data()).map_err(|e| {
            // Best effort: what stays is whole lines with ids, or a cut line that the next opening removes.
            let _ = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)));
            failed(e)
        })
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let lines = lines(outputs)?;
        let inner = Arc::clone(&self.inner);
        join(tokio::task::spawn_blocking(move || inner.append(&lines)).await)
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }
}

/// Prints outputs, one JSON object a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdoutSink;

impl StdoutSink {
    /// A sink to this process's standard output.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let lines = lines(outputs)?;
        let print = move || {
            let mut out = io::stdout().lock();
            out.write_all(&lines)
                .and_then(|()| out.flush())
                .map_err(|e| SinkError::Permanent(format!("can't write to standard output: {e}")))
        };
        join(tokio::task::spawn_blocking(print).await)
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }
}

fn lines(outputs: &[Output]) -> Result<Vec<u8>, SinkError> {
    let mut lines = Vec::with_capacity(outputs.iter().map(|o| o.body.len() + 128).sum());
    for output in outputs {
        write_output(&mut lines, output)
            .map_err(|e| SinkError::Permanent(format!("can't write {}: {e}", output.id)))?;
    }
    Ok(lines)
}

fn join(done: Result<Result<(), SinkError>, tokio::task::JoinError>) -> Result<(), SinkError> {
    done.unwrap_or_else(|e| Err(SinkError::Transient(format!("the write was cut off: {e}"))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;
    use bytestring::ByteString;

    use super::*;

    fn output(n: usize) -> Output {
        Output {
            id: ByteString::from(format!("hub/0/{n}/0")),
            partition_key: None,
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
            body: Bytes::from_static(b"{\"a\":1}"),
        }
    }

    #[tokio::test]
    async fn a_cut_line_goes_and_whole_lines_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/out.ndjson");
        let sink = FileSink::open(&path).unwrap();
        sink.publish(&[output(1), output(2)]).await.unwrap();
        assert!(matches!(FileSink::open(&path).unwrap_err(), SinkOpenError::InUse(_)));
        drop(sink);
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().count(), 2);
        for cut in ["{\"id\":\"hub/0/3", "{\"i", &format!("{{\"id\":\"{}", "x".repeat(200_000))] {
            std::fs::write(&path, format!("{whole}{cut}")).unwrap();
            drop(FileSink::open(&path).unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
        let notes = directory.path().join("notes.txt");
        std::fs::write(&notes, "not ours").unwrap();
        drop(FileSink::open(&notes).unwrap());
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), "not ours\n");
        FileSink::open(&path).unwrap().publish(&[output(3)]).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let ids: Vec<String> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids, ["hub/0/1/0", "hub/0/2/0", "hub/0/3/0"]);
    }
}
