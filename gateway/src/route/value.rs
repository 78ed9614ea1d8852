//! The values that conditions are held against: headers, query parameters, cookies.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;

/// Each value of one header, and, when there are several, all of them joined: a policy that sees
/// only one of these forms can be walked around with the other.
pub(super) fn of_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    let values = headers.get_all(name);
    let mut rest = values.iter();
    let several = rest.next().is_some() && rest.next().is_some();
    let joined = several.then(|| {
        let all: Vec<Cow<'_, str>> = values.iter().map(text).collect();
        Cow::Owned(all.join(", "))
    });
    values.into_iter().map(text).chain(joined)
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// The parameters of a query, percent-decoded.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') {
        percent_decode_str(text).decode_utf8_lossy()
    } else {
        Cow::Borrowed(text)
    }
}

/// The cookies of every `Cookie` header (RFC 6265 §5.4 sends one, HTTP/2 may split it).
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|line| match text(line) {
            Cow::Borrowed(line) => Pairs::Borrowed(line.split(';')),
            Cow::Owned(line) => {
                let pairs = line.split(';').filter_map(cookie);
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                Pairs::Owned(pairs.map(owned).collect::<Vec<_>>().into_iter())
            }
        })
}

fn cookie(pair: &str) -> Option<(&str, &str)> {
    let (name, value) = pair.split_once('=')?;
    Some((name.trim(), value.trim()))
}

/// Lines that are no UTF-8 are rare: only they are copied.
enum Pairs<'a> {
    Borrowed(std::str::Split<'a, char>),
    Owned(std::vec::IntoIter<(String, String)>),
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Borrowed(pairs) => {
                let (name, value) = pairs.find_map(cookie)?;
                Some((name.into(), value.into()))
            }
            Self::Owned(pairs) => {
                let (name, value) = pairs.next()?;
                Some((name.into(), value.into()))
            }
        }
    }
}
