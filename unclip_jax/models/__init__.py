"""Networks as linen modules that follow the published architectures.

Images are NHWC and parameters are float32.
"""
