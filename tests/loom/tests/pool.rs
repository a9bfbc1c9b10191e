//! Checks every order in which a pool's threads can run, up to a number of interruptions: each task runs once, the caller and the
//! next job see what tasks wrote, no thread misses a job, and the pool ends.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use pool_model::pool::Pool;

fn model(interruptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(body);
}

/// Counters that tasks increase without ordering, so that only the pool makes the writes visible.
fn counts(tasks: usize) -> Arc<Vec<AtomicUsize>> {
    Arc::new((0..tasks).map(|_| AtomicUsize::new(0)).collect())
}

fn run(pool: &Pool, counts: &Arc<Vec<AtomicUsize>>) {
    pool.run(counts.len(), &|task| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
}

#[test]
fn two_threads_do_two_jobs() {
    model(3, || {
        let (pool, counts) = (Pool::new(2).unwrap(), counts(2));
        for job in 1..=2 {
            run(&pool, &counts);
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == job));
        }
    });
}

#[test]
fn three_threads_do_a_job() {
    model(2, || {
        let (pool, counts) = (Pool::new(3).unwrap(), counts(3));
        run(&pool, &counts);
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    });
}

#[test]
fn a_job_of_fewer_tasks_than_threads_leaves_the_others_asleep() {
    model(2, || {
        let (pool, two) = (Pool::new(3).unwrap(), counts(2));
        run(&pool, &two);
        assert!(two.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    });
}

#[test]
fn a_pool_that_was_never_used_ends() {
    model(3, || drop(Pool::new(2).unwrap()));
}
