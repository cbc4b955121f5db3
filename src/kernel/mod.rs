//! The loops that compute: functions over slices and layouts, the only floor with `unsafe`, SIMD and threads.

pub mod par;
pub(crate) mod simd;
