//! The driver for stable toolchains: replays what is kept, then mutates it until the time is up.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::Instant;

use super::{Target, mutate::mutated};

/// What a target may use in `make test`.
const SECONDS: u64 = 10;

/// How many inputs are kept to mutate further.
const POOL: usize = 512;

/// Replays the seeds and everything in `tests/fuzz/corpus/NAME` and `tests/fuzz/found/NAME`, then
/// mutates for `SLUICE_FUZZ_SECONDS`. `SLUICE_FUZZ_SEED` chooses another sequence of mutations.
///
/// # Panics
/// When the target does. The input is then kept in `tests/fuzz/found/NAME`.
pub fn drive(target: &Target) {
    let number = |name: &str, default| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let until = Instant::now() + Duration::from_secs(number("SLUICE_FUZZ_SECONDS", SECONDS));
    let mut chance = StdRng::seed_from_u64(number("SLUICE_FUZZ_SEED", 1));
    let mut pool: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
    for folder in ["corpus", "found"] {
        pool.extend(kept(&folder_of(folder, target)));
    }
    pool.push(Vec::new());
    for input in &pool {
        try_one(target, input);
    }
    let mut inputs = pool.len();
    while Instant::now() < until {
        inputs += 1;
        let (Some(input), Some(other)) = (pool.choose(&mut chance), pool.choose(&mut chance))
        else {
            return;
        };
        let input = mutated(input, other, target.words, &mut chance);
        try_one(target, &input);
        // Without coverage to tell what is new, some of everything is kept for a while.
        if chance.random_ratio(1, 8) {
            if pool.len() >= POOL {
                let out = chance.random_range(target.seeds.len()..pool.len());
                pool.swap_remove(out);
            }
            pool.push(input);
        }
    }
    tell(&format!("{}: {inputs} inputs", target.name));
}

fn tell(text: &str) {
    #[expect(clippy::print_stderr, reason = "a test tells what it did")]
    {
        eprintln!("{text}");
    }
}

fn try_one(target: &Target, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = outcome {
        let folder = folder_of("found", target);
        let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let path = folder.join(format!("{name:016x}"));
        let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
        let shown = String::from_utf8_lossy(input);
        tell(&format!(
            "{}: fails with {shown:?}, kept in {} ({kept:?})",
            target.name,
            path.display()
        ));
        resume_unwind(panic);
    }
}

fn folder_of(kind: &str, target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(kind)
        .join(target.name)
}

fn kept(folder: &PathBuf) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The order of a directory is not the same everywhere, a sequence of mutations should be.
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}
