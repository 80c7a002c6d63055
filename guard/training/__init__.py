"""Trains a guard on an export: SFT on recaptions, then GRPO on verdicts, through TRL."""
