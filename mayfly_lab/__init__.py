"""The crash lab: real worker processes that are killed, paused and cut off at every store call.

The stock Powertools recipe runs next to them as a control. It must fail here; otherwise the lab
could not detect a failure.
"""
