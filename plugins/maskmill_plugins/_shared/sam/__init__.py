"""What the backends of the Segment Anything family share: from low-resolution logits to masks."""
