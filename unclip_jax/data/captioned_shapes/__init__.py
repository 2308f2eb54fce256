"""Captioned shapes: a generated dataset of flat-colored scenes of one or two objects with captions.

`scene` defines the content of an image and `drawing` renders it. `captions` describes a scene with the words in
`wordings` or `free_wordings`, `negative_captions` describes it incorrectly, and `scene_targets` describes it in
numbers. `generation` generates records, `dataset_sizes` defines how many, and `builder` stores and opens them.
`reading` recovers a scene from an image.
"""
