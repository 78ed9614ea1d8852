//! Filters: what changes a request or a response on its way.
