//! Several replicas over one storage: one orders, any answers, another takes over, all serve.

use std::sync::{Arc, atomic::Ordering};

use sluice_certs::{
    acme::{Phase, Terms},
    storage::Storage,
};
use sluice_tests::{
    Pebble,
    etcd::Etcd,
    eventually::eventually,
    pebble::Setup,
    replica::{Door, Replica, directory, issuer, pebble, terms},
};
use tempfile::TempDir;
use tokio::time::{Duration, Instant};

const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

/// A dead owner's lock is broken after 30 s.
const TAKEOVER: Duration = Duration::from_mins(1);

fn wanted(pebble: &Pebble, storage: &Arc<dyn Storage>) -> Terms {
    let lists = HOSTS.map(|host| [host]);
    let wanted: Vec<(&str, &[&str])> = HOSTS
        .iter()
        .zip(&lists)
        .map(|(host, list)| (*host, &list[..]))
        .collect();
    terms(Arc::clone(storage), vec![issuer(pebble, "pebble")], &wanted)
}

/// Each with its own view of the storage, as if on a machine of its own.
fn start(pebble: &Pebble, door: &Door, storage: impl Fn() -> Arc<dyn Storage>) -> Vec<Replica> {
    (0..3)
        .map(|_| Replica::start(wanted(pebble, &storage()), door))
        .collect()
}

fn orders(replicas: &[Replica]) -> (u64, u64) {
    let each = replicas.iter().map(|replica| replica.keeper.orders());
    each.fold((0, 0), |(issued, failed), (more, other)| {
        (issued + more, failed + other)
    })
}

async fn one_orders_and_all_serve(
    pebble: &Pebble,
    door: &Door,
    storage: impl Fn() -> Arc<dyn Storage>,
) {
    let replicas = start(pebble, door, storage);
    for host in HOSTS {
        let first = eventually("somebody has it", || {
            replicas.iter().find_map(|replica| replica.serial(host))
        })
        .await;
        let seen = Instant::now();
        for replica in &replicas {
            assert_eq!(replica.issued(host).await, first);
        }
        assert!(
            seen.elapsed() < Duration::from_secs(5),
            "all serve it {:?} later",
            seen.elapsed()
        );
    }
    assert_eq!(orders(&replicas), (4, 0), "exactly one orders a name");
    let seen = door.seen.lock().clone();
    assert!(
        seen.iter().all(|(_, _, answered)| *answered),
        "any answers: {seen:?}"
    );
}

/// The orderer dies while the validating server looks.
async fn another_takes_over(pebble: &Pebble, door: &Door, storage: impl Fn() -> Arc<dyn Storage>) {
    door.shut.store(true, Ordering::Relaxed);
    let mut replicas = start(pebble, door, storage);
    let orders_now = |replica: &Replica| {
        let state = replica.state(HOSTS[0]);
        state.is_some_and(|state| matches!(state.phase, Phase::Ordering { .. }))
    };
    let came = || (door.came.load(Ordering::Relaxed) >= 4).then_some(());
    eventually("the validating server comes for each", came).await;
    let orderer = eventually("somebody orders", || replicas.iter().position(orders_now)).await;
    drop(replicas.remove(orderer));
    door.shut.store(false, Ordering::Relaxed);

    for host in HOSTS {
        let serial = replicas[0].serves(host, TAKEOVER, |_| true).await;
        let other = replicas[1]
            .serves(host, Duration::from_secs(5), |_| true)
            .await;
        assert_eq!(serial, other);
    }
    let (issued, _) = orders(&replicas);
    assert!(issued <= 4, "nothing is ordered twice: {issued}");
}

#[tokio::test]
async fn of_three_on_a_directory_one_orders_and_all_serve() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    one_orders_and_all_serve(&pebble, &door, || directory(folder.path(), true)).await;
}

#[tokio::test]
async fn of_three_on_a_directory_another_takes_over() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    another_takes_over(&pebble, &door, || directory(folder.path(), true)).await;
}

#[tokio::test]
async fn of_three_on_etcd_one_orders_and_all_serve() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    one_orders_and_all_serve(&pebble, &door, || Arc::new(etcd.storage("/sluice"))).await;
}

#[tokio::test]
async fn of_three_on_etcd_another_takes_over() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    another_takes_over(&pebble, &door, || Arc::new(etcd.storage("/sluice"))).await;
}

#[tokio::test]
async fn a_renewal_on_one_replica_is_answered_by_the_others() {
    let Some((pebble, door, _tasks)) = pebble(Setup::default()).await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let replicas = start(&pebble, &door, || directory(folder.path(), true));
    let mut before = Vec::new();
    for host in HOSTS {
        for replica in &replicas {
            before.push(replica.issued(host).await);
        }
    }
    door.seen.lock().clear();

    assert!(replicas[0].keeper.renew(HOSTS[0]));
    for replica in &replicas {
        replica
            .serves(HOSTS[0], Duration::from_secs(20), |serial| {
                serial != before[0]
            })
            .await;
    }
    let seen = door.seen.lock().clone();
    assert!(
        !seen.is_empty() && seen.iter().all(|(_, _, answered)| *answered),
        "{seen:?}"
    );
}
