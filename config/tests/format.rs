//! How files are laid out.

use sluice_config::format;

#[test]
fn spaces_lines_and_lists_get_one_form_and_comments_stay() {
    let written = "\u{feff}\n\n#   top\r\n\r\n\r\n\r\n  # of the key  \n  a=1   #  behind\n\n\n\nb . c   = [ 1,2 , 3 ,]\n\
        [ routes . \"x.y\" ]# header\nto=[{upstream=\"a\",weight=90},{ upstream   = \"b\" , weight=10 }]\n   # before the table\n\n[[routes.\"x.y\".rules]]\n\
        hosts = [\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\", \"cccccccccccccccccccccccccccc\"]\n\
        list = [ # first\n 1, # one\n  # two\n 2 ]\n[[routes.\"x.y\".rules]]\nempty=[]\n\n\n# the end\n\n\n";
    let formatted = "\
#   top

# of the key
a = 1 #  behind

b.c = [1, 2, 3]

[routes.\"x.y\"] # header
to = [{ upstream = \"a\", weight = 90 }, { upstream = \"b\", weight = 10 }]

# before the table

[[routes.\"x.y\".rules]]
hosts = [
    \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",
    \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",
    \"cccccccccccccccccccccccccccc\",
]
list = [ # first
    1, # one
    # two
    2,
]

[[routes.\"x.y\".rules]]
empty = []

# the end
";
    assert_eq!(format(written).unwrap(), formatted);
    assert_eq!(format(formatted).unwrap(), formatted);
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_place() {
    let problem = format("a = 1\nb = [\n").unwrap_err();
    assert_eq!(problem.code, "syntax");
    assert!(problem.place.unwrap().line >= 2);
}
