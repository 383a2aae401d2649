"""The simulated bench: Kinova's Jaco 2 on a table, in MuJoCo."""
