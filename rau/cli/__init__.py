"""The command line `rau`: a module a command, each thin as a stage is."""
