//! Waiting for what must become true, with a deadline instead of a lucky sleep.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::PATIENCE;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `look` gives something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        sleep(PAUSE).await;
    }
}

/// Waits until `look` gives `wanted`; says what it gave instead.
pub async fn becomes<T: PartialEq + Debug>(what: &str, wanted: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let got = look();
        if got == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: wanted {wanted:?}, still {got:?}"
        );
        sleep(PAUSE).await;
    }
}

/// Waits for `future` within the patience of a test.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("took too long: {what}"))
}
