//! What the process can still take: memory and file descriptors.
//!
//! Every worker asks [`Pressure`] per connection and request, so that asking is one load; [`watch`]
//! keeps it true from the control runtime. What must stay true: whoever refuses work because of it
//! does so before the system does, and takes work again without being told.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::FileExt as _,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How often the process is looked at. In that time a few thousand connections may come; the half of
/// the memory that the default leaves alone is for them.
const INTERVAL: Duration = Duration::from_millis(150);

/// What the process may take. None: as much as it gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// Resident bytes.
    pub memory: Option<u64>,
    /// Descriptors that are not for peers.
    pub descriptor_reserve: Option<u64>,
}

/// Whether the process can take more. Shared by all workers.
#[derive(Debug)]
pub struct Pressure {
    overloaded: AtomicBool,
    /// The first descriptor that is not for peers. The system gives the lowest that is free, so one
    /// that reaches this number says that so many are open.
    reserve: AtomicU64,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            overloaded: AtomicBool::new(false),
            reserve: AtomicU64::new(u64::MAX),
        }
    }
}

impl Pressure {
    /// Whether new work is to be refused for want of memory.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Whether a descriptor is one of those that are not for peers.
    pub fn reserves(&self, descriptor: &impl AsFd) -> bool {
        let number = descriptor.as_fd().as_raw_fd();
        u64::try_from(number).is_ok_and(|number| number >= self.reserve.load(Ordering::Relaxed))
    }

    fn look(&self, bounds: Bounds, resident: Option<u64>, descriptors: Option<u64>) {
        if let (Some(limit), Some(resident)) = (bounds.memory, resident) {
            let before = self.is_overloaded();
            let now = is_over(before, limit, resident);
            self.overloaded.store(now, Ordering::Relaxed);
            if now && !before {
                tracing::warn!(resident, limit, "too much memory: refusing new work");
            } else if before && !now {
                tracing::info!(resident, limit, "enough memory again");
            }
        }
        if let Some(reserve) = bounds.descriptor_reserve {
            let first = descriptors.map_or(u64::MAX, |limit| first_reserved(limit, reserve));
            self.reserve.store(first, Ordering::Relaxed);
        }
    }
}

/// Above the limit, and once above it until a tenth below it.
fn is_over(before: bool, limit: u64, resident: u64) -> bool {
    let bound = if before { limit - limit / 10 } else { limit };
    resident > bound
}

/// Peers get at least half of all descriptors.
fn first_reserved(limit: u64, reserve: u64) -> u64 {
    limit.saturating_sub(reserve).max(limit / 2)
}

/// Looks at the process for as long as it runs.
pub async fn watch(bounds: Bounds, pressure: Arc<Pressure>) {
    if bounds.memory.is_none() && bounds.descriptor_reserve.is_none() {
        return;
    }
    // Kept open: it can be read when no descriptor is left.
    let statm = File::open("/proc/self/statm");
    if let Err(error) = &statm {
        tracing::warn!(%error, "the memory of the process cannot be read and is not bounded");
    }
    loop {
        let resident = statm.as_ref().ok().and_then(|statm| resident(statm).ok());
        let descriptors = getrlimit(Resource::Nofile).current;
        pressure.look(bounds, resident, descriptors);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Resident bytes (proc(5), `statm`: the second number, in pages).
fn resident(statm: &File) -> io::Result<u64> {
    let mut buffer = [0; 128];
    let length = statm.read_at(&mut buffer, 0)?;
    let text = buffer.get(..length).unwrap_or_default();
    let pages = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    pages
        .map(|pages| pages.saturating_mul(page))
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Half of the memory that the machine or the control group has, whichever has less.
pub fn half_of_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.as_deref().and_then(total_of_machine);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_files(&groups)
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .min();
    [machine, group]
        .into_iter()
        .flatten()
        .min()
        .map(|all| all / 2)
}

fn total_of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Where the limits of the process's control groups stand, of both versions, parents included. In a
/// container the group itself is the root of what can be seen.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match kinds {
            "" => ("/sys/fs/cgroup", "memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{file}"));
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
    }
    files
}

/// Room for so many descriptors is made at start.
const ROOM: u64 = 65_536;

/// Lets the process open as many files as it may: the lower limit is for programs that keep sets of
/// descriptors in a few words. To be called before there are threads.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, ?current, "the limit of open files stays as it is");
        }
    }
    make_room();
}

/// Lets the kernel make its table of descriptors large at once. Each time that it grows while there are
/// several threads, the one whose descriptor did not fit sleeps until every processor has passed a quiet
/// moment: a worker with all its connections for tens of milliseconds, longer on a busy machine.
fn make_room() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ROOM);
    let highest = i32::try_from(limit.min(ROOM).saturating_sub(1)).unwrap_or_default();
    let made = File::open("/dev/null")
        .and_then(|file| Ok(rustix::io::fcntl_dupfd_cloexec(&file, highest)?));
    if let Err(error) = made {
        tracing::debug!(%error, "the table of descriptors grows as it is needed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_memory_is_over_only_a_tenth_below_the_bound() {
        let mut over = false;
        for (resident, expected) in [
            (90, false),
            (100, false),
            (101, true),
            (95, true),
            (91, true),
            (90, false),
            (100, false),
        ] {
            over = is_over(over, 100, resident);
            assert_eq!(over, expected, "{resident}");
        }
    }

    #[test]
    fn the_reserve_is_at_most_half_of_the_limit() {
        assert_eq!(first_reserved(1024, 64), 960);
        assert_eq!(first_reserved(100, 64), 50);
        assert_eq!(first_reserved(1024, 0), 1024);
    }

    #[test]
    fn limits_of_control_groups_are_looked_for_up_to_the_root() {
        assert_eq!(
            group_files("0::/a/b\n"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            group_files("5:cpu:/x\n4:memory:/\nnonsense"),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(
            total_of_machine("MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    fn this_process_has_memory_and_the_machine_more() {
        let statm = File::open("/proc/self/statm").expect("it can be read");
        let own = resident(&statm).expect("a number");
        assert!(own > 1 << 20, "{own}");
        assert!(half_of_memory().expect("a machine") > own);
    }
}
