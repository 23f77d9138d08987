//! What hosts say in their logs. All worlds of this process share one log; a world is told by its processor's name.

use std::io;
use std::sync::{Mutex, Once};

use super::World;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep what is said.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
}

impl World {
    /// Whether a line of this world's has all of these words.
    pub(super) fn said(&self, words: &[&str]) -> bool {
        LINES
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(&self.name) && words.iter().all(|word| line.contains(word)))
    }
}
