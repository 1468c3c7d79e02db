"""Data: foreign bytes to samples, samples to Parquet and back.

images          encoded pictures to upright RGB, the only decoder
parquet         our own layout: dataset/<split>/*.parquet
user            a user's dataset; layout (its files and splits), rows (a record), media (its
                pictures), choices (its options), problem (why a record is left out)
published       the eight benchmarks; archives (their ZIP files), videos and videoworker (their
                frames)
splits          disjoint splits that share no scene, de-duplication
"""
