"""The OpenAI Responses API without stored state, spoken through a chat completion."""
