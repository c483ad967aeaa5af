"""What turns features into encoder frames, and the CTC reader of the frames."""
