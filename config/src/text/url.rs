//! URLs of services that we ask.

use crate::findings::Finding;

/// A URL with one of `schemes`, a host and a good port; without a user, and of characters that stand
/// in requests.
pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<(), Finding> {
    let bad = |what: String| Err(Finding::new("bad_url", what));
    let Some((_, rest)) = text
        .split_once("://")
        .filter(|(scheme, _)| schemes.contains(scheme))
    else {
        let schemes: Vec<String> = schemes
            .iter()
            .map(|scheme| format!("{scheme}://"))
            .collect();
        let schemes = schemes.join(" or ");
        return bad(format!("{text:?} does not begin with {schemes}"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let strange =
        |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '#');
    if authority.is_empty() || authority.contains('@') || rest.contains(strange) {
        return bad(format!("{text:?} is no URL"));
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    match port.filter(|port| !port.ends_with(']')) {
        Some(port) if port.parse::<u16>().is_err() => {
            bad(format!("{port:?} in {text:?} is no port"))
        }
        _ => Ok(()),
    }
}
