mod control;
mod hostile;
mod lifecycle;
mod presence;
mod refused;
mod rig;
