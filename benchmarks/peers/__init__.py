"""What stands in for other people's methods, and the environment that their libraries are installed in."""
