use super::*;
use crate::element::Element;
use crate::kernel::par::tests::with_threads;
use crate::kernel::simd::available;

/// splitmix64: enough randomness for sizes and small values.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Small whole numbers: their sums are exact, so that every order of addition must give the same bits.
pub(super) fn ints<T: GemmElement>(rng: &mut Random, len: usize) -> Vec<T> {
    (0..len).map(|_| (rng.below(9) as i64 - 4).cast()).collect()
}

pub(super) fn floats(rng: &mut Random, len: usize) -> Vec<f32> {
    (0..len).map(|_| (rng.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

/// A matrix at random strides: row-major, column-major, with gaps, broadcast, reversed.
struct Operand<T> {
    data: Vec<T>,
    offset: usize,
    rs: isize,
    cs: isize,
}

impl<T: GemmElement> Operand<T> {
    fn random(rng: &mut Random, rows: usize, cols: usize) -> Self {
        let gap = rng.below(3);
        let (mut rs, mut cs) = match rng.below(6) {
            0 | 1 => (cols + gap, 1),
            2 | 3 => (1, rows + gap),
            4 => (2 * cols + gap, 2),
            _ => (0, 1),
        };
        if rng.below(8) == 0 {
            cs = 0;
            rs = rs.min(1);
        }
        let len = (rows.max(1) - 1) * rs + (cols.max(1) - 1) * cs + 1;
        let (mut signed, mut offset) = ([rs as isize, cs as isize], 0);
        for (stride, size) in signed.iter_mut().zip([rows, cols]) {
            if rng.below(5) == 0 && size > 0 {
                offset += (size - 1) * *stride as usize;
                *stride = -*stride;
            }
        }
        Self { data: ints(rng, len), offset, rs: signed[0], cs: signed[1] }
    }

    fn mat(&self) -> MatRef<'_, T> {
        MatRef::new(&self.data, self.offset, self.rs, self.cs)
    }

    fn at(&self, i: usize, j: usize) -> T {
        self.data[(self.offset as isize + i as isize * self.rs + j as isize * self.cs) as usize]
    }
}

fn relu<T: GemmElement>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

/// One random product of the given size, against the definition.
fn check<T: GemmElement>(rng: &mut Random, isa: Isa, m: usize, k: usize, n: usize) {
    let (a, b) = (Operand::<T>::random(rng, m, k), Operand::<T>::random(rng, k, n));
    let ldc = n + rng.below(3);
    let (accumulate, with_relu) = (rng.below(2) == 0, rng.below(2) == 0);
    let bias_kind = rng.below(3);
    let bias: Vec<T> = ints(rng, if bias_kind == 1 { n } else { m });
    let nan: T = f64::NAN.cast();
    let before: Vec<T> = if accumulate { ints(rng, m * ldc) } else { vec![nan; m * ldc] };
    let mut c = before.clone();
    let epilogue = Epilogue {
        bias: match bias_kind {
            0 => Bias::None,
            1 => Bias::Col(&bias),
            _ => Bias::Row(&bias),
        },
        relu: with_relu,
    };
    gemm_on(isa, m, k, n, a.mat(), b.mat(), &mut c, ldc, accumulate, epilogue);
    for i in 0..m {
        for j in 0..ldc {
            let got = c[i * ldc + j];
            let old = before[i * ldc + j];
            if j >= n {
                assert!(
                    got == old || (got.is_not_a_number() && old.is_not_a_number()),
                    "wrote between rows"
                );
                continue;
            }
            let mut want = if accumulate { old } else { T::ZERO };
            for p in 0..k {
                want = want.plus(a.at(i, p).times(b.at(p, j)));
            }
            match bias_kind {
                0 => {}
                1 => want = want.plus(bias[j]),
                _ => want = want.plus(bias[i]),
            }
            if with_relu {
                want = relu(want);
            }
            assert!(
                got == want,
                "{isa:?} {m}x{k}x{n} at {i},{j}: {got} is not {want}; A {:?} B {:?} {epilogue:?} accumulate {accumulate}",
                (a.rs, a.cs),
                (b.rs, b.cs)
            );
        }
    }
}

#[test]
fn agrees_with_the_definition_at_sizes_around_the_tiles() {
    let sizes = [0, 1, 2, 3, 5, 6, 7, 8, 9, 13, 15, 16, 17, 31, 33, 47, 48, 49, 64, 65, 70];
    let mut rng = Random(1);
    for &isa in available() {
        for _ in 0..400 {
            let [m, k, n] = std::array::from_fn(|_| sizes[rng.below(sizes.len())]);
            check::<f32>(&mut rng, isa, m, k, n);
            check::<f64>(&mut rng, isa, m, k, n);
        }
    }
}

#[test]
fn agrees_with_the_definition_across_blocks() {
    let mut rng = Random(2);
    for &isa in available() {
        for (m, k, n) in [
            (150, 300, 70),
            (9, 1030, 100),
            (1, 600, 1),
            (1, 300, 200),
            (200, 513, 1),
            (3, 5000, 50),
            (260, 20, 10),
        ] {
            for _ in 0..2 {
                check::<f32>(&mut rng, isa, m, k, n);
                check::<f64>(&mut rng, isa, m, k, n);
            }
        }
    }
}

#[test]
fn the_identity_changes_nothing() {
    let mut rng = Random(3);
    let n = 67;
    let a = floats(&mut rng, n * n);
    let eye: Vec<f32> = (0..n * n).map(|i| (i % (n + 1) == 0) as u8 as f32).collect();
    for &isa in available() {
        let mut c = vec![f32::NAN; n * n];
        let (ma, me) = (MatRef::rows(&a, n), MatRef::rows(&eye, n));
        gemm_on(isa, n, n, n, ma, me, &mut c, n, false, Epilogue::NONE);
        assert_eq!(c, a);
        gemm_on(isa, n, n, n, me, ma, &mut c, n, false, Epilogue::NONE);
        assert_eq!(c, a);
    }
}

#[test]
fn an_empty_sum_is_zero_and_keeps_what_is_accumulated() {
    let mut c = vec![f32::NAN; 6];
    let empty = MatRef::new(&[], 0, 1, 1);
    gemm(2, 0, 3, empty, empty, &mut c, 3, false, Epilogue::NONE);
    assert_eq!(c, [0.0; 6]);
    let epilogue = Epilogue { bias: Bias::Row(&[-1.0, 2.0]), relu: true };
    gemm(2, 0, 3, empty, empty, &mut c, 3, true, epilogue);
    assert_eq!(c, [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
}

#[test]
fn nan_and_infinity_get_through() {
    let a = [f32::NAN, 1.0, f32::INFINITY, 1.0];
    let b = [1.0f32, 0.0, 0.0, 1.0];
    for &isa in available() {
        let mut c = [0.0f32; 4];
        let epilogue = Epilogue { bias: Bias::None, relu: true };
        gemm_on(isa, 2, 2, 2, MatRef::rows(&a, 2), MatRef::rows(&b, 2), &mut c, 2, false, epilogue);
        assert!(c[0].is_nan() && c[1].is_nan() && c[2] == f32::INFINITY && c[3].is_nan());
    }
}

#[test]
fn the_number_of_threads_and_the_packing_change_no_bit() {
    let mut rng = Random(4);
    for (m, k, n) in
        [(200, 300, 150), (64, 784, 256), (32, 256, 512), (1, 2000, 900), (700, 64, 10)]
    {
        let (a, b) = (floats(&mut rng, m * k), floats(&mut rng, k * n));
        let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
        for &isa in available() {
            let product = |b: MatRef<'_, f32>, threads| {
                let mut c = vec![f32::NAN; m * n];
                with_threads(threads, || {
                    let a = MatRef::rows(&a, k);
                    gemm_on(isa, m, k, n, a, b, &mut c, n, false, Epilogue::NONE);
                });
                c
            };
            for b in [MatRef::rows(&b, n), MatRef::cols(&bt, k)] {
                let one = product(b, 1);
                assert!(one == product(b, 2) && one == product(b, 4), "{isa:?} {m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn all_paths_are_close_to_the_sum_in_double_precision() {
    let mut rng = Random(5);
    let (m, k, n) = (50, 400, 90);
    let (a, b) = (floats(&mut rng, m * k), floats(&mut rng, k * n));
    let product = |isa| {
        let mut c = vec![f32::NAN; m * n];
        let (a, b) = (MatRef::rows(&a, k), MatRef::rows(&b, n));
        gemm_on(isa, m, k, n, a, b, &mut c, n, false, Epilogue::NONE);
        c
    };
    let exact = |i: usize, j: usize| -> f64 {
        (0..k).map(|p| a[i * k + p] as f64 * b[p * n + j] as f64).sum()
    };
    for &isa in available() {
        for (at, x) in product(isa).into_iter().enumerate() {
            // Sums of 400 terms that reach 16: rounding errors of about sqrt(400) half units of 2^-19.
            let error = (x as f64 - exact(at / n, at % n)).abs();
            assert!(error < 2e-5, "{isa:?}: {x} off by {error}");
        }
    }
}

#[test]
fn batches_with_own_and_shared_operands() {
    let mut rng = Random(6);
    for (count, m, k, n) in [(1, 3, 4, 5), (5, 20, 30, 40), (40, 9, 17, 33), (0, 2, 2, 2)] {
        let (a, b): (Vec<f32>, Vec<f32>) =
            (ints(&mut rng, count * m * k), ints(&mut rng, (count * k * n).max(k * n)));
        for shared in [false, true] {
            let b_stride = if shared { 0 } else { k * n };
            let batch = Batch { count, a: (m * k) as isize, b: b_stride as isize, c: m * n };
            let mut c = vec![f32::NAN; count * m * n];
            let (ma, mb) = (MatRef::rows(&a, k), MatRef::rows(&b, n));
            gemm_batched(batch, m, k, n, ma, mb, &mut c, n, false, Epilogue::NONE);
            for i in 0..count {
                let mut one = vec![f32::NAN; m * n];
                let (a, b) = (&a[i * m * k..], &b[i * b_stride..]);
                gemm(
                    m,
                    k,
                    n,
                    MatRef::rows(a, k),
                    MatRef::rows(b, n),
                    &mut one,
                    n,
                    false,
                    Epilogue::NONE,
                );
                assert_eq!(one, c[i * m * n..(i + 1) * m * n]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "leaves its 5 elements")]
fn an_operand_that_is_too_short_is_refused() {
    let mut c = [0.0f32; 4];
    let (a, b) = ([0.0f32; 5], [0.0f32; 6]);
    gemm(2, 3, 2, MatRef::rows(&a, 3), MatRef::rows(&b, 2), &mut c, 2, false, Epilogue::NONE);
}

#[test]
#[should_panic(expected = "do not fit")]
fn a_result_that_is_too_short_is_refused() {
    let mut c = [0.0f32; 3];
    let a = [0.0f32; 4];
    gemm(2, 2, 2, MatRef::rows(&a, 2), MatRef::rows(&a, 2), &mut c, 2, false, Epilogue::NONE);
}
