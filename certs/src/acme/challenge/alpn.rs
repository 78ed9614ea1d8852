//! The certificate that answers TLS-ALPN-01 (RFC 8737): self-signed, for one name, with the digest of the
//! key authorisation in an extension of its own.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use super::PublishError;

/// A certificate for `host` that shows `digest`.
pub(super) fn certificate(
    host: &str,
    digest: &[u8; 32],
) -> Result<Arc<CertifiedKey>, PublishError> {
    let made = || {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = made().map_err(PublishError::Certificate)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = crate::provider();
    let key = provider.key_provider.load_private_key(key);
    let chain = vec![certificate.der().clone()];
    Ok(Arc::new(CertifiedKey::new(
        chain,
        key.map_err(PublishError::Key)?,
    )))
}

/// What stands in the hello of the validating server: the host, or for an address its name for reverse
/// lookups (RFC 8738 §6).
pub(super) fn server_name(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let mut name = String::with_capacity(72);
            for byte in address.octets().into_iter().rev() {
                // Writing to a string cannot fail.
                write!(name, "{:x}.{:x}.", byte & 0xf, byte >> 4).unwrap_or_default();
            }
            name.push_str("ip6.arpa");
            name
        }
        Err(_) => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        assert_eq!(server_name("127.0.0.1"), "1.0.0.127.in-addr.arpa");
        assert_eq!(
            server_name("2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
        assert_eq!(server_name("WWW.Example.com"), "www.example.com");
    }
}
