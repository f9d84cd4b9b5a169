"""Mayfly's sessions behind the session objects of web frameworks. Each module imports its framework; the layer brings none."""
