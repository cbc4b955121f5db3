//! `#[derive(Module)]` for the crate gradus.
