"""ViSaRL: teach a robot arm from a webcam, ten demonstrations and a handful of clicks."""

__version__ = "0.1.0"
