"""What people start by name: the command line and the demo behind it."""
