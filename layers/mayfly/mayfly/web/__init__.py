"""The HTTP edge: routes, access, answers and problems."""
