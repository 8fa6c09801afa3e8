//! What goes out through tunnels.
