"""The crash lab: real worker processes, killed, paused and cut off at every store call, and the
stock recipe beside them.

The stock recipe must fail here, or the lab sees nothing.
"""
