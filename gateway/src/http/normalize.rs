//! Brings a request into one form before anybody trusts it.
