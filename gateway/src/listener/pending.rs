//! Stands for `connection` until it lands.

use std::{rc::Rc, sync::Arc};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{downstream::Connection, plan, stream::Stream};

/// Answers every connection alike.
pub(super) async fn serve(
    mut stream: Stream,
    _connection: Arc<Connection>,
    listener: Arc<plan::Listener>,
    _local: Rc<plan::Local>,
) {
    let mut head = [0; 1024];
    while !listener.is_ending() && matches!(stream.read(&mut head).await, Ok(1..)) {
        if stream
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            .await
            .is_err()
        {
            return;
        }
    }
}
