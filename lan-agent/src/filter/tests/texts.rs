//! Texts that are filters, and texts that are not: what is said of them.

use proptest::prelude::*;

use super::super::{DEPTH_MAX, Filter, FilterError, LEN_MAX, PATTERNS_MAX, Schema, parse};

#[test]
fn expressions_are_printed_in_one_form() {
    for (text, printed) in [
        ("a==b", "a == \"b\""),
        ("a != `x\"y\\`", r#"a != "x\x22y\\""#),
        (" a . b == c", ""),
        ("x in a.b[\"c d\"][`e`]", "a.b[\"c d\"].e contains \"x\""),
        ("x.y[\" \"] not in a", "\"x.y. \" not in a"),
        ("a is  empty or a is not\tempty", "a is empty or a is not empty"),
        ("a==1 and b==-2.50 or c==0", r#"(a == "1" and b == "-2.50") or c == "0""#),
        ("(a==1 and (b==2 or c==3))", r#"a == "1" and (b == "2" or c == "3")"#),
        ("not not (a==b)", "not not a == \"b\""),
        ("not a==b and c==d", r#"not a == "b" and c == "d""#),
        ("not (a==b and c==d)", r#"not (a == "b" and c == "d")"#),
        ("not in a", "a contains \"not\""),
        ("not not in a", "not a contains \"not\""),
        ("not not in not in not", r#"not not "in" not in not"#),
        ("not not not in a", "not not a contains \"not\""),
        ("and and in or or or in and", ""),
        ("or in and or and in or", r#"and contains "or" or or contains "and""#),
        ("in matches matches", "in matches \"matches\""),
        ("a not matches \"\\u00e9\\t\\x41\\101\\U0001F600\"", "a not matches \"é\\tAA😀\""),
        ("a == \"x\\\"y\"", r#"a == "x\x22y""#),
        ("a == `x\r\ny`", "a == \"x\\ny\""),
    ] {
        let told = parse(text).map(|it| it.to_string()).unwrap_or_default();
        assert_eq!(told, printed, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_told_with_its_place() {
    for (text, at, message) in [
        ("", "1:1 (0)", "expected a selector, a value, \"not\" or \"(\", found the end"),
        ("== a", "1:1 (0)", "expected a selector, a value, \"not\" or \"(\", found '='"),
        ("a", "1:2 (1)", "expected an operator"),
        ("a = b", "1:3 (2)", "expected an operator"),
        ("a ==", "1:5 (4)", "expected a value, found the end"),
        ("a == 'b'", "1:6 (5)", "expected a value, found '\\''"),
        ("a == b and", "1:8 (7)", "expected \"and\", \"or\" or the end"),
        ("a == b\nor\nc = d", "3:3 (12)", "expected an operator"),
        ("é == b", "1:1 (0)", "found 'é'"),
        ("a == `é` b", "1:10 (10)", "expected \"and\", \"or\" or the end, found 'b'"),
        ("(a == b", "1:8 (7)", "expected \"and\", \"or\" or \")\", found the end"),
        ("a == b)", "1:7 (6)", "expected \"and\", \"or\" or the end, found ')'"),
        ("a == 1.2.3", "1:6 (5)", "Invalid number literal"),
        ("a == 01", "1:6 (5)", "Invalid number literal"),
        ("a == -", "1:6 (5)", "Invalid number literal"),
        ("a == 1and", "1:6 (5)", "Invalid number literal"),
        ("a == \"b", "1:6 (5)", "Unterminated string literal"),
        ("a == `b", "1:6 (5)", "Unterminated string literal"),
        ("a == \"\\q\"", "1:6 (5)", "invalid syntax"),
        ("a == \"\\xff\"", "1:6 (5)", "invalid syntax"),
        ("a == \"\\ud800\"", "1:6 (5)", "invalid syntax"),
        ("a == \"\n\"", "1:6 (5)", "invalid syntax"),
        ("a[b] == c", "1:3 (2)", "Invalid index"),
        ("a[\"b\" == c", "1:7 (6)", "Unclosed index expression"),
        ("a. == c", "1:2 (1)", "expected a name after \".\""),
        ("a is full", "1:6 (5)", "expected \"empty\" or \"not empty\""),
        ("\"a\" == b", "1:4 (3)", "expected \"in\" or \"not in\" after a value"),
        ("a in 1", "1:6 (5)", "expected a selector"),
        ("not a = b", "1:7 (6)", "expected an operator"),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(told.starts_with(&format!("{at}: ")) && told.contains(message), "{text}: {told}");
    }
}

#[test]
fn texts_nesting_and_patterns_are_bounded() {
    let nested = |count: usize, word: &str, close: &str| {
        format!("{}a == b{}", word.repeat(count), close.repeat(count))
    };
    for (word, close) in [("(", ")"), ("not ", ""), ("not (", ")")] {
        let most = DEPTH_MAX / if word == "not (" { 2 } else { 1 };
        assert!(parse(&nested(most, word, close)).is_ok(), "{word}");
        assert_eq!(parse(&nested(most + 1, word, close)), Err(FilterError::TooDeep), "{word}");
        let all = nested(LEN_MAX / 8, word, close);
        assert_eq!(parse(&all), Err(FilterError::TooDeep), "{word}");
    }
    let long = format!("a == `{}`", "x".repeat(LEN_MAX));
    assert_eq!(parse(&long), Err(FilterError::TooLong(long.len())));
    let pattern = |count| vec!["Node matches x"; count].join(" or ");
    assert!(Filter::compile(&pattern(PATTERNS_MAX), Schema::Nodes).is_ok());
    let told = Filter::compile(&pattern(PATTERNS_MAX + 1), Schema::Nodes).unwrap_err();
    assert_eq!(told, FilterError::TooManyPatterns);
    let told = Filter::compile(r#"Node matches "(\\w{99}){99}""#, Schema::Nodes).unwrap_err();
    assert!(told.to_string().contains("exceeds size limit"), "{told}");
}

#[test]
fn what_can_not_be_asked_of_a_schema_is_told() {
    for (schema, text, told) in [
        (
            Schema::Nodes,
            "node == x",
            "Selector \"node\" is not valid: did you mean \"Node\"? there are ID, Node, Address, \
             Datacenter, TaggedAddresses, TaggedAddresses.<key>, Meta, Meta.<key>",
        ),
        (
            Schema::Checks,
            "Definition.HTTP == x",
            "Selector \"Definition\" is not valid: there are Node, CheckID, Name, Status, Notes, \
             Output, ServiceID, ServiceName, ServiceTags, Type",
        ),
        (
            Schema::Nodes,
            "Meta.a.b == x",
            "Selector \"Meta.a.b\" is not valid: there are ID, Node, Address, Datacenter, \
             TaggedAddresses, TaggedAddresses.<key>, Meta, Meta.<key>",
        ),
        (
            Schema::Services,
            "Tags == x",
            "Invalid match operator \"Equal\" for selector \"Tags\": it has in, contains, is empty",
        ),
        (
            Schema::Services,
            "Weights is not empty",
            "Invalid match operator \"Is Not Empty\" for selector \"Weights\": only what is in it \
             can be tested",
        ),
        (
            Schema::Services,
            "Port != 080",
            "1:9 (8): Invalid number literal: other values need quotes",
        ),
        (
            Schema::Services,
            "Port != \"080\"",
            "Failed to coerce value \"080\" for selector \"Port\": strconv.ParseInt: parsing \
             \"080\": invalid syntax",
        ),
        (
            Schema::Services,
            "EnableTagOverride == no",
            "Failed to coerce value \"no\" for selector \"EnableTagOverride\": strconv.ParseBool: \
             parsing \"no\": invalid syntax",
        ),
        (
            Schema::Services,
            "Service matches \"(\"",
            "Failed to compile regular expression \"(\": unclosed group",
        ),
    ] {
        let error = Filter::compile(text, schema).unwrap_err();
        assert_eq!(error.to_string(), told, "{text}");
    }
}

#[test]
fn numbers_are_read_in_all_bases_of_go() {
    for (value, holds) in [
        ("80", true),
        ("\"0x50\"", true),
        ("\"0X50\"", true),
        ("\"0b1010000\"", true),
        ("\"0o120\"", true),
        ("\"0120\"", true),
        ("\"+80\"", true),
        ("-80", false),
        ("\"-0\"", false),
        ("-9223372036854775808", false),
    ] {
        assert_eq!(super::admits(&format!("Port == {value}"), Schema::Services), holds, "{value}");
    }
    for value in ["\"\"", "\"-\"", "\"0x\"", "\"--1\"", "\"0x-1\"", "\"1_0_\"", "80.0", "\"٣\""] {
        let told = Filter::compile(&format!("Port == {value}"), Schema::Services).unwrap_err();
        assert!(told.to_string().ends_with("invalid syntax"), "{value}: {told}");
    }
    let told = Filter::compile("Port == 9223372036854775808", Schema::Services).unwrap_err();
    assert!(told.to_string().ends_with("value out of range"), "{told}");
}

/// Texts that are often nearly expressions.
fn scraps() -> impl Strategy<Value = String> {
    let words = [
        "not", "and", "or", "in", "is", "empty", "contains", "matches", "==", "!=", "(", ")", "[",
        "]", "\"", "`", "\\", ".", "a", "Node", "Meta", "Port", "\"x\"", "`y`", "1", "-2.5", "é",
        "\n", "\\x41",
    ];
    let word = prop_oneof![8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,3}"];
    prop::collection::vec((word, prop::bool::weighted(0.8)), 0..24).prop_map(|words| {
        let spaced = |(word, spaced): (String, bool)| word + if spaced { " " } else { "" };
        words.into_iter().map(spaced).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_stops_the_parser(text in prop_oneof![scraps(), ".{0,40}"]) {
        if let Ok(expression) = parse(&text) {
            let printed = expression.to_string();
            prop_assert_eq!(parse(&printed), Ok(expression), "{} was printed as {}", text, printed);
        }
        for schema in [Schema::Nodes, Schema::Services, Schema::Health] {
            let _ = Filter::compile(&text, schema).map(|filter| filter.admits(&super::row()));
        }
    }
}
