//! Keeps what belongs together with one endpoint, whatever becomes of the others.
//!
//! Every endpoint has points on a ring of numbers, in proportion to its weight, and a key belongs to
//! the next point after its own number. Where a point lies depends on nothing but the endpoint and its
//! weight: who goes takes only its own keys along, who comes takes only those it will serve, and
//! several gateways agree without talking to each other.

use std::net::IpAddr;

/// Points of an endpoint of weight 1. With so many the shares of equal endpoints differ by less than a
/// tenth.
const POINTS: u64 = 512;

/// Points of all endpoints together: what a ring may cost in memory (1 MiB) and in time to make (a few
/// milliseconds, on the control runtime). Heavier ones get half as many, as often as it takes, but one.
const MOST: u64 = 1 << 16;

/// What a request is recognised by where an upstream keeps requests of one kind with one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// Of a client by its address, whatever its port.
    pub fn of_client(client: IpAddr) -> Self {
        let bits = match client.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let [high, low] = [bits >> 64, bits].map(|half| u64::try_from(half & MASK).unwrap_or(0));
        Self(mixed(low ^ mixed(high)))
    }
}

/// The lower half of an address.
const MASK: u128 = (1 << 64) - 1;

/// The points of all endpoints, in order.
#[derive(Debug)]
pub(in crate::upstream) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// A ring of endpoints by name and weight; the names have to differ.
    pub(in crate::upstream) fn new<'a>(
        endpoints: impl Iterator<Item = (&'a str, u32)> + Clone,
    ) -> Self {
        let all = endpoints.clone().fold(0_u64, |sum, (_, weight)| {
            sum.saturating_add(POINTS.saturating_mul(u64::from(weight)))
        });
        // By halves, so that most points stay where they are when the sum of the weights changes.
        let mut halved = 0_u32;
        while all >> halved > MOST {
            halved = halved.saturating_add(1);
        }
        let mut points = Vec::new();
        for (index, (name, weight)) in (0_u32..).zip(endpoints) {
            let own = POINTS.saturating_mul(u64::from(weight)) >> halved;
            let start = hash(name);
            points.extend((0..own.max(1)).map(|point| (mixed(start ^ mixed(point)), index)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The endpoint that `key` belongs to among those that `avoid` leaves; among all when it leaves
    /// none. None where there is no endpoint.
    pub(in crate::upstream) fn at(&self, key: Key, avoid: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.0.partition_point(|(position, _)| *position < key.0);
        let (before, after) = self.0.split_at_checked(start)?;
        let mut around = after.iter().chain(before).map(|(_, index)| *index);
        let first = around.next()?;
        let left = |index: &u32| usize::try_from(*index).is_ok_and(|index| !avoid(index));
        let found = if left(&first) {
            first
        } else {
            around.find(left).unwrap_or(first)
        };
        usize::try_from(found).ok()
    }
}

/// FNV-1a: the same in every process and version, which the standard library does not promise.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The last steps of `SplitMix64`: neighbours land far from each other.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const KEYS: u32 = 20_000;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.{n}.1:80")).collect()
    }

    fn ring(names: &[String], weights: &[u32]) -> Ring {
        Ring::new(
            names
                .iter()
                .map(String::as_str)
                .zip(weights.iter().copied()),
        )
    }

    fn keys() -> impl Iterator<Item = Key> {
        (0..KEYS).map(|n| Key::of_client(Ipv4Addr::from(0x0a01_0000 + n).into()))
    }

    /// Who each key belongs to, by name.
    fn owners<'n>(names: &'n [String], weights: &[u32]) -> Vec<&'n str> {
        let ring = ring(names, weights);
        let owner = |key| names[ring.at(key, |_| false).expect("somebody")].as_str();
        keys().map(owner).collect()
    }

    fn share(owners: &[&str], name: &str) -> f64 {
        let own = owners.iter().filter(|owner| **owner == name).count();
        f64::from(u32::try_from(own).unwrap()) / f64::from(KEYS)
    }

    #[test]
    fn who_goes_takes_its_own_keys_along_and_no_others() {
        for seed in 0..12 {
            let mut random = SmallRng::seed_from_u64(seed);
            let names = names(random.random_range(2..=20));
            let weights: Vec<u32> = names.iter().map(|_| random.random_range(1..=3)).collect();
            let gone = random.random_range(0..names.len());
            let before = owners(&names, &weights);

            let (mut left, mut theirs) = (names.clone(), weights.clone());
            left.remove(gone);
            theirs.remove(gone);
            let after = owners(&left, &theirs);

            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let lost = before.iter().filter(|owner| **owner == names[gone]).count();
            assert_eq!(moved, lost, "seed {seed}: only what it had may move");
            let fair = f64::from(weights[gone]) / f64::from(weights.iter().sum::<u32>());
            let moved = f64::from(u32::try_from(moved).unwrap()) / f64::from(KEYS);
            assert!(
                (moved - fair).abs() < fair / 4.0,
                "seed {seed}: {moved} of {fair}"
            );
        }
    }

    #[test]
    fn weights_are_honoured() {
        for weights in [
            &[1, 1, 1][..],
            &[1, 2, 5],
            &[100, 300],
            &[1_000_000, 1_000_000, 500_000],
        ] {
            let names = names(weights.len());
            let owners = owners(&names, weights);
            for (name, weight) in names.iter().zip(weights) {
                let fair = f64::from(*weight) / f64::from(weights.iter().sum::<u32>());
                let got = share(&owners, name);
                assert!(
                    (got - fair).abs() < fair / 6.0,
                    "{weights:?}: {got} instead of {fair}"
                );
            }
        }
    }

    #[test]
    fn a_heavy_ring_is_bounded_and_leaves_nobody_out() {
        let (names, mut weights) = (names(40), vec![1_000_000; 40]);
        weights[7] = 1;
        let ring = ring(&names, &weights);
        let most = usize::try_from(MOST).unwrap();
        assert!(
            ring.0.len() <= most + names.len(),
            "{} points",
            ring.0.len()
        );
        assert!(ring.0.iter().any(|(_, index)| *index == 7));
    }

    #[test]
    fn what_is_avoided_goes_to_the_next_and_comes_back() {
        let names = names(5);
        let ring = ring(&names, &[1; 5]);
        for key in keys().take(500) {
            let own = ring.at(key, |_| false).unwrap();
            let other = ring.at(key, |index| index == own).unwrap();
            assert_ne!(own, other);
            assert_eq!(ring.at(key, |index| index == other), Some(own));
            assert_eq!(ring.at(key, |_| true), Some(own), "all are avoided");
        }
    }

    #[test]
    fn an_address_is_one_key_in_both_of_its_forms_and_no_two_are_the_same() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(
            Key::of_client(address.into()),
            Key::of_client(address.to_ipv6_mapped().into())
        );
        let upper = |n: u16| Key::of_client(Ipv6Addr::new(0x2001, n, 0, 0, 0, 0, 0, 1).into());
        let lower = |n: u16| Key::of_client(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, n, 1).into());
        assert_ne!(upper(1), upper(2));
        assert_ne!(lower(1), lower(2));
        assert_ne!(upper(1), lower(1));
    }

    #[test]
    fn where_points_lie_never_changes() {
        let names = names(4);
        let ring = ring(&names, &[1; 4]);
        let owners: Vec<_> = keys().take(8).map(|key| ring.at(key, |_| false)).collect();
        let expected = [0, 2, 2, 1, 1, 2, 1, 1].map(Some);
        assert_eq!(owners, expected);
    }

    #[test]
    fn an_empty_ring_has_nobody() {
        assert_eq!(ring(&[], &[]).at(Key(7), |_| false), None);
    }
}
