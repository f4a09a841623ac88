//! The choice of the next token from the scores of all tokens.
//!
//! Settings mean what they mean in transformers, and apply in its order: repetition penalty,
//! temperature, top-k, top-p.

use std::cmp::Ordering;

use castiron_ir::Generation;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the scores before drawing. 0 takes the best token always, as does a model that does
    /// not ask to sample.
    pub temperature: f32,
    /// Draw among so many of the best; 0 is all.
    pub top_k: usize,
    /// Draw among the best whose probabilities just reach this sum; 1 is all.
    pub top_p: f32,
    /// Divides positive and multiplies negative scores of tokens that have occurred; 1 is nothing.
    pub repetition_penalty: f32,
}

impl Sampling {
    /// The best token always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0 };

    /// A model's own defaults. Where a model asks to sample and leaves top-k open, it is 50, as in
    /// transformers.
    pub fn of_model(generation: &Generation) -> Sampling {
        let repetition_penalty = generation.repetition_penalty.unwrap_or(1.0);
        if !generation.do_sample {
            return Sampling { repetition_penalty, ..Sampling::GREEDY };
        }
        Sampling {
            temperature: generation.temperature.unwrap_or(1.0),
            top_k: generation.top_k.map_or(50, |k| k as usize),
            top_p: generation.top_p.unwrap_or(1.0),
            repetition_penalty,
        }
    }

    /// Whether the choice is the best token, without chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature <= 0.0
    }
}

/// No token can be chosen: no score is a number above -∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of {0} scores is a number above -inf")]
pub struct NoCandidate(pub usize);

/// Chooses tokens. Equal seeds and scores give equal tokens. After its first call it allocates
/// nothing while rows keep their length.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    random: SplitMix64,
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    token: u32,
}

impl Candidate {
    /// The higher score first, then the smaller number.
    fn order(&self, other: &Candidate) -> Ordering {
        other.score.total_cmp(&self.score).then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// A sampler whose draws follow from `seed`.
    pub fn new(settings: Sampling, seed: u64) -> Sampler {
        Sampler { settings, random: SplitMix64(seed), scores: Vec::new(), candidates: Vec::new() }
    }

    /// Its settings.
    pub fn settings(&self) -> &Sampling {
        &self.settings
    }

    /// Chooses from the scores of all tokens. `history` holds the tokens that the repetition penalty
    /// falls on, in any order, repeated or not; tokens of `banned` are never chosen, as the end of a
    /// text is while it has to be longer.
    ///
    /// # Errors
    /// A row without any score above -∞. NaN counts as -∞.
    pub fn choose(&mut self, logits: &[f32], history: &[u32], banned: &[u32]) -> Result<u32, NoCandidate> {
        if self.leaves_scores(history, banned) {
            return self.choose_from(logits);
        }
        let penalty = self.settings.repetition_penalty;
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        scores.extend_from_slice(logits);
        for &token in history {
            // From the original score, so that a repeated token is penalised once.
            if let (Some(slot), Some(&score)) = (scores.get_mut(token as usize), logits.get(token as usize)) {
                *slot = if score < 0.0 { score * penalty } else { score / penalty };
            }
        }
        for &token in banned {
            if let Some(slot) = scores.get_mut(token as usize) {
                *slot = f32::NEG_INFINITY;
            }
        }
        let chosen = self.choose_from(&scores);
        self.scores = scores;
        chosen
    }

    /// Whether [`Sampler::choose`] takes the first of the largest scores, whatever they are.
    pub fn takes_best(&self, history: &[u32], banned: &[u32]) -> bool {
        self.settings.is_greedy() && self.leaves_scores(history, banned)
    }

    fn leaves_scores(&self, history: &[u32], banned: &[u32]) -> bool {
        (self.settings.repetition_penalty == 1.0 || history.is_empty()) && banned.is_empty()
    }

    fn choose_from(&mut self, scores: &[f32]) -> Result<u32, NoCandidate> {
        let best = best(scores)?;
        let top = scores[best as usize];
        if self.settings.is_greedy() || top == f32::INFINITY {
            return Ok(best);
        }
        let scale = 1.0 / f64::from(self.settings.temperature);
        let weight = |score: f32| (f64::from(score - top) * scale).exp();
        let (k, p) = (self.settings.top_k, f64::from(self.settings.top_p));
        let draw = self.random.unit();
        if (k == 0 || k >= scores.len()) && p >= 1.0 {
            let weights = || scores.iter().map(|&s| if s > f32::NEG_INFINITY { weight(s) } else { 0.0 });
            return Ok(pick(weights(), draw).map_or(best, |i| i as u32));
        }
        let numbered = scores.iter().zip(0..).map(|(&score, token)| Candidate { score, token });
        self.candidates.clear();
        self.candidates.extend(numbered.filter(|c| c.score > f32::NEG_INFINITY));
        if k > 0 {
            keep_top_k(&mut self.candidates, k);
        }
        if p < 1.0 {
            keep_top_p(&mut self.candidates, p, weight);
        }
        let chosen = pick(self.candidates.iter().map(|c| weight(c.score)), draw);
        Ok(chosen.map_or(best, |i| self.candidates[i].token))
    }
}

/// The first of the largest scores.
fn best(scores: &[f32]) -> Result<u32, NoCandidate> {
    let mut best = None;
    let mut top = f32::NEG_INFINITY;
    for (&score, token) in scores.iter().zip(0..) {
        if score > top {
            (top, best) = (score, Some(token));
        }
    }
    best.ok_or(NoCandidate(scores.len()))
}

/// Keeps the `k` best, and what equals the last of them.
fn keep_top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k >= candidates.len() {
        return;
    }
    let (_, last, _) = candidates.select_nth_unstable_by(k - 1, Candidate::order);
    let threshold = last.score;
    candidates.retain(|c| c.score >= threshold);
}

/// Keeps the fewest of the best whose probabilities reach `p`; the best one in any case.
fn keep_top_p(candidates: &mut Vec<Candidate>, p: f64, weight: impl Fn(f32) -> f64) {
    let total: f64 = candidates.iter().map(|c| weight(c.score)).sum();
    let (mut sorted, mut sum) = (0, 0.0);
    // The nucleus is small as a rule: sort it in growing blocks instead of the whole row.
    let mut block = 64;
    while sorted < candidates.len() {
        let end = (sorted + block).min(candidates.len());
        if end < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(end - sorted, Candidate::order);
        }
        candidates[sorted..end].sort_unstable_by(Candidate::order);
        for i in sorted..end {
            // In transformers' words: what lies beyond has at most 1 - p.
            sum += weight(candidates[i].score);
            if sum >= p * total {
                candidates.truncate(i + 1);
                return;
            }
        }
        (sorted, block) = (end, block * 4);
    }
}

/// The element at which the running sum of weights passes `draw` of their total.
fn pick(weights: impl Iterator<Item = f64> + Clone, draw: f64) -> Option<usize> {
    let target = draw * weights.clone().sum::<f64>();
    let (mut sum, mut last) = (0.0, None);
    for (i, w) in weights.enumerate().filter(|&(_, w)| w > 0.0) {
        sum += w;
        last = Some(i);
        if sum > target {
            break;
        }
    }
    last
}

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
