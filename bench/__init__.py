"""Measurements. Each prints its figure beside what it is compared with in the same run; timing is asserted nowhere."""
