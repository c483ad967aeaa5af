"""A written text as it is said: numbers, amounts, times, dates and abbreviations in words, cut into sentences.

A voice that spells what it says by letters can say "$3.50" only as "three dollars and fifty cents". English, German,
French and Spanish are written out in full; of the other languages the numbers alone. `num2words` knows the numbers,
the patterns are ours: each looks at a bounded stretch of text, so that no text takes long.
"""

from speechllm.spoken_text.sentences import fit, sentences
from speechllm.spoken_text.writing import written_out

__all__ = ["fit", "sentences", "written_out"]
