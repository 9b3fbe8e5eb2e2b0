"""Problems of few states, a module each: reset and step, the function that makes it, and its table of transitions."""
