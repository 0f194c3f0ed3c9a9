"""What we can prove: the journal, the figures and verdicts that follow from it, and the pages that show them.

``records`` is the vocabulary and imports the standard library only. The rest imports records and rendering libraries,
never fixtures, checks or drills: evidence can be recomputed and rendered elsewhere, long after, from the files alone.
"""
