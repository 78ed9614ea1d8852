//! A certificate as it lies in a storage: one PEM text with chain and key, which any tool reads, below a
//! few lines that say from where it came.

use bytes::Bytes;

use crate::{Pair, PairError};

const DIRECTORY: &str = "Directory: ";

/// A certificate as it lies in a storage.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    /// The address of the directory of its issuer.
    pub(super) directory: String,
    pub(super) pair: Pair,
}

impl Bundle {
    pub(super) fn read(text: &[u8]) -> Result<Self, PairError> {
        let head = text
            .split(|byte| *byte == b'\n')
            .take_while(|line| !line.starts_with(b"-----"));
        let directory =
            head.filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix(DIRECTORY));
        Ok(Self {
            directory: directory.last().unwrap_or_default().trim().to_owned(),
            pair: Pair::from_pem(text, text)?,
        })
    }
}

/// The text of a certificate.
pub(super) fn write(directory: &str, chain: &str, key: &str) -> Bytes {
    // What stands before the first line of dashes is commentary (RFC 7468 §2).
    let end = if chain.ends_with('\n') { "" } else { "\n" };
    Bytes::from(format!("{DIRECTORY}{directory}\n{chain}{end}{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn what_is_written_is_read() {
        let leaf = Authority::new("root").server(&["a.example"]);
        let text = write("https://ca.example/dir", &leaf.chain, &leaf.key);
        let read = Bundle::read(&text).expect("a bundle");
        assert_eq!(read.directory, "https://ca.example/dir");
        assert_eq!(read.pair, leaf.pair());
    }

    #[test]
    fn half_a_text_is_none() {
        let leaf = Authority::new("root").server(&["a.example"]);
        let text = write("https://ca.example/dir", &leaf.chain, &leaf.key);
        let half = text.slice(..text.len() / 2);
        assert!(Bundle::read(&half).is_err());
    }
}
