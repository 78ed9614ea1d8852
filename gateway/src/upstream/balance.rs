//! Which endpoint takes the next request. Pure: randomness and load are arguments.

mod ring;

use rand::Rng;
use sluice_config::model::Balance;

pub(super) use ring::Ring;

pub use ring::Key;

/// The weights of the endpoints of an upstream, none of them 0.
#[derive(Debug, Default)]
pub(super) struct Weights {
    each: Box<[u32]>,
    /// The sum of the weights up to and including this one.
    until: Box<[u64]>,
    /// Whether all are equal, which is nearly always so and much cheaper.
    even: bool,
}

impl Weights {
    /// Weights of 0 have to be left out before.
    pub(super) fn new(each: impl IntoIterator<Item = u32>) -> Self {
        let each: Box<[u32]> = each.into_iter().collect();
        let mut sum = 0_u64;
        let until = each
            .iter()
            .map(|&weight| {
                sum = sum.saturating_add(u64::from(weight));
                sum
            })
            .collect();
        let even = each.windows(2).all(|pair| pair.first() == pair.last());
        Self { each, until, even }
    }

    fn len(&self) -> usize {
        self.each.len()
    }

    fn total(&self) -> u64 {
        self.until.last().copied().unwrap_or(0)
    }

    fn of(&self, index: usize) -> u64 {
        self.each.get(index).copied().map_or(0, u64::from)
    }

    /// The endpoint whose share contains `point`, which is below the total.
    fn at(&self, point: u64) -> usize {
        self.until.partition_point(|&until| until <= point)
    }

    /// One by chance, by weight.
    fn draw(&self, random: &mut impl Rng) -> usize {
        if self.even {
            random.random_range(0..self.len())
        } else {
            self.at(random.random_range(0..self.total()))
        }
    }

    /// One by chance, by weight, but not `other`; there have to be at least two.
    fn draw_besides(&self, other: usize, random: &mut impl Rng) -> usize {
        let share = self.of(other);
        let end = self.until.get(other).copied().unwrap_or(0);
        let point = random.random_range(0..self.total().saturating_sub(share).max(1));
        // The share of `other` is cut out: what would fall into or behind it moves up.
        self.at(if point >= end.saturating_sub(share) {
            point.saturating_add(share)
        } else {
            point
        })
    }
}

/// Where a worker stands in the rotation.
#[derive(Debug, Default)]
pub(super) struct Rotor {
    next: usize,
    /// For uneven weights: how much each endpoint is owed; the sum is 0 between turns.
    credit: Vec<i64>,
}

/// Warming up a rotor costs time per turn and endpoint; a few turns are enough to part the workers.
const MOST_TURNS_AHEAD: usize = 64;

impl Rotor {
    /// A rotor that starts at `worker` of `workers` of a turn, so that workers do not march in step.
    pub(super) fn new(weights: &Weights, worker: usize, workers: usize) -> Self {
        let ahead = worker
            .saturating_mul(weights.len())
            .checked_div(workers)
            .unwrap_or(0);
        if weights.even {
            return Self {
                next: ahead,
                credit: Vec::new(),
            };
        }
        let mut rotor = Self {
            next: 0,
            credit: vec![0; weights.len()],
        };
        for _ in 0..ahead.min(MOST_TURNS_AHEAD) {
            rotor.turn(weights);
        }
        rotor
    }

    /// The next endpoint; there has to be one.
    fn turn(&mut self, weights: &Weights) -> usize {
        if weights.even {
            let index = self.next % weights.len().max(1);
            self.next = index.wrapping_add(1);
            return index;
        }
        // Smooth weighted rotation: everyone earns its weight, the richest pays for all.
        let total = i64::try_from(weights.total()).unwrap_or(i64::MAX);
        let mut richest = 0;
        let mut most = i64::MIN;
        for (index, (credit, weight)) in self.credit.iter_mut().zip(&weights.each).enumerate() {
            *credit = credit.saturating_add(i64::from(*weight));
            if *credit > most {
                most = *credit;
                richest = index;
            }
        }
        if let Some(credit) = self.credit.get_mut(richest) {
            *credit = credit.saturating_sub(total);
        }
        richest
    }
}

/// Picks an endpoint; nothing when there is none. `active` says how many requests one has.
pub(super) fn pick(
    balance: Balance,
    weights: &Weights,
    rotor: &mut Rotor,
    random: &mut impl Rng,
    active: impl Fn(usize) -> usize,
) -> Option<usize> {
    match weights.len() {
        0 => return None,
        1 => return Some(0),
        _ => {}
    }
    Some(match balance {
        // Whose request it is nobody says here yet.
        Balance::RoundRobin | Balance::RingHash => rotor.turn(weights),
        Balance::Random => weights.draw(random),
        Balance::LeastRequest => {
            // Both are drawn by weight and the first wins a tie, so that an upstream without load
            // keeps to the weights too.
            let first = weights.draw(random);
            let second = weights.draw_besides(first, random);
            let load = |index: usize, by: usize| {
                u128::try_from(active(index))
                    .unwrap_or(u128::MAX)
                    .saturating_mul(u128::from(weights.of(by)))
            };
            // active / weight, without the division.
            if load(second, first) < load(first, second) {
                second
            } else {
                first
            }
        }
    })
}

/// Picks by chance and weight among the endpoints that `avoid` leaves; among all when it leaves none.
pub(super) fn pick_avoiding(
    weights: &Weights,
    random: &mut impl Rng,
    avoid: impl Fn(usize) -> bool,
) -> Option<usize> {
    if weights.len() == 0 {
        return None;
    }
    let left: Vec<usize> = (0..weights.len()).filter(|&index| !avoid(index)).collect();
    if left.is_empty() {
        return Some(weights.draw(random));
    }
    let chosen = Weights::new(
        left.iter()
            .filter_map(|&index| weights.each.get(index).copied()),
    )
    .draw(random);
    left.get(chosen).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    /// How often each endpoint is picked in `turns` turns without load.
    fn shares(balance: Balance, each: &[u32], turns: usize, seed: u64) -> Vec<usize> {
        let weights = Weights::new(each.iter().copied());
        let mut rotor = Rotor::new(&weights, 1, 3);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut shares = vec![0; each.len()];
        for _ in 0..turns {
            shares[pick(balance, &weights, &mut rotor, &mut random, |_| 0).unwrap()] += 1;
        }
        shares
    }

    fn share(weight: u32, each: &[u32], turns: usize) -> f64 {
        f64::from(weight) / each.iter().copied().map(f64::from).sum::<f64>()
            * f64::from(u32::try_from(turns).unwrap())
    }

    proptest! {
        #[test]
        fn round_robin_gives_each_its_exact_share(each in prop::collection::vec(1_u32..20, 1..12)) {
            let turns = usize::try_from(each.iter().sum::<u32>()).unwrap() * 3;
            for (count, weight) in shares(Balance::RoundRobin, &each, turns, 0).iter().zip(&each) {
                prop_assert_eq!(*count, usize::try_from(*weight).unwrap() * 3);
            }
        }

        #[test]
        fn chance_respects_weights(
            each in prop::collection::vec(1_u32..10, 2..6),
            seed: u64,
            least in any::<bool>(),
        ) {
            let balance = if least { Balance::LeastRequest } else { Balance::Random };
            let turns = 20_000;
            for (count, weight) in shares(balance, &each, turns, seed).iter().zip(&each) {
                let count = f64::from(u32::try_from(*count).unwrap());
                let want = share(*weight, &each, turns);
                prop_assert!((count - want).abs() < 6.0 * want.sqrt(), "{count} instead of {want}");
            }
        }

        #[test]
        fn what_is_avoided_is_not_picked(
            each in prop::collection::vec(1_u32..10, 2..6), seed: u64, bad in 0_usize..6,
        ) {
            let weights = Weights::new(each.iter().copied());
            let picked = pick_avoiding(&weights, &mut SmallRng::seed_from_u64(seed), |i| i == bad);
            prop_assert!(picked.is_some_and(|index| index != bad && index < each.len()));
        }
    }

    #[test]
    fn least_request_prefers_the_idle_endpoint_for_its_weight() {
        let weights = Weights::new([1, 4]);
        let mut random = SmallRng::seed_from_u64(7);
        let mut pick = |active: [usize; 2]| {
            pick(
                Balance::LeastRequest,
                &weights,
                &mut Rotor::default(),
                &mut random,
                |index| active[index],
            )
        };
        for _ in 0..50 {
            assert_eq!(pick([5, 0]), Some(1));
            assert_eq!(pick([1, 5]), Some(0), "1/1 is less than 5/4");
            assert_eq!(pick([2, 5]), Some(1), "5/4 is less than 2/1");
        }
    }

    #[test]
    fn workers_start_at_different_endpoints() {
        let weights = Weights::new([1; 8]);
        let mut random = SmallRng::seed_from_u64(0);
        let first: Vec<_> = (0..4)
            .map(|worker| {
                let mut rotor = Rotor::new(&weights, worker, 4);
                pick(
                    Balance::RoundRobin,
                    &weights,
                    &mut rotor,
                    &mut random,
                    |_| 0,
                )
            })
            .collect();
        assert_eq!(first, [Some(0), Some(2), Some(4), Some(6)]);
    }

    #[test]
    fn nothing_is_picked_where_nothing_is() {
        let weights = Weights::default();
        let mut random = SmallRng::seed_from_u64(0);
        let picked = pick(
            Balance::Random,
            &weights,
            &mut Rotor::default(),
            &mut random,
            |_| 0,
        );
        assert_eq!(picked, None);
        assert_eq!(pick_avoiding(&weights, &mut random, |_| false), None);
    }
}
