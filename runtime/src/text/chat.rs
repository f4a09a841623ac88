//! Chat templates: Jinja that lays a conversation out as text.
//!
//! The dialect is that of transformers' `apply_chat_template`: blocks trimmed, Python's methods on
//! strings, lists and maps, loop controls, `raise_exception`, `strftime_now`, `tojson`, and
//! `generation` blocks, which mark a part of the text without changing it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use super::python::JsonStyle;
use super::{Date, TextError};

/// What one side of a conversation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant`, `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }
}

/// What a template is told besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// Whether the text ends where the answer begins.
    pub add_generation_prompt: bool,
    /// What `strftime_now` gives; a template that asks without it fails.
    pub now: Option<Date>,
    /// Further variables, such as `tools` or `enable_thinking`.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
}

const NAME: &str = "chat";
/// How many instructions, or 64 bytes of text each, a rendering may cost: far more than conversations
/// need, and an end to a hostile template's loops.
const FUEL: u64 = 20_000_000;

/// The message of a `raise_exception`, told apart from the engine's own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Compiles a template; `special_tokens` by role are variables of that name.
    ///
    /// # Errors
    /// Text that is no template.
    pub fn new(source: &str, special_tokens: &BTreeMap<String, String>) -> Result<ChatTemplate, TextError> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| template_error(&e))?,
        );
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(true); // errors keep their line
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
        });
        let source = without_generation_tags(source).into_owned();
        environment.add_template_owned(NAME, source).map_err(|e| template_error(&e))?;
        Ok(ChatTemplate { environment, special_tokens: special_tokens.clone() })
    }

    /// The conversation as text. Messages are [`ChatMessage`]s or anything that serialises to maps
    /// with `role` and `content`.
    ///
    /// # Errors
    /// A conversation that the template refuses, or a template that fails on it.
    pub fn render<M: Serialize>(&self, messages: &[M], request: &ChatRequest) -> Result<String, TextError> {
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        for name in ["tools", "documents"] {
            variables.insert(name, Value::from(()));
        }
        for (role, token) in &self.special_tokens {
            variables.insert(role, Value::from(token.as_str()));
        }
        for (name, value) in &request.variables {
            variables.insert(name, Value::from(Serde(value)));
        }
        let now = request.now;
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert("add_generation_prompt", Value::from(request.add_generation_prompt));
        variables.insert("strftime_now", Value::from_function(move |format: &str| strftime(now, format)));
        let template = self.environment.get_template(NAME).map_err(|e| template_error(&e))?;
        template.render(Value::from_pairs(variables)).map_err(|e| template_error(&e))
    }
}

fn strftime(now: Option<Date>, format: &str) -> Result<String, Error> {
    let fails = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let now = now.ok_or_else(|| fails("the template asks for the date, and none was given".into()))?;
    now.format(format).ok_or_else(|| fails(format!("unknown conversion in date format {format:?}")))
}

/// `tojson` as transformers defines it: `json.dumps` with `ensure_ascii=False` and no HTML escapes.
fn to_json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let option = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| positional.get(place).cloned()).filter(|v| !v.is_none()))
    };
    let ascii = option(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = option(1, "indent")?.map(|v| match v.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => usize::try_from(v).map(|n| " ".repeat(n.min(64))),
    });
    let indent = indent.transpose()?;
    let (comma, colon) = match option(2, "separators")? {
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let sort_keys = option(3, "sort_keys")?.is_some_and(|v| v.is_true());
    options.assert_all_used()?;
    let tree = serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, "the value has no JSON").with_source(e))?;
    Ok(Value::from(JsonStyle { indent, comma, colon, sort_keys, ascii }.dump(&tree)))
}

/// The template with `{% generation %}` as a block that is always taken: line by line the same.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[..end];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || "+-".contains(c));
        match word {
            "generation" => out.push_str(&inner.replace(word, "if true")),
            "endgeneration" => out.push_str(&inner.replace(word, "endif")),
            _ => out.push_str(inner),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn template_error(error: &Error) -> TextError {
    let line = error.line().unwrap_or(0);
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(raised) = inner.downcast_ref::<Raised>() {
            return TextError::Refused { line, message: raised.0.clone() };
        }
        cause = inner.source();
    }
    let message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    TextError::Template { line, message }
}
