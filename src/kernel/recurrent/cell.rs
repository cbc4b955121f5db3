//! One step of one sequence: what becomes of the sums that arrive at the gates, and the gradient of that.
//!
//! σ is the logistic function; `a` are the sums, which the forward pass replaces by what the backward pass needs, and that by the gradients of
//! the sums. `d` is the gradient of the new state h', by way of the output and of the next step together.
//!
//! ```text
//! plain   h' = tanh a  or  max(0, a)               da = d (1 - h'²)  or  d [h' > 0]
//!
//! LSTM    i = σ(a_i), f = σ(a_f), g = tanh(a_g), o = σ(a_o)
//!         c' = f c + i g,  h' = o tanh c'           e = dc' + d o (1 - tanh² c')
//!                                                   da_i = e g i (1-i), da_f = e c f (1-f), da_g = e i (1-g²),
//!                                                   da_o = d tanh(c') o (1-o), dc = e f
//!
//! GRU     r = σ(a_r + s_r), z = σ(a_z + s_z)        s: the sums over the old state, apart from those over the input
//!         n = tanh(a_n + r s_n)                     dn = d (1-z) (1-n²), dr = dn s_n r (1-r), dz = d (h - n) z (1-z),
//!         h' = n + z (h - n)                        ds_n = dn r, dh = d z
//! ```
//!
//! `ahead` are rows that the next sequence will read: its `a`, its older state or cell, its `gy`.
//!
//! The GRU's row holds n, r, z, `s_n` in this order: the first three are the gradients of the sums over the input, the last three those over the state.

use super::lanes::{At, W, chunks, each, gates, get, set, zeros};
use crate::float::Float;

// The formulas, number by number.

#[inline(always)]
fn tanh<T: Float, const FMA: bool>([a]: [T; 1]) -> [T; 1] {
    [a.vtanh::<FMA>()]
}

/// A NaN stays one.
#[inline(always)]
fn relu<T: Float>([a]: [T; 1]) -> [T; 1] {
    [if a < T::ZERO { T::ZERO } else { a }]
}

#[inline(always)]
fn tanh_slope<T: Float>([dh, gy, y]: [T; 3]) -> [T; 1] {
    [(dh + gy) * (T::ONE - y * y)]
}

#[inline(always)]
fn relu_slope<T: Float>([dh, gy, y]: [T; 3]) -> [T; 1] {
    [if y > T::ZERO { dh + gy } else { T::ZERO }]
}

/// The gates, the new cell, the new state.
#[inline(always)]
fn lstm_step<T: Float, const FMA: bool>([i, f, g, o, old]: [T; 5]) -> [T; 6] {
    let [i, f, g, o] = T::vlstm::<FMA>([i, f, g, o]);
    let c = f.vfma::<FMA>(old, i * g);
    [i, f, g, o, c, o * c.vtanh::<FMA>()]
}

/// The gradients of the gates' sums and of the old cell.
#[inline(always)]
fn lstm_slope<T: Float, const FMA: bool>([i, f, g, o, old, c, dh, dc, gy]: [T; 9]) -> [T; 5] {
    let (d, t) = (dh + gy, c.vtanh::<FMA>());
    let e = dc + d * o * (T::ONE - t * t);
    [
        e * g * (i * (T::ONE - i)),
        e * old * (f * (T::ONE - f)),
        e * i * (T::ONE - g * g),
        d * t * (o * (T::ONE - o)),
        e * f,
    ]
}

/// n, r, z and the new state.
#[inline(always)]
fn gru_step<T: Float, const FMA: bool>([n, r, z, s_r, s_z, s_n, old]: [T; 7]) -> [T; 4] {
    let (r, z) = ((r + s_r).vsigmoid::<FMA>(), (z + s_z).vsigmoid::<FMA>());
    let n = r.vfma::<FMA>(s_n, n).vtanh::<FMA>();
    [n, r, z, z.vfma::<FMA>(old - n, n)]
}

/// The gradients of the kept row, and the direct part of the old state's.
#[inline(always)]
fn gru_slope<T: Float>([n, r, z, s_n, old, dh, gy]: [T; 7]) -> [T; 5] {
    let d = dh + gy;
    let dn = d * (T::ONE - z) * (T::ONE - n * n);
    [dn, dn * s_n * (r * (T::ONE - r)), d * (old - n) * (z * (T::ONE - z)), dn * r, d * z]
}

/// A plain cell, forward: `h' = f(a)`.
#[inline(always)]
pub(super) fn plain<T: Float, const FMA: bool>(is_relu: bool, a: &[T], out: &mut [T]) {
    chunks!(out.len(), |at| {
        let a = [at.load(a)];
        let [y] = if is_relu { each!(a, relu) } else { each!(a, tanh::<T, FMA>) };
        at.store(out, &y);
    });
}

/// A plain cell, backward: `da` from the new state; `dh` becomes the (empty) direct part of the old state's gradient.
#[inline(always)]
pub(super) fn plain_back<T: Float>(is_relu: bool, da: &mut [T], new: &[T], dh: &mut [T], gy: &[T]) {
    chunks!(dh.len(), |at| {
        let x = [at.load(dh), at.load(gy), at.load(new)];
        let [a] = if is_relu { each!(x, relu_slope) } else { each!(x, tanh_slope) };
        at.store(da, &a);
        at.store(dh, &[T::ZERO; W]);
    });
}

/// LSTM, forward.
#[inline(always)]
pub(super) fn lstm<T: Float, const FMA: bool>(
    a: &mut [T],
    old: &[T],
    cell: &mut [T],
    out: &mut [T],
) {
    let h = out.len();
    let [ai, af, ag, ao] = gates::<T, 4>(a, h);
    chunks!(h, |at| {
        let x = [at.load(ai), at.load(af), at.load(ag), at.load(ao), at.load(old)];
        let [i, f, g, o, c, y] = each!(x, lstm_step::<T, FMA>);
        at.store(ai, &i);
        at.store(af, &f);
        at.store(ag, &g);
        at.store(ao, &o);
        at.store(cell, &c);
        at.store(out, &y);
    });
}

/// LSTM, backward; `dc` becomes the gradient of the old cell, `dh` the (empty) direct part of the old state's gradient.
#[inline(always)]
pub(super) fn lstm_back<T: Float, const FMA: bool>(
    a: &mut [T],
    [old, cell]: [&[T]; 2],
    [dh, dc]: [&mut [T]; 2],
    gy: &[T],
    ahead: [&[T]; 3],
) {
    let h = dh.len();
    let [ai, af, ag, ao] = gates::<T, 4>(a, h);
    chunks!(h, |at| {
        at.fetch(h, ahead);
        let (i, f, g, o) = (at.load(ai), at.load(af), at.load(ag), at.load(ao));
        let x = [i, f, g, o, at.load(old), at.load(cell), at.load(dh), at.load(dc), at.load(gy)];
        let [i, f, g, o, e] = each!(x, lstm_slope::<T, FMA>);
        at.store(ai, &i);
        at.store(af, &f);
        at.store(ag, &g);
        at.store(ao, &o);
        at.store(dc, &e);
        at.store(dh, &[T::ZERO; W]);
    });
}

/// GRU, forward; `s` are the sums over the old state: r, z, n.
#[inline(always)]
pub(super) fn gru<T: Float, const FMA: bool>(a: &mut [T], s: &[T], old: &[T], out: &mut [T]) {
    let h = out.len();
    let [an, ar, az, an_state] = gates::<T, 4>(a, h);
    let [s_r, s_z, s_n] = [&s[..h], &s[h..2 * h], &s[2 * h..3 * h]];
    chunks!(h, |at| {
        let (s_r, s_z, s_n) = (at.load(s_r), at.load(s_z), at.load(s_n));
        let x = [at.load(an), at.load(ar), at.load(az), s_r, s_z, s_n, at.load(old)];
        let [n, r, z, y] = each!(x, gru_step::<T, FMA>);
        at.store(an, &n);
        at.store(ar, &r);
        at.store(az, &z);
        at.store(an_state, &s_n);
        at.store(out, &y);
    });
}

/// GRU, backward; `dh` becomes the direct part of the old state's gradient, without what flows through the gates.
#[inline(always)]
pub(super) fn gru_back<T: Float>(a: &mut [T], old: &[T], dh: &mut [T], gy: &[T], ahead: [&[T]; 3]) {
    let h = dh.len();
    let [an, ar, az, an_state] = gates::<T, 4>(a, h);
    chunks!(h, |at| {
        at.fetch(h, ahead);
        let (n, r, z, s_n) = (at.load(an), at.load(ar), at.load(az), at.load(an_state));
        let x = [n, r, z, s_n, at.load(old), at.load(dh), at.load(gy)];
        let [n, r, z, s_n, d] = each!(x, gru_slope);
        at.store(an, &n);
        at.store(ar, &r);
        at.store(az, &z);
        at.store(an_state, &s_n);
        at.store(dh, &d);
    });
}
