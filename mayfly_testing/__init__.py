"""Support for tests of applications that run on Mayfly."""
