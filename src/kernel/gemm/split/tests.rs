use super::super::tests::{Random, floats, ints};
use super::super::{Epilogue, GemmElement, MatRef, gemm_on};
use super::*;
use crate::kernel::par::tests::with_threads;
use crate::kernel::simd::{Isa, available};

/// A product at any strides, both factors in vectors with room around.
struct Case {
    size: [usize; 3],
    a: (Vec<f32>, isize, isize),
    b: (Vec<f32>, isize, isize),
}

impl Case {
    /// `form`: which factors are stored transposed; and in steps of how many elements.
    fn new(
        size: [usize; 3],
        form: (bool, bool),
        gap: usize,
        mut values: impl FnMut(usize) -> Vec<f32>,
    ) -> Self {
        let [m, k, n] = size;
        let mut factor = |rows: usize, cols: usize, turned: bool| {
            let (rs, cs) = if turned { (gap, rows * gap + 3) } else { (cols * gap + 3, gap) };
            (values((rows - 1) * rs + (cols - 1) * cs + 1), rs as isize, cs as isize)
        };
        Case { size, a: factor(m, k, form.0), b: factor(k, n, form.1) }
    }

    fn a(&self, i: usize, p: usize) -> f32 {
        self.a.0[(i as isize * self.a.1 + p as isize * self.a.2) as usize]
    }

    fn b(&self, p: usize, j: usize) -> f32 {
        self.b.0[(p as isize * self.b.1 + j as isize * self.b.2) as usize]
    }

    fn problem(&self, c: &mut [f32]) -> Problem<f32> {
        let [m, k, n] = self.size;
        assert!(c.len() >= m * n);
        Problem {
            m,
            k,
            n,
            a: self.a.0.as_ptr(),
            a_rs: self.a.1,
            a_cs: self.a.2,
            b: self.b.0.as_ptr(),
            b_rs: self.b.1,
            b_cs: self.b.2,
            c: c.as_mut_ptr(),
            c_rs: n,
            c_cs: 1,
            accumulate: false,
            bias_col: std::ptr::null(),
            bias_row: std::ptr::null(),
            relu: false,
        }
    }

    /// The product in pieces, whether or not that is faster.
    fn split(&self) -> Vec<f32> {
        let mut c = vec![f32::NAN; self.size[0] * self.size[2]];
        let p = self.problem(&mut c);
        // SAFETY: the vectors have the elements; tests ask for the registers first.
        unsafe { Split::suits(&p, f64::INFINITY).expect("sizes of a tile at least").run() };
        c
    }

    /// By multiply-adds.
    fn fused(&self) -> Vec<f32> {
        let [m, k, n] = self.size;
        let mut c = vec![f32::NAN; m * n];
        let (a, b) = (
            MatRef::new(&self.a.0, 0, self.a.1, self.a.2),
            MatRef::new(&self.b.0, 0, self.b.1, self.b.2),
        );
        gemm_on(Isa::Avx512, m, k, n, a, b, &mut c, n, false, Epilogue::NONE);
        c
    }

    /// Errors of a result against f64, in units of 2^-24 times the sum of the terms' magnitudes: root mean square, and largest.
    fn errors(&self, c: &[f32]) -> (f64, f64) {
        let [m, k, n] = self.size;
        let (mut squares, mut largest) = (0.0, 0.0f64);
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|p| self.a(i, p) as f64 * self.b(p, j) as f64);
                let size: f64 = terms.clone().map(f64::abs).sum();
                let error =
                    (c[i * n + j] as f64 - terms.sum::<f64>()).abs() / size * (1u64 << 24) as f64;
                squares += error * error;
                largest = largest.max(error);
            }
        }
        ((squares / (m * n) as f64).sqrt(), largest)
    }
}

fn registers() -> bool {
    available().contains(&Isa::Amx)
}

const FORMS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[test]
fn whole_numbers_are_exact_at_any_size_and_stride() {
    if !registers() {
        return;
    }
    let mut rng = Random(1);
    for _ in 0..60 {
        let most = if rng.below(4) == 0 { 600 } else { 90 };
        let size = std::array::from_fn(|_| 16 + rng.below(most));
        let (form, gap) = (FORMS[rng.below(4)], 1 + rng.below(5) / 4);
        let numbers = ints(&mut rng, 4_000_000);
        let case = Case::new(size, form, gap, |len| numbers[..len].to_vec());
        assert!(case.split() == case.fused(), "{size:?} {form:?} {gap}");
    }
}

/// The order of addition more than makes up for the three products of pieces that are left out; where a few large terms make up a sum, errors
/// are about the same.
#[test]
fn sums_are_closer_to_the_truth_than_those_of_multiply_adds() {
    if !registers() {
        return;
    }
    let mut rng = Random(2);
    for form in FORMS {
        for size in [[40, 64, 70], [33, 300, 50], [64, 1000, 48]] {
            // Numbers of either sign, of one sign, and of many magnitudes.
            let numbers = floats(&mut rng, 1 << 18);
            let wide = |i: usize, x: f32| x * 2f32.powi((i * 7 % 40) as i32 - 20);
            let kinds: [Vec<f32>; 3] = [
                numbers.clone(),
                numbers.iter().map(|x| x.abs()).collect(),
                numbers.iter().enumerate().map(|(i, &x)| wide(i, x)).collect(),
            ];
            for (kind, numbers) in kinds.iter().enumerate() {
                let from = rng.below(1000);
                // Not the same numbers twice, whose sums of squares would be a case of its own.
                let mut at = from;
                let case = Case::new(size, form, 1, |len| {
                    at += len;
                    numbers[at - len..at].to_vec()
                });
                let (split, fused) = (case.errors(&case.split()), case.errors(&case.fused()));
                let most = [1.0, 1.0, 1.25][kind];
                assert!(split.0 <= most * fused.0, "{size:?} {form:?} {kind}: {split:?} {fused:?}");
                assert!(split.1 <= 1.5 * fused.1, "{size:?} {form:?} {kind}: {split:?} {fused:?}");
            }
        }
    }
}

/// The pieces that are left out are largest for numbers whose fraction has ones where pieces end.
#[test]
fn the_products_that_are_left_out_are_below_a_unit_in_the_last_place() {
    if !registers() {
        return;
    }
    for bits in [0x3fff_ffffu32, 0x3f80_7fff, 0x3f80_8080, 0x3f80_7f7f, 0x3fff_7f7f, 0x3f81_8181] {
        for factor in [1.0, -1.0] {
            let x = f32::from_bits(bits);
            let case = Case::new([16, 32, 16], (false, false), 1, |len| vec![x; len]);
            let other = Case { b: (vec![factor * x; case.b.0.len()], case.b.1, case.b.2), ..case };
            // The sum of 32 equal terms rounds five times at least, in any order.
            let (_, largest) = other.errors(&other.split());
            assert!(largest <= 4.0, "{bits:x} {factor}: {largest}");
        }
    }
}

#[test]
fn what_is_not_finite_is_where_it_belongs() {
    if !registers() {
        return;
    }
    let (m, k, n) = (40, 70, 50);
    let mut case = Case::new([m, k, n], (false, false), 1, |len| vec![1.0; len]);
    let (a_row, b_row) = (case.a.1 as usize, case.b.1 as usize);
    case.a.0[3 * a_row + 5] = f32::INFINITY;
    case.a.0[17 * a_row + 69] = f32::NAN;
    // It rounds to infinity in eight bits.
    case.a.0[20 * a_row + 64] = f32::MAX;
    case.b.0[64 * b_row..][..n].fill(0.5);
    case.b.0[11 * b_row + 33] = f32::NEG_INFINITY;
    case.a.0[30 * a_row + 11] = 0.0;
    let (got, want) = (case.split(), case.fused());
    for i in 0..m {
        for j in 0..n {
            let (got, want) = (got[i * n + j], want[i * n + j]);
            assert!(got == want || (got.is_nan() && want.is_nan()), "{i}, {j}: {got} {want}");
        }
    }
    let row = |i: usize| &got[i * n..][..n];
    assert!(
        row(3)[0] == f32::INFINITY && row(3)[33].is_nan() && row(17).iter().all(|x| x.is_nan())
    );
    assert!(
        row(20)[0] == f32::MAX / 2.0 && row(0)[33] == f32::NEG_INFINITY && row(30)[33].is_nan()
    );
    assert!(row(0)[0] == k as f32 - 0.5);
}

/// What the module says about small numbers: nothing is lost down to 2^-103, below it digits, but not more than the smallest normal number.
#[test]
fn small_numbers_lose_digits_only_below_the_bound() {
    if !registers() {
        return;
    }
    let mut rng = Random(3);
    let numbers = floats(&mut rng, 1 << 14);
    for (power, exact) in [(-100, true), (-118, false), (-130, false)] {
        let scale = 2f64.powi(power);
        let case = Case::new([32, 64, 32], (false, true), 1, |len| numbers[..len].to_vec());
        let small = |x: &f32| (*x as f64 * scale) as f32;
        let tiny = Case { a: (case.a.0.iter().map(small).collect(), case.a.1, case.a.2), ..case };
        let (got, want) = (tiny.split(), tiny.fused());
        for (got, want) in got.iter().zip(&want) {
            let error = (got - want).abs() as f64;
            let lost = if exact { 0.0 } else { 3.0 * 64.0 * f32::MIN_POSITIVE as f64 };
            assert!(error <= 64.0 * 2f64.powi(-22) * scale + lost, "{power}: {got} {want}");
        }
    }
}

#[test]
fn a_result_depends_on_its_row_and_column_alone() {
    if !registers() {
        return;
    }
    let mut rng = Random(4);
    let numbers = floats(&mut rng, 1 << 20);
    let (m, k, n) = (300, 1100, 210);
    let case = Case::new([m, k, n], (false, true), 1, |len| numbers[..len].to_vec());
    let all = with_threads(1, || case.split());
    for threads in [2, 3, 4] {
        assert!(all == with_threads(threads, || case.split()), "{threads} threads");
    }
    // Fewer rows, and columns: other panels, and the other factor is kept.
    let part = Case { size: [21, k, n], a: case.a.clone(), b: case.b.clone() };
    assert!(part.split() == all[..21 * n]);
    let part = Case { size: [m, k, 19], ..case };
    let few = part.split();
    assert!((0..m).all(|i| few[i * 19..][..19] == all[i * n..][..19]));
}

#[test]
fn a_packed_factor_gives_the_same_bits() {
    if !registers() {
        return;
    }
    let mut rng = Random(5);
    let numbers = floats(&mut rng, 1 << 20);
    for (m, k, n) in [(16, 16, 16), (40, 100, 90), (64, 1100, 70), (200, 64, 33), (5, 520, 64)] {
        for form in FORMS {
            let case = Case::new([m.max(16), k, n], form, 1, |len| numbers[..len].to_vec());
            let want = case.split();
            let mut got = vec![f32::NAN; m.max(16) * n];
            let p = Problem { m, ..case.problem(&mut got) };
            for threads in [1, 2] {
                // SAFETY: as in `split`.
                with_threads(threads, || unsafe {
                    let hint = Problem { m: 16, ..p };
                    let packed = f32::split_whole(Isa::Amx, &hint, f64::INFINITY).unwrap();
                    f32::split_with(&p, &packed);
                });
                assert!(got[..m * n] == want[..m * n], "{m} {k} {n} {form:?}");
            }
        }
    }
}
