"""Captioned shapes: flat-coloured scenes of one or two objects with captions, drawn on the spot and read back.

`scene` says what is in a picture, `drawing` paints it, `captions` puts it into words, `builder` writes the data set and
opens it, `reading` turns a picture back into a scene, `moments` says in numbers what is where.
"""
