"""Calls to a Qwen model: servers, dialects, rate limits, retries, and the answers kept on disk."""
