"""Sessions in cookies, for Flask, ASGI frameworks, Django and handlers."""
