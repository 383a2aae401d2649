"""The arm, the simulator and the watchdog nodes."""
