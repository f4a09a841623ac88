//! How time is taken, and what is computed with.

use std::time::Instant;

/// Median time in seconds, after one run that is not counted.
pub fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    work();
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..runs).map(once).collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

/// Numbers in -1 ..= 1 that differ from each other.
pub fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}
