"""Experiments on the small world through the command `lora-rates`: see README.md."""
