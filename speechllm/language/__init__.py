"""The decoder-only LLM: base model, its chat form, the output rows it may use, adapters."""
