//! A thread pool for jobs of microseconds. A forward pass is a few hundred jobs, and a thread that sleeps between them is woken
//! late. Threads spin for 200 µs before they sleep and keep the same slice of equal-sized jobs, so that the output of an op is in
//! the cache of the thread that reads it in the next op. A thread that is done takes tasks from the others' slices.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use sync::{
    Arc, AtomicBool, AtomicUsize, BUSY, JoinHandle, Mutex, MutexGuard, Ordering, Thread, UnsafeCell, seq_cst_fence,
    spin_loop, thread,
};

/// The pool's synchronisation primitives from the standard library.
#[cfg(not(loom))]
mod sync {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub use std::sync::{Arc, Mutex, MutexGuard};
    pub use std::thread::{self, JoinHandle, Thread};

    thread_local! {
        /// Whether this thread is running a task.
        pub static BUSY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    /// Does nothing: sequentially consistent operations already have a single order.
    pub fn seq_cst_fence() {}

    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T: Copy> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        /// # Safety
        /// Nobody writes at the same time.
        pub unsafe fn read(&self) -> T {
            // SAFETY: the caller's promise.
            unsafe { *self.0.get() }
        }

        /// # Safety
        /// Nobody reads or writes at the same time.
        pub unsafe fn write(&self, value: T) {
            // SAFETY: the caller's promise.
            unsafe { *self.0.get() = value }
        }
    }
}

/// The same primitives from loom, which tries every order in which threads can run (`tests/loom`).
#[cfg(loom)]
mod sync {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub use loom::sync::{Arc, Mutex, MutexGuard};
    pub use loom::thread::{self, JoinHandle, Thread};

    loom::thread_local! {
        /// Whether this thread is running a task.
        pub static BUSY: std::cell::Cell<bool> = std::cell::Cell::new(false);
    }

    /// loom treats a sequentially consistent operation as acquire and release only; its fences have a single order.
    pub fn seq_cst_fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }

    pub struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T: Copy> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(loom::cell::UnsafeCell::new(value))
        }

        /// # Safety
        /// Nobody writes at the same time.
        pub unsafe fn read(&self) -> T {
            // SAFETY: the caller's promise, which loom checks.
            self.0.with(|value| unsafe { *value })
        }

        /// # Safety
        /// Nobody reads or writes at the same time.
        pub unsafe fn write(&self, value: T) {
            // SAFETY: the caller's promise, which loom checks.
            self.0.with_mut(|place| unsafe { *place = value })
        }
    }
}

/// The time for which a thread spins before it sleeps: longer than the gap between two ops of a step.
const SPIN_TIME: Duration = Duration::from_micros(200);
/// The number of polls of the condition between two reads of the clock.
const POLLS_PER_CLOCK_READ: usize = 64;

/// A bit of [`Shared::state`]: workers may enter the job.
const OPEN: usize = 1;
/// Added to [`Shared::state`] for each worker inside the job.
const INSIDE: usize = 2;

/// The caller's thread and `threads - 1` more.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by the caller of `run`, so that one job runs at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// # Errors
    /// A thread cannot be started. The threads started before it end.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            jobs: CachePadded::default(),
            state: CachePadded::default(),
            wanted: AtomicUsize::new(0),
            job: UnsafeCell::new(Job { run: &|_| {}, tasks: 0, threads: 1 }),
            next: (0..threads).map(|_| CachePadded::default()).collect(),
            sleepers: (0..threads).map(|_| Sleeper::default()).collect(),
            panic: Mutex::new(None),
            ended: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, turn: Mutex::new(()), workers: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new().name(format!("polyhead-{index}")).spawn(move || shared.work(index))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Calls `run(i)` for every `i` of `0..tasks` and returns when all calls have returned. A call from within a task runs all
    /// its tasks on that thread; a second caller waits for the first. A panic in a task is passed on to the caller.
    pub fn run(&self, tasks: usize, run: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || BUSY.with(Cell::get) {
            return (0..tasks).for_each(run);
        }
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed. Workers that enter leave before this function returns, and none enters later.
        let run: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let job = Job { run, tasks, threads: tasks.min(shared.next.len()) };
        // SAFETY: the job is closed, no worker is inside, and this is the only caller.
        unsafe { shared.job.write(job) };
        for (index, next) in shared.next[..job.threads].iter().enumerate() {
            next.0.store(job.range_start(index), Ordering::Relaxed);
        }
        shared.wanted.store(job.threads, Ordering::Relaxed);
        shared.state.0.store(OPEN, Ordering::SeqCst);
        shared.jobs.0.fetch_add(1, Ordering::SeqCst);
        shared.sleepers[1..job.threads].iter().for_each(Sleeper::wake);
        shared.run_tasks(0, job);
        shared.state.0.fetch_sub(OPEN, Ordering::SeqCst);
        shared.sleepers[0].wait_until(|| shared.state.0.load(Ordering::SeqCst) == 0);
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.jobs.0.fetch_add(1, Ordering::SeqCst);
        self.shared.sleepers.iter().for_each(Sleeper::wake);
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // A worker catches its tasks' panics.
        }
    }
}

#[derive(Clone, Copy)]
struct Job {
    run: &'static (dyn Fn(usize) + Sync),
    tasks: usize,
    /// The number of threads that have a range of tasks.
    threads: usize,
}

impl Job {
    fn range_start(&self, index: usize) -> usize {
        index * self.tasks / self.threads
    }
}

/// A value on cache lines of its own. The alignment is two lines, because some machines fetch two at a time.
#[derive(Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

struct Shared {
    /// The number of jobs so far.
    jobs: CachePadded<AtomicUsize>,
    /// [`OPEN`] while workers may enter the job, plus [`INSIDE`] for each worker inside.
    state: CachePadded<AtomicUsize>,
    /// The job's `threads`, for workers that have not entered.
    wanted: AtomicUsize,
    /// Written while the job is closed and no worker is inside; read by workers inside.
    job: UnsafeCell<Job>,
    /// The next task of each thread's range.
    next: Box<[CachePadded<AtomicUsize>]>,
    /// One per thread, the caller's first.
    sleepers: Box<[Sleeper]>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    ended: AtomicBool,
}

// SAFETY: only `job` is not Sync; its comment says why access to it is exclusive.
unsafe impl Sync for Shared {}
// SAFETY: as above; what `job` points to is Sync.
unsafe impl Send for Shared {}

impl Shared {
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            self.sleepers[index].wait_until(|| self.jobs.0.load(Ordering::SeqCst) != seen);
            seen = self.jobs.0.load(Ordering::SeqCst);
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if index < self.wanted.load(Ordering::Relaxed) && self.enter() {
                // SAFETY: nobody writes the job while a worker is inside, and the caller wrote it before opening it.
                let job = unsafe { self.job.read() };
                self.run_tasks(index, job);
                if self.state.0.fetch_sub(INSIDE, Ordering::SeqCst) == INSIDE {
                    self.sleepers[0].wake();
                }
            }
        }
    }

    /// Enters the job; returns whether it was still open.
    fn enter(&self) -> bool {
        let enter = |state: usize| (state & OPEN != 0).then_some(state + INSIDE);
        self.state.0.fetch_update(Ordering::SeqCst, Ordering::Relaxed, enter).is_ok()
    }

    /// Runs tasks until none is left, starting with the thread's own range.
    fn run_tasks(&self, index: usize, job: Job) {
        BUSY.with(|busy| busy.set(true));
        let done = catch_unwind(AssertUnwindSafe(|| {
            for owner in (index..job.threads).chain(0..index) {
                let (next, end) = (&self.next[owner].0, job.range_start(owner + 1));
                // Read first, so that threads do not contend for finished ranges.
                while next.load(Ordering::Relaxed) < end {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task < end {
                        (job.run)(task);
                    }
                }
            }
        }));
        BUSY.with(|busy| busy.set(false));
        if let Err(panic) = done {
            lock(&self.panic).get_or_insert(panic);
        }
    }
}

/// Lets one thread wait.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Sleeper {
    /// Returns once `happened` is true. The thread that makes it true must then call [`Sleeper::wake`].
    fn wait_until(&self, happened: impl Fn() -> bool) {
        if spin_until(&happened) {
            return;
        }
        *lock(&self.thread) = Some(thread::current());
        loop {
            self.asleep.store(true, Ordering::SeqCst);
            seq_cst_fence();
            if happened() {
                return self.asleep.store(false, Ordering::SeqCst);
            }
            thread::park();
        }
    }

    fn wake(&self) {
        seq_cst_fence();
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            lock(&self.thread).as_ref().into_iter().for_each(Thread::unpark);
        }
    }
}

/// Spins until `happened`, at most for [`SPIN_TIME`]; returns whether it happened.
fn spin_until(happened: &impl Fn() -> bool) -> bool {
    if cfg!(loom) {
        // Spinning only saves time, which loom does not model.
        return happened();
    }
    if (0..POLLS_PER_CLOCK_READ).any(|_| poll(happened)) {
        return true;
    }
    let start = Instant::now();
    while start.elapsed() < SPIN_TIME {
        if (0..POLLS_PER_CLOCK_READ).any(|_| poll(happened)) {
            return true;
        }
    }
    false
}

fn poll(happened: &impl Fn() -> bool) -> bool {
    let happened = happened();
    if !happened {
        spin_loop();
    }
    happened
}

/// Locks a mutex. No code panics while holding it, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &Pool, tasks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, &|i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            for tasks in (0..40).chain([1000]) {
                assert_eq!(counts(&pool, tasks), vec![1; tasks], "{threads} threads");
            }
        }
    }

    #[test]
    fn writes_are_visible_after_a_job_and_in_the_next() {
        let pool = Pool::new(4).unwrap();
        let cells: Vec<AtomicUsize> = (0..64).map(AtomicUsize::new).collect();
        for round in 0..20_000 {
            pool.run(64, &|i| {
                let left = cells[(i + 63) % 64].load(Ordering::Relaxed) / 65_536;
                assert!(left == round || left == round + 1, "{left} in round {round}");
                cells[i].fetch_add(65_536, Ordering::Relaxed);
            });
            assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) / 65_536 == round + 1));
        }
    }

    #[test]
    fn a_thread_that_slept_is_woken() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..20 {
            thread::sleep(5 * SPIN_TIME);
            // Neither task ends before both have begun, so the worker must have been woken.
            let both = std::sync::Barrier::new(2);
            pool.run(2, &|_| {
                both.wait();
            });
        }
    }

    #[test]
    fn a_caller_sleeps_until_the_last_task_is_done() {
        let pool = Pool::new(2).unwrap();
        let (both, done) = (std::sync::Barrier::new(2), AtomicUsize::new(0));
        let caller = thread::current().id();
        pool.run(2, &|_| {
            both.wait();
            if thread::current().id() != caller {
                thread::sleep(20 * SPIN_TIME);
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 2);
    }

    #[test]
    fn a_job_within_a_task_and_two_callers_come_to_an_end() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(5, &|_| {
                            pool.run(4, &|_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 2 * 200 * 20);
    }

    #[test]
    fn a_tasks_panic_reaches_the_caller_and_leaves_the_pool_whole() {
        let pool = Pool::new(3).unwrap();
        for bad in 0..9 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(9, &|i| assert!(i != bad, "task {i} fails"));
            }));
            let message = *caught.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("task {bad} fails"));
            assert_eq!(counts(&pool, 7), vec![1; 7]);
        }
    }
}
