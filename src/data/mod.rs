//! Data.

pub mod gzip;
pub mod idx;
