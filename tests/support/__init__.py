"""Support of several tests: events, faults, clocks, stores, a tour of a whole stack."""
