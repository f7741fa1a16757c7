"""The Python interface: what `rau` itself offers by name; everything else is internal."""
