"""Announcements of jobs: sent, lost, and found again."""
