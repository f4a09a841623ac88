use proptest::prelude::*;

use super::*;

const DRAW: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

/// How often each token is drawn, as a share.
fn shares(settings: Sampling, logits: &[f32], history: &[u32]) -> Vec<f64> {
    let mut sampler = Sampler::new(settings, 7);
    let (draws, mut counts) = (20_000, vec![0_u32; logits.len()]);
    for _ in 0..draws {
        counts[sampler.choose(logits, history, &[]).unwrap() as usize] += 1;
    }
    counts.iter().map(|&c| f64::from(c) / f64::from(draws)).collect()
}

fn close(found: &[f64], expected: &[f64]) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 0.015 && (*b > 0.0 || *a == 0.0), "{found:?} is not {expected:?}");
    }
}

/// Probabilities 0.5, 0.3, 0.15, 0.05 in another order.
fn logits() -> Vec<f32> {
    [0.15_f32, 0.5, 0.05, 0.3].map(f32::ln).to_vec()
}

#[test]
fn greedy_takes_the_first_of_the_best() {
    let mut sampler = Sampler::new(Sampling::GREEDY, 0);
    assert_eq!(sampler.choose(&[1.0, 3.0, f32::NAN, 3.0], &[], &[]), Ok(1));
    assert_eq!(sampler.choose(&[1.0, 3.0, 2.0, 3.0], &[], &[1]), Ok(3));
    assert_eq!(sampler.choose(&[1.0, 3.0], &[], &[0, 1]), Err(NoCandidate(2)));
    assert_eq!(sampler.choose(&[], &[], &[]), Err(NoCandidate(0)));
    assert_eq!(sampler.choose(&[f32::NAN], &[], &[]), Err(NoCandidate(1)));
}

#[test]
fn what_changes_the_order_does_not_take_the_best() {
    let takes_best = |settings: Sampling, banned: &[u32]| Sampler::new(settings, 0).takes_best(&[1], banned);
    assert!(takes_best(Sampling::GREEDY, &[]));
    assert!(!takes_best(Sampling::GREEDY, &[2]));
    assert!(!takes_best(DRAW, &[]));
    assert!(!takes_best(Sampling { repetition_penalty: 1.1, ..Sampling::GREEDY }, &[]));
}

#[test]
fn draws_follow_the_probabilities() {
    close(&shares(DRAW, &logits(), &[]), &[0.15, 0.5, 0.05, 0.3]);
    // A temperature of ½ squares them: 225, 2500, 25, 900 of 3650.
    let cold = Sampling { temperature: 0.5, ..DRAW };
    close(&shares(cold, &logits(), &[]), &[0.0616, 0.6849, 0.0068, 0.2466]);
}

#[test]
fn top_k_keeps_ties() {
    let two = Sampling { top_k: 2, ..DRAW };
    close(&shares(two, &logits(), &[]), &[0.0, 0.625, 0.0, 0.375]);
    close(&shares(two, &[1.0, 1.0, 2.0, 0.0], &[]), &[0.2119, 0.2119, 0.5761, 0.0]);
}

#[test]
fn top_p_keeps_the_token_that_crosses_it() {
    for (p, expected) in [
        (0.79, [0.0, 0.625, 0.0, 0.375]),
        (0.81, [0.1579, 0.5263, 0.0, 0.3158]),
        (0.5, [0.0, 1.0, 0.0, 0.0]),
        (0.0, [0.0, 1.0, 0.0, 0.0]),
    ] {
        close(&shares(Sampling { top_p: p, ..DRAW }, &logits(), &[]), &expected);
    }
    // After top-k the sum counts what is left: 0.5 of 0.8 is 0.625.
    let both = Sampling { top_k: 2, top_p: 0.6, ..DRAW };
    close(&shares(both, &logits(), &[]), &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn penalty_falls_once_on_what_has_occurred() {
    let penalised = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
    let mut sampler = Sampler::new(penalised, 0);
    assert_eq!(sampler.choose(&[1.1, 2.0, -1.0], &[1, 1, 1], &[]), Ok(0));
    assert_eq!(sampler.choose(&[0.9, 2.0, -1.0], &[1, 1, 1], &[]), Ok(1));
    assert_eq!(sampler.choose(&[-1.5, -1.0, -3.0], &[1, 9], &[]), Ok(0));
}

#[test]
fn a_model_that_samples_has_transformers_top_k() {
    let generation = Generation { do_sample: true, top_p: Some(0.9), ..Generation::default() };
    let expected = Sampling { temperature: 1.0, top_k: 50, top_p: 0.9, repetition_penalty: 1.0 };
    assert_eq!(Sampling::of_model(&generation), expected);
    assert!(Sampling::of_model(&Generation { temperature: Some(0.7), ..Generation::default() }).is_greedy());
}

#[test]
fn equal_seeds_give_equal_tokens() {
    let tokens = |seed| {
        let mut sampler = Sampler::new(DRAW, seed);
        (0..64).map(|_| sampler.choose(&logits(), &[], &[]).unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(tokens(1), tokens(1));
    assert_ne!(tokens(1), tokens(2));
}

#[test]
fn buffers_are_reused() {
    let settings = Sampling { top_k: 40, top_p: 0.9, repetition_penalty: 1.1, ..DRAW };
    let mut sampler = Sampler::new(settings, 0);
    let row: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.7).sin() * 5.0).collect();
    sampler.choose(&row, &[1, 2], &[3]).unwrap();
    let places = |s: &Sampler| (s.scores.as_ptr(), s.candidates.as_ptr(), s.candidates.capacity());
    let before = places(&sampler);
    for _ in 0..100 {
        sampler.choose(&row, &[1, 2], &[3]).unwrap();
    }
    assert_eq!(places(&sampler), before);
}

proptest! {
    /// The blocks of the nucleus against a sort of the whole row.
    #[test]
    fn nucleus_is_the_shortest_prefix_that_reaches_p(
        scores in prop::collection::vec(-8.0_f32..8.0, 1..700),
        p in 0.01_f64..0.999,
    ) {
        let numbered = scores.iter().zip(0..).map(|(&score, token)| Candidate { score, token });
        let mut kept: Vec<Candidate> = numbered.collect();
        let mut sorted = kept.clone();
        sorted.sort_by(Candidate::order);
        let weight = |s: f32| f64::from(s).exp();
        let total: f64 = sorted.iter().map(|c| weight(c.score)).sum();
        keep_top_p(&mut kept, p, weight);
        let tokens = |c: &[Candidate]| c.iter().map(|c| c.token).collect::<Vec<u32>>();
        prop_assert_eq!(tokens(&kept), tokens(&sorted[..kept.len()]));
        let sum = |n: usize| sorted[..n].iter().map(|c| weight(c.score)).sum::<f64>() / total;
        prop_assert!(sum(kept.len()) >= p - 1e-9 && (kept.len() == 1 || sum(kept.len() - 1) <= p + 1e-9));
    }
}
