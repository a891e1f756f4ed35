"""Drawing of masks, prompts and labels on images."""
