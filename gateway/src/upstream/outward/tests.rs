use std::net::Ipv4Addr;

use super::*;
use crate::{drain::Tasks, telemetry::metrics::Metrics, upstream::Connector};

fn pools() -> Pools {
    let counters = Metrics::new(1).worker(0);
    Pools::new(0, 1, Connector::Network, Tasks::new(), counters)
}

fn place(rule: &str, host: &str) -> Place {
    Place {
        rule: Some(rule.into()),
        host: host.into(),
        port: 80,
        mark: None,
    }
}

fn at(last: u8) -> [SocketAddr; 1] {
    [SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 80))]
}

fn endpoints(upstream: &Upstream) -> Vec<String> {
    let all = upstream.endpoints().into_iter();
    all.map(|key| key.as_str().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_may_be_and_idle_ones_go() {
    let pools = pools();
    for number in 0..3 * MOST {
        pools.outward(&place("a", &format!("h{number}.test")), &at(1), None);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(pools.outward.known.borrow().len(), MOST);
    // The oldest went.
    let last = place("a", &format!("h{}.test", 3 * MOST - 1));
    assert!(
        pools
            .outward
            .known
            .borrow()
            .contains_key(&(last.clone(), false))
    );
    tokio::time::advance(IDLE).await;
    pools.outward(&last, &at(1), None);
    assert_eq!(pools.outward.known.borrow().len(), 1);
}

#[tokio::test]
async fn one_is_the_same_as_long_as_its_addresses_are() {
    let pools = pools();
    let one = pools.outward(&place("a", "x.test"), &at(1), None);
    let same = pools.outward(&place("a", "x.test"), &at(1), None);
    assert!(Arc::ptr_eq(&one, &same));
    assert_eq!(endpoints(&one), ["127.0.0.1:80"]);
    // Elsewhere: with what was counted, and without the address of before.
    let moved = pools.outward(&place("a", "x.test"), &at(2), None);
    assert_eq!(endpoints(&moved), ["127.0.0.2:80"]);
    assert!(Arc::ptr_eq(&one.state, &moved.state));
    // What another rule allows is another one.
    let other = pools.outward(&place("b", "x.test"), &at(2), None);
    assert!(!Arc::ptr_eq(&other.state, &moved.state));
}
