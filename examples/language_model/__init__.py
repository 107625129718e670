"""A small GPT on the course's own text, from one device to many machines; README.md says what is where."""
