//! The PROXY protocol as proxies in front, clients, origins and the log see it.

#[path = "proxy_protocol/behind.rs"]
mod behind;
#[path = "proxy_protocol/first_bytes.rs"]
mod first_bytes;
#[path = "proxy_protocol/haproxy.rs"]
mod haproxy;
#[path = "proxy_protocol/inward.rs"]
mod inward;
#[path = "proxy_protocol/outward.rs"]
mod outward;

/// How version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// 198.51.100.7, port 1000, to 203.0.113.9, port 443.
const ADDRESSES: [u8; 12] = [198, 51, 100, 7, 203, 0, 113, 9, 3, 232, 1, 187];

/// A header of version 2 with a length that is true.
fn binary(command: u8, protocol: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).expect("short enough");
    let head = [SIGNATURE, &[command, protocol], &length.to_be_bytes()].concat();
    [head.as_slice(), behind].concat()
}
