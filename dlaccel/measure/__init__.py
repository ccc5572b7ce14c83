"""``dlaccel measure``: a user's own network on a user's own data."""
