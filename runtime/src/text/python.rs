//! JSON as Python's `json.dumps` writes it, which chat templates' `tojson` shows to the model.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Layout of JSON text.
#[derive(Clone, Debug)]
pub(super) struct JsonStyle {
    /// What one level of nesting is indented by; on one line when absent.
    pub indent: Option<String>,
    /// Between items.
    pub comma: String,
    /// Between key and value.
    pub colon: String,
    /// Whether keys are in order.
    pub sort_keys: bool,
    /// Whether characters beyond ASCII are escaped.
    pub ascii: bool,
}

impl JsonStyle {
    /// The value as text.
    pub fn dump(&self, value: &Value) -> String {
        let mut out = String::new();
        self.value(value, 0, &mut out);
        out
    }

    fn value(&self, value: &Value, depth: usize, out: &mut String) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) => number(n, out),
            Value::String(s) => self.string(s, out),
            Value::Array(items) => {
                self.items(('[', ']'), items, depth, out, |item, out| self.value(item, depth + 1, out));
            }
            Value::Object(map) => {
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|e| e.0);
                }
                self.items(('{', '}'), &entries, depth, out, |(key, item), out| {
                    self.string(key, out);
                    out.push_str(&self.colon);
                    self.value(item, depth + 1, out);
                });
            }
        }
    }

    fn items<T>(
        &self,
        (open, close): (char, char),
        items: &[T],
        depth: usize,
        out: &mut String,
        write: impl Fn(&T, &mut String),
    ) {
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.comma);
            }
            self.new_line(depth + 1, out);
            write(item, out);
        }
        if !items.is_empty() {
            self.new_line(depth, out);
        }
        out.push(close);
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Python's `repr` of a number: floats show a point, and an exponent outside 1e-4 … 1e16.
fn number(n: &Number, out: &mut String) {
    let Some(x) = n.as_f64().filter(|_| n.is_f64()) else {
        let _ = write!(out, "{n}");
        return;
    };
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        let _ = write!(out, "{x:?}");
        return;
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_python_s() {
        let style = JsonStyle { indent: None, comma: ", ".into(), colon: ": ".into(), sort_keys: false, ascii: false };
        let value: Value =
            serde_json::from_str(r#"{"b":[1,-2.50,true,null],"a":{"é<\"'":"\u0001\n"},"n":[1e300,1e-7,1e15,3.0,[]]}"#)
                .expect("valid JSON");
        let flat = r#"{"b": [1, -2.5, true, null], "a": {"é<\"'": "\u0001\n"}, "n": [1e+300, 1e-07, 1000000000000000.0, 3.0, []]}"#;
        assert_eq!(style.dump(&value), flat);
        let value: Value = serde_json::from_str(r#"{"b":[1,{}],"a":"😀é"}"#).expect("valid JSON");
        let pretty = JsonStyle { indent: Some("  ".into()), comma: ",".into(), sort_keys: true, ascii: true, ..style };
        let expected = "{\n  \"a\": \"\\ud83d\\ude00\\u00e9\",\n  \"b\": [\n    1,\n    {}\n  ]\n}";
        assert_eq!(pretty.dump(&value), expected);
    }
}
