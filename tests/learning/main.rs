//! Small problems that must be learnt, with fixed seeds, in seconds.

mod recurrent;
mod small;
