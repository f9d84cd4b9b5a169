"""Modules that every feature uses. They know neither AWS nor HTTP."""
