//! One JSON line per request.
