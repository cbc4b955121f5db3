//! Partial results in lanes, brought together as a tree.
//!
//! Each level of the tree is an array of its own. Folded in place, the small levels would read parts of what the large ones wrote, and the compiler
//! would keep the lanes in memory through the whole loop that fills them, which then runs at the pace of stores and not of additions.

/// Element `j` with element `j + H`, where `N` is twice `H`.
#[inline(always)]
fn halved<T: Copy, const N: usize, const H: usize>(a: &[T; N], f: impl Fn(T, T) -> T) -> [T; H] {
    const { assert!(N == 2 * H) };
    let mut half = [a[0]; H];
    for (j, half) in half.iter_mut().enumerate() {
        *half = f(a[j], a[j + H]);
    }
    half
}

/// The result of 32 lanes.
#[inline(always)]
pub(super) fn tree_of<T: Copy>(a: [T; 32], f: impl Fn(T, T) -> T + Copy) -> T {
    tree_of_16(halved(&a, f), f)
}

/// The result of 16 lanes.
#[inline(always)]
pub(super) fn tree_of_16<T: Copy>(a: [T; 16], f: impl Fn(T, T) -> T + Copy) -> T {
    tree_of_8(halved(&a, f), f)
}

/// The result of 8 lanes.
#[inline(always)]
pub(super) fn tree_of_8<T: Copy>(a: [T; 8], f: impl Fn(T, T) -> T + Copy) -> T {
    let a: [T; 4] = halved(&a, f);
    let a: [T; 2] = halved(&a, f);
    f(a[0], a[1])
}
