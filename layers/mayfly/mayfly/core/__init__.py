"""Modules that every feature uses. None of them depends on AWS or HTTP."""
