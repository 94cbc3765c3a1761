"""From photos to a report: joins the wings, one file a stage, and skips what is up to date.

Each stage asks for what it is made from, makes a key of it, and does nothing when a card with that key vouches for
its result. Every public function has the name and the words of its command.
"""
