"""Tasks with labels, learned one after the other: the field's protocol, used by standard_cl."""
