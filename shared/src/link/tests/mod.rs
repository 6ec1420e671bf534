mod control;
mod hostile;
mod lifecycle;
mod refused;
mod rig;
