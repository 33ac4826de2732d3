"""The command line: one module a command, and what they print. `main` lists the commands."""
