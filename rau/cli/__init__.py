"""The command line `rau`: one thin module per command."""
