//! One path: escapes in one form, dot segments resolved, what parsers disagree about refused.

use std::borrow::Cow;

use sluice_config::model::{Escapes, Normalize};

use crate::error::{Malformed, ProxyError};

/// Brings `path` into one form; normalising the result again changes nothing.
///
/// Escapes of unreserved characters are decoded, others written in upper case; dot segments are
/// resolved and may not leave the root; repeated slashes are merged when `rules` say so.
pub fn normalize(path: &str, rules: Normalize) -> Result<Cow<'_, str>, ProxyError> {
    let refused = ProxyError::BadRequest(Malformed::Path);
    if !path.starts_with('/') {
        // The codec turns an empty path of an absolute target into `/`.
        return Err(refused);
    }
    let Some(decoded) = decode(path, rules) else {
        return Err(refused);
    };
    if !needs_resolving(&decoded, rules.merge_slashes) {
        return Ok(decoded);
    }
    resolve(&decoded, rules.merge_slashes)
        .map(Cow::Owned)
        .ok_or(refused)
}

/// Every character allowed, every escape in its one form. `None`: refused.
fn decode(path: &str, rules: Normalize) -> Option<Cow<'_, str>> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b'#' | b'?');
    if path.bytes().all(plain) {
        return Some(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let escaped = (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?;
                match escaped {
                    b'/' => keep(rules.escaped_slash)?,
                    b'\\' => keep(rules.escaped_backslash)?,
                    0 => keep(rules.escaped_nul)?,
                    _ => {}
                }
                if escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped) {
                    out.push(char::from(escaped));
                } else {
                    out.push('%');
                    out.push(digit(escaped >> 4));
                    out.push(digit(escaped & 0xf));
                }
            }
            b'\\' => {
                keep(rules.backslash)?;
                out.push('\\');
            }
            _ if plain(byte) => out.push(char::from(byte)),
            _ => return None,
        }
    }
    Some(Cow::Owned(out))
}

fn keep(rule: Escapes) -> Option<()> {
    match rule {
        Escapes::Refuse => None,
        Escapes::Keep => Some(()),
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' + nibble - 10
    })
}

/// Whether [`resolve`] could change or refuse `path`.
fn needs_resolving(path: &str, merge: bool) -> bool {
    path.contains("/.") || (merge && path.contains("//"))
}

/// RFC 3986 §5.2.4, but leaving the root is an error: the client and the origin would disagree
/// about what was asked for.
fn resolve(path: &str, merge: bool) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    let mut open = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => open = last,
            ".." => {
                kept.pop()?;
                open = last;
            }
            "" if last => open = true,
            "" if merge => {}
            // Some origins cut `;…` off a segment before they resolve it.
            _ if segment.starts_with("..;") || segment.starts_with(".;") => return None,
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if open || out.is_empty() {
        out.push('/');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brings_paths_into_one_form() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("//admin", "/admin"),
            ("/a///b//", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/%7e%2D%5F%2e", "/~-_."),
            ("/a%3fb%c3%a9", "/a%3Fb%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/a/.%2e", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/...", "/..."),
            ("/.hidden", "/.hidden"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/a{b}|c", "/a{b}|c"),
        ] {
            let got = normalize(path, Normalize::default()).expect(path);
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn refuses_paths_that_parsers_disagree_about() {
        for path in [
            "", "*", "a", "/..", "/a/../..", "/%2e%2e/", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%00",
            "/a\\b", "/%", "/%4", "/%zz", "/a b", "/é", "/a#b", "/a\u{1}", "/a\u{7f}", "/..;/a",
            "/a/.;x/b",
        ] {
            assert!(normalize(path, Normalize::default()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn keeps_what_the_listener_lets_through() {
        let rules = Normalize {
            merge_slashes: false,
            escaped_slash: Escapes::Keep,
            escaped_backslash: Escapes::Keep,
            escaped_nul: Escapes::Keep,
            backslash: Escapes::Keep,
            ..Normalize::default()
        };
        let got = normalize("//a%2fb\\c%5c/%00//", rules).expect("kept");
        assert_eq!(got, "//a%2Fb\\c%5C/%00//");
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(
            path in "/([a-b./%\\\\;]|%2e|%2f|%25|%5c|%61|//|/\\.\\./|é){0,24}",
            merge_slashes: bool,
            keeps: bool,
        ) {
            let escapes = if keeps { Escapes::Keep } else { Escapes::Refuse };
            let rules = Normalize {
                merge_slashes,
                escaped_slash: escapes,
                escaped_backslash: escapes,
                escaped_nul: escapes,
                backslash: escapes,
                ..Normalize::default()
            };
            if let Ok(once) = normalize(&path, rules) {
                let twice = normalize(&once, rules).expect("what came out goes in again");
                prop_assert_eq!(&*once, &*twice);
                prop_assert!(once.starts_with('/'));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
