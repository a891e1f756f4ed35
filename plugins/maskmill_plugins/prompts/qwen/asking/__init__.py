"""What is asked about an image: the questions, the picture that is sent, the conversation."""
