"""Rewards as each trainer calls them, one file per trainer, since most want the path of a file."""
