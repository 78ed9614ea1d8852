//! Which addresses are the internet's, and which are somebody's own.
//!
//! After the registries of special-purpose addresses (RFC 6890) and what clouds have added to them. What is
//! not known to be everybody's is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether an address may be dialled: it is public, or one of those that are `listed` nevertheless.
pub(super) fn is_dialable(address: IpAddr, listed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    is_public(address) || listed.iter().any(|network| network.contains(&address))
}

/// Whether an address is one of the internet that everybody means the same by. What carries an IPv4 address
/// inside is as public as that.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// What the hosts of a large cloud are asked at by their machines, though the address is a public one.
const CLOUD: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        // This network, loopback, private.
        (0 | 10 | 127, _, _) | (172, 16..=31, _) | (192, 168, _)
        // Shared between a provider and its customers; a cloud has its metadata there.
        | (100, 64..=127, _)
        // Link-local, metadata of most clouds.
        | (169, 254, _)
        // Protocols, documentation, the relays of 6to4.
        | (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113)
        // Benchmarks.
        | (198, 18 | 19, _)
    );
    // Above is multicast, reserved, and broadcast.
    !special && a < 224 && address != CLOUD
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64 by its well-known prefix (RFC 6052), and 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(joined(high, low))
        }
        // Teredo: the server, and the client with its bits turned over.
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            is_public_v4(joined(high, low)) && is_public_v4(joined(!client_high, !client_low))
        }
        // Protocols, benchmarks among them; documentation, twice.
        [0x2001, 0x0001..=0x01ff | 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => false,
        // All that is given out. Outside of it: unspecified, loopback, IPv4 in older forms, local NAT64,
        // discard, unique local (metadata among them), link-local, site-local, multicast.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn knows_addresses_of_the_internet() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2001:0:101:101:0:0:fefe:fefe",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn knows_addresses_that_are_somebodys_own() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::1.1.1.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "2001::1",
            "2001:0:101:101:0:0:f5ff:fffe",
            "2001:0:a00:1:0:0:fefe:fefe",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    proptest! {
        /// However an IPv4 address is wrapped, it is as public as without.
        #[test]
        fn what_is_inside_counts(bits in any::<u32>(), rest in any::<u64>()) {
            let four = Ipv4Addr::from(bits);
            let wrapped = u128::from(bits);
            let public = is_public(four.into());
            let mapped: IpAddr = four.to_ipv6_mapped().into();
            prop_assert_eq!(is_public(mapped), public);
            let nat64 = Ipv6Addr::from((0x0064_ff9b_u128 << 96) | wrapped);
            prop_assert_eq!(is_public(nat64.into()), public);
            let six_to_four = Ipv6Addr::from((0x2002_u128 << 112) | (wrapped << 80) | u128::from(rest));
            prop_assert_eq!(is_public(six_to_four.into()), public);
            let compatible = Ipv6Addr::from(wrapped);
            prop_assert!(!is_public(compatible.into()));
        }
    }
}
