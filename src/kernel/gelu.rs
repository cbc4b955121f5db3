//! GELU, x Φ(x), over whole runs with AVX-512: the normal distribution function from a table in registers.
//!
//! [`VecMath::vgelu`] takes an exponential and a division. For |x| below [`NEAR`], where nearly all activations are, this takes neither: with a = |x|,
//!
//! ```text
//! k = round(8 a), r = a - k/8        |r| ≤ 1/16
//! Φ(-a) = Σ Φₖ⁽ⁱ⁾ rⁱ / i!            up to i = 5, by the derivatives at k/8: 32 of each, which one instruction picks from two registers
//! y = max(x, 0) - a Φ(-a)
//! ```
//!
//! The first term left out is at most 1.3e-7 of Φ(-a), at the far end; up to 3 it is below 1e-8. A number further out takes the other way, and
//! only it: what a number becomes does not depend on its neighbours.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::chunks::{W, padded};
use super::math::{VecMath, phi};
use super::simd::{Isa, isa};

/// Numbers whose magnitude rounds to one of the table.
const NEAR: f32 = 31.5 / 8.0;

/// Φₖ⁽ⁱ⁾ / i! for each i and each k.
type Table = [[f32; 32]; 6];

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = [[0.0; 32]; 6];
        for k in 0..32 {
            let a = k as f64 / 8.0;
            let density = (-0.5 * a * a).exp() * 0.398_942_280_401_432_7;
            // The derivatives of the density are Hermite polynomials times it.
            let column = [
                phi::<false>(-a),
                -density,
                density * a / 2.0,
                density * (1.0 - a * a) / 6.0,
                density * (a * a - 3.0) * a / 24.0,
                density * ((6.0 - a * a) * a * a - 3.0) / 120.0,
            ];
            for (row, c) in table.iter_mut().zip(column) {
                row[k] = c as f32;
            }
        }
        table
    })
}

/// GELU of each element, if this processor has AVX-512; otherwise nothing happens and it says `false`.
pub(super) fn gelu(x: &[f32], out: &mut [f32]) -> bool {
    if isa() < Isa::Avx512 {
        return false;
    }
    // SAFETY: `isa` names AVX-512 only after detecting it.
    unsafe { run(x, out, table()) };
    true
}

/// # Safety
/// The processor must have the features named.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn run(x: &[f32], out: &mut [f32], table: &Table) {
    // SAFETY: each half of a row is 16 elements.
    let table = table.map(|row| unsafe {
        [_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(16))]
    });
    let (xs, x_tail) = x.as_chunks::<W>();
    let (outs, out_tail) = out.as_chunks_mut::<W>();
    for (x, out) in xs.iter().zip(outs) {
        chunk(x, out, &table);
    }
    if !out_tail.is_empty() {
        let mut y = [0.0; W];
        chunk(&padded(x_tail, x_tail.len(), 0.0), &mut y, &table);
        out_tail.copy_from_slice(&y[..out_tail.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn chunk(x: &[f32; W], out: &mut [f32; W], table: &[[__m512; 2]; 6]) {
    // SAFETY: the array has 16 elements.
    let v = unsafe { _mm512_loadu_ps(x.as_ptr()) };
    let round = _mm512_set1_ps(12_582_912.0); // 1.5 · 2^23: what is added to it is rounded, and stands in its low bits
    let a = _mm512_abs_ps(v);
    let t = _mm512_fmadd_ps(a, _mm512_set1_ps(8.0), round);
    let k = _mm512_castps_si512(t);
    let r = _mm512_fnmadd_ps(_mm512_sub_ps(t, round), _mm512_set1_ps(0.125), a);
    let pick = |row: &[__m512; 2]| _mm512_permutex2var_ps(row[0], k, row[1]);
    let mut p = pick(&table[5]);
    for row in table[..5].iter().rev() {
        p = _mm512_fmadd_ps(p, r, pick(row));
    }
    let mut y = _mm512_fnmadd_ps(a, p, _mm512_max_ps(v, _mm512_setzero_ps()));
    let near = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, _mm512_set1_ps(NEAR));
    if near != 0xffff {
        let mut far = [0.0; W];
        for (far, &x) in far.iter_mut().zip(x) {
            *far = x.vgelu::<true>();
        }
        // SAFETY: the array has 16 elements.
        y = _mm512_mask_blend_ps(near, unsafe { _mm512_loadu_ps(far.as_ptr()) }, y);
    }
    // SAFETY: the array has 16 elements.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), y) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::available;

    /// The largest errors up to and beyond -3, in units of the last place: below those of the other way.
    #[test]
    fn close_to_double_precision_whatever_the_neighbours() {
        if !available().contains(&Isa::Avx512) {
            return;
        }
        let x: Vec<f32> = (-130_000..200_000).map(|i| i as f32 * 1e-4).collect();
        let mut y = vec![f32::NAN; x.len()];
        // SAFETY: the processor has AVX-512.
        unsafe { run(&x, &mut y, table()) };
        for (&x, &y) in x.iter().zip(&y) {
            let want = (x as f64).vgelu::<false>();
            let ulp = want.abs().max(f32::MIN_POSITIVE as f64) * 2f64.powi(-23);
            let limit = if x < -3.0 { 6.5 } else { 3.0 };
            assert!((y as f64 - want).abs() <= limit * ulp, "{x}: {y} {want}");
        }
        let odd =
            [-1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.937_5, -3.937_4, -0.0, 1e-30];
        for at in 0..odd.len() {
            for n in [1, 5, 8, 15, 16, 17, 40] {
                let mixed: Vec<f32> = (0..n).map(|i| odd[(i + at) % odd.len()]).collect();
                let mut y = vec![f32::NAN; n];
                // SAFETY: as above.
                unsafe { run(&mixed, &mut y, table()) };
                for (x, y) in mixed.iter().zip(y) {
                    let mut alone = [f32::NAN];
                    // SAFETY: as above.
                    unsafe { run(&[*x], &mut alone, table()) };
                    assert_eq!(alone[0].to_bits(), y.to_bits(), "{x}");
                    assert!(y.is_nan() == x.is_nan() && (x.is_nan() || y >= -0.17), "{x}: {y}");
                }
            }
        }
    }
}
