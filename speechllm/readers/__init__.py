"""What reads an encoder's frames without the LLM: the CTC head's first pass, the attention decoder's second."""
