use super::*;

/// Tests that set the number of threads take turns, since it is the whole process's.
pub(crate) fn with_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    set_num_threads(n);
    let result = catch_unwind(AssertUnwindSafe(f));
    set_num_threads(0);
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Long enough an estimate that any loop of more than one part is shared.
const LONG: f64 = 1e9;

fn counts(parts: usize, ns: f64) -> Vec<usize> {
    let hits: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
    for_each(parts, ns, |i| {
        hits[i].fetch_add(1, Relaxed);
    });
    hits.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn each_part_runs_once() {
    for threads in [1, 2, 4, 8] {
        with_threads(threads, || {
            for parts in (0..40).chain([63, 64, 65, 1000]) {
                for ns in [0.0, 1.0, 100.0, LONG] {
                    assert!(counts(parts, ns).iter().all(|&n| n == 1), "{parts} parts");
                }
            }
        });
    }
}

#[test]
fn helpers_do_help() {
    with_threads(2, || {
        // Two parts that wait for each other can only end early on two threads. Other tests may hold the team meanwhile,
        // so there are several attempts.
        let meet = || {
            let met = AtomicUsize::new(0);
            let deadline = Instant::now() + Duration::from_millis(50);
            for_each(2, LONG, |_| {
                met.fetch_add(1, SeqCst);
                while met.load(SeqCst) < 2 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
            });
            Instant::now() < deadline
        };
        assert!((0..200).any(|_| meet()), "the helper never came");
    });
}

#[test]
fn short_loops_stay_here_and_in_order() {
    with_threads(4, || {
        let here = std::thread::current().id();
        let order = Mutex::new(Vec::new());
        for_each(10, 1.0, |i| {
            assert_eq!(std::thread::current().id(), here);
            order.lock().unwrap().push(i);
        });
        assert_eq!(order.into_inner().unwrap(), (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_loop_inside_a_loop_runs_on_the_same_thread() {
    with_threads(4, || {
        let total = AtomicUsize::new(0);
        for_each(16, LONG, |_| {
            let here = std::thread::current().id();
            for_each(8, LONG, |_| {
                assert_eq!(std::thread::current().id(), here);
                total.fetch_add(1, Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 128);
        assert!(!INSIDE.get());
    });
}

#[test]
fn several_callers_at_once() {
    with_threads(3, || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for parts in 0..300 {
                        assert!(counts(parts, LONG).iter().all(|&n| n == 1));
                    }
                });
            }
        });
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_survives() {
    with_threads(4, || {
        for culprit in [0, 7, 63] {
            let result = catch_unwind(|| {
                for_each(64, LONG, |i| {
                    if i == culprit {
                        std::panic::panic_any(culprit);
                    }
                });
            });
            assert_eq!(*result.unwrap_err().downcast::<usize>().unwrap(), culprit);
            assert!(!INSIDE.get());
            assert!(counts(64, LONG).iter().all(|&n| n == 1));
        }
    });
}

#[test]
fn a_hundred_thousand_tiny_regions() {
    for threads in [2, 4] {
        with_threads(threads, || {
            let sum = AtomicUsize::new(0);
            for _ in 0..50_000 {
                for_each(4, LONG, |i| {
                    sum.fetch_add(i, Relaxed);
                });
            }
            assert_eq!(sum.into_inner(), 50_000 * 6);
        });
    }
}

#[test]
fn the_number_of_threads_may_change_between_regions() {
    with_threads(2, || {
        for n in [2, 5, 1, 3, 2, 8, 0, 4] {
            set_num_threads(n);
            assert!(num_threads() >= 1 && (n == 0 || num_threads() == n));
            assert!(counts(100, LONG).iter().all(|&n| n == 1));
        }
    });
}

#[test]
fn ranges_and_chunks_cover_everything() {
    with_threads(2, || {
        for len in [0, 1, 7, 8, 9, 100] {
            for grain in [1, 3, 8, 200] {
                let mut data = vec![0usize; len];
                for_each_chunk_mut(&mut data, grain, LONG, |i, chunk| {
                    for (j, x) in chunk.iter_mut().enumerate() {
                        *x += i * grain + j + 1;
                    }
                });
                assert_eq!(data, (1..=len).collect::<Vec<_>>());
                let total = AtomicUsize::new(0);
                for_each_range(len, grain, LONG, |r| {
                    assert!(r.len() <= grain && r.start % grain == 0);
                    total.fetch_add(r.len(), Relaxed);
                });
                assert_eq!(total.into_inner(), len);
            }
        }
    });
}
