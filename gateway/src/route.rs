//! Finds the route and the rule of a request. Pure.
