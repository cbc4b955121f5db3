//! Connectionist temporal classification: the forward-backward recursion over all alignments of a target with the frames of an input.
//!
//! The target l₁ … l_S, with a blank before, between and after its labels, gives L = 2S + 1 states. A path begins in one of the first two
//! states and ends in one of the last two; from frame to frame it stays, steps to the next state, or skips a blank between
//! two different labels. With e_t(s) the log-probability of the label of state s at frame t:
//!
//! ```text
//! α_t(s) = e_t(s) + ln (Σ over s' that lead to s of exp α_{t-1}(s'))      β_t(s) = ln (Σ over s' that s leads to of exp (β_{t+1}(s') + e_{t+1}(s')))
//! loss = -ln (exp α_T(L-1) + exp α_T(L-2))
//! γ_t(s) = exp (α_t(s) + β_t(s)) / Σ_s' exp (α_t(s') + β_t(s'))           d e_t(label) = -g Σ of γ_t over the states with that label
//! ```
//!
//! What the code does differently:
//!
//! 1. Each row of α and β is kept relative to its largest entry, and what was taken off is added up in f64. So f32 stays exact over thousands
//!    of frames, where α itself would be a number of thousands with no digits left after the point. γ is a ratio and needs no offset.
//! 2. The three ways into a state are three shifted slices of the row before, and a blank that may not be skipped is an addend of -∞: the
//!    loop over states is one vector loop.
//! 3. One example is one part of the parallel loop, in one buffer of its own.
//!
//! Source: Graves et al., "Connectionist Temporal Classification" (2006).

use super::par;
use super::simd::{Kernel, dispatch};
use crate::float::Float;

/// What is the same for all examples, and where each has its target.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) frames: usize,
    pub(crate) batch: usize,
    pub(crate) classes: usize,
    pub(crate) blank: usize,
    /// How many frames of each example count: from 1 to `frames`.
    pub(crate) input_lengths: Vec<usize>,
    /// The target of each example: classes other than the blank.
    pub(crate) targets: Vec<Vec<usize>>,
}

impl Setting {
    /// The largest number of states.
    fn width(&self) -> usize {
        self.targets.iter().map(|t| 2 * t.len() + 1).max().unwrap_or(1)
    }

    /// The length of what [`forward`] writes for each example: α for each frame and state, and at the end the loss.
    pub(crate) fn stride(&self) -> usize {
        self.frames * self.width() + 1
    }

    /// The log-probabilities of one example at one frame.
    fn row<'a, T>(&self, x: &'a [T], frame: usize, example: usize) -> &'a [T] {
        &x[(frame * self.batch + example) * self.classes..][..self.classes]
    }

    /// The class of each state of an example, and for each 0 if it may be entered from two states before, else -∞.
    fn states<T: Float>(&self, example: usize) -> (Vec<usize>, Vec<T>) {
        let target = &self.targets[example];
        let count = 2 * target.len() + 1;
        let class = |s: usize| if s.is_multiple_of(2) { self.blank } else { target[s / 2] };
        let skip = |s: usize| s % 2 == 1 && s > 1 && class(s) != class(s - 2);
        let addend = |s| if skip(s) { T::ZERO } else { T::neg_infinity() };
        ((0..count).map(class).collect(), (0..count).map(addend).collect())
    }
}

/// out = ln (exp a + exp b + exp (c + skip)) + e, -∞ where there is nothing to add.
#[inline(always)]
fn step<T: Float, const FMA: bool>(a: &[T], b: &[T], c: &[T], skip: &[T], e: &[T], out: &mut [T]) {
    let inputs = a.iter().zip(b).zip(c.iter().zip(skip)).zip(e);
    for (out, (((&a, &b), (&c, &skip)), &e)) in out.iter_mut().zip(inputs) {
        let c = c + skip;
        let top = if b > a { b } else { a };
        let top = if c > top { c } else { top };
        let top = if top == T::neg_infinity() { T::ZERO } else { top };
        let sum = (a - top).vexp::<FMA>() + (b - top).vexp::<FMA>() + (c - top).vexp::<FMA>();
        *out = top + sum.vln::<FMA>() + e;
    }
}

/// The largest entry, if that is a number to take off.
#[inline(always)]
fn top<T: Float>(x: &[T]) -> T {
    let top = x.iter().fold(T::neg_infinity(), |top, &x| if x > top { x } else { top });
    if top.is_finite() { top } else { T::ZERO }
}

/// Takes the largest entry off and returns it.
#[inline(always)]
fn rescale<T: Float>(x: &mut [T]) -> T {
    let top = top(x);
    x.iter_mut().for_each(|x| *x -= top);
    top
}

/// Writes α and the loss of each example to its chunk of `out`, [`Setting::stride`] long; ∞ where no path is long enough.
pub(crate) fn forward<T: Float>(x: &[T], setting: &Setting, out: &mut [T]) {
    par::for_each_chunk_mut(out, setting.stride(), 6.0, |example, out| {
        dispatch(Forward { x, setting, example, out });
    });
}

struct Forward<'a, T> {
    x: &'a [T],
    setting: &'a Setting,
    example: usize,
    out: &'a mut [T],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (width, none) = (self.setting.width(), T::neg_infinity());
        let (classes, skip) = self.setting.states::<T>(self.example);
        let count = classes.len();
        // The row before, behind two states that nothing comes from.
        let mut before = vec![none; count + 2];
        let mut e = vec![T::ZERO; count];
        let mut offset = 0.0;
        for frame in 0..self.setting.input_lengths[self.example] {
            let row = self.setting.row(self.x, frame, self.example);
            e.iter_mut().zip(&classes).for_each(|(e, &c)| *e = row[c]);
            let alpha = &mut self.out[frame * width..][..count];
            if frame == 0 {
                alpha.fill(none);
                let start = count.min(2);
                alpha[..start].copy_from_slice(&e[..start]);
            } else {
                step::<T, FMA>(
                    &before[2..],
                    &before[1..count + 1],
                    &before[..count],
                    &skip,
                    &e,
                    alpha,
                );
            }
            offset += rescale(alpha).as_f64();
            before[2..].copy_from_slice(alpha);
        }
        let (a, b) = (before[count + 1].as_f64(), before[count].as_f64());
        let top = if a > b { a } else { b };
        let loss = if top == f64::NEG_INFINITY {
            f64::INFINITY
        } else {
            -(offset + top + ((a - top).exp() + (b - top).exp()).ln())
        };
        if let Some(out) = self.out.last_mut() {
            *out = T::of(loss);
        }
    }
}

/// Writes the gradient of the log-probabilities, `[batch, frames, classes]`, given what [`forward`] wrote and the gradient of each loss.
/// A loss of ∞ has the gradient NaN, or 0 if asked for.
pub(crate) fn backward<T: Float>(
    x: &[T],
    setting: &Setting,
    alpha: &[T],
    zero_infinity: bool,
    g: impl Fn(usize) -> T + Sync,
    out: &mut [T],
) {
    let stride = setting.stride();
    par::for_each_chunk_mut(out, setting.frames * setting.classes, 8.0, |example, out| {
        let alpha = &alpha[example * stride..][..stride];
        let g = g(example);
        out.fill(T::ZERO);
        if alpha[stride - 1] != T::infinity() {
            dispatch(Backward { x, setting, example, alpha, g, out });
        } else if !zero_infinity {
            out[..setting.input_lengths[example] * setting.classes].fill(T::nan());
        }
    });
}

struct Backward<'a, T> {
    x: &'a [T],
    setting: &'a Setting,
    example: usize,
    alpha: &'a [T],
    g: T,
    out: &'a mut [T],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (width, none) = (self.setting.width(), T::neg_infinity());
        let (classes, mut skip) = self.setting.states::<T>(self.example);
        let count = classes.len();
        // Seen from where a skip starts.
        skip.rotate_left(2.min(count));
        let from = count.saturating_sub(2);
        skip[from..].fill(none);
        // β + e of the frame after, before two states that lead nowhere.
        let mut after = vec![none; count + 2];
        let mut beta = vec![none; count];
        beta[from..].fill(T::ZERO);
        let zero = vec![T::ZERO; count];
        let mut gamma = vec![T::ZERO; count];
        for frame in (0..self.setting.input_lengths[self.example]).rev() {
            let alpha = &self.alpha[frame * width..][..count];
            let sums = gamma.iter_mut().zip(alpha.iter().zip(&beta));
            sums.for_each(|(gamma, (&a, &b))| *gamma = a + b);
            let most = top(&gamma);
            gamma.iter_mut().for_each(|v| *v = (*v - most).vexp::<FMA>());
            let scale = -self.g / gamma.iter().fold(T::ZERO, |sum, &v| sum + v);
            let out = &mut self.out[frame * self.setting.classes..][..self.setting.classes];
            gamma.iter().zip(&classes).for_each(|(&v, &c)| out[c] += scale * v);
            let row = self.setting.row(self.x, frame, self.example);
            let sums = after.iter_mut().zip(beta.iter().zip(&classes));
            sums.for_each(|(after, (&b, &c))| *after = b + row[c]);
            step::<T, FMA>(
                &after[..count],
                &after[1..count + 1],
                &after[2..],
                &skip,
                &zero,
                &mut beta,
            );
            rescale(&mut beta);
        }
    }
}
