"""Sessions in cookies, for Flask, ASGI frameworks and handlers."""
