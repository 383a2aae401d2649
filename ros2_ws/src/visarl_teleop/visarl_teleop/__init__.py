"""Teleoperation and recorder nodes."""
