//! A pool of threads that execute one closure together, meeting at barriers.
//!
//! A whole token's kernels run inside a single [`Pool::run`]: entering costs a wake-up, a barrier
//! between two kernels only an atomic counter. Waiting threads spin for some microseconds, then
//! yield their core, then sleep, since the cores may be shared with others.
//! `cargo run --release -p castiron-runtime --example kernel_peak -- pool` prints both costs.
#![allow(unsafe_code)]

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Turns of a spinning thread before it yields; a pause takes some 15 ns.
const SPINS: usize = 500;
/// Yields before it sleeps.
const YIELDS: usize = 50;

/// A thread's view of a parallel region.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// Which thread this is; the caller of [`Pool::run`] is 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    barrier: Option<&'a Barrier>,
}

impl Worker<'_> {
    /// The only thread of a region.
    pub const ALONE: Worker<'static> = Worker { index: 0, count: 1, barrier: None };

    /// Waits until every thread of the region has come here; what they wrote is then visible.
    ///
    /// # Panics
    /// When another thread of the region has panicked.
    pub fn barrier(&self) {
        if let Some(barrier) = self.barrier {
            barrier.wait(self.count);
        }
    }

    /// This thread's share of `0 .. n`, cut at multiples of `grain`, equal to within one grain.
    pub fn range(&self, n: usize, grain: usize) -> Range<usize> {
        share(n, grain, self.index, self.count)
    }
}

/// Part `index` of `count` of `0 .. n`, cut at multiples of `grain`.
pub(crate) fn share(n: usize, grain: usize, index: usize, count: usize) -> Range<usize> {
    let grains = n.div_ceil(grain);
    let cut = |i: usize| (grains * i / count * grain).min(n);
    cut(index)..cut(index + 1)
}

/// Threads that wait for work.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    /// Raised once for each region.
    start: Event,
    barrier: Barrier,
    task: Mutex<Task>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What to do in the current region.
#[derive(Clone, Copy)]
enum Task {
    Run(Closure),
    Exit,
}

/// A closure whose lifetime [`Pool::run`] guards: it returns only when no thread uses it any more.
#[derive(Clone, Copy)]
struct Closure(*const (dyn Fn(Worker<'_>) + Sync));

// SAFETY: the closure is `Sync`, and outlives its use by other threads (see `Pool::run`).
unsafe impl Send for Closure {}

impl Pool {
    /// A pool of `threads`, counting the one that will call [`Pool::run`]; at least 1.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            start: Event::default(),
            barrier: Barrier::default(),
            task: Mutex::new(Task::Exit),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, threads: Vec::new() };
        let count = threads.max(1);
        for index in 1..count {
            let shared = Arc::clone(&pool.shared);
            let name = format!("castiron-{index}");
            pool.threads.push(std::thread::Builder::new().name(name).spawn(move || shared.serve(index, count))?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Executes `body` on every thread, the caller's included, and waits for all.
    ///
    /// # Panics
    /// With the first panic of a thread, once all have stopped.
    pub fn run(&mut self, body: &(dyn Fn(Worker<'_>) + Sync)) {
        if self.threads.is_empty() {
            return body(Worker::ALONE);
        }
        let count = self.threads();
        // SAFETY: this only forgets the lifetime. `execute` ends with a barrier that no thread
        // passes before all have finished with the closure, panicking or not.
        let closure =
            unsafe { std::mem::transmute::<&(dyn Fn(Worker<'_>) + Sync), &'static (dyn Fn(Worker<'_>) + Sync)>(body) };
        *lock(&self.shared.task) = Task::Run(Closure(closure));
        self.shared.start.raise();
        self.shared.execute(Closure(closure), 0, count);
        self.shared.barrier.aborted.store(false, Ordering::Relaxed);
        let panic = lock(&self.shared.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *lock(&self.shared.task) = Task::Exit;
        self.shared.start.raise();
        for thread in self.threads.drain(..) {
            // A thread catches the panics of its closures, so there is none to pass on.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Life of thread `index`.
    fn serve(&self, index: usize, count: usize) {
        let mut regions = 0;
        loop {
            self.start.wait_beyond(regions);
            regions += 1;
            let task = *lock(&self.task);
            match task {
                Task::Run(closure) => self.execute(closure, index, count),
                Task::Exit => return,
            }
        }
    }

    /// A thread's part of a region.
    fn execute(&self, closure: Closure, index: usize, count: usize) {
        let worker = Worker { index, count, barrier: Some(&self.barrier) };
        // SAFETY: `Pool::run` keeps the closure alive until all threads have passed `finish`.
        let body = unsafe { &*closure.0 };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(worker))) {
            if !payload.is::<Aborted>() {
                lock(&self.panic).get_or_insert(payload);
            }
            self.barrier.abort();
        }
        self.barrier.finish(count);
    }
}

/// A counter that threads wait on.
#[derive(Default)]
struct Event {
    value: AtomicUsize,
    sleepers: AtomicUsize,
    mutex: Mutex<()>,
    condition: Condvar,
}

impl Event {
    /// Counts one further and wakes those who wait.
    fn raise(&self) {
        // Sequential consistency orders this store and the load below against a sleeper's
        // registration and its last look at the value: one of the two sees the other.
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.mutex));
            self.condition.notify_all();
        }
    }

    /// Waits until the counter exceeds `old`.
    fn wait_beyond(&self, old: usize) {
        let raised = || self.value.load(Ordering::Acquire) != old;
        for _ in 0..SPINS {
            if raised() {
                return;
            }
            std::hint::spin_loop();
        }
        for _ in 0..YIELDS {
            if raised() {
                return;
            }
            std::thread::yield_now();
        }
        let mut guard = lock(&self.mutex);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.value.load(Ordering::SeqCst) == old {
            guard = self.condition.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Barriers of a region, and the one that ends it.
#[derive(Default)]
struct Barrier {
    arrived: AtomicUsize,
    passed: Event,
    finished: AtomicUsize,
    ended: Event,
    aborted: AtomicBool,
}

/// Payload of a thread that stops because another one panicked.
struct Aborted;

impl Barrier {
    fn wait(&self, count: usize) {
        // Read before the flag: an abort that the first look misses raises the counter beyond `old`.
        let old = self.passed.value.load(Ordering::Acquire);
        self.stop_if_aborted();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.passed.raise();
        } else {
            self.passed.wait_beyond(old);
        }
        self.stop_if_aborted();
    }

    /// Unwinds when another thread has panicked.
    fn stop_if_aborted(&self) {
        if self.aborted.load(Ordering::Acquire) {
            resume_unwind(Box::new(Aborted));
        }
    }

    /// Lets go those who wait for a thread that will not come.
    fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.passed.raise();
    }

    /// Waits until all threads have left the closure; never panics.
    fn finish(&self, count: usize) {
        let old = self.ended.value.load(Ordering::Acquire);
        if self.finished.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.finished.store(0, Ordering::Relaxed);
            self.ended.raise();
        } else {
            self.ended.wait_beyond(old);
        }
    }
}

/// The state behind these locks is whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_and_meets() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            let steps: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..3 {
                pool.run(&|worker| {
                    for step in &steps {
                        step.fetch_add(1, Ordering::Relaxed);
                        worker.barrier();
                        assert_eq!(step.load(Ordering::Relaxed) % worker.count, 0);
                        worker.barrier();
                    }
                });
            }
            assert!(steps.iter().all(|s| s.load(Ordering::Relaxed) == 3 * threads));
        }
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_survives() {
        let mut pool = Pool::new(3).unwrap();
        for culprit in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    worker.barrier();
                    assert_ne!(worker.index, culprit, "culprit");
                    worker.barrier();
                    worker.barrier();
                });
            }));
            assert!(caught.is_err());
            let total = AtomicUsize::new(0);
            pool.run(&|worker| {
                worker.barrier();
                total.fetch_add(worker.index + 1, Ordering::Relaxed);
                worker.barrier();
            });
            assert_eq!(total.load(Ordering::Relaxed), 6);
        }
    }

    #[test]
    fn ranges_cover_everything_once() {
        for (n, grain, count) in [(0, 4, 2), (1, 16, 3), (100, 16, 3), (33, 1, 2), (64, 16, 8)] {
            let parts: Vec<_> = (0..count).map(|i| share(n, grain, i, count)).collect();
            assert_eq!(parts.iter().cloned().flatten().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            assert!(parts.iter().all(|p| p.start % grain == 0 || p.start == n));
        }
    }
}
