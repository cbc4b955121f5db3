//! Copies between layouts.

#![allow(unsafe_code)]

use super::par;
use super::source::{Axis, Source, View, merged};
use crate::element::Element;
use crate::tensor::Layout;

/// Nanoseconds for an element, as an estimate for sharing the work.
const NS: f64 = 0.4;
/// Elements of one part of a parallel copy.
const GRAIN: usize = 1 << 15;
/// The side of the tiles in which a transposed layout is copied: each is read and written in whole cache lines, and fits the first cache.
const TILE: usize = 32;

/// Writes the elements that `layout` shows of `data` into `out`, in row-major order.
pub(crate) fn to_dense<T: Element>(data: &[T], layout: &Layout, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let axes = merged(layout);
    if is_transposed(&axes) {
        return transposed(data, layout.offset as isize, &axes, out);
    }
    let source = Source::new(View { data, layout }, out.len());
    par::for_each_chunk_mut(out, GRAIN, NS, |i, mut out| {
        let mut reader = source.reader(i * GRAIN);
        while !out.is_empty() {
            let n = reader.limit(out.len());
            let (now, rest) = out.split_at_mut(n);
            now.copy_from_slice(reader.take(n));
            out = rest;
        }
    });
}

/// Whether the elements stand in memory along another axis than the last one.
pub(super) fn is_transposed(axes: &[Axis]) -> bool {
    axes.split_last().is_some_and(|(last, outer)| {
        last.stride.unsigned_abs() > 1 && last.size > 1 && unit_axis(outer).is_some()
    })
}

/// The axis along which elements are neighbours in memory.
fn unit_axis(outer: &[Axis]) -> Option<usize> {
    outer.iter().rposition(|a| a.stride == 1 && a.size > 1)
}

/// Copies with the axis of stride 1 and the last one swapped, in tiles. The parts are bands of the unit axis.
fn transposed<T: Element>(data: &[T], offset: isize, axes: &[Axis], out: &mut [T]) {
    let (Some((&last, outer)), Some(unit)) = (axes.split_last(), unit_axis(axes)) else { return };
    // What one step along the unit axis is in `out`, and the parts that are contiguous in `out`: all axes up to and with the unit one.
    let step: usize = axes[unit + 1..].iter().map(|a| a.size).product();
    let between = &outer[unit + 1..];
    let bands = axes[unit].size.div_ceil(TILE);
    let before = &axes[..unit];
    let blocks: usize = before.iter().map(|a| a.size).product();
    let planes: usize = between.iter().map(|a| a.size).product();
    let base = par::SyncPtr(out.as_mut_ptr());
    let len = out.len();
    par::for_each(blocks * bands, NS * (TILE.min(axes[unit].size) * step) as f64, |part| {
        let (block, band) = (part / bands, part % bands);
        let first = band * TILE;
        let rows = TILE.min(axes[unit].size - first);
        let begin = (block * axes[unit].size + first) * step;
        debug_assert!(begin + rows * step <= len);
        // SAFETY: each part is another `rows * step` elements of `out`, within its length since `begin + rows * step` is at most
        // blocks * axes[unit].size * step, the number of elements; `out` is borrowed mutably until all parts are done.
        let out = unsafe { std::slice::from_raw_parts_mut(base.get().add(begin), rows * step) };
        let from = offset + place(before, block) + first as isize;
        for plane in 0..planes {
            let from = from + place(between, plane);
            tiles(data, from, last, rows, &mut out[plane * last.size..], step);
        }
    });
}

/// `out[r * step + c] = data[from + r + c * last.stride]` for all `rows` and columns.
fn tiles<T: Element>(data: &[T], from: isize, last: Axis, rows: usize, out: &mut [T], step: usize) {
    for first in (0..last.size).step_by(TILE) {
        let columns = TILE.min(last.size - first);
        let from = from + first as isize * last.stride;
        let mut tile = [[T::ZERO; TILE]; TILE];
        for (c, line) in tile[..columns].iter_mut().enumerate() {
            let at = (from + c as isize * last.stride) as usize;
            line[..rows].copy_from_slice(&data[at..at + rows]);
        }
        for r in 0..rows {
            let row = &mut out[r * step + first..r * step + first + columns];
            for (o, line) in row.iter_mut().zip(&tile) {
                *o = line[r];
            }
        }
    }
}

/// How far element `number`, in row-major order, of these axes stands from the first.
fn place(axes: &[Axis], number: usize) -> isize {
    let (mut rest, mut at) = (number, 0);
    for a in axes.iter().rev() {
        at += (rest % a.size) as isize * a.stride;
        rest /= a.size;
    }
    at
}
