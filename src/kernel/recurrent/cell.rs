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
//! The GRU's row holds n, r, z, `s_n` in this order: the first three are the gradients of the sums over the input, the last three those over the state.

use super::lanes::{W, both, each, gates, load, store, three};
use crate::float::Float;

/// A plain cell, forward: `h' = f(a)`.
#[inline(always)]
pub(super) fn plain<T: Float, const FMA: bool>(relu: bool, a: &[T], out: &mut [T]) {
    for j in (0..out.len()).step_by(W) {
        let a = load(a, j);
        let y = if relu {
            // A NaN stays one.
            each(&a, |a| if a < T::ZERO { T::ZERO } else { a })
        } else {
            each(&a, |a| a.vtanh::<FMA>())
        };
        store(out, j, &y);
    }
}

/// A plain cell, backward: `da` from the new state; `dh` becomes the (empty) direct part of the old state's gradient.
#[inline(always)]
pub(super) fn plain_back<T: Float>(relu: bool, da: &mut [T], new: &[T], dh: &mut [T], gy: &[T]) {
    for j in (0..dh.len()).step_by(W) {
        let d = both(&load(dh, j), &load(gy, j), |a, b| a + b);
        let y = load(new, j);
        let da_ = if relu {
            both(&d, &y, |d, y| if y > T::ZERO { d } else { T::ZERO })
        } else {
            both(&d, &y, |d, y| d * (T::ONE - y * y))
        };
        store(da, j, &da_);
        store(dh, j, &[T::ZERO; W]);
    }
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
    for j in (0..h).step_by(W) {
        let i = each(&load(ai, j), |a| a.vsigmoid::<FMA>());
        store(ai, j, &i);
        let f = each(&load(af, j), |a| a.vsigmoid::<FMA>());
        store(af, j, &f);
        let g = each(&load(ag, j), |a| a.vtanh::<FMA>());
        store(ag, j, &g);
        let o = each(&load(ao, j), |a| a.vsigmoid::<FMA>());
        store(ao, j, &o);
        let ig = both(&i, &g, |i, g| i * g);
        let c = three(&f, &load(old, j), &ig, |f, c, ig| f.vfma::<FMA>(c, ig));
        store(cell, j, &c);
        let t = each(&c, |c| c.vtanh::<FMA>());
        store(out, j, &both(&o, &t, |o, t| o * t));
    }
}

/// LSTM, backward; `dc` becomes the gradient of the old cell, `dh` the (empty) direct part of the old state's gradient.
#[inline(always)]
pub(super) fn lstm_back<T: Float, const FMA: bool>(
    a: &mut [T],
    old: &[T],
    cell: &[T],
    dh: &mut [T],
    gy: &[T],
    dc: &mut [T],
) {
    let h = dh.len();
    let [ai, af, ag, ao] = gates::<T, 4>(a, h);
    for j in (0..h).step_by(W) {
        let d = both(&load(dh, j), &load(gy, j), |a, b| a + b);
        store(dh, j, &[T::ZERO; W]);
        let t = each(&load(cell, j), |c| c.vtanh::<FMA>());
        let o = load(ao, j);
        let dt = both(&d, &t, |d, t| d * t);
        store(ao, j, &both(&dt, &o, |dt, o| dt * (o * (T::ONE - o))));
        let through = three(&d, &o, &t, |d, o, t| d * o * (T::ONE - t * t));
        let e = both(&load(dc, j), &through, |dc, e| dc + e);
        let (i, f, g) = (load(ai, j), load(af, j), load(ag, j));
        store(dc, j, &both(&e, &f, |e, f| e * f));
        store(ai, j, &three(&e, &g, &i, |e, g, i| e * g * (i * (T::ONE - i))));
        store(af, j, &three(&e, &load(old, j), &f, |e, c, f| e * c * (f * (T::ONE - f))));
        store(ag, j, &three(&e, &i, &g, |e, i, g| e * i * (T::ONE - g * g)));
    }
}

/// GRU, forward; `s` are the sums over the old state: r, z, n.
#[inline(always)]
pub(super) fn gru<T: Float, const FMA: bool>(a: &mut [T], s: &[T], old: &[T], out: &mut [T]) {
    let h = out.len();
    let [an, ar, az, an_state] = gates::<T, 4>(a, h);
    let (s_r, s_z, s_n) = (&s[..h], &s[h..2 * h], &s[2 * h..3 * h]);
    for j in (0..h).step_by(W) {
        let r = both(&load(ar, j), &load(s_r, j), |a, s| (a + s).vsigmoid::<FMA>());
        store(ar, j, &r);
        let z = both(&load(az, j), &load(s_z, j), |a, s| (a + s).vsigmoid::<FMA>());
        store(az, j, &z);
        let sn = load(s_n, j);
        store(an_state, j, &sn);
        let n = three(&r, &sn, &load(an, j), |r, s, a| r.vfma::<FMA>(s, a).vtanh::<FMA>());
        store(an, j, &n);
        let y = three(&z, &load(old, j), &n, |z, h, n| z.vfma::<FMA>(h - n, n));
        store(out, j, &y);
    }
}

/// GRU, backward; `dh` becomes the direct part of the old state's gradient, without what flows through the gates.
#[inline(always)]
pub(super) fn gru_back<T: Float>(a: &mut [T], old: &[T], dh: &mut [T], gy: &[T]) {
    let h = dh.len();
    let [an, ar, az, an_state] = gates::<T, 4>(a, h);
    for j in (0..h).step_by(W) {
        let d = both(&load(dh, j), &load(gy, j), |a, b| a + b);
        let (n, r, z, sn) = (load(an, j), load(ar, j), load(az, j), load(an_state, j));
        store(dh, j, &both(&d, &z, |d, z| d * z));
        let dn = three(&d, &z, &n, |d, z, n| d * (T::ONE - z) * (T::ONE - n * n));
        store(an, j, &dn);
        let from_new = both(&load(old, j), &n, |h, n| h - n);
        store(az, j, &three(&d, &from_new, &z, |d, w, z| d * w * (z * (T::ONE - z))));
        store(ar, j, &three(&dn, &sn, &r, |dn, s, r| dn * s * (r * (T::ONE - r))));
        store(an_state, j, &both(&dn, &r, |dn, r| dn * r));
    }
}
