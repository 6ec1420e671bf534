//! The board's side.
#![cfg_attr(not(test), no_std)]
