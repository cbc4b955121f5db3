//! Pooling over one, two or three axes: the largest element or the mean of each window.
//!
//! ```text
//! max:  y = x[p*],  p* = the first largest of the window;   dx[p*] += g
//! mean: y = Σ x / count;                                     dx += g / count over the window
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `params.rs` | windows, how many there are, and passes over two axes at a time |
//! | `max.rs`, `mean.rs` | the operations and the methods |
//! | `adaptive.rs` | as many windows as are asked for |
//! | `unpool.rs` | maxima put back in their places |

mod adaptive;
mod max;
mod mean;
mod params;
mod unpool;

pub(crate) use adaptive::{adaptive_avg_pool, adaptive_max_pool};
pub(crate) use max::max_pool;
pub(crate) use mean::{avg_pool, lp_pool};
pub use params::{Pool, Pool1d, Pool2d, Pool3d};

/// A dense tensor's elements.
fn slice<T: crate::element::Element>(t: &crate::tensor::Tensor<T>) -> &[T] {
    t.as_slice().unwrap_or(&[])
}

#[cfg(test)]
mod tests;
