"""The network: loading weights, the encoder and the decoder."""
