"""The command line of treadle; every command has a module of its own."""
