"""Captioned shapes: flat-colored scenes of one or two objects with captions, generated on this machine.

`scene` defines the content of an image and `drawing` renders it. `captions` describes it, in the words of `wordings` or
`free_wordings`; `negative_captions` contains false statements, and `scene_targets` describes it in numbers.
`generation` makes records, `dataset_sizes` defines how many, and `builder` stores and opens them. `reading` recovers a
scene from an image.
"""
