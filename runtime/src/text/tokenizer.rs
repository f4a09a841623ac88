//! Tokenizers of Hugging Face's `tokenizer.json`.

use tokenizers::{PostProcessor, PostProcessorWrapper};

use super::TextError;

/// Turns text into token numbers and back.
pub struct Tokenizer {
    /// Without its post-processor, which runs after truncation.
    inner: tokenizers::Tokenizer,
    processor: Option<PostProcessorWrapper>,
}

/// How texts are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether the tokens that the model expects around a text, such as `[CLS]`, are added.
    pub special_tokens: bool,
    /// Limit of the number of tokens, and what is cut to keep it.
    pub truncation: Option<Truncation>,
}

impl Default for EncodeOptions {
    /// With special tokens, without limit.
    fn default() -> EncodeOptions {
        EncodeOptions { special_tokens: true, truncation: None }
    }
}

impl EncodeOptions {
    /// The text alone, as for a rendered conversation, which spells its special tokens out.
    pub fn plain() -> EncodeOptions {
        EncodeOptions { special_tokens: false, truncation: None }
    }

    /// With special tokens, cut to a number of tokens.
    pub fn at_most(max_length: usize) -> EncodeOptions {
        EncodeOptions { special_tokens: true, truncation: Some(Truncation { max_length, keep_first: false }) }
    }
}

/// A limit of the number of tokens. What goes beyond is cut off at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The limit, special tokens included.
    pub max_length: usize,
    /// Of a pair, cut only the second text, as for a question and its context; else the longer one.
    pub keep_first: bool,
}

/// A text, or a pair, as tokens. The lists are as long as `ids`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token numbers.
    pub ids: Vec<u32>,
    /// Segment of each token, where the model tells segments apart.
    pub type_ids: Vec<u32>,
    /// Bytes of the token's text that each token stands for; empty at 0 for special tokens.
    pub offsets: Vec<(usize, usize)>,
    /// Which text each token comes from, 0 or 1; `None` for special tokens.
    pub sequences: Vec<Option<u8>>,
}

/// Encodings as a rectangle, filled up at the right. Lists are row-major `[rows, length]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of encodings.
    pub rows: usize,
    /// Tokens of the longest.
    pub length: usize,
    /// Token numbers.
    pub ids: Vec<u32>,
    /// 1 for a token, 0 for filling.
    pub attention_mask: Vec<u32>,
    /// Segments; 0 for filling.
    pub token_type_ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Padding and truncation that it may ask for are left to the caller.
    ///
    /// # Errors
    /// Bytes that are no tokenizer.
    pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, TextError> {
        let invalid = |e: tokenizers::Error| TextError::InvalidTokenizer(e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(invalid)?;
        inner.with_padding(None).with_truncation(None).map_err(invalid)?;
        let processor = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        Ok(Tokenizer { inner, processor })
    }

    /// Tokens of one text.
    ///
    /// # Errors
    /// Text that the tokenizer refuses, or a limit without room for text.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Encoding, TextError> {
        let first = self.raw(text)?;
        self.finish(first, None, options)
    }

    /// Tokens of two texts in one sequence, such as a question and a context.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pair(&self, first: &str, second: &str, options: EncodeOptions) -> Result<Encoding, TextError> {
        let (first, second) = (self.raw(first)?, self.raw(second)?);
        self.finish(first, Some(second), options)
    }

    /// Tokens of several texts, filled up with `pad`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[&str], options: EncodeOptions, pad: u32) -> Result<Batch, TextError> {
        let encodings: Vec<Encoding> = texts.iter().map(|t| self.encode(t, options)).collect::<Result<_, _>>()?;
        Ok(Batch::new(&encodings, pad))
    }

    /// The text of tokens, with or without the special ones.
    ///
    /// # Errors
    /// Tokens that the decoder refuses; unknown numbers are left out.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        self.inner.decode(ids, skip_special_tokens).map_err(|e| TextError::Decode(e.to_string()))
    }

    /// A token as the vocabulary spells it, such as `##ing` or `Ġthe`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Number of a token of that spelling.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token is a special one, which text output leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|t| t.special)
    }

    /// One more than the largest token number that the vocabulary counts, added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn raw(&self, text: &str) -> Result<tokenizers::Encoding, TextError> {
        self.inner.encode(text, false).map_err(|e| TextError::Encode(e.to_string()))
    }

    /// Cuts, adds special tokens, merges.
    fn finish(
        &self,
        mut first: tokenizers::Encoding,
        mut second: Option<tokenizers::Encoding>,
        options: EncodeOptions,
    ) -> Result<Encoding, TextError> {
        if let Some(limit) = options.truncation {
            let added = match &self.processor {
                Some(processor) if options.special_tokens => processor.added_tokens(second.is_some()),
                _ => 0,
            };
            let lengths = (first.len(), second.as_ref().map(tokenizers::Encoding::len));
            let (keep_first, keep_second) = limit.lengths(lengths, added)?;
            cut(&mut first, keep_first);
            if let Some(second) = &mut second {
                cut(second, keep_second);
            }
        }
        let merged = match &self.processor {
            Some(processor) => processor
                .process(first, second, options.special_tokens)
                .map_err(|e| TextError::Encode(e.to_string()))?,
            None => {
                first.set_sequence_id(0);
                if let Some(mut second) = second {
                    second.set_sequence_id(1);
                    second.set_type_ids(vec![1; second.len()]);
                    first.merge_with(second, false);
                }
                first
            }
        };
        Ok(Encoding::new(&merged))
    }
}

fn cut(encoding: &mut tokenizers::Encoding, length: usize) {
    if length < encoding.len() {
        encoding.truncate(length, 0, tokenizers::TruncationDirection::Right);
        encoding.take_overflowing();
    }
}

impl Truncation {
    /// How many tokens of each text stay.
    fn lengths(self, (first, second): (usize, Option<usize>), added: usize) -> Result<(usize, usize), TextError> {
        let no_room = |needed| TextError::NoRoom { max_length: self.max_length, needed };
        let room = self.max_length.checked_sub(added).filter(|&r| r > 0).ok_or_else(|| no_room(added))?;
        let Some(second) = second else { return Ok((first.min(room), 0)) };
        if first + second <= room {
            return Ok((first, second));
        }
        if self.keep_first {
            return room.checked_sub(first).filter(|&s| s > 0).map(|s| (first, s)).ok_or(no_room(first + added));
        }
        let half = room / 2;
        // The shorter text stays whole if it takes no more than its half.
        Ok(match (first.min(second) <= half, first <= second) {
            (true, true) => (first, room - first),
            (true, false) => (room - second, second),
            (false, true) => (half, room - half),
            (false, false) => (room - half, half),
        })
    }
}

impl Encoding {
    fn new(encoding: &tokenizers::Encoding) -> Encoding {
        let special = encoding.get_special_tokens_mask();
        let sequences = encoding.get_sequence_ids();
        let of_text = |(s, &special): (Option<usize>, &u32)| s.filter(|_| special == 0).map(|s| s as u8);
        Encoding {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
            sequences: sequences.into_iter().zip(special).map(of_text).collect(),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Batch {
    /// Encodings filled up with `pad` to the length of the longest.
    pub fn new(encodings: &[Encoding], pad: u32) -> Batch {
        let (rows, length) = (encodings.len(), encodings.iter().map(Encoding::len).max().unwrap_or(0));
        let list = || Vec::with_capacity(rows * length);
        let (mut ids, mut attention_mask, mut token_type_ids) = (list(), list(), list());
        for encoding in encodings {
            let filling = length - encoding.len();
            ids.extend_from_slice(&encoding.ids);
            ids.extend(std::iter::repeat_n(pad, filling));
            attention_mask.extend(std::iter::repeat_n(1, encoding.len()));
            attention_mask.extend(std::iter::repeat_n(0, filling));
            token_type_ids.extend_from_slice(&encoding.type_ids);
            token_type_ids.extend(std::iter::repeat_n(0, filling));
        }
        Batch { rows, length, ids, attention_mask, token_type_ids }
    }
}
