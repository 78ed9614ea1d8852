//! Heavy libraries have one home each, so that replacing one is a change in one place.

use std::path::Path;

use crate::source::{Source, Token, tokens};

/// A library and the places (files, or folders with everything below) that may name it.
struct Home {
    library: &'static str,
    places: &'static [&'static str],
}

const HYPER: &[&str] = &[
    "gateway/src/http/serve",
    "gateway/src/http/upgrade",
    "gateway/src/upstream/connect",
    "gateway/src/upstream/pool",
    "gateway/src/admin",
    "gateway/src/connection",
    "gateway/src/telemetry/trace/connect",
    "certs/src/fetch",
];

/// Also those that no package uses yet: their place is decided.
const HOMES: &[Home] = &[
    Home {
        library: "toml",
        places: &["config/src"],
    },
    Home {
        library: "toml_edit",
        places: &["config/src"],
    },
    Home {
        library: "annotate_snippets",
        places: &["config/src"],
    },
    Home {
        library: "schemars",
        places: &["config/src"],
    },
    Home {
        library: "serde_ignored",
        places: &["config/src"],
    },
    Home {
        library: "serde_path_to_error",
        places: &["config/src"],
    },
    Home {
        library: "argon2",
        places: &["gateway/src/authn/password"],
    },
    Home {
        library: "bcrypt",
        places: &["gateway/src/authn/password"],
    },
    Home {
        library: "rustls",
        places: &["certs/src"],
    },
    Home {
        library: "tokio_rustls",
        places: &[
            "certs/src",
            "gateway/src/connection/tls",
            "gateway/src/upstream/connect",
        ],
    },
    Home {
        library: "rcgen",
        places: &["certs/src"],
    },
    Home {
        library: "x509_parser",
        places: &["certs/src"],
    },
    Home {
        library: "instant_acme",
        places: &["certs/src"],
    },
    Home {
        library: "hyper",
        places: HYPER,
    },
    Home {
        library: "hyper_util",
        places: HYPER,
    },
    Home {
        library: "h2",
        places: &[
            "gateway/src/frames/heads",
            "gateway/src/http/serve",
            "gateway/src/upstream/connect",
            "gateway/src/upstream/tests",
            "gateway/src/upstream/tunnel",
            "sidecar/src/inbound",
            "tests",
        ],
    },
    Home {
        library: "hickory_resolver",
        places: &["gateway/src/upstream/resolve"],
    },
    Home {
        library: "hickory_proto",
        places: &["gateway/src/upstream/resolve", "certs/src/acme"],
    },
    Home {
        library: "nix",
        places: &["gateway/src/l4/udp", "gateway/src/stream"],
    },
    Home {
        library: "notify",
        places: &["gateway/src/source"],
    },
    Home {
        library: "notify_debouncer_full",
        places: &["gateway/src/source"],
    },
    Home {
        library: "opentelemetry",
        places: &["gateway/src/telemetry/trace"],
    },
    Home {
        library: "opentelemetry_otlp",
        places: &["gateway/src/telemetry/trace"],
    },
    Home {
        library: "opentelemetry_http",
        places: &["gateway/src/telemetry/trace"],
    },
    Home {
        library: "tonic",
        places: &[
            "gateway/src/source/discovery",
            "gateway/src/telemetry/trace",
            "controller/src/discovery",
        ],
    },
    Home {
        library: "kube",
        places: &["controller/src/source/kubernetes"],
    },
    Home {
        library: "bollard",
        places: &["controller/src/source/docker"],
    },
    Home {
        library: "redb",
        places: &["controller/src/store"],
    },
    Home {
        library: "clap",
        places: &[
            "gateway/src/args",
            "gateway/src/main",
            "gateway/src/commands",
            "controller/src/main",
            "sidecar/src/main",
        ],
    },
];

/// Every library that is named away from home.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let tokens = tokens(&source.code);
        for home in HOMES {
            if names(&tokens, home.library)
                && !home.places.iter().any(|place| within(&source.path, place))
            {
                violations.push(format!(
                    "{}: {} belongs in {} and is named nowhere else",
                    source.path.display(),
                    home.library,
                    home.places.join(", ")
                ));
            }
        }
    }
    violations
}

/// Whether a path begins with `library`, or it is imported whole.
fn names(tokens: &[Token<'_>], library: &str) -> bool {
    tokens.windows(3).any(|window| {
        matches!(window, [before, Token::Word(word), Token::Colons]
            if *word == library && *before != Token::Colons)
            || matches!(window, [Token::Word("use"), Token::Word(word), Token::Mark(';') | Token::Word("as")]
            if *word == library)
    })
}

/// Whether `path` is `place.rs` or below the folder `place`.
fn within(path: &Path, place: &str) -> bool {
    path.starts_with(place) || path.with_extension("").as_path() == Path::new(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, code: &str) -> usize {
        check(&[Source::new(Path::new(path), code.to_owned())]).len()
    }

    #[test]
    fn a_heavy_library_is_refused_away_from_home() {
        assert_eq!(
            violations("gateway/src/route.rs", "use hyper::body::Incoming;"),
            1
        );
        assert_eq!(
            violations("gateway/src/route.rs", "fn f() { hyper_util::rt::x() }"),
            1
        );
        assert_eq!(violations("gateway/src/main.rs", "use toml;"), 1);
    }

    #[test]
    fn at_home_and_under_the_same_word_elsewhere_it_is_fine() {
        assert_eq!(
            violations("gateway/src/http/serve.rs", "use hyper::body::Incoming;"),
            0
        );
        assert_eq!(
            violations("gateway/src/upstream/connect/tcp.rs", "\nuse hyper::X;"),
            0
        );
        assert_eq!(
            violations("gateway/src/drain.rs", "use tokio::sync::notify::X;"),
            0
        );
        assert_eq!(
            violations("gateway/src/drain.rs", "// hyper::X\nlet kube = 1;"),
            0
        );
        assert_eq!(
            violations(
                "gateway/src/drain.rs",
                "#[cfg(test)]\nmod tests { use toml::X; }"
            ),
            0
        );
    }
}
