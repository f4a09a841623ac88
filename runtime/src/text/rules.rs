//! What tokens can follow a text whatever their scores, as transformers' processors of logits have it.

use castiron_ir::Rules;

/// Where a text stands that is about to get its next token.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// All of its tokens; an encoder–decoder's begin with its start token.
    pub text: &'a [u32],
    /// How many of them were given.
    pub given: usize,
    /// What an encoder–decoder has read, else nothing.
    pub source: &'a [u32],
    /// Tokens that end texts.
    pub end: &'a [u32],
    /// How many new tokens the text has at least.
    pub min_new_tokens: usize,
    /// Whether there is room for one more token only.
    pub is_last: bool,
}

impl Place<'_> {
    /// The token that has to follow, if the rules force one.
    pub fn forced(&self, rules: &Rules) -> Option<u32> {
        let end = rules.forced_eos.iter().min().filter(|_| self.is_last);
        end.copied().or(rules.forced_bos.filter(|_| self.text.len() == 1))
    }

    /// Adds the tokens that cannot follow, some of them more than once.
    pub fn ban(&self, rules: &Rules, banned: &mut Vec<u32>) {
        for word in &rules.bad_words {
            let Some((last, before)) = word.split_last() else { continue };
            if self.text.ends_with(before) && !(before.is_empty() && self.end.contains(last)) {
                banned.push(*last);
            }
        }
        self.ban_repeats(rules.no_repeat_ngram, self.text, banned);
        self.ban_repeats(rules.encoder_no_repeat_ngram, self.source, banned);
        if self.text.len() < rules.min_length || self.text.len() - self.given < self.min_new_tokens {
            banned.extend(self.end);
        }
        banned.extend(&rules.suppress);
        // A forced first token is not the beginning that is meant.
        let begin = self.given + usize::from(self.given <= 1 && rules.forced_bos.is_some());
        if self.text.len() == begin {
            banned.extend(&rules.begin_suppress);
        }
    }

    /// Bans the tokens that would make the text's end a sequence of `n` tokens that occurs in `of`.
    fn ban_repeats(&self, n: usize, of: &[u32], banned: &mut Vec<u32>) {
        if n == 0 || self.text.len() + 1 < n {
            return;
        }
        let end = &self.text[self.text.len() + 1 - n..];
        banned.extend(of.windows(n).filter(|window| window[..n - 1] == *end).map(|window| window[n - 1]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banned(place: &Place<'_>, rules: &Rules) -> Vec<u32> {
        let mut banned = Vec::new();
        place.ban(rules, &mut banned);
        banned
    }

    const PLACE: Place<'_> =
        Place { text: &[0, 5, 6, 5], given: 1, source: &[5, 8, 5, 9], end: &[2], min_new_tokens: 0, is_last: false };

    #[test]
    fn words_are_banned_where_they_would_be_complete() {
        let bad_words = vec![vec![7], vec![2], vec![6, 5, 4], vec![6, 3], vec![1, 0, 5, 6, 5, 9]];
        assert_eq!(banned(&PLACE, &Rules { bad_words, ..Rules::default() }), [7, 4]);
    }

    #[test]
    fn sequences_occur_once() {
        assert_eq!(banned(&PLACE, &Rules { no_repeat_ngram: 2, ..Rules::default() }), [6]);
        assert_eq!(banned(&PLACE, &Rules { no_repeat_ngram: 3, ..Rules::default() }), [0_u32; 0]);
        assert_eq!(banned(&PLACE, &Rules { no_repeat_ngram: 9, ..Rules::default() }), [0_u32; 0]);
        assert_eq!(banned(&PLACE, &Rules { encoder_no_repeat_ngram: 2, ..Rules::default() }), [8, 9]);
    }

    #[test]
    fn texts_do_not_end_early() {
        assert_eq!(banned(&PLACE, &Rules { min_length: 5, ..Rules::default() }), [2]);
        assert_eq!(banned(&PLACE, &Rules { min_length: 4, ..Rules::default() }), [0_u32; 0]);
        assert_eq!(banned(&Place { min_new_tokens: 4, ..PLACE }, &Rules::default()), [2]);
    }

    #[test]
    fn some_tokens_do_not_begin_texts() {
        let rules = Rules { suppress: vec![3], begin_suppress: vec![4], ..Rules::default() };
        assert_eq!(banned(&PLACE, &rules), [3]);
        assert_eq!(banned(&Place { given: 4, ..PLACE }, &rules), [3, 4]);
        let forced = Rules { forced_bos: Some(9), ..rules };
        assert_eq!(banned(&Place { text: &[0, 9], ..PLACE }, &forced), [3, 4]);
    }

    #[test]
    fn first_and_last_tokens_are_forced() {
        let rules = Rules { forced_bos: Some(9), forced_eos: vec![2, 1], ..Rules::default() };
        assert_eq!(PLACE.forced(&rules), None);
        assert_eq!(Place { text: &[0], ..PLACE }.forced(&rules), Some(9));
        assert_eq!(Place { is_last: true, ..PLACE }.forced(&rules), Some(1));
    }
}
