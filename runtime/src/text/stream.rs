//! Text of tokens as they come.

use super::{TextError, Tokenizer};

/// Prints tokens one by one: what it returns, joined, is the text of all tokens.
///
/// A token's text depends on its neighbours: it may hold part of a character, and a decoder may drop
/// the space before a first word. So each token is decoded together with the tokens printed last,
/// and what goes beyond their text is new. Only complete characters are printed; bytes that are no
/// UTF-8 become U+FFFD once it is certain that no later token completes them. The tokens kept are
/// few, so a token costs the same however long the text is.
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special_tokens: bool,
    /// Tokens printed last, then those that wait.
    window: Vec<u32>,
    /// How many tokens of the window were printed, in full or in part.
    context: usize,
    /// How many tokens came since the text last ended in a complete character.
    open: usize,
    /// The part of the window's text that was printed.
    printed: String,
    fresh: String,
}

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: char = '\u{FFFD}';
/// Bytes of the longest character, and so the most tokens that can wait for one.
const LONGEST: usize = 4;
/// When to stop waiting for text whose meaning is still open.
const MAX_WINDOW: usize = 64;

impl<'a> TokenStream<'a> {
    /// A stream at the start of a text.
    pub fn new(tokenizer: &'a Tokenizer, skip_special_tokens: bool) -> TokenStream<'a> {
        let (window, printed, fresh) = (Vec::new(), String::new(), String::new());
        TokenStream { tokenizer, skip_special_tokens, window, context: 0, open: 0, printed, fresh }
    }

    /// A stream that continues a text of given tokens, which it does not print.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn after(
        tokenizer: &'a Tokenizer,
        skip_special_tokens: bool,
        tokens: &[u32],
    ) -> Result<TokenStream<'a>, TextError> {
        let mut stream = TokenStream::new(tokenizer, skip_special_tokens);
        let shown = |id: &&u32| !(skip_special_tokens && tokenizer.is_special(**id));
        stream.window.extend(tokens.iter().rev().filter(shown).take(2 * LONGEST));
        stream.window.reverse();
        stream.context = stream.window.len();
        stream.printed = stream.decode(&stream.window)?;
        Ok(stream)
    }

    /// The text that a token adds; empty while a character is incomplete.
    ///
    /// # Errors
    /// A token that cannot be decoded.
    pub fn push(&mut self, token: u32) -> Result<&str, TextError> {
        self.fresh.clear();
        if self.skip_special_tokens && self.tokenizer.is_special(token) {
            return Ok(&self.fresh);
        }
        self.window.push(token);
        let text = self.decode(&self.window)?;
        if !text.ends_with(REPLACEMENT) {
            self.open = 0;
            self.print(&text)?;
            // A token without text of its own stays, since it may decide about the next one's space.
            if !self.fresh.is_empty() || self.window.len() > MAX_WINDOW {
                self.window.drain(..self.context);
                self.restart()?;
            }
            return Ok(&self.fresh);
        }
        self.open += 1;
        if self.open >= LONGEST {
            // No character takes so many tokens: all but the last mark is certain.
            self.print(&text[..text.len() - REPLACEMENT.len_utf8()])?;
            self.shorten()?;
        }
        Ok(&self.fresh)
    }

    /// The text of tokens that still wait, as it is when no other token follows.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn finish(&mut self) -> Result<&str, TextError> {
        self.fresh.clear();
        let text = self.decode(&self.window)?;
        self.print(&text)?;
        self.window.clear();
        self.open = 0;
        self.restart()?;
        Ok(&self.fresh)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        self.tokenizer.decode(tokens, self.skip_special_tokens)
    }

    /// Makes `fresh` what the window's text has beyond what was printed.
    fn print(&mut self, text: &str) -> Result<(), TextError> {
        match text.strip_prefix(self.printed.as_str()) {
            Some(rest) => self.fresh.push_str(rest),
            // Later tokens changed the text of earlier ones: what is printed stays.
            None => self.fresh = self.decode(&self.window[self.context..])?,
        }
        self.printed.clear();
        self.printed.push_str(text);
        Ok(())
    }

    /// Takes the whole window as printed.
    fn restart(&mut self) -> Result<(), TextError> {
        self.context = self.window.len();
        self.printed = self.decode(&self.window)?;
        Ok(())
    }

    /// Keeps the last tokens only, and leaves the last mark of their text open.
    fn shorten(&mut self) -> Result<(), TextError> {
        for kept in LONGEST..self.window.len() {
            let text = self.decode(&self.window[self.window.len() - kept..])?;
            let open = text.strip_suffix(REPLACEMENT);
            if open.is_some() || self.window.len() > MAX_WINDOW {
                self.printed = open.unwrap_or(&text).to_owned();
                self.window.drain(..self.window.len() - kept);
                break;
            }
        }
        self.context = self.window.len().saturating_sub(LONGEST - 1);
        Ok(())
    }
}
