//! The journal of one partition: segment files named after their first sequence number, appended to at the end and
//! deleted from the front.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};

use super::{StoreError, record};
use crate::model::Block;

/// First bytes of each segment: format and version.
const MAGIC: &[u8] = b"WEIRSEG1";

/// The segments of a partition, the newest open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    /// First sequence number of each segment, oldest first.
    segments: VecDeque<i64>,
    current: Option<(File, u64)>,
    broken: bool,
}

impl Journal {
    /// Reads what the directory holds, oldest first, into `restore`, and goes on behind it. `restore` refuses a block
    /// that does not follow (it says where the block begins and what was expected).
    ///
    /// A record that does not check out ends the newest segment: it was never acknowledged, or a power loss took it.
    /// The file is cut there. Anywhere else it is damage, and an error.
    pub(crate) fn open(
        directory: &Path,
        segment_bytes: u64,
        mut restore: impl FnMut(Block) -> Result<(), (i64, i64)>,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(StoreError::io("can't create", directory))?;
        let mut segments = list(directory)?;
        segments.sort_unstable();
        let mut journal = Self {
            directory: directory.to_owned(),
            segment_bytes,
            segments: segments.into(),
            current: None,
            broken: false,
        };
        for index in 0..journal.segments.len() {
            let newest = index + 1 == journal.segments.len();
            let path = journal.path(journal.segments[index]);
            let bytes = Bytes::from(fs::read(&path).map_err(StoreError::io("can't read", &path))?);
            let total = bytes.len();
            let mut rest = bytes;
            let mut fault = None;
            if rest.starts_with(MAGIC) {
                rest.advance(MAGIC.len());
            } else {
                fault = Some("it does not begin like a segment");
            }
            while fault.is_none() && !rest.is_empty() {
                let at = (total - rest.len()) as u64;
                match record::take(&mut rest) {
                    Ok(block) => restore(block).map_err(|(first, expected)| StoreError::Damaged {
                        path: path.clone(),
                        at,
                        why: format!("its events begin at {first} where {expected} was expected"),
                    })?,
                    Err(why) => fault = Some(why),
                }
            }
            let good = (total - rest.len()) as u64;
            if let Some(why) = fault {
                if !newest {
                    return Err(StoreError::Damaged { path, at: good, why: why.to_owned() });
                }
                tracing::warn!(path = %path.display(), at = good, lost = rest.len(), why, "cut an unfinished journal");
            }
            if newest {
                journal.current = Some(journal.reopen(&path, good)?);
            }
        }
        Ok(journal)
    }

    /// Hands the block to the operating system, or changes nothing.
    pub(crate) fn append(&mut self, block: &Block) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Broken(self.directory.clone()));
        }
        if self.current.as_ref().is_none_or(|(_, length)| *length >= self.segment_bytes) {
            self.roll(block.first)?;
        }
        let Some((file, length)) = self.current.as_mut() else { return Err(StoreError::Stopped) };
        let head = record::head(block);
        match write_both(file, &head, &block.data) {
            Ok(()) => {
                *length += (head.len() + block.data.len()) as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record must not stay in front of the next one.
                self.broken = file.set_len(*length).and_then(|()| seek_end(file)).is_err();
                Err(StoreError::io("can't append to the journal in", &self.directory)(error))
            }
        }
    }

    /// Deletes the segments that hold only events before `begin`; never the newest, which remembers the position.
    pub(crate) fn forget_before(&mut self, begin: i64) {
        while self.segments.get(1).is_some_and(|&second| second <= begin) {
            let Some(first) = self.segments.pop_front() else { return };
            let path = self.path(first);
            if let Err(error) = fs::remove_file(&path) {
                // Read again at the next start, expired again, deleted again.
                tracing::warn!(path = %path.display(), %error, "can't delete an expired segment");
            }
        }
    }

    fn roll(&mut self, first: i64) -> Result<(), StoreError> {
        if let Some((file, _)) = &self.current {
            // From here on only the newest segment can lose its end to a power loss.
            file.sync_data().map_err(StoreError::io("can't sync the journal in", &self.directory))?;
        }
        let path = self.path(first);
        let mut file = File::create(&path).map_err(StoreError::io("can't create", &path))?;
        file.write_all(MAGIC).map_err(StoreError::io("can't write", &path))?;
        if self.segments.back() != Some(&first) {
            self.segments.push_back(first);
        }
        self.current = Some((file, MAGIC.len() as u64));
        Ok(())
    }

    fn reopen(&self, path: &Path, length: u64) -> Result<(File, u64), StoreError> {
        let mut file = OpenOptions::new().write(true).open(path).map_err(StoreError::io("can't open", path))?;
        file.set_len(length).map_err(StoreError::io("can't cut", path))?;
        seek_end(&mut file).map_err(StoreError::io("can't seek in", path))?;
        if length == 0 {
            file.write_all(MAGIC).map_err(StoreError::io("can't write", path))?;
        }
        Ok((file, length.max(MAGIC.len() as u64)))
    }

    fn path(&self, first: i64) -> PathBuf {
        self.directory.join(format!("{first:020}.log"))
    }
}

fn list(directory: &Path) -> Result<Vec<i64>, StoreError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(StoreError::io("can't list", directory))? {
        let name = entry.map_err(StoreError::io("can't list", directory))?.file_name();
        let first: Option<i64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|digits| digits.parse().ok());
        segments.extend(first);
    }
    Ok(segments)
}

fn seek_end(file: &mut File) -> io::Result<()> {
    io::Seek::seek(file, io::SeekFrom::End(0)).map(drop)
}

fn write_both(file: &mut File, mut head: &[u8], mut data: &[u8]) -> io::Result<()> {
    while !head.is_empty() {
        match file.write_vectored(&[IoSlice::new(head), IoSlice::new(data)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                let of_head = written.min(head.len());
                head = &head[of_head..];
                data = &data[written - of_head..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.write_all(data)
}
