"""A folder of photos to labelled photo files: finds class folders, split folders and label files."""
