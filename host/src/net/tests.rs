//! Tests of the frame check.
#![allow(clippy::cast_possible_truncation, reason = "numbers of made-up frames")]

mod exhaustive;
pub(crate) mod grammar;
mod kernel;
mod naive;
mod outbound;
mod parse;
mod properties;
mod table;
