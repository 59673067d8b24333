//! What HCL is read as, and where it stops being HCL.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn reads(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap().value.to_string());
}

fn fails(text: &str, expected: Expect) {
    expected.assert_eq(&parse(text).unwrap_err().to_string());
}

#[test]
fn keys_stand_bare_or_in_quotes() {
    reads(
        "datacenter = \"dc1\"\n\"node_name\" = \"n\"\nnode-meta.x = true",
        expect![[r#"{"datacenter":"dc1","node_name":"n","node-meta.x":true}"#]],
    );
}

#[test]
fn a_block_on_one_line_needs_no_commas() {
    reads(
        "ports { http = 8500 dns = -1, https = 8501 } addresses = { http = \"::\" }",
        expect![[r#"{"ports":{"http":8500,"dns":-1,"https":8501},"addresses":{"http":"::"}}"#]],
    );
}

#[test]
fn blocks_of_one_name_become_a_list() {
    reads(
        "service { name = \"a\" } service { name = \"b\" } service { name = \"c\" }",
        expect![[r#"{"service":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#]],
    );
}

#[test]
fn labels_become_objects() {
    reads("a \"b\" c { d = 1 }", expect![[r#"{"a":{"b":{"c":{"d":1}}}}"#]]);
}

#[test]
fn a_value_given_twice_is_the_last_one() {
    reads("a = 1\na = [2]", expect![[r#"{"a":[2]}"#]]);
}

#[test]
fn lists_may_end_with_a_comma_and_hold_anything() {
    reads(
        "a = [\n  \"x\", # first\n  2, [true,], { b = 1.5 },\n]\nb = []",
        expect![[r#"{"a":["x",2,[true],{"b":1.5}],"b":[]}"#]],
    );
}

#[test]
fn numbers_are_decimal_hexadecimal_octal_or_have_a_fraction() {
    reads(
        "a = 10 b = -1 c = 0x1F d = 0755 e = 1.5 f = 1e3 g = -2.5e-1 h = 0",
        expect![[r#"{"a":10,"b":-1,"c":31,"d":493,"e":1.5,"f":1000.0,"g":-0.25,"h":0}"#]],
    );
}

#[test]
fn strings_have_the_escapes_of_go() {
    reads(
        r#"a = "q\" b\\ t\t n\n x\x41 u\u00e9 o\101" b = "${a ? "x" : "y"}""#,
        expect![[r#"{"a":"q\" b\\ t\t n\n xA ué oA","b":"${a ? \"x\" : \"y\"}"}"#]],
    );
}

#[test]
fn heredocs_keep_their_lines() {
    reads(
        "a = <<EOF\n  one\n two\nEOF\nb = <<-END\n    one\n      two\n    END\nc = 1",
        expect![[r#"{"a":"  one\n two\n","b":"one\n  two\n","c":1}"#]],
    );
}

#[test]
fn comments_are_nothing() {
    reads("\u{feff}# a\n// b\na /* c\n */ = 1 # d\nb = 2 // e", expect![[r#"{"a":1,"b":2}"#]]);
    reads("", expect!["{}"]);
}

#[test]
fn errors_say_where_and_what_was_expected() {
    fails("a = ", expect![[r#"1:5: expected a value, found the end of the text"#]]);
    fails("a = yes", expect![[r#"1:5: yes is not a value: write "yes" if it is a text"#]]);
    fails("a = 1\n  b 2", expect![[r#"2:5: expected "=", a label or "{", found 2"#]]);
    fails(
        "ports {\n http = 1",
        expect![[r#"2:10: expected a key or "}", found the end of the text"#]],
    );
    fails("}", expect![[r#"1:1: expected a key, found "}""#]]);
    fails("a = [1 2]", expect![[r#"1:8: expected "," or "]", found 2"#]]);
    fails("a = \"x\nb\"", expect![[r#"1:5: the string is not closed with '"' on its line"#]]);
    fails("a = \"\\q\"", expect![[r#"1:6: \q is not an escape: write \\ for a backslash"#]]);
    fails("a = 12x", expect![[r#"1:5: 12x is not a number"#]]);
    fails("/* a", expect![[r#"1:1: the comment is not closed with "*/""#]]);
    fails(
        "a = <<EOF\nx",
        expect![[r#"1:5: the heredoc is not closed with EOF on a line of its own"#]],
    );
    fails("a \"b\" = 1", expect![[r#"1:7: expected "{" after a label, found "=""#]]);
    fails("a = 9223372036854775808", expect![[r#"1:5: 9223372036854775808 is not a number"#]]);
}

#[test]
fn nesting_is_bounded() {
    for text in ["a {".repeat(5000), format!("a = {}", "[".repeat(5000)), "a ".repeat(5000)] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.ends_with("nested deeper than 64 levels"), "{error}");
    }
}

#[test]
fn places_are_those_of_the_keys() {
    let places = parse("a = 1\nports {\n  http = 1\n}").unwrap().places;
    assert_eq!(places["ports.http"], Position { line: 3, column: 3 });
    assert_eq!(places.len(), 3);
}

proptest! {
    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn reading_what_looks_like_hcl_never_panics(
        text in r#"(([a-z_"${}\[\]=,#<\-/*0-9.x\\ \n]|EOF|<<|true){1,3}){0,60}"#,
    ) {
        let _ = parse(&text);
    }

    #[test]
    fn json_values_written_as_hcl_read_back(
        text in "[a-zA-Z0-9 _.:/-]{0,20}", number in any::<i64>().prop_filter("no overflow", |n| *n != i64::MIN), on in any::<bool>(),
    ) {
        let read = parse(&format!("a = {text:?}\nb = {number}\nc = [{on}]")).unwrap().value;
        prop_assert_eq!(read, serde_json::json!({ "a": text, "b": number, "c": [on] }));
    }
}
