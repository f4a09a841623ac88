//! Reading position in IR text, with the lexical pieces that ops and types are made of.

use crate::dim::Dim;
use crate::types::{DType, Type};

/// Text that is not valid IR, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A position in IR text. Every reading method first skips white space and comments.
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// How deep lists, dims and regions may nest: recursion on hostile text stays bounded.
const MAX_DEPTH: usize = 64;

impl<'a> Cursor<'a> {
    /// The start of a text.
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0, depth: 0 }
    }

    /// An error at the current position.
    pub fn error(&self, message: impl Into<String>) -> ParseError {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// Whether only white space and comments remain.
    pub fn at_end(&mut self) -> bool {
        self.skip();
        self.at == self.text.len()
    }

    /// Runs a reader one nesting level deeper.
    ///
    /// # Errors
    /// Those of the reader, or too deep a nesting.
    pub fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with(';') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Whether a token follows, without reading it.
    pub fn peek(&mut self, token: &str) -> bool {
        self.skip();
        self.rest().starts_with(token)
    }

    /// Reads a token if it follows.
    pub fn eat(&mut self, token: &str) -> bool {
        let found = self.peek(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When another text follows.
    pub fn expect(&mut self, token: &str) -> Result<(), ParseError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    /// Reads `key=` if it follows.
    pub fn eat_key(&mut self, key: &str) -> bool {
        self.skip();
        let found = self.rest().strip_prefix(key).is_some_and(|r| r.starts_with('='));
        if found {
            self.at += key.len() + 1;
        }
        found
    }

    /// Reads letters, digits, `_`, `.` and `-`-free names.
    ///
    /// # Errors
    /// When no such character follows.
    pub fn identifier(&mut self) -> Result<&'a str, ParseError> {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("expected a name"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// When none follows, or it is too large.
    pub fn integer(&mut self) -> Result<usize, ParseError> {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let value = rest[..end].parse().map_err(|_| self.error("expected an integer"))?;
        self.at += end;
        Ok(value)
    }

    /// Reads a floating-point number, `inf`, `-inf` or `NaN`.
    ///
    /// # Errors
    /// When none follows.
    pub fn number(&mut self) -> Result<f64, ParseError> {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let value = rest[..end].parse().map_err(|_| self.error("expected a number"))?;
        self.at += end;
        Ok(value)
    }

    /// Reads a quoted string with Rust's escapes for quote, backslash, newline and tab.
    ///
    /// # Errors
    /// When none follows or it does not end.
    pub fn string(&mut self) -> Result<String, ParseError> {
        self.expect("\"")?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, c @ ('"' | '\\' | '\''))) => out.push(c),
                    _ => return Err(self.error("unknown escape in a string")),
                },
                c => out.push(c),
            }
        }
        Err(self.error("string without end"))
    }

    /// Reads a bracketed list separated by commas.
    ///
    /// # Errors
    /// Those of the element reader, or a missing bracket.
    pub fn list<T>(
        &mut self,
        open: &str,
        close: &str,
        mut element: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        self.expect(open)?;
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.expect(",")?;
            }
            out.push(self.nested(&mut element)?);
        }
        Ok(out)
    }

    /// Reads a dim: sums, differences, products and floor quotients of integers and symbols.
    ///
    /// # Errors
    /// When none follows.
    pub fn dim(&mut self) -> Result<Dim, ParseError> {
        self.nested(|c| {
            let negative = c.eat("-");
            let first = c.dim_product()?;
            let mut sum = if negative { Dim::constant(0) - first } else { first };
            loop {
                if c.eat("+") {
                    sum = sum + c.dim_product()?;
                } else if c.eat("-") {
                    sum = sum - c.dim_product()?;
                } else {
                    return Ok(sum);
                }
            }
        })
    }

    fn dim_product(&mut self) -> Result<Dim, ParseError> {
        let mut product = self.dim_atom()?;
        loop {
            if self.eat("*") {
                product = product * self.dim_atom()?;
            } else if self.eat("/") {
                let divisor = i64::try_from(self.integer()?).ok().filter(|&d| d > 0);
                product =
                    product.div_floor(divisor.ok_or_else(|| self.error("a dim is divided by a positive integer"))?);
            } else {
                return Ok(product);
            }
        }
    }

    fn dim_atom(&mut self) -> Result<Dim, ParseError> {
        if self.eat("(") {
            let inner = self.dim()?;
            self.expect(")")?;
            return Ok(inner);
        }
        self.skip();
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Dim::from(self.integer()?));
        }
        Ok(Dim::symbol(self.identifier()?))
    }

    /// Reads a type such as `f32[b,s,64]`.
    ///
    /// # Errors
    /// When none follows.
    pub fn ty(&mut self) -> Result<Type, ParseError> {
        let name = self.identifier()?;
        let dtype = DType::from_name(name).ok_or_else(|| self.error(format!("`{name}` is not an element type")))?;
        Ok(Type { dtype, shape: self.list("[", "]", Cursor::dim)? })
    }
}
