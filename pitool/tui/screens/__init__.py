"""Screens: each lays out widgets, binds keys and hands what the user does to the session."""
