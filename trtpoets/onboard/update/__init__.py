"""The `update` command of a bundle: releases side by side, switched in one step."""
