//! Texts with a grammar of their own: addresses, hosts, paths, templates. Pure; each gives the
//! checked value, or says what is wrong with the text.

mod address;
mod host;
mod path;
mod template;
mod url;

pub(crate) use address::{endpoint, listener_address, nameserver, network, ports};
pub(crate) use host::{destination, pattern as host_pattern, url_host};
pub(crate) use path::{exact_path, path_prefix, path_regex, path_start, path_template, regex};
pub(crate) use template::{header_value, template};
pub(crate) use url::url;
