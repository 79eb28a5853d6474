"""What `glassgpt play` is made of: the session, its commands, the lines that come in, the screen."""
