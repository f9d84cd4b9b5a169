"""The local runtime: a whole SAM application on one machine, in real processes.

It imports neither the functions nor the library. It speaks the Lambda Runtime API to processes, and
the AWS wire protocol to the emulator. Functions therefore run the code that is deployed.
"""
