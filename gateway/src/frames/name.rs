//! Names of fields, and which values the codec makes a field of with them.

/// The longest name that the codec takes.
pub(super) const LONGEST: usize = (1 << 16) - 1;

/// What a name says of the value behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Field,
    /// `content-length`.
    Length {
        /// The value says that there is nothing.
        none: bool,
    },
    /// `:authority`, `:scheme`, `:path` or `:protocol`: anything that is text.
    Text,
    Method {
        /// The value is that of CONNECT.
        connect: bool,
    },
    Status {
        /// The value is that of an interim response.
        interim: bool,
    },
    /// Nothing: it is no name.
    Malformed,
}

impl Kind {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b":authority" | b":scheme" | b":path" | b":protocol" => Self::Text,
            b":method" => Self::Method { connect: false },
            b":status" => Self::Status { interim: false },
            b"content-length" => Self::Length { none: true },
            [] => Self::Malformed,
            _ if name.len() > LONGEST => Self::Malformed,
            _ if name.iter().copied().all(is_name) => Self::Field,
            _ => Self::Malformed,
        }
    }

    pub(super) fn is_pseudo(self) -> bool {
        matches!(self, Self::Text | Self::Method { .. } | Self::Status { .. })
    }

    /// Whether the codec can make a field of such a value.
    pub(super) fn takes(self, value: &[u8]) -> bool {
        match self {
            // All of them, since that is done for many at once.
            Self::Field | Self::Length { .. } => {
                value.iter().fold(true, |good, byte| good & is_value(*byte))
            }
            Self::Text => value.is_ascii() || std::str::from_utf8(value).is_ok(),
            Self::Method { .. } => !value.is_empty() && value.iter().copied().all(is_token),
            Self::Status { .. } => {
                matches!(value, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'])
            }
            Self::Malformed => false,
        }
    }

    /// With such a value beside it.
    pub(super) fn with(self, value: &[u8]) -> Self {
        match self {
            Self::Status { .. } => Self::Status {
                interim: value.first() == Some(&b'1'),
            },
            Self::Method { .. } => Self::Method {
                connect: value == b"CONNECT",
            },
            Self::Length { .. } => Self::Length {
                none: value.iter().all(|byte| *byte == b'0'),
            },
            Self::Field | Self::Text | Self::Malformed => self,
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// The codec takes `"`, too; so does RFC 9113 §8.2.1, at the least.
fn is_name(byte: u8) -> bool {
    (is_token(byte) && !byte.is_ascii_uppercase()) || byte == b'"'
}

fn is_value(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_those_that_the_codec_makes_fields_of() {
        for byte in 0..=u8::MAX {
            let (name, value) = ([b'a', byte], [b'a', byte, b'a']);
            let takes = http::HeaderName::from_lowercase(&name).is_ok();
            assert_eq!(Kind::of(&name) == Kind::Field, takes, "{byte:#x} in a name");
            let takes = http::HeaderValue::from_bytes(&value).is_ok();
            assert_eq!(Kind::Field.takes(&value), takes, "{byte:#x} in a value");
            let takes = http::Method::from_bytes(&value).is_ok();
            assert_eq!(
                Kind::of(b":method").takes(&value),
                takes,
                "{byte:#x} in a method"
            );
            let status = [byte, b'0', byte];
            let takes = http::StatusCode::from_bytes(&status).is_ok();
            let kind = Kind::of(b":status");
            assert_eq!(kind.takes(&status), takes, "{byte:#x} in a status");
        }
        for (length, takes) in [(0, false), (1, true), (LONGEST, true), (LONGEST + 1, false)] {
            let name = vec![b'a'; length];
            assert_eq!(http::HeaderName::from_lowercase(&name).is_ok(), takes);
            assert_eq!(Kind::of(&name) == Kind::Field, takes, "{length}");
        }
        assert!(!Kind::of(b":method").takes(b"") && http::Method::from_bytes(b"").is_err());
        assert!(Kind::Text.takes("/h\u{e9}".as_bytes()) && !Kind::Text.takes(b"/h\xe9"));
    }
}
