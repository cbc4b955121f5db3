//! The loops that compute: functions over slices and layouts, the only floor with SIMD and threads.

pub(crate) mod angles;
pub(crate) mod attention;
#[doc(hidden)]
pub mod bench_api;
mod chunks;
mod claims;
pub(crate) mod conv;
pub(crate) mod copy;
pub(crate) mod cross_entropy;
pub(crate) mod ctc;
pub(crate) mod embedding;
pub(crate) mod exp;
pub(crate) mod extreme;
#[cfg(target_arch = "x86_64")]
mod gelu;
pub(crate) mod gemm;
pub(crate) mod keep;
mod lanes;
pub(crate) mod map;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod pair;
pub mod par;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod relu;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod softmax_columns;
mod source;
pub(crate) mod update;
pub(crate) mod vector;

/// What a float type must bring for the kernels: the matrix product, the convolution and so on have a version for each.
pub trait FloatKernels:
    gemm::GemmElement + math::VecMath + angles::VecAngles + conv::routines::HasRoutines
{
}

impl FloatKernels for f32 {}
impl FloatKernels for f64 {}
