"""A container engine and a stand-in for AWS's runtime image, for tests of `sam local invoke`.

AWS's image is in a registry that not every machine reaches. The stand-in has the same interface: a
Debian with the template's Python, AWS's runtime client in /var/runtime, and its bootstrap. In the
order of reading:

| file | holds |
|---|---|
| `image.py` | the image, made by debootstrap from the mirror that apt uses |
| `engine.py` | Podman behind Docker's API, with a storage of its own |
| `runc.py` | the program that Podman calls in place of runc |
| `__main__.py` | runs a command beside the engine |
"""
