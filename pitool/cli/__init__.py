"""The commands: flags in, one library call, exit code out. Each imports the library lazily."""
