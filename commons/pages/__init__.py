"""Pages for people: how all services make them. They work without scripts, which only keep them up to date."""
