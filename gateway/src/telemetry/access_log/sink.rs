//! Where lines end.

use std::{
    fs::File,
    io::{self, Write as _},
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
    /// A file, opened for appending.
    File(File),
    /// Kept, for tests.
    Memory(Memory),
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
    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(file) => file.write_all(lines),
            Self::Memory(memory) => {
                memory.0.lock().extend_from_slice(lines);
                Ok(())
            }
        }
    }
}
