//! JSON as clients want it: answers come compact, and `?pretty` indents them as Go does.

use bytes::Bytes;

/// What one level is indented by.
const INDENT: &[u8] = b"    ";

/// Indents compact JSON by four spaces and ends it with a line break. Empty lists and objects
/// stay on their line. Works on the bytes, so that numbers and their digits stay as they are.
pub(super) fn pretty(compact: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, &byte) in compact.iter().enumerate() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    break_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(at.checked_sub(1).map(|before| compact[before]), Some(b'{' | b'[')) {
                    break_line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                break_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => out.push(byte),
        }
    }
    out.push(b'\n');
    out.into()
}

fn break_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    for _ in 0..depth {
        out.extend_from_slice(INDENT);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn looks_as_go_indents() {
        let compact = br#"[{"Key":"a,\"{","Value":null,"Tags":{},"L":[1,2],"E":[]}]"#;
        let expected = "[\n    {\n        \"Key\": \"a,\\\"{\",\n        \"Value\": null,\n        \
                        \"Tags\": {},\n        \"L\": [\n            1,\n            2\n        ],\n        \
                        \"E\": []\n    }\n]\n";
        assert_eq!(pretty(compact), expected);
        assert_eq!(pretty(b"true"), "true\n");
    }

    proptest! {
        #[test]
        fn means_the_same(texts: Vec<String>, numbers: Vec<u64>) {
            let value = serde_json::json!({ "texts": texts, "numbers": numbers });
            let compact = serde_json::to_vec(&value).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&pretty(&compact)).unwrap();
            prop_assert_eq!(read, value);
        }

        #[test]
        fn takes_any_bytes(bytes: Vec<u8>) {
            pretty(&bytes);
        }
    }
}
