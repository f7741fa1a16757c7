"""The Python interface: the public names of `rau`; everything else is internal."""
