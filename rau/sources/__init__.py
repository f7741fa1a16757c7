"""Where images and annotations come from, and the store they are put into."""
