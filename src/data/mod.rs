//! Data.

pub mod digits;
pub mod gzip;
pub mod idx;
