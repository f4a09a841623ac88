//! Text generation with a cache: the prompt in large pieces, then token by token.

use std::time::{Duration, Instant};

use castiron_ir::{DType, Description, Rules, Task, Type};

use super::{Pipeline, TaskError, source};
use crate::session::{Model, Session};
use crate::tensor::TensorRef;
use crate::text::{NoCandidate, Place, Sampler, Sampling};

/// Tokens of a prompt that are computed at once.
pub const CHUNK: usize = 512;
/// Capacities of caches are multiples of this.
const CAPACITY_STEP: usize = 64;

/// The entry that continues sequences, and its outputs.
const STEP: &str = "step";
const LOGITS: &str = "logits";
const BEST: &str = "best";
/// The input of models whose positions depend on how long a row is.
const LENGTH: &str = "length";
/// The input of models that remember all they read: how many tokens are each row's own.
const COUNT: &str = "count";

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// How many tokens at most.
    pub max_new_tokens: usize,
    /// How many tokens before the text may end.
    pub min_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What draws follow from.
    pub seed: u64,
    /// Tokens that end the text.
    pub end: Vec<u32>,
    /// Tokens that the text of an encoder–decoder begins with.
    pub start: Vec<u32>,
    /// What can follow, whatever the scores.
    pub rules: Rules,
}

impl Request {
    /// The best token always, without an end and without rules.
    pub fn plain(max_new_tokens: usize) -> Request {
        Request {
            max_new_tokens,
            min_new_tokens: 0,
            sampling: Sampling::GREEDY,
            seed: 0,
            end: Vec::new(),
            start: Vec::new(),
            rules: Rules::default(),
        }
    }

    /// As the model's own defaults say.
    pub fn of_model(description: &Description, max_new_tokens: usize) -> Request {
        let generation = &description.generation;
        let is_started = description.task == Task::Text2TextGeneration;
        Request {
            min_new_tokens: generation.min_new_tokens,
            sampling: Sampling::of_model(generation),
            end: generation.eos.clone(),
            start: generation.decoder_start.filter(|_| is_started).into_iter().collect(),
            rules: generation.rules.clone(),
            ..Request::plain(max_new_tokens)
        }
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With a token that ends texts.
    End,
    /// At the number of tokens asked for, or the model's last position.
    Length,
    /// The caller asked to stop.
    Stopped,
}

/// A token as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Which prompt it continues.
    pub row: usize,
    /// The token.
    pub token: u32,
}

/// The continuation of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The new tokens; one that ends the text is the last.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
}

/// What was generated, and how long it took.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The continuation of each prompt.
    pub rows: Vec<Continuation>,
    /// Time to the first token.
    pub prompt_time: Duration,
    /// Time of all further tokens.
    pub token_time: Duration,
    /// How often the model was run for one token of each row.
    pub steps: usize,
}

impl Pipeline {
    /// Continues prompts, given as tokens, all at once; an encoder–decoder reads them, and writes a text of its
    /// own for each. `on_token` sees each token as it comes and says whether to go on.
    ///
    /// # Errors
    /// A model that does not generate, an empty or too long prompt, a token that is not in the vocabulary.
    pub fn generate(
        &mut self,
        prompts: &[Vec<u32>],
        request: &Request,
        on_token: &mut dyn FnMut(NewToken) -> bool,
    ) -> Result<Generated, TaskError> {
        if self.description().task != Task::Text2TextGeneration {
            self.require(Task::TextGeneration)?;
            return self.continue_texts(&[], prompts, request, on_token);
        }
        if request.start.is_empty() {
            return Err(TaskError::NoStart);
        }
        let longest = check_prompts(prompts)?;
        self.check_length(longest)?;
        self.continue_texts(prompts, &vec![request.start.clone(); prompts.len()], request, on_token)
    }

    /// Continues texts, after reading a source for each if there are any.
    fn continue_texts(
        &mut self,
        sources: &[Vec<u32>],
        prompts: &[Vec<u32>],
        request: &Request,
        on_token: &mut dyn FnMut(NewToken) -> bool,
    ) -> Result<Generated, TaskError> {
        let longest = check_prompts(prompts)?;
        self.check_length(longest)?;
        let room = self.description().max_positions.map_or(usize::MAX, |limit| limit - longest + 1);
        let most = request.max_new_tokens.min(room);
        let capacity = (longest + most).next_multiple_of(CAPACITY_STEP);
        let symbols = [("b", prompts.len()), ("c", capacity), ("e", sources.iter().map(Vec::len).max().unwrap_or(0))];
        let mut session = self.model.session_with(&symbols)?;
        let start = Instant::now();
        if !sources.is_empty() {
            source::read(&mut session, sources)?;
        }
        let mut rows = Rows::new((sources, prompts), request, (Scores::new(&self.model)?, most));
        rows.read(&mut session, 0)?;
        let (mut prompt_time, mut first, mut steps) = (start.elapsed(), Instant::now(), 0);
        for count in 0..most {
            let goes_on = rows.choose(on_token)?;
            if count == 0 {
                (prompt_time, first) = (start.elapsed(), Instant::now());
            }
            if !goes_on || count + 1 == most {
                break;
            }
            match self.description().recompute_beyond {
                Some(beyond) if rows.any_is(beyond) => rows.read(&mut session, count + 1)?,
                _ => rows.step(&mut session, count + 1)?,
            }
            steps += 1;
        }
        Ok(Generated { rows: rows.finish(), prompt_time, token_time: first.elapsed(), steps })
    }
}

/// Length of the longest of some prompts, all of which have to be there.
fn check_prompts(prompts: &[Vec<u32>]) -> Result<usize, TaskError> {
    let is_empty = prompts.is_empty() || prompts.iter().any(Vec::is_empty);
    if is_empty { Err(TaskError::EmptyPrompt) } else { Ok(prompts.iter().map(Vec::len).max().unwrap_or(0)) }
}

/// The rows of a batch. A row that has ended is computed along with the others, to no effect.
struct Rows<'a> {
    /// What each row's text follows from, for encoder–decoders.
    sources: &'a [Vec<u32>],
    prompts: &'a [Vec<u32>],
    request: &'a Request,
    /// How many tokens are chosen at most.
    most: usize,
    samplers: Vec<Sampler>,
    /// Prompt and new tokens of each row, for the repetition penalty and the rules.
    history: Vec<Vec<u32>>,
    /// What rules force each row's next token to be.
    forced: Vec<Option<u32>>,
    /// What each row's next token cannot be.
    banned: Vec<Vec<u32>>,
    finish: Vec<Option<Finish>>,
    scores: Scores,
    past: Vec<i32>,
    next: Vec<i32>,
    last: Vec<i32>,
    /// One token of each row.
    one: Vec<i32>,
    /// Tokens of each row, with those that are still to be read.
    length: Vec<i32>,
}

impl<'a> Rows<'a> {
    fn new(
        (sources, prompts): (&'a [Vec<u32>], &'a [Vec<u32>]),
        request: &'a Request,
        (scores, most): (Scores, usize),
    ) -> Rows<'a> {
        let sampler = |row: usize| Sampler::new(request.sampling, request.seed.wrapping_add(row as u64));
        let with_room = |prompt: &Vec<u32>| {
            let mut history = Vec::with_capacity(prompt.len() + most.min(1 << 16));
            history.extend_from_slice(prompt);
            history
        };
        Rows {
            sources,
            prompts,
            request,
            most,
            samplers: (0..prompts.len()).map(sampler).collect(),
            history: prompts.iter().map(with_room).collect(),
            forced: vec![None; prompts.len()],
            banned: vec![Vec::with_capacity(64); prompts.len()],
            finish: vec![None; prompts.len()],
            scores,
            past: vec![0; prompts.len()],
            length: vec![0; prompts.len()],
            next: vec![0; prompts.len()],
            last: vec![0; prompts.len()],
            one: vec![1; prompts.len()],
        }
    }

    /// Whether any row that goes on has so many tokens cached.
    fn any_is(&self, length: usize) -> bool {
        self.past.iter().zip(&self.finish).any(|(&past, finish)| finish.is_none() && past as usize == length)
    }

    /// Computes the prompts and what has followed them in pieces, so that tokens number `count` can be
    /// chosen. Shorter rows are filled up; what the filling writes to the cache is overwritten before any
    /// token sees it.
    fn read(&mut self, session: &mut Session, count: usize) -> Result<(), TaskError> {
        self.scores.basis = self.basis(count);
        let (texts, rows) = (&self.history, self.history.len());
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        self.length = texts.iter().map(|text| text.len() as i32).collect();
        for start in (0..longest).step_by(CHUNK) {
            let piece = CHUNK.min(longest - start);
            let token = |text: &Vec<u32>, i: usize| text.get(start + i).map_or(0, |&t| t as i32);
            let ids: Vec<i32> = texts.iter().flat_map(|text| (0..piece).map(move |i| token(text, i))).collect();
            let past = vec![start as i32; rows];
            let count: Vec<i32> = texts.iter().map(|text| text.len().saturating_sub(start).min(piece) as i32).collect();
            let last: Vec<i32> = count.iter().map(|&count| (count - 1).max(0)).collect();
            let ends_here = |row: usize| (start..start + piece).contains(&(texts[row].len() - 1));
            self.scores.run(session, [rows, piece], [&ids, &past, &last, &self.length, &count], ends_here)?;
        }
        self.past.clone_from(&self.length);
        Ok(())
    }

    /// Applies the rules to what tokens number `count` can be; gives what they are chosen from.
    fn basis(&mut self, count: usize) -> Basis {
        let mut basis = Basis::Best;
        for row in (0..self.prompts.len()).filter(|&row| self.finish[row].is_none()) {
            let place = Place {
                text: &self.history[row],
                given: self.prompts[row].len(),
                source: self.sources.get(row).map_or(&[], Vec::as_slice),
                end: &self.request.end,
                min_new_tokens: self.request.min_new_tokens,
                is_last: count + 1 == self.most,
            };
            self.forced[row] = place.forced(&self.request.rules);
            self.banned[row].clear();
            place.ban(&self.request.rules, &mut self.banned[row]);
            let takes_best = self.samplers[row].takes_best(&self.history[row], &self.banned[row]);
            if self.forced[row].is_none() && !takes_best {
                basis = Basis::Logits;
            }
        }
        basis
    }

    /// Chooses the next token of each row; tells whether any row goes on.
    fn choose(&mut self, on_token: &mut dyn FnMut(NewToken) -> bool) -> Result<bool, TaskError> {
        for row in 0..self.prompts.len() {
            if self.finish[row].is_some() {
                continue;
            }
            let (history, banned) = (&self.history[row], &self.banned[row]);
            let token = match (self.forced[row], self.scores.basis) {
                (Some(token), _) => token,
                (None, Basis::Best) => self.scores.best(row)?,
                (None, Basis::Logits) => self.samplers[row].choose(self.scores.logits(row), history, banned)?,
            };
            self.history[row].push(token);
            self.next[row] = token as i32;
            let goes_on = on_token(NewToken { row, token });
            if self.request.end.contains(&token) {
                self.finish[row] = Some(Finish::End);
            } else if !goes_on {
                self.finish[row] = Some(Finish::Stopped);
            }
        }
        Ok(self.finish.iter().any(Option::is_none))
    }

    /// Feeds the chosen tokens, so that number `count` can be chosen.
    fn step(&mut self, session: &mut Session, count: usize) -> Result<(), TaskError> {
        self.scores.basis = self.basis(count);
        self.length.iter_mut().zip(&self.past).for_each(|(length, past)| *length = past + 1);
        let inputs = [self.next.as_slice(), &self.past, &self.last, &self.length, &self.one];
        self.scores.run(session, [self.prompts.len(), 1], inputs, |_| true)?;
        let going = self.past.iter_mut().zip(&self.finish).filter(|(_, finish)| finish.is_none());
        going.for_each(|(past, _)| *past += 1);
        Ok(())
    }

    fn finish(self) -> Vec<Continuation> {
        let rows = self.history.into_iter().zip(self.finish).zip(self.prompts);
        rows.map(|((history, finish), prompt)| Continuation {
            tokens: history[prompt.len()..].to_vec(),
            finish: finish.unwrap_or(Finish::Length),
        })
        .collect()
    }
}

/// Which output of the model tokens are chosen from. On a GPU only that one is read.
#[derive(Clone, Copy)]
enum Basis {
    /// The first of the largest scores of each row, which the model finds.
    Best,
    /// The scores of all tokens.
    Logits,
}

impl Basis {
    fn output(self) -> &'static str {
        match self {
            Basis::Best => BEST,
            Basis::Logits => LOGITS,
        }
    }
}

/// What the model says of the next token of each row.
struct Scores {
    /// Number of tokens that there are.
    vocabulary: usize,
    /// Whether the model asks for the lengths of rows, and for the counts of their tokens.
    takes: [bool; 2],
    basis: Basis,
    /// `[rows]`, if that is the basis.
    best: Vec<i32>,
    /// `[rows, vocabulary]`, if that is the basis.
    logits: Vec<f32>,
}

impl Scores {
    fn new(model: &Model) -> Result<Scores, TaskError> {
        let vocabulary = vocabulary(model)?;
        let takes = |input| model.entry(STEP).is_some_and(|step| step.inputs.iter().any(|(name, _)| name == input));
        let takes = [takes(LENGTH), takes(COUNT)];
        Ok(Scores { vocabulary, takes, basis: Basis::Logits, best: Vec::new(), logits: Vec::new() })
    }

    /// Runs the model on token numbers of a shape, positions before them, the last token, the length and the count
    /// of tokens of each row; keeps the results of the rows that `takes` names.
    fn run(
        &mut self,
        session: &mut Session,
        shape: [usize; 2],
        [ids, past, last, length, count]: [&[i32]; 5],
        takes: impl Fn(usize) -> bool,
    ) -> Result<(), TaskError> {
        let rows = [shape[0]];
        let [takes_length, takes_count] = self.takes;
        let mut inputs = [
            ("input_ids", TensorRef::i32(&shape, ids)?),
            ("past", TensorRef::i32(&rows, past)?),
            ("last", TensorRef::i32(&rows, last)?),
            (LENGTH, TensorRef::i32(&rows, length)?),
            (COUNT, TensorRef::i32(&rows, count)?),
        ];
        if !takes_length {
            inputs.swap(3, 4);
        }
        let inputs = &inputs[..3 + usize::from(takes_length) + usize::from(takes_count)];
        let name = self.basis.output();
        let output = session.run_for(STEP, inputs, &[name])?.get(name).ok_or(missing(name))?;
        let is_kept = match self.basis {
            Basis::Best => keep(output.as_i32()?, rows[0], 1, takes, &mut self.best),
            Basis::Logits => keep(output.as_f32()?, rows[0], self.vocabulary, takes, &mut self.logits),
        };
        if is_kept { Ok(()) } else { Err(missing(name)) }
    }

    /// The best token of a row.
    fn best(&self, row: usize) -> Result<u32, NoCandidate> {
        let token = u32::try_from(self.best[row]).ok().filter(|&token| (token as usize) < self.vocabulary);
        token.ok_or(NoCandidate(self.vocabulary))
    }

    /// The scores of a row.
    fn logits(&self, row: usize) -> &[f32] {
        &self.logits[row * self.vocabulary..][..self.vocabulary]
    }
}

/// Copies some of so many rows; tells whether there are so many.
fn keep<T: Copy + Default>(
    from: &[T],
    rows: usize,
    width: usize,
    takes: impl Fn(usize) -> bool,
    to: &mut Vec<T>,
) -> bool {
    if rows.checked_mul(width) != Some(from.len()) {
        return false;
    }
    to.resize(from.len(), T::default());
    for row in (0..rows).filter(|&row| takes(row)) {
        to[row * width..][..width].copy_from_slice(&from[row * width..][..width]);
    }
    true
}

/// Number of tokens that a model tells apart: the width of its logits.
fn vocabulary(model: &Model) -> Result<usize, TaskError> {
    let outputs = model.entry(STEP).map_or(&[][..], |entry| &entry.outputs);
    let find = |name: &str| outputs.iter().find(|(n, _)| n == name).map(|(_, ty)| ty);
    match find(BEST) {
        Some(Type { dtype: DType::I32, shape }) if shape.len() == 1 => {}
        _ => return Err(missing(BEST)),
    }
    match find(LOGITS) {
        Some(Type { dtype: DType::F32, shape }) if shape.len() == 2 => {
            shape[1].as_constant().and_then(|width| usize::try_from(width).ok()).ok_or(missing(LOGITS))
        }
        _ => Err(missing(LOGITS)),
    }
}

fn missing(output: &'static str) -> TaskError {
    TaskError::Output { entry: STEP, output, task: Task::TextGeneration }
}
