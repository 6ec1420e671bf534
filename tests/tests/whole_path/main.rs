//! Both ends over the whole path: host session and bridge, simulated bus,
//! board service and device.

mod anything;
mod asked_resets;
mod boards;
mod caches;
mod come_and_go;
mod commands;
mod console;
mod fuzz;
mod hostile;
mod lies;
mod load;
mod losses;
mod lossless;
mod named;
mod refusals;
mod rings;
mod sleep;

use host::bus::sim::Profile;
use host::session::Layout;

const PROFILES: [Profile; 3] = [Profile::Eager, Profile::Lazy, Profile::Adversarial];
const LAYOUTS: [Layout; 3] = [Layout::Split, Layout::BarOnly, Layout::AllHost];
