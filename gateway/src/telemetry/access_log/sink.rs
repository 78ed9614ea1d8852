//! Where lines end.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// Where lines end.
#[derive(Debug)]
pub enum Sink {
    /// They are not even made.
    Nowhere,
    /// Standard output.
    Stdout,
    /// A file.
    File(LogFile),
    /// Kept, for tests.
    Memory(Memory),
}

/// A file that is appended to, and can be opened anew when it was moved away.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
}

impl LogFile {
    /// Opens `path`, made when it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }
}

/// Lines that are kept. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock())
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Sink {
    /// Opens a file anew; nothing else needs it.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(log) => {
                *log = LogFile::open(&log.path)?;
                Ok(())
            }
            Self::Nowhere | Self::Stdout | Self::Memory(_) => Ok(()),
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(log) => log.file.write_all(lines),
            Self::Memory(memory) => {
                memory.0.lock().extend_from_slice(lines);
                Ok(())
            }
        }
    }
}
