"""The operator's side of `mayfly`: `python -m mayfly.operate keys ...`, `... jobs ...`.

Works on the running local stack, or with `--stack` on a deployed one, whose resources it finds
through CloudFormation.
"""
