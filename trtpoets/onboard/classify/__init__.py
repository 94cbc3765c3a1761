"""The `classify` command of a bundle: photo files, folders, videos and cameras."""
