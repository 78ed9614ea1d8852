use super::*;

fn read(text: &str) -> Source {
    Source::new(Path::new("gateway/src/a.rs"), text.to_owned())
}

#[test]
fn comments_and_literals_are_no_code() {
    let cases = [
        (
            "a // crate::b
c",
            "a c",
        ),
        ("a /* x /* y */ z */ b", "a b"),
        (r#"let a = "crate::b \" c";"#, "let a = ;"),
        (r##"r#"a"b"# x"##, "x"),
        ("'a' 'b x", "'b x"),
        (r"'\'' y", "y"),
        ("b'x' br\"y\" c", "c"),
        ("for r in a {}", "for r in a {}"),
    ];
    for (text, expected) in cases {
        let blanked = blank(text);
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&blanked), words(expected), "{text}");
        assert_eq!(blanked.chars().count(), text.chars().count(), "{text}");
    }
}

#[test]
fn items_under_cfg_test_do_not_count() {
    let source = read(
        "use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n    fn f() {}\n}\nfn g() {}\n",
    );
    assert_eq!(source.lines, 2);
    assert!(source.code.contains("crate::a"));
    assert!(!source.code.contains("crate::b"));
    assert!(source.code.contains("fn g"));
    assert_eq!(source.code.lines().count(), source.text.lines().count());
}

#[test]
fn modules_that_are_only_declared_for_tests_are_known_by_name() {
    let source = read("#[cfg(test)]\nmod tests;\n\nfn g() {}\n");
    assert_eq!(source.test_modules, ["tests"]);
    assert_eq!(source.lines, 2);
}

#[test]
fn a_braced_import_under_cfg_test_ends_at_its_semicolon() {
    let source = read("#[cfg(test)]\nuse crate::{b, c};\nuse crate::d;\n");
    assert!(source.code.contains("crate::d"));
    assert!(!source.code.contains("crate::{b"));
}

#[test]
fn paths_are_unfolded() {
    let cases: [(&str, &[&str]); 6] = [
        ("use crate::a;", &["a"]),
        (
            "use crate::{a, b::{c, d as e, self}, f::*};",
            &["a", "b c", "b d", "b", "f"],
        ),
        ("fn f(x: &crate::a::B<crate::c::D>) {}", &["a B", "c D"]),
        ("pub(crate) fn f() {}", &[]),
        ("pub(in crate::a) fn f() {}", &["a"]),
        (
            "use crate::{\n    a::b,\n    c,\n};\nlet x = crate::d::E { y: 1 };",
            &["a b", "c", "d E"],
        ),
    ];
    for (code, expected) in cases {
        let found: Vec<String> = paths(&tokens(code), "crate")
            .into_iter()
            .map(|path| path.join(" "))
            .collect();
        assert_eq!(found, expected, "{code}");
    }
}

#[test]
fn a_word_inside_another_path_does_not_begin_one() {
    assert!(paths(&tokens("use tokio::sync::notify::X;"), "notify").is_empty());
    assert_eq!(paths(&tokens("notify::X"), "notify"), [["X"]]);
}

#[test]
fn test_files_are_known_by_their_path() {
    assert!(is_test(Path::new("config/src/lint/tests.rs")));
    assert!(is_test(Path::new("gateway/src/route/tests/host.rs")));
    assert!(!is_test(Path::new("tests/src/gateway.rs")));
}
