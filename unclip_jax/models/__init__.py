"""The networks: linen modules that follow the published architectures, NHWC, float32 parameters."""
