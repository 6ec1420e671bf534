//! The tap against the kernel, each test in a network namespace of its own.

mod errors;
mod frames;
