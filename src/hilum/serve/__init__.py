"""Roles as processes, their supervisor, the composition of HTTP, sign-in, health and reload."""
