"""The tests of web frameworks, on Mayfly's sessions."""
