"""Problems of control, a module each: reset and step over an array of state, and the function that makes it."""
