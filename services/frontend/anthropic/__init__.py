"""The Anthropic Messages API, spoken through a chat completion."""
