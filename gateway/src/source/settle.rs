//! What is being written is not taken for finished: it has to stay as it is for a moment.

use std::time::Duration;

use tokio::time::sleep;

/// Between two looks that must agree.
const SETTLE: Duration = Duration::from_millis(100);

/// Looks after which something counts although it still changes.
const LOOKS: usize = 50;

/// What `look` gives once it gives the same twice, `now` having been the first.
pub(super) async fn settled<T, F>(
    mut now: T,
    look: impl Fn() -> F,
    agree: impl Fn(&T, &T) -> bool,
) -> T
where
    F: Future<Output = T>,
{
    for _ in 0..LOOKS {
        sleep(SETTLE).await;
        let again = look().await;
        let agrees = agree(&now, &again);
        now = again;
        if agrees {
            break;
        }
    }
    now
}
