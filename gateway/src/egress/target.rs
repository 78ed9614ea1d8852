//! Whom somebody wants to reach: a name or an address, in one spelling each.
//!
//! Read from the target of CONNECT, an absolute URI, `Host` or SNI. What must stay true: no two programs on
//! the way could read it differently. So there is no mending: what is not plainly one name or one address
//! is refused, since whoever resolves it later may find something else in it than whoever allowed it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The longest name DNS can carry, without a trailing dot.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Whom somebody wants to reach. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Lower case, ASCII, without a trailing dot; never what could be an address.
    Name(Arc<str>),
    /// Never an IPv4 address in the clothes of IPv6.
    Address(IpAddr),
}

/// Why a text is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no host.
    #[error("there is no host")]
    Empty,
    /// Longer than a name can be.
    #[error("the host is too long")]
    TooLong,
    /// Something that no name has: escapes, user information, spaces, zones, what is not ASCII.
    #[error("the host has a character that no name has")]
    Character,
    /// A label that is empty or too long, or begins or ends with `-`.
    #[error("a label of the host cannot be")]
    Label,
    /// It ends in a number, as addresses do, but is none in four decimal parts.
    #[error("the host is a number, and not an address as it is written")]
    Number,
    /// An IPv6 address that is not one, or is written another way than RFC 5952 has it.
    #[error("the address is not written as addresses are")]
    Spelling,
    /// Not 1 to 65535 in plain digits.
    #[error("the port cannot be")]
    Port,
    /// There has to be one.
    #[error("there is no port")]
    NoPort,
}

impl Target {
    /// Reads `host[:port]`; without a port it is `default_port`, and refused where there is none.
    pub fn parse(
        text: impl AsRef<[u8]>,
        default_port: Option<u16>,
    ) -> Result<(Self, u16), TargetError> {
        let (host, port) = split(text.as_ref())?;
        let target = Self::host(host)?;
        let port = match port {
            Some(port) => read_port(port)?,
            None => default_port.ok_or(TargetError::NoPort)?,
        };
        Ok((target, port))
    }

    /// Reads a host alone; an IPv6 address stands in brackets.
    pub fn host(text: impl AsRef<[u8]>) -> Result<Self, TargetError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(TargetError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(TargetError::TooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| TargetError::Character)?;
        match text.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or(TargetError::Spelling)?;
                in_brackets(inner)
            }
            None => name(text),
        }
    }

    /// Whether it is a name that stands for this machine, whatever it resolves to (RFC 6761 §6.3).
    pub fn is_loopback_name(&self) -> bool {
        match self {
            Self::Name(name) => {
                let rest = name.strip_suffix("localhost");
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Address(_) => false,
        }
    }

    /// Whether `name`, as it stands in a TLS handshake, means the same.
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own.eq_ignore_ascii_case(name),
            Self::Address(_) => Self::host(name).is_ok_and(|target| target == *self),
        }
    }
}

/// An address that was connected to, rather than one that somebody wrote.
impl From<IpAddr> for Target {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

/// As it stands before a port.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Host and port, if there is a colon behind the host.
fn split(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), TargetError> {
    let end = if text.first() == Some(&b'[') {
        let bracket = text.iter().position(|byte| *byte == b']');
        bracket.ok_or(TargetError::Spelling)?.saturating_add(1)
    } else {
        let colon = text.iter().position(|byte| *byte == b':');
        colon.unwrap_or(text.len())
    };
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    match rest.split_first() {
        None => Ok((host, None)),
        Some((b':', port)) => Ok((host, Some(port))),
        Some(_) => Err(TargetError::Character),
    }
}

fn read_port(text: &[u8]) -> Result<u16, TargetError> {
    let plain = text.first().is_some_and(|first| *first != b'0')
        && text.len() <= 5
        && text.iter().all(u8::is_ascii_digit);
    let port = std::str::from_utf8(text).ok().filter(|_| plain);
    port.and_then(|text| text.parse().ok())
        .ok_or(TargetError::Port)
}

fn in_brackets(text: &str) -> Result<Target, TargetError> {
    let address: Ipv6Addr = text.parse().map_err(|_| TargetError::Spelling)?;
    // One address, one spelling; and what is an IPv4 address is written as one.
    let plain = address.to_string().eq_ignore_ascii_case(text);
    if plain && address.to_ipv4_mapped().is_none() {
        Ok(Target::Address(address.into()))
    } else {
        Err(TargetError::Spelling)
    }
}

fn name(text: &str) -> Result<Target, TargetError> {
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if text.bytes().any(odd) {
        return Err(TargetError::Character);
    }
    let fine = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !text.split('.').all(fine) {
        return Err(TargetError::Label);
    }
    // Libraries that read addresses leniently take every such text for one: 127.1, 0x7f.1, 2130706433.
    if text.rsplit('.').next().is_some_and(is_number) {
        let address: Ipv4Addr = text.parse().map_err(|_| TargetError::Number)?;
        return Ok(Target::Address(address.into()));
    }
    Ok(Target::Name(
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Arc::from(text.to_ascii_lowercase())
        } else {
            Arc::from(text)
        },
    ))
}

/// Decimal and octal are digits alike; hexadecimal may have none at all.
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_names_and_addresses_into_one_form() {
        for (text, shown, port) in [
            ("api.stripe.com:443", "api.stripe.com", 443),
            ("API.Stripe.COM", "api.stripe.com", 80),
            ("xn--bcher-kva.example:8443", "xn--bcher-kva.example", 8443),
            ("_sip._tcp.example:1", "_sip._tcp.example", 1),
            ("r3---sn.example", "r3---sn.example", 80),
            ("metadata", "metadata", 80),
            ("0x7f.example", "0x7f.example", 80),
            ("1.2.3.example", "1.2.3.example", 80),
            ("93.184.216.34:65535", "93.184.216.34", 65535),
            ("[2606:4700::1111]:443", "[2606:4700::1111]", 443),
            ("[2606:4700::ABCD]", "[2606:4700::abcd]", 80),
        ] {
            let (target, found) = Target::parse(text, Some(80)).expect(text);
            assert_eq!(
                (target.to_string().as_str(), found),
                (shown, port),
                "{text}"
            );
        }
    }

    #[test]
    fn a_port_may_be_demanded() {
        assert_eq!(Target::parse("a.example", None), Err(TargetError::NoPort));
        assert_eq!(
            Target::parse("a.example:", Some(80)),
            Err(TargetError::Port)
        );
        assert_eq!(Target::parse("[::1]", None), Err(TargetError::NoPort));
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for (text, expected) in [
            ("localhost", true),
            ("LocalHost", true),
            ("a.b.localhost", true),
            ("notlocalhost", false),
            ("localhost.example", false),
            ("127.0.0.1", false),
        ] {
            let target = Target::host(text).expect(text);
            assert_eq!(target.is_loopback_name(), expected, "{text}");
        }
    }

    #[test]
    fn a_name_in_a_handshake_means_the_target_or_not() {
        let name = Target::host("a.example").unwrap();
        assert!(name.is("a.example") && name.is("A.example"));
        assert!(!name.is("b.a.example") && !name.is("") && !name.is("a.example."));
        let address = Target::host("192.0.2.7").unwrap();
        assert!(address.is("192.0.2.7") && !address.is("192.0.2.8") && !address.is("a.example"));
    }

    proptest! {
        #[test]
        fn what_is_read_reads_itself_again(text in "\\PC{0,40}|[a-zA-Z0-9.:\\[\\]x_-]{0,40}") {
            if let Ok((target, port)) = Target::parse(&text, Some(80)) {
                let again = Target::parse(format!("{target}:{port}"), None);
                prop_assert_eq!(again, Ok((target, port)));
            }
        }

        #[test]
        fn every_address_is_read_as_itself(four in any::<u32>(), six in any::<u128>()) {
            let four = Ipv4Addr::from(four);
            prop_assert_eq!(Target::host(four.to_string()), Ok(Target::Address(four.into())));
            let six = Ipv6Addr::from(six);
            if six.to_ipv4_mapped().is_none() {
                let text = format!("[{six}]");
                prop_assert_eq!(Target::host(text), Ok(Target::Address(six.into())));
            }
        }
    }
}
