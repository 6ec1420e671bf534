//! The net device behind a driver of our own over plain memory.

mod coalescing;
mod control;
mod echo;
mod faults;
mod lengths;
mod port;
mod size;
