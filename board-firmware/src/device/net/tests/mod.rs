//! The net device behind a driver of our own over plain memory.

mod coalescing;
mod control;
mod echo;
mod faults;
mod hostile;
mod lengths;
mod port;
mod size;
mod whole;
