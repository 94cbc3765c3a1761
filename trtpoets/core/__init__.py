"""The ground: nouns, errors, photos and files. Imports nothing of ours."""
