//! Step 9: picks an endpoint, lends a connection, notes the outcome.
